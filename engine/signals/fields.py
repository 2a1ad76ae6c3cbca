"""The fields of a signal: how each is read, and what they must be together.

Shared by every source format, so that the same words mean the same in a sheet, an alert and a chat.
A value is read exactly or refused; nothing is rounded, completed or guessed (contract section 8).
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

import msgspec

from engine.domain.contracts import parse_contract
from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType, Validity, Variety
from engine.domain.signal import Signal
from engine.signals.refusals import RefusalCode, Refused, quote

MAX_QUANTITY = 999_999_999
MAX_SIGNALS = 100

_SYMBOL = re.compile(r"[A-Z0-9&_\-. ]{1,40}")
_QUANTITY = re.compile(r"[1-9][0-9]{0,8}")
_PRICE = re.compile(r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,4})?")
_ACCOUNT = re.compile(r"[ -~]{1,64}")

# Kite needs iceberg legs, a cover order's stop leg, an auction number or minutes to live with these
# (Kite Connect v3, orders); a signal has no field for them, so the broker would refuse every one.
_UNSUPPORTED = frozenset({Variety.CO, Variety.ICEBERG, Variety.AUCTION, Validity.TTL})

WordT = TypeVar("WordT", bound=StrEnum)


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """What a source format calls the fields that `build` may have to name."""

    price: str
    trigger_price: str
    order_type: str


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """Fields read one by one, before they are judged together."""

    symbol: str
    exchange: Exchange
    transaction_type: TransactionType
    quantity: int
    order_type: OrderType
    product_type: ProductType
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    validity: Validity = Validity.DAY
    variety: Variety = Variety.REGULAR
    stop_loss: Decimal | None = None
    target: Decimal | None = None
    account: str | None = None


def build(draft: Draft, names: Names) -> Signal:
    """Return the signal of *draft*; raises `Refused` where price and trigger do not fit the order type."""
    kind = draft.order_type
    for needed, value, name in (
        (kind.needs_price, draft.price, names.price),
        (kind.needs_trigger, draft.trigger_price, names.trigger_price),
    ):
        if needed and value is None:
            raise Refused(RefusalCode.MISSING_FIELD, f"a {kind} order needs {name}: add it", field=name)
        if not needed and value is not None:
            raise Refused(
                RefusalCode.NOT_ALLOWED,
                f"a {kind} order takes no {name}: drop it or change {names.order_type}",
                field=name,
            )
    return Signal(**msgspec.structs.asdict(draft))


def symbol(text: str, name: str) -> str:
    """Read a trading symbol, another name of one or a contract in words, in upper case."""
    found = text.strip(" ").upper() if text.isascii() else ""
    if not _SYMBOL.fullmatch(found) and not is_contract(found):
        raise Refused(
            RefusalCode.INVALID_VALUE,
            f"{name} {_shown(text)} must be 1 to 40 letters, digits, spaces or & _ - .",
            field=name,
        )
    return " ".join(found.split()) if is_contract(found) else found


def is_contract(text: str) -> bool:
    """Whether *text* is a future or option in words, such as ``NIFTY ATM CE``, in any letter case."""
    return text.isascii() and parse_contract(" ".join(word for word in text.upper().split(" ") if word)) is not None


def word(kind: type[WordT], text: str, name: str) -> WordT:
    """Read one of the words of *kind*, in any letter case.

    Refuses what is not ASCII before changing case: the upper case of a dotless i is an ordinary I.
    """
    found = _words(kind).get(text.strip(" ").upper()) if text.isascii() else None
    if found is None:
        raise Refused(RefusalCode.INVALID_VALUE, f"{name} {_shown(text)} must be one of {supported(kind)}", field=name)
    if found in _UNSUPPORTED:
        raise Refused(
            RefusalCode.UNSUPPORTED,
            f"{name} {found} needs details that a signal cannot carry: use one of {supported(kind)}",
            field=name,
        )
    return found


def quantity(text: str, name: str) -> int:
    """Read a quantity of units: plain ASCII digits without sign, separator, exponent or leading zero."""
    if not _QUANTITY.fullmatch(text):
        raise Refused(
            RefusalCode.INVALID_VALUE,
            f"{name} {_shown(text)} must be a whole number from 1 to {MAX_QUANTITY} in plain digits",
            field=name,
        )
    return int(text)


def price(text: str, name: str) -> Decimal:
    """Read a price in rupees: plain digits, above 0, at most 4 decimals; no sign, separator or exponent."""
    if not _PRICE.fullmatch(text) or not (value := Decimal(text)):
        raise Refused(
            RefusalCode.INVALID_VALUE,
            f"{name} {_shown(text)} must be a plain number above 0 with at most 9 digits and 4 decimals: round it",
            field=name,
        )
    return value


def account(text: str, name: str) -> str:
    """Read the label of an account: 1 to 64 printable ASCII characters, kept as written."""
    if not _ACCOUNT.fullmatch(text):
        raise Refused(
            RefusalCode.INVALID_VALUE, f"{name} {_shown(text)} must be 1 to 64 printable ASCII characters", field=name
        )
    return text


def supported(kind: type[StrEnum]) -> str:
    """Return the words of *kind* that a signal may use, for a message."""
    return ", ".join(member for member in kind if member not in _UNSUPPORTED)


def _shown(text: str) -> str:
    return f"'{quote(text, 40)}'"


_WORDS: Mapping[type[StrEnum], Mapping[str, StrEnum]] = {
    kind: {member.upper(): member for member in kind}
    for kind in (Exchange, OrderType, ProductType, TransactionType, Validity, Variety)
}


def _words(kind: type[WordT]) -> Mapping[str, WordT]:
    return _WORDS[kind]  # type: ignore[return-value]  # the table maps each kind to its own members
