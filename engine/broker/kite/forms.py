"""Orders as Kite's forms: the exact bytes of the bodies of POST and PUT.

Field order is the official package's. What is None is left out (an empty ``price=`` would be read as
a price), decimals are plain, never with an exponent. MARKET and SL-M always carry a market
protection: without one they are refused since April 2026 (kite.trade forum 52991).
"""

import re
from decimal import Decimal
from urllib.parse import quote_plus

import msgspec

from engine.domain import money
from engine.domain.enums import OrderType, Validity, Variety
from engine.domain.gtt import Gtt
from engine.domain.order import Order
from engine.errors import EngineError

MAX_TAG = 20
"""Longest tag that is accepted; longer ones are refused, not cut (kite.trade forum 52970)."""

AUTO_PROTECTION = Decimal(-1)
"""Market protection by the broker's own table."""

_PROTECTED = frozenset({OrderType.MARKET, OrderType.SL_M})
_TRIGGER_ID = re.compile(r"[1-9][0-9]{0,19}")
_ORDER_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")


class OrderNotEncodable(EngineError):
    """The order cannot be written as a form; the message names the field and the mend."""


def place_form(order: Order) -> bytes:
    """Return the body that places *order*. Raises OrderNotEncodable."""
    if order.quantity <= 0:
        raise OrderNotEncodable(f"quantity: {order.quantity} must be above 0")
    kind = order.order_type
    text = (
        f"variety={order.variety}&exchange={order.exchange}&tradingsymbol={_quoted(order.symbol)}"
        f"&transaction_type={order.transaction_type}&quantity={order.quantity}"
        f"&product={order.product_type}&order_type={kind}"
    )
    if kind.needs_price:
        text += f"&price={_price('price', kind, order.price)}"
    text += f"&validity={order.validity}{_options(order)}"
    if kind.needs_trigger or order.variety is Variety.CO:
        text += f"&trigger_price={_price('trigger_price', kind, order.trigger_price)}"
    if not 0 < len(order.tag) <= MAX_TAG:
        raise OrderNotEncodable(f"tag: {len(order.tag)} characters, 1 to {MAX_TAG} are taken")
    text += f"&tag={_quoted(order.tag)}"
    if kind in _PROTECTED:
        text += f"&market_protection={plain('market_protection', order.market_protection or AUTO_PROTECTION)}"
    return text.encode("ascii")


def _options(order: Order) -> str:
    options, text = order.options, ""
    if order.validity is Validity.TTL:
        if not options.validity_ttl:
            raise OrderNotEncodable("validity_ttl: an order of validity TTL needs its minutes")
        text += f"&validity_ttl={options.validity_ttl}"
    if options.disclosed_quantity:
        text += f"&disclosed_quantity={options.disclosed_quantity}"
    if order.variety is Variety.ICEBERG:
        if not options.iceberg_legs or not options.iceberg_quantity:
            raise OrderNotEncodable("iceberg_legs: an iceberg order needs its legs and their quantity")
        text += f"&iceberg_legs={options.iceberg_legs}&iceberg_quantity={options.iceberg_quantity}"
    if order.variety is Variety.AUCTION:
        if not options.auction_number:
            raise OrderNotEncodable("auction_number: an auction order needs the number of its auction")
        text += f"&auction_number={_quoted(options.auction_number)}"
    return text


def replace_form(
    broker_order_id: str,
    variety: Variety,
    *,
    quantity: int | None = None,
    price: Decimal | None = None,
    trigger_price: Decimal | None = None,
    order_type: OrderType | None = None,
    validity: Validity | None = None,
    market_protection: Decimal | None = None,
) -> bytes:
    """Return the body that changes an order: only what is given. Raises OrderNotEncodable."""
    text = f"variety={variety}&order_id={checked_order_id(broker_order_id)}"
    if quantity is not None:
        if quantity <= 0:
            raise OrderNotEncodable(f"quantity: {quantity} must be above 0")
        text += f"&quantity={quantity}"
    if price is not None and order_type not in _PROTECTED:
        text += f"&price={plain('price', price)}"
    if order_type is not None:
        text += f"&order_type={order_type}"
    if trigger_price is not None:
        text += f"&trigger_price={plain('trigger_price', trigger_price)}"
    if validity is not None:
        text += f"&validity={validity}"
    if market_protection is None and order_type in _PROTECTED:
        market_protection = AUTO_PROTECTION
    if market_protection:
        text += f"&market_protection={plain('market_protection', market_protection)}"
    return text.encode("ascii")


def gtt_form(gtt: Gtt) -> bytes:
    """Return the body that places or changes a trigger. Raises OrderNotEncodable.

    LIMIT orders only; prices are JSON numbers in exact digits (kite.md 13).
    """
    if gtt.quantity <= 0:
        raise OrderNotEncodable(f"quantity: {gtt.quantity} must be above 0")
    legs = gtt.legs
    if not legs:
        raise OrderNotEncodable("trigger_values: a trigger needs a stop or a target with its price")
    if len({leg.trigger for leg in legs}) < len(legs):
        raise OrderNotEncodable("trigger_values: stop and target are the same price")
    triggers = ",".join(_number("trigger_values", leg.trigger) for leg in legs)
    name = f'"exchange":"{gtt.exchange}","tradingsymbol":{_json(gtt.symbol)}'
    condition = f'{{{name},"trigger_values":[{triggers}],"last_price":{_number("last_price", gtt.last_price)}}}'
    orders = ",".join(
        f'{{{name},"transaction_type":"{gtt.transaction_type}","quantity":{gtt.quantity},"order_type":"LIMIT",'
        f'"product":"{gtt.product_type}","price":{_number("price", leg.price)}}}'
        for leg in legs
    )
    text = f"condition={quote_plus(condition)}&orders={quote_plus(f'[{orders}]')}&type={gtt.kind}"
    return text.encode("ascii")


def checked_trigger_id(trigger_id: str) -> str:
    """Return *trigger_id* if it may stand in a path. Raises OrderNotEncodable otherwise."""
    if not _TRIGGER_ID.fullmatch(trigger_id):
        raise OrderNotEncodable(f"trigger_id: {trigger_id!r} is not the id of a trigger")
    return trigger_id


def _number(field: str, value: Decimal) -> str:
    text = plain(field, value)
    if not value > 0:
        raise OrderNotEncodable(f"{field}: {value} must be above 0")
    return text


def _json(text: str) -> str:
    return msgspec.json.encode(text).decode()


def plain(field: str, value: Decimal) -> str:
    """Return *value* in digits, without an exponent. Raises OrderNotEncodable for one that is no number."""
    if not value.is_finite() or value.adjusted() > 15:
        raise OrderNotEncodable(f"{field}: {value} is not a usable number")
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -2:
        # read back from the ledger a number has its column's scale: -1.0000 is what Kite knows as -1
        return money.plain(value)
    return format(value, "f")


def checked_order_id(broker_order_id: str) -> str:
    """Return *broker_order_id* if it may stand in a path. Raises OrderNotEncodable otherwise."""
    if not _ORDER_ID.fullmatch(broker_order_id):
        raise OrderNotEncodable(f"broker_order_id: {broker_order_id!r} is not an order id")
    return broker_order_id


def _price(field: str, kind: OrderType, value: Decimal | None) -> str:
    if value is None:
        raise OrderNotEncodable(f"{field}: an order of type {kind} needs one")
    if not value > 0:
        raise OrderNotEncodable(f"{field}: {value} must be above 0")
    return plain(field, value)


def _quoted(text: str) -> str:
    return text if text.isascii() and text.isalnum() else quote_plus(text)
