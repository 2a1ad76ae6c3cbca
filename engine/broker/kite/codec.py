"""Kite's JSON, read exactly: decimals from the digits, times made aware, nothing assumed present.

Every decoder takes the body of a 200 answer and raises BrokerUnavailable, naming the field, for
anything it cannot read; never another exception. A missing ``data`` is not an empty list: absence of
an order is evidence, and evidence must have been sent.
"""

import re
from datetime import UTC, datetime
from decimal import Decimal
from sys import intern
from typing import TypeVar

import msgspec

from engine.broker.kite import rows
from engine.broker.values import (
    BrokerHolding,
    BrokerMargins,
    BrokerOrder,
    BrokerPosition,
    BrokerPositions,
    BrokerProfile,
    BrokerTrade,
    MarginSegment,
)
from engine.clock import IST
from engine.domain.enums import OrderStatus
from engine.domain.gtt import BrokerGtt, BrokerGttOrder
from engine.domain.live_units import Bounds
from engine.errors import BrokerUnavailable
from engine.observability.redaction import escape_controls

T = TypeVar("T")

_ZERO = Decimal(0)
_STATUS = {
    "PUT ORDER REQ RECEIVED": OrderStatus.SUBMITTED,
    "PUT ORDER REQUEST RECEIVED": OrderStatus.SUBMITTED,
    "VALIDATION PENDING": OrderStatus.SUBMITTED,
    "OPEN PENDING": OrderStatus.SUBMITTED,
    "AMO REQ RECEIVED": OrderStatus.SUBMITTED,
    "OPEN": OrderStatus.OPEN,
    "TRIGGER PENDING": OrderStatus.TRIGGER_PENDING,
    "COMPLETE": OrderStatus.COMPLETE,
}
_TRIGGER_ID = re.compile(r"[1-9][0-9]{0,19}", re.ASCII)
_FULL_TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d")


def order_status(raw: str, filled_quantity: int, quantity: int) -> OrderStatus:
    """Translate Kite's status.

    Final are COMPLETE and whatever starts with CANCELLED or REJECTED; a string nobody knows is live
    (Kite Connect v3 orders: "There may be other values as well"). It says no more than that the broker has the
    order, and so do the words of a change or a cancellation under way: of a stop they must not tell that it is
    triggered. A live order with a part filled is PARTIALLY_FILLED.
    """
    word = raw.strip().upper()
    status = _STATUS.get(word)
    if status is None:
        if word.startswith("CANCELLED"):
            return OrderStatus.CANCELLED
        if word.startswith("REJECTED"):
            return OrderStatus.REJECTED
        status = OrderStatus.SUBMITTED
    if status.is_working and 0 < filled_quantity < quantity:
        return OrderStatus.PARTIALLY_FILLED
    return status


def decode_orders(body: bytes) -> list[BrokerOrder]:
    """Read the order book, or the history of one order."""
    return [_order(row) for row in _payload(rows.ORDERS, body)]


def decode_order(text: bytes) -> BrokerOrder:
    """Read one bare order object, as push and postback carry it."""
    return _order(_decode(rows.ORDER, text))


def decode_trades(body: bytes, now: datetime) -> list[BrokerTrade]:
    """Read the trade book; *now* stands in for a trade that carries no time."""
    return [_trade(row, now) for row in _payload(rows.TRADES, body)]


def raw_rows(body: bytes) -> list[msgspec.Raw]:
    """Return the text of each row of an order book or trade book."""
    return _payload(rows.LIST, body)


def raw_list(text: bytes) -> list[msgspec.Raw]:
    """Return the text of each row of a bare list."""
    return _decode(rows.BARE_LIST, text)


def decode_order_row(text: bytes, _now: datetime) -> BrokerOrder:
    """Read one row of the order book."""
    return _order(_decode(rows.ORDER, text))


def decode_trade_row(text: bytes, now: datetime) -> BrokerTrade:
    """Read one row of the trade book; *now* itself stands in for a time that it does not carry."""
    return _trade(_decode(rows.TRADE, text), now)


def decode_positions(body: bytes) -> BrokerPositions:
    """Read net and day positions."""
    both = _payload(rows.POSITIONS, body)
    return BrokerPositions(net=tuple(map(_position, both.net)), day=tuple(map(_position, both.day)))


def decode_holdings(body: bytes) -> list[BrokerHolding]:
    """Read the holdings."""
    return [
        BrokerHolding(
            exchange=row.exchange or "",
            symbol=row.tradingsymbol or "",
            quantity=_count("quantity", row.quantity),
            t1_quantity=_count("t1_quantity", row.t1_quantity),
            used_quantity=_count("used_quantity", row.used_quantity),
            mtf_quantity=None
            if row.mtf is None
            else _count("mtf.quantity", row.mtf.quantity) - _count("mtf.used_quantity", row.mtf.used_quantity),
            average_price=_money("average_price", row.average_price),
            last_price=_money("last_price", row.last_price),
            pnl=_money("pnl", row.pnl),
        )
        for row in _payload(rows.HOLDINGS, body)
    ]


def decode_gtts(body: bytes) -> list[BrokerGtt]:
    """Read the list of triggers."""
    return [_gtt(row) for row in _payload(rows.GTTS, body)]


def decode_last_prices(body: bytes) -> dict[str, Decimal]:
    """Read last prices by the key they were asked with; a key without a price is left out."""
    found = _payload(rows.LAST_PRICES, body)
    return {key: _money("last_price", row.last_price) for key, row in found.items() if row.last_price is not None}


def decode_price_bounds(body: bytes) -> dict[str, Bounds]:
    """Read the circuit limits of full quotes by the key they were asked with; a key without any is left out."""
    found = {}
    for key, row in _payload(rows.QUOTES, body).items():
        lowest = _money("lower_circuit_limit", row.lower_circuit_limit) or None
        highest = _money("upper_circuit_limit", row.upper_circuit_limit) or None
        if lowest is not None or highest is not None:
            found[key] = Bounds(lowest=lowest, highest=highest)
    return found


def decode_margins(body: bytes) -> BrokerMargins:
    """Read the funds of both segments."""
    both = _payload(rows.MARGINS, body)
    if both.equity is None and both.commodity is None:
        raise BrokerUnavailable("margins: neither equity nor commodity is there")
    return BrokerMargins(equity=_segment(both.equity), commodity=_segment(both.commodity))


def decode_profile(body: bytes) -> BrokerProfile:
    """Read the profile."""
    row = _payload(rows.PROFILE, body)
    if not row.user_id:
        raise BrokerUnavailable("profile: user_id is missing")
    return BrokerProfile(
        user_id=row.user_id,
        user_name=row.user_name or "",
        exchanges=tuple(row.exchanges or ()),
        products=tuple(row.products or ()),
        order_types=tuple(row.order_types or ()),
    )


def moment(field: str, text: str | None) -> datetime | None:
    """Return Kite's time as aware UTC: naive ones are IST, Go's zero time and bare hours are none.

    Raises BrokerUnavailable for what is no time at all.
    """
    if not text:
        return None
    if not _FULL_TIME.match(text):
        if re.fullmatch(r"\d\d:\d\d:\d\d", text):
            return None
        raise BrokerUnavailable(f"{field}: {text[:40]!r} is not a time")
    try:
        at = datetime.fromisoformat(text)
    except ValueError as exc:
        raise BrokerUnavailable(f"{field}: {text[:40]!r} is not a time") from exc
    if at.year < 1970 or at.year > 9000:
        return None
    return (at.replace(tzinfo=IST) if at.tzinfo is None else at).astimezone(UTC)


def _decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, ArithmeticError, RecursionError) as exc:
        raise BrokerUnavailable(f"answer cannot be read: {exc}") from exc


def _payload(decoder: msgspec.json.Decoder[rows.Answer[T]], body: bytes) -> T:
    answer = _decode(decoder, body)
    if answer.status != "success":
        raise BrokerUnavailable(f"status: {answer.status[:40]!r} where 'success' was expected")
    return answer.data


def _order(row: rows.OrderRow) -> BrokerOrder:
    quantity = _count("quantity", row.quantity)
    filled = _count("filled_quantity", row.filled_quantity)
    raw = _text(row.status) or ""
    return BrokerOrder(
        broker_order_id=_id(row.order_id),
        status=order_status(raw, filled, quantity),
        raw_status=intern(raw),
        filled_quantity=filled,
        average_price=_money("average_price", row.average_price),
        quantity=quantity,
        exchange=_word(row.exchange),
        symbol=_word(row.tradingsymbol),
        transaction_type=_word(row.transaction_type),
        product=_word(row.product),
        order_type=_word(row.order_type),
        validity=_word(row.validity),
        variety=_word(row.variety),
        price=_money("price", row.price),
        trigger_price=_money("trigger_price", row.trigger_price),
        market_protection=_money("market_protection", row.market_protection),
        tag=row.tag,
        tags=tuple(row.tags) if row.tags else (),
        status_message=_text(row.status_message or row.status_message_raw),
        exchange_order_id=_id(row.exchange_order_id) or None,
        parent_order_id=_id(row.parent_order_id) or None,
        order_timestamp=moment("order_timestamp", row.order_timestamp),
        exchange_timestamp=moment("exchange_timestamp", row.exchange_timestamp),
        exchange_update_timestamp=moment("exchange_update_timestamp", row.exchange_update_timestamp),
    )


def _word(word: str | None) -> str:
    # thousands of rows say the same few words, and are kept all day
    return intern(word) if word else ""


def _text(words: str | None) -> str | None:
    # no store takes a NUL, and words are no reason to lose what the row says
    return None if words is None else escape_controls(words)


def _trade(row: rows.TradeRow, now: datetime) -> BrokerTrade:
    # The documentation says "filled", the wire says "quantity".
    quantity = row.quantity if row.quantity is not None else row.filled
    return BrokerTrade(
        trade_id=_id(row.trade_id),
        broker_order_id=_id(row.order_id),
        exchange=_word(row.exchange),
        symbol=_word(row.tradingsymbol),
        product=_word(row.product),
        transaction_type=_word(row.transaction_type),
        quantity=_count("quantity", quantity),
        price=_money("average_price", row.average_price),
        filled_at=moment("fill_timestamp", row.fill_timestamp)
        or moment("exchange_timestamp", row.exchange_timestamp)
        or now,
        exchange_order_id=_id(row.exchange_order_id) or None,
    )


def _position(row: rows.PositionRow) -> BrokerPosition:
    return BrokerPosition(
        exchange=row.exchange or "",
        symbol=row.tradingsymbol or "",
        product=row.product or "",
        quantity=_count("quantity", row.quantity),
        overnight_quantity=_count("overnight_quantity", row.overnight_quantity),
        multiplier=_money("multiplier", row.multiplier, Decimal(1)),
        average_price=_money("average_price", row.average_price),
        close_price=_money("close_price", row.close_price),
        last_price=_money("last_price", row.last_price),
        pnl=_money("pnl", row.pnl),
        m2m=_money("m2m", row.m2m),
        buy_quantity=_count("buy_quantity", row.buy_quantity),
        buy_value=_money("buy_value", row.buy_value),
        sell_quantity=_count("sell_quantity", row.sell_quantity),
        sell_value=_money("sell_value", row.sell_value),
        day_buy_quantity=_count("day_buy_quantity", row.day_buy_quantity),
        day_buy_value=_money("day_buy_value", row.day_buy_value),
        day_sell_quantity=_count("day_sell_quantity", row.day_sell_quantity),
        day_sell_value=_money("day_sell_value", row.day_sell_value),
    )


def _gtt(row: rows.GttRow) -> BrokerGtt:
    trigger_id = _id(row.id)
    if not _TRIGGER_ID.fullmatch(trigger_id):
        # a list that lacks names is no evidence of absence, and one that has odd ones is no list of triggers
        raise BrokerUnavailable(f"gtt: id {trigger_id[:40]!r} is missing or no number")
    condition = row.condition or rows.GttConditionRow()
    return BrokerGtt(
        trigger_id=trigger_id,
        status=(_text(row.status) or "").strip().lower(),
        kind=row.type or "",
        exchange=condition.exchange or "",
        symbol=condition.tradingsymbol or "",
        trigger_values=tuple(_money("trigger_values", value) for value in condition.trigger_values or ()),
        last_price=_money("last_price", condition.last_price),
        orders=tuple(map(_gtt_order, row.orders or ())),
        created_at=moment("created_at", row.created_at),
        updated_at=moment("updated_at", row.updated_at),
        expires_at=moment("expires_at", row.expires_at),
    )


def _gtt_order(row: rows.GttOrderRow) -> BrokerGttOrder:
    found = row.result.order_result if row.result is not None else None
    order_id = "" if found is None else _id(found.order_id)
    if not order_id.isprintable():
        raise BrokerUnavailable("gtt: order_id cannot be read")
    reason = "" if found is None else _text(found.rejection_reason) or ""
    if found is not None and not order_id and not reason and (found.status or "").lower() == "failed":
        reason = "the broker gives no reason"
    return BrokerGttOrder(
        transaction_type=row.transaction_type or "",
        quantity=_count("quantity", row.quantity),
        price=_money("price", row.price),
        product=row.product or "",
        order_type=row.order_type or "",
        order_id=order_id,
        rejection_reason="" if order_id else reason,
    )


def _segment(row: rows.SegmentRow | None) -> MarginSegment:
    if row is None:
        return MarginSegment(enabled=False)
    held = row.available or rows.AvailableRow()
    collateral = _money("available.collateral", held.collateral)
    return MarginSegment(
        available=_money("available.cash", held.cash)
        + collateral
        + _money("available.adhoc_margin", held.adhoc_margin)
        + _money("available.intraday_payin", held.intraday_payin),
        used=_money("utilised.debits", row.utilised.debits if row.utilised else None),
        net=_money("net", row.net),
        collateral=collateral,
        enabled=row.enabled is not False,
    )


def _id(value: str | int | None) -> str:
    if value is None:
        return ""
    if isinstance(value, int) and not -(10**30) < value < 10**30:
        raise BrokerUnavailable("an id has more than 30 digits")
    return str(value)


def _count(field: str, value: float | None) -> int:
    if value is None:
        return 0
    if not -(10**15) < value < 10**15 or value != int(value):
        raise BrokerUnavailable(f"{field}: {str(value)[:40]} is not a quantity")
    return int(value)


def _money(field: str, value: Decimal | None, default: Decimal = _ZERO) -> Decimal:
    if value is None:
        return default
    if not value.is_finite() or not -40 < value.adjusted() < 16:
        raise BrokerUnavailable(f"{field}: {str(value)[:40]} is not an amount")
    return value
