"""Signals as JSON: what a Google Sheets script or any other program sends (contract section 4).

An object is one signal, an array is 1 to 100 of them, each judged by itself. Enum words and the symbol
may be in any letter case, because sheets are typed by hand; everything else is exact. An optional cell
that is null, empty or 0 counts as absent, except that a positionSize of 0 asks for being flat; with a positionSize
the side may be left out and the quantity must be. The price of a MARKET order is checked and then dropped: a
sheet's fixed columns leave it there, and Kite ignores it too (Kite Connect v3, orders).
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

import msgspec

from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType, Validity, Variety
from engine.domain.options import ExitMode
from engine.domain.signal import Refusal, Signal
from engine.signals import fields, json_guard
from engine.signals.json_guard import JsonValue
from engine.signals.refusals import RefusalCode, Refused, quote

MAX_SIGNALS = fields.MAX_SIGNALS

_NAMES = fields.Names(
    price="price",
    trigger_price="triggerPrice",
    order_type="orderType",
    stop_loss="stopLoss",
    quantity="quantity",
    disclosed_quantity="disclosedQuantity",
    validity_ttl="validityTtl",
    iceberg_legs="icebergLegs",
    auction_number="auctionNumber",
    market_protection="marketProtection",
    exits="exits",
    position_size="positionSize",
)
_REQUIRED = ("symbol", "exchange", "transactionType", "quantity", "orderType", "productType")
_OPTIONAL = (
    *("price", "triggerPrice", "validity", "variety", "stopLoss", "target"),
    *("disclosedQuantity", "validityTtl", "icebergLegs", "auctionNumber", "marketProtection", "exits"),
    *("positionSize", "sequence"),
)
_KNOWN = frozenset(_REQUIRED + _OPTIONAL)
_ABSENT_PRICE = re.compile(r"(?:0(?:\.0+)?)?")

ValueT = TypeVar("ValueT")
DefaultT = TypeVar("DefaultT")


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """What a readable body holds: one verdict per signal, in the order of the body.

    ``is_array`` says whether the body was an array, which the answer mirrors. ``sequences`` are the numbers that the
    sender gave its signals, those that can be read, good signals or not: a refused one has come all the same.
    """

    is_array: bool
    items: tuple[Signal | Refusal, ...]
    sequences: tuple[int, ...] = ()


def parse(body: bytes) -> Batch | Refusal:
    """Read a webhook body; a `Refusal` refuses the whole body. Never raises."""
    value = json_guard.read(body)
    return value if isinstance(value, Refusal) else parse_value(value)


def parse_value(value: JsonValue) -> Batch | Refusal:
    """Read a body that `json_guard.read` has decoded already; never raises."""
    if isinstance(value, list):
        if not value:
            return Refusal(code=RefusalCode.EMPTY_BATCH, message="the array is empty: send at least one signal")
        if len(value) > MAX_SIGNALS:
            return Refusal(
                code=RefusalCode.BATCH_TOO_LARGE,
                message=f"send at most {MAX_SIGNALS} signals at once, not {len(value)}",
            )
        items = tuple(parse_element(element) for element in value)
        return Batch(is_array=True, items=items, sequences=_sequences(value))
    if isinstance(value, dict):
        return Batch(is_array=False, items=(parse_element(value),), sequences=_sequences([value]))
    return Refusal(code=RefusalCode.WRONG_SHAPE, message="send a JSON object, or an array of them")


def parse_element(element: JsonValue) -> Signal | Refusal:
    """Read one signal; never raises."""
    if not isinstance(element, dict):
        return Refusal(code=RefusalCode.WRONG_SHAPE, message="a signal must be a JSON object")
    try:
        return _signal(element)
    except Refused as refused:
        return refused.refusal


def _sequences(elements: list[JsonValue]) -> tuple[int, ...]:
    found: list[int] = []
    for element in elements:
        if isinstance(element, dict) and element.get("sequence") is not None:
            try:
                found.append(_sequence(element))
            except Refused:
                continue  # the element's own verdict says so
    return tuple(found)


def _sequence(row: dict[str, JsonValue]) -> int:
    return fields.sequence(_number(row.get("sequence"), "sequence"), "sequence")


def _signal(row: dict[str, JsonValue]) -> Signal:
    for key in row:
        if key not in _KNOWN:
            raise Refused(
                RefusalCode.UNKNOWN_FIELD,
                f"'{quote(key, 40)}' is not a field of a signal: drop it; known are {', '.join(_REQUIRED + _OPTIONAL)}",
                field=quote(key, 40),
            )
    if row.get("sequence") is not None:
        _sequence(row)
    order_type = _word(row, "orderType", OrderType)
    price = _price(row, "price")
    position = _position(row)
    return fields.build(
        fields.Draft(
            symbol=_required(row, "symbol", fields.symbol),
            exchange=_word(row, "exchange", Exchange),
            transaction_type=(
                _word(row, "transactionType", TransactionType)
                if position is None or _text(row, "transactionType") is not None
                else None
            ),
            quantity=_quantity(row) if position is None else _optional(row, "quantity", fields.quantity, None),
            order_type=order_type,
            product_type=_word(row, "productType", ProductType),
            price=None if order_type is OrderType.MARKET else price,
            trigger_price=_price(row, "triggerPrice"),
            validity=_word(row, "validity", Validity, Validity.DAY),
            variety=_word(row, "variety", Variety, Variety.REGULAR),
            stop_loss=_price(row, "stopLoss"),
            target=_price(row, "target"),
            disclosed_quantity=_optional(row, "disclosedQuantity", fields.quantity, 0),
            validity_ttl=_optional(row, "validityTtl", fields.ttl_minutes, 0),
            iceberg_legs=_optional(row, "icebergLegs", fields.legs, 0),
            auction_number=_optional(row, "auctionNumber", fields.auction, ""),
            market_protection=_optional(row, "marketProtection", fields.protection, None),
            exits=None if _text(row, "exits") is None else _word(row, "exits", ExitMode),
            position_size=position,
        ),
        _NAMES,
    )


def _text(row: dict[str, JsonValue], name: str) -> str | None:
    value = row.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise Refused(RefusalCode.WRONG_TYPE, f"{name} must be a string", field=name)
    return value.strip(" ") or None


def _required(row: dict[str, JsonValue], name: str, read: Callable[[str, str], ValueT]) -> ValueT:
    text = _text(row, name)
    if text is None:
        raise Refused(RefusalCode.MISSING_FIELD, f"{name} is missing: add it", field=name)
    return read(text, name)


def _word(
    row: dict[str, JsonValue], name: str, kind: type[fields.WordT], default: fields.WordT | None = None
) -> fields.WordT:
    if default is not None and (row.get(name) is None or _text(row, name) is None):
        return default
    return _required(row, name, lambda text, field: fields.word(kind, text, field))


def _quantity(row: dict[str, JsonValue]) -> int:
    value = row.get("quantity")
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    text = _number(value, "quantity")
    if not text:
        raise Refused(RefusalCode.MISSING_FIELD, "quantity is missing: add it", field="quantity")
    return fields.quantity(text, "quantity")


def _position(row: dict[str, JsonValue]) -> int | None:
    value = row.get("positionSize")
    if isinstance(value, Decimal) and value == value.to_integral_value():
        value = int(value)
    text = _number(value, "positionSize")
    return fields.position(text, "positionSize") if text else None


def _price(row: dict[str, JsonValue], name: str) -> Decimal | None:
    value = row.get(name)
    if value is None:
        return None
    text = _number(value, name)
    return None if _ABSENT_PRICE.fullmatch(text) else fields.price(text, name)


def _optional(
    row: dict[str, JsonValue], name: str, read: Callable[[str, str], ValueT], absent: DefaultT
) -> ValueT | DefaultT:
    value = row.get(name)
    if value is None:
        return absent
    text = _number(value, name)
    return absent if _ABSENT_PRICE.fullmatch(text) else read(text, name)


def _number(value: JsonValue, name: str) -> str:
    # Text and number take the same road: a sheet cell may come as either, and one set of rules judges both.
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise Refused(RefusalCode.WRONG_TYPE, f"{name} must be a number", field=name)
    if isinstance(value, str):
        return value.strip(" ")
    return format(value, "f") if isinstance(value, Decimal) else str(value)
