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

from engine.domain.contracts import HINT, is_like_contract, parse_contract
from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType, Validity, Variety
from engine.domain.options import ExitMode, OrderOptions
from engine.domain.signal import Signal
from engine.domain.source_watch import MAX_SEQUENCE
from engine.signals.refusals import RefusalCode, Refused, quote

MAX_QUANTITY = 999_999_999
MAX_SIGNALS = 100

_SYMBOL = re.compile(r"[A-Z0-9&_\-. ]{1,40}")
_POSITION = re.compile(r"0|-?[1-9][0-9]{0,8}")
_QUANTITY = re.compile(r"[1-9][0-9]{0,8}")
_PRICE = re.compile(r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,4})?")
_ACCOUNT = re.compile(r"[ -~]{1,64}")

_SEQUENCE = re.compile(r"0|[1-9][0-9]{0,15}")
_AUCTION = re.compile(r"[A-Za-z0-9_-]{1,20}")
_PERCENT = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.[0-9]{1,4})?")
_MAX_TTL = 120
_MAX_LEGS = 50
_ENTRY_TYPES_OF_CO = (OrderType.MARKET, OrderType.LIMIT)

WordT = TypeVar("WordT", bound=StrEnum)


class Names(msgspec.Struct, frozen=True, kw_only=True):
    """What a source format calls the fields that `build` may have to name."""

    price: str
    trigger_price: str
    order_type: str
    stop_loss: str
    quantity: str
    disclosed_quantity: str
    validity_ttl: str
    iceberg_legs: str
    auction_number: str
    market_protection: str
    exits: str
    position_size: str


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """Fields read one by one, before they are judged together.

    ``quantity`` and ``transaction_type`` may be None only where there is a ``position_size`` (signed units).
    """

    symbol: str
    exchange: Exchange
    transaction_type: TransactionType | None
    quantity: int | None
    order_type: OrderType
    product_type: ProductType
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    validity: Validity = Validity.DAY
    variety: Variety = Variety.REGULAR
    stop_loss: Decimal | None = None
    target: Decimal | None = None
    account: str | None = None
    disclosed_quantity: int = 0
    validity_ttl: int = 0
    iceberg_legs: int = 0
    auction_number: str = ""
    market_protection: Decimal | None = None
    exits: ExitMode | None = None
    position_size: int | None = None


_OPTIONS = ("disclosed_quantity", "validity_ttl", "iceberg_legs", "auction_number", "market_protection", "exits")


def build(draft: Draft, names: Names) -> Signal:
    """Return the signal of *draft*; raises `Refused` where its fields do not fit each other.

    Rules: Kite Connect v3, orders (kite.md 5.2).
    """
    draft = _with_position(draft, names)
    _check_prices(draft, names)
    _check_options(draft, names)
    given = {name: getattr(draft, name) for name in draft.__struct_fields__}
    options = OrderOptions(**{name: given.pop(name) for name in _OPTIONS})
    return Signal(**given, options=options)


def _with_position(draft: Draft, names: Names) -> Draft:
    """Return *draft* with the side and the size of the position that it asks for, where it asks for one."""
    goal = draft.position_size
    if goal is None:
        return draft
    if draft.quantity is not None:
        raise Refused(
            RefusalCode.NOT_ALLOWED,
            f"{names.position_size} says what to hold, {names.quantity} what to trade: drop one of them",
            field=names.position_size,
        )
    side = TransactionType.SELL if goal < 0 else TransactionType.BUY
    return msgspec.structs.replace(draft, transaction_type=side, quantity=max(abs(goal), 1))


def _check_prices(draft: Draft, names: Names) -> None:
    kind = draft.order_type
    # a cover order carries the trigger of its stop leg whatever the type of its entry
    needs_trigger = kind.needs_trigger or draft.variety is Variety.CO
    for needed, value, name in (
        (kind.needs_price, draft.price, names.price),
        (needs_trigger, draft.trigger_price, names.trigger_price),
    ):
        if needed and value is None:
            raise Refused(RefusalCode.MISSING_FIELD, f"a {kind} order needs {name}: add it", field=name)
        if not needed and value is not None:
            raise Refused(
                RefusalCode.NOT_ALLOWED,
                f"a {kind} order takes no {name}: drop it or change {names.order_type}",
                field=name,
            )


def _check_options(draft: Draft, names: Names) -> None:
    has_exits = draft.stop_loss is not None or draft.target is not None
    is_market = draft.order_type in (OrderType.MARKET, OrderType.SL_M)
    wanted_by = (
        (draft.validity is Validity.TTL, draft.validity_ttl, names.validity_ttl, "validity TTL"),
        (draft.variety is Variety.ICEBERG, draft.iceberg_legs, names.iceberg_legs, "variety iceberg"),
        (draft.variety is Variety.AUCTION, draft.auction_number, names.auction_number, "variety auction"),
    )
    for needed, value, name, what in wanted_by:
        if needed and not value:
            raise Refused(RefusalCode.MISSING_FIELD, f"{what} needs {name}: add it", field=name)
        if value and not needed:
            raise Refused(RefusalCode.NOT_ALLOWED, f"{name} goes with {what} only: drop it", field=name)
    for given, allowed, name, where in (
        (draft.market_protection is not None, is_market, names.market_protection, "a MARKET or SL-M order"),
        (draft.exits is not None, has_exits, names.exits, f"{names.stop_loss} or a target"),
    ):
        if given and not allowed:
            raise Refused(RefusalCode.NOT_ALLOWED, f"{name} goes with {where} only: drop it", field=name)
    if draft.disclosed_quantity > (draft.quantity or 0):
        raise Refused(
            RefusalCode.INVALID_VALUE,
            f"{names.disclosed_quantity} is above {names.quantity}: lower it",
            field=names.disclosed_quantity,
        )
    if draft.variety is Variety.CO:
        if draft.order_type not in _ENTRY_TYPES_OF_CO:
            raise Refused(
                RefusalCode.NOT_ALLOWED, "a cover order's entry is MARKET or LIMIT: change it", field=names.order_type
            )
        if has_exits:
            raise Refused(
                RefusalCode.NOT_ALLOWED,
                f"a cover order has a stop of its own: give it as {names.trigger_price} and drop {names.stop_loss}",
                field=names.stop_loss,
            )


def symbol(text: str, name: str) -> str:
    """Read a trading symbol, another name of one or a contract in words, in upper case."""
    found = text.strip(" ").upper() if text.isascii() else ""
    if not _SYMBOL.fullmatch(found) and not is_contract(found):
        hint = f"; {HINT}" if is_like_contract(found) else ""
        raise Refused(
            RefusalCode.INVALID_VALUE,
            f"{name} {_shown(text)} must be 1 to 40 letters, digits, spaces or & _ - .{hint}",
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
    if isinstance(found, ProductType) and not found.is_orderable:
        found = None
    if found is None:
        raise Refused(RefusalCode.INVALID_VALUE, f"{name} {_shown(text)} must be one of {supported(kind)}", field=name)
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


def position(text: str, name: str) -> int:
    """Read a position to reach: signed units in plain ASCII digits, 0 for flat."""
    if not _POSITION.fullmatch(text):
        raise Refused(
            RefusalCode.INVALID_VALUE,
            f"{name} {_shown(text)} must be a whole number from -{MAX_QUANTITY} to {MAX_QUANTITY}, negative for short",
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


def ttl_minutes(text: str, name: str) -> int:
    """Read the minutes that an order of validity TTL stands, 1 to 120."""
    return _count(text, name, 1, _MAX_TTL)


def legs(text: str, name: str) -> int:
    """Read the number of legs of an iceberg order, 2 to 50."""
    return _count(text, name, 2, _MAX_LEGS)


def protection(text: str, name: str) -> Decimal:
    """Read a market protection: percent above 0 up to 100, or ``auto`` (-1) for the broker's own table."""
    if text.strip(" ").lower() in ("auto", "-1"):
        return Decimal(-1)
    if not _PERCENT.fullmatch(text) or not 0 < (value := Decimal(text)) <= 100:
        raise Refused(
            RefusalCode.INVALID_VALUE,
            f"{name} {_shown(text)} must be auto or a percentage above 0, at most 100",
            field=name,
        )
    return value


def auction(text: str, name: str) -> str:
    """Read the number of an auction."""
    if not _AUCTION.fullmatch(text):
        raise Refused(
            RefusalCode.INVALID_VALUE, f"{name} {_shown(text)} must be 1 to 20 letters and digits", field=name
        )
    return text


def sequence(text: str, name: str) -> int:
    """Read the number that a sender gave a signal: 0 to 2^53 - 1 in plain digits."""
    if not _SEQUENCE.fullmatch(text) or int(text) > MAX_SEQUENCE:
        raise Refused(
            RefusalCode.INVALID_VALUE,
            f"{name} {_shown(text)} must be a whole number from 0 to {MAX_SEQUENCE}",
            field=name,
        )
    return int(text)


def _count(text: str, name: str, least: int, most: int) -> int:
    if not _QUANTITY.fullmatch(text) or not least <= int(text) <= most:
        raise Refused(
            RefusalCode.INVALID_VALUE, f"{name} {_shown(text)} must be a number from {least} to {most}", field=name
        )
    return int(text)


def account(text: str, name: str) -> str:
    """Read the label of an account: 1 to 64 printable ASCII characters, kept as written."""
    if not _ACCOUNT.fullmatch(text):
        raise Refused(
            RefusalCode.INVALID_VALUE, f"{name} {_shown(text)} must be 1 to 64 printable ASCII characters", field=name
        )
    return text


def supported(kind: type[StrEnum]) -> str:
    """Return the words of *kind* that a signal may use, for a message."""
    return ", ".join(word for word in kind if not isinstance(word, ProductType) or word.is_orderable)


def _shown(text: str) -> str:
    return f"'{quote(text, 40)}'"


_WORDS: Mapping[type[StrEnum], Mapping[str, StrEnum]] = {
    kind: {member.upper(): member for member in kind}
    for kind in (Exchange, OrderType, ProductType, TransactionType, Validity, Variety, ExitMode)
}


def _words(kind: type[WordT]) -> Mapping[str, WordT]:
    return _WORDS[kind]  # type: ignore[return-value]  # the table maps each kind to its own members
