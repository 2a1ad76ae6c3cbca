"""Orders as OpenAlgo's clients write them (docs.openalgo.in): Amibroker, Excel, TradingView and its own packages.

Numbers come as text or as JSON numbers and are read exactly; a price that its ``pricetype`` does not take is
checked and dropped, as Kite does: columns of a sheet are always there. ``position_size`` is the position to reach.
"""

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TypeVar

import msgspec

from engine.domain.enums import OrderType, ProductType, TransactionType
from engine.domain.instruments import Instrument
from engine.domain.signal import Refusal, Signal
from engine.signals import fields
from engine.signals.json_guard import JsonValue
from engine.signals.refusals import RefusalCode, Refused, quote

MAX_CHILDREN = fields.MAX_SIGNALS

ReadT = TypeVar("ReadT")
Row = Mapping[str, JsonValue]
Find = Callable[[str, str], Instrument | Refusal]
"""Finds the instrument that OpenAlgo calls so: exchange, symbol."""

ORDER_FIELDS = frozenset(
    {
        *("symbol", "exchange", "action", "quantity", "pricetype", "product", "price", "trigger_price"),
        *("disclosed_quantity", "target", "stoploss", "trailing_sl", "underlying_ltp"),
    }
)
CHANGE_FIELDS = frozenset(
    {
        *("orderid", "symbol", "exchange", "action", "product", "pricetype", "quantity", "price", "trigger_price"),
        "disclosed_quantity",
    }
)

_PRODUCTS = ("CNC", "NRML", "MIS")
_NAMES = fields.Names(
    price="price",
    trigger_price="trigger_price",
    order_type="pricetype",
    stop_loss="stoploss",
    quantity="quantity",
    disclosed_quantity="disclosed_quantity",
    validity_ttl="validity",
    iceberg_legs="variety",
    auction_number="variety",
    market_protection="market_protection",
    exits="exits",
    position_size="position_size",
)
_ABSENT = re.compile(r"(?:0+(?:\.0*)?)?")
_WHOLE = re.compile(r"(-?[0-9]+)\.0*")


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """One order in parts: a signal each, all alike but for the last one's quantity."""

    signals: tuple[Signal, ...]
    size: int
    total: int


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What an order shall be like; ``quantity`` is its new total in units, prices are rupees, None where there is none.

    The first four say which order is meant, and do not change.
    """

    instrument: Instrument
    transaction_type: TransactionType
    product_type: ProductType
    quantity: int
    order_type: OrderType
    price: Decimal | None
    trigger_price: Decimal | None


def order(row: Row, find: Find) -> Signal | Refusal:
    """Read one order; never raises."""
    return _read(lambda: _order(row, find, is_smart=False))


def smart_order(row: Row, find: Find) -> Signal | Refusal:
    """Read an order that asks for a position: ``position_size`` counts, ``action`` and ``quantity`` do not."""
    return _read(lambda: _order(row, find, is_smart=True))


def split(row: Row, find: Find) -> Split | Refusal:
    """Read an order that is to be placed in parts of ``splitsize`` units, at most 100 of them."""
    return _read(lambda: _split(row, find))


def basket(value: JsonValue) -> list[Row] | Refusal:
    """Read the rows of a basket: 1 to 100 objects, those that buy first, as OpenAlgo sends them."""
    if not isinstance(value, list) or not value or not all(isinstance(each, dict) for each in value):
        return Refusal(code=RefusalCode.WRONG_SHAPE, message="orders must be an array of objects", field="orders")
    if len(value) > MAX_CHILDREN:
        text = f"send at most {MAX_CHILDREN} orders at once, not {len(value)}"
        return Refusal(code=RefusalCode.BATCH_TOO_LARGE, message=text, field="orders")
    rows = [each for each in value if isinstance(each, dict)]
    return sorted(rows, key=lambda each: str(each.get("action")).strip(" ").upper() != TransactionType.BUY)


def change(row: Row, find: Find) -> Change | Refusal:
    """Read what an order is to be changed to; never raises."""
    return _read(lambda: _change(row, find))


def word(row: Row, name: str, *, default: str | None = None, most: int = 64) -> str | Refusal:
    """Read a field of text of 1 to *most* printable characters, *default* when it is absent."""
    value = row.get(name)
    text = value.strip(" ") if isinstance(value, str) else "" if value is None else None
    if text is None and isinstance(value, int | Decimal) and not isinstance(value, bool):
        text = str(value)
    if text == "" and default is not None:
        return default
    if not text:
        return Refusal(code=RefusalCode.MISSING_FIELD, message=f"{name} is missing: add it as text", field=name)
    if len(text) > most or not text.isprintable():
        message = f"{name} must be at most {most} printable characters"
        return Refusal(code=RefusalCode.INVALID_VALUE, message=message, field=name)
    return text


def unknown_fields(row: Row, known: frozenset[str]) -> Refusal | None:
    """Return the refusal of the first field that is not among *known*, or None."""
    for name in row:
        if name not in known:
            text = f"{quote(name, 40)!r} is not known here: drop it"
            return Refusal(code=RefusalCode.UNKNOWN_FIELD, message=text, field=quote(name, 40))
    return None


def _read(reader: Callable[[], ReadT]) -> ReadT | Refusal:
    try:
        return reader()
    except Refused as refused:
        return refused.refusal


def _order(row: Row, find: Find, *, is_smart: bool) -> Signal:
    _pass(unknown_fields(row, ORDER_FIELDS | {"position_size"} if is_smart else ORDER_FIELDS))
    instrument = _instrument(row, find)
    side = fields.word(TransactionType, _text(row, "action"), "action")
    kind = fields.word(OrderType, _text(row, "pricetype", "MARKET"), "pricetype")
    if not _ABSENT.fullmatch(_number(row, "trailing_sl")):
        raise Refused(RefusalCode.NOT_ALLOWED, "trailing_sl is not kept here: drop it", field="trailing_sl")
    price, trigger = _price(row, "price"), _price(row, "trigger_price")
    quantity = _number(row, "quantity")
    if is_smart and not _ABSENT.fullmatch(quantity):
        # checked and not used: the position decides
        fields.quantity(quantity, "quantity")
    disclosed = _number(row, "disclosed_quantity")
    return fields.build(
        fields.Draft(
            symbol=instrument.symbol,
            exchange=instrument.exchange,
            transaction_type=side,
            quantity=None if is_smart else fields.quantity(quantity, "quantity"),
            order_type=kind,
            product_type=_product(row, "MIS"),
            price=price if kind.needs_price else None,
            trigger_price=trigger if kind.needs_trigger else None,
            stop_loss=_price(row, "stoploss"),
            target=_price(row, "target"),
            disclosed_quantity=0 if _ABSENT.fullmatch(disclosed) else fields.quantity(disclosed, "disclosed_quantity"),
            position_size=fields.position(_number(row, "position_size"), "position_size") if is_smart else None,
        ),
        _NAMES,
    )


def _split(row: Row, find: Find) -> Split:
    whole = _order({name: value for name, value in row.items() if name != "splitsize"}, find, is_smart=False)
    size = fields.quantity(_number(row, "splitsize"), "splitsize")
    count = -(-whole.quantity // size)
    if count > MAX_CHILDREN:
        text = f"{whole.quantity} in parts of {size} are {count} orders, more than {MAX_CHILDREN}: raise splitsize"
        raise Refused(RefusalCode.BATCH_TOO_LARGE, text, field="splitsize")
    sizes = [size] * (whole.quantity // size) + ([whole.quantity % size] if whole.quantity % size else [])
    if whole.options.disclosed_quantity > min(sizes):
        text = "disclosed_quantity is above the smallest part: lower it"
        raise Refused(RefusalCode.INVALID_VALUE, text, field="disclosed_quantity")
    signals = tuple(msgspec.structs.replace(whole, quantity=part) for part in sizes)
    return Split(signals=signals, size=size, total=whole.quantity)


def _change(row: Row, find: Find) -> Change:
    _pass(unknown_fields(row, CHANGE_FIELDS))
    kind = fields.word(OrderType, _text(row, "pricetype"), "pricetype")
    price, trigger = _price(row, "price"), _price(row, "trigger_price")
    for needed, value, name in ((kind.needs_price, price, "price"), (kind.needs_trigger, trigger, "trigger_price")):
        if needed and value is None:
            raise Refused(RefusalCode.MISSING_FIELD, f"a {kind} order needs {name}: add it", field=name)
    if not _ABSENT.fullmatch(_number(row, "disclosed_quantity")):
        text = "disclosed_quantity cannot be changed: send 0"
        raise Refused(RefusalCode.NOT_ALLOWED, text, field="disclosed_quantity")
    return Change(
        instrument=_instrument(row, find),
        transaction_type=fields.word(TransactionType, _text(row, "action"), "action"),
        product_type=_product(row),
        quantity=fields.quantity(_number(row, "quantity"), "quantity"),
        order_type=kind,
        price=price if kind.needs_price else None,
        trigger_price=trigger if kind.needs_trigger else None,
    )


def _pass(found: Refusal | None) -> None:
    if found is not None:
        raise Refused(RefusalCode(found.code), found.message, field=found.field)


def _instrument(row: Row, find: Find) -> Instrument:
    found = find(_text(row, "exchange").upper(), _text(row, "symbol").upper())
    if isinstance(found, Refusal):
        raise Refused(RefusalCode.INVALID_VALUE, found.message, field=found.field)
    return found


def _product(row: Row, default: str | None = None) -> ProductType:
    text = _text(row, "product", default).upper()
    if text not in _PRODUCTS:
        message = f"product '{quote(text, 40)}' must be one of {', '.join(_PRODUCTS)}"
        raise Refused(RefusalCode.INVALID_VALUE, message, field="product")
    return ProductType(text)


def _text(row: Row, name: str, default: str | None = None) -> str:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise Refused(RefusalCode.WRONG_TYPE, f"{name} must be a string", field=name)
    text = (value or "").strip(" ") or default
    if text is None:
        raise Refused(RefusalCode.MISSING_FIELD, f"{name} is missing: add it", field=name)
    if not text.isascii():
        raise Refused(RefusalCode.INVALID_VALUE, f"{name} '{quote(text, 40)}' must be plain ASCII", field=name)
    return text


def _price(row: Row, name: str) -> Decimal | None:
    text = _number(row, name)
    return None if _ABSENT.fullmatch(text) else fields.price(text, name)


def _number(row: Row, name: str) -> str:
    """Return a number as plain text, whole ones without decimals; empty when it is absent."""
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, int | Decimal | str):
        raise Refused(RefusalCode.WRONG_TYPE, f"{name} must be a number", field=name)
    text = format(value, "f") if isinstance(value, Decimal) else str(value).strip(" ")
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text
