"""Orders, trades, positions and holdings as OpenAlgo's books list them: pure."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from engine.broker.values import BrokerHolding
from engine.clock import IST
from engine.domain.enums import Exchange, IntentStatus, OrderStatus, OrderType, TransactionType
from engine.domain.instruments import InstrumentBook
from engine.domain.intent import Intent
from engine.domain.money import rupees
from engine.domain.openalgo_symbols import known_as
from engine.domain.order import Order
from engine.domain.position import Position, average_price, pnl
from engine.http.openalgo.answers import HoldingRow, HoldingStatistics, OrderRow, OrderStatistics, PositionRow, TradeRow
from engine.http.views.numbers import tidy
from engine.store.queries.placed import DayTrade

_ZERO = Decimal(0)
_PERCENT = Decimal("0.01")
_STATUSES = {
    OrderStatus.COMPLETE: "complete",
    OrderStatus.REJECTED: "rejected",
    OrderStatus.FAILED: "rejected",
    OrderStatus.EXPIRED: "rejected",
    OrderStatus.CANCELLED: "cancelled",
    OrderStatus.TRIGGER_PENDING: "trigger pending",
}
_INTENT_STATUSES = {
    IntentStatus.REJECTED: "rejected",
    IntentStatus.FAILED: "rejected",
    IntentStatus.EXPIRED: "rejected",
    IntentStatus.CANCELLED: "cancelled",
}
_OPEN = "open"


def order_row(order: Order, book: InstrumentBook, labels: Mapping[UUID, str]) -> OrderRow:
    """Return an order as the order book lists it; what may still fill is open, whatever is known of it."""
    name = known_as(book, order.exchange, order.symbol)
    return OrderRow(
        action=order.transaction_type.value,
        symbol=name.symbol,
        exchange=name.exchange,
        orderid=order.broker_order_id or str(order.id),
        product=order.product_type.value,
        quantity=str(order.quantity),
        price=tidy((order.price if order.order_type is not OrderType.MARKET else None) or _ZERO),
        pricetype=order.order_type.value,
        order_status=_STATUSES.get(order.status, _OPEN),
        trigger_price=tidy(order.trigger_price or _ZERO),
        timestamp=stamp(order.created_at),
        average_price=tidy(order.average_price),
        account=labels.get(order.account_id, "?"),
        filled_quantity=str(order.filled_quantity),
        engine_status=order.status.value,
        status_message=order.status_message,
        id=order.id,
        intent_id=order.intent_id,
    )


def intent_row(intent: Intent, book: InstrumentBook) -> OrderRow:
    """Return a signal that has no order, or none yet, as the order that it asks for."""
    signal = intent.signal
    name = known_as(book, signal.exchange, signal.symbol)
    return OrderRow(
        action=signal.transaction_type.value,
        symbol=name.symbol,
        exchange=name.exchange,
        orderid=str(intent.id),
        product=signal.product_type.value,
        quantity=str(signal.quantity),
        price=tidy(signal.price or _ZERO),
        pricetype=signal.order_type.value,
        order_status=_INTENT_STATUSES.get(intent.status, _OPEN),
        trigger_price=tidy(signal.trigger_price or _ZERO),
        timestamp=stamp(intent.received_at),
        average_price=_ZERO,
        account="",
        filled_quantity="0",
        engine_status=intent.status.value,
        status_message=intent.reason,
        id=intent.id,
        intent_id=intent.id,
    )


def statistics_of(orders: Sequence[OrderRow]) -> OrderStatistics:
    """Return how many orders of each kind there are."""
    return OrderStatistics(
        total_buy_orders=sum(row.action == TransactionType.BUY for row in orders),
        total_sell_orders=sum(row.action == TransactionType.SELL for row in orders),
        total_completed_orders=sum(row.order_status == "complete" for row in orders),
        total_open_orders=sum(row.order_status in (_OPEN, "trigger pending") for row in orders),
        total_rejected_orders=sum(row.order_status == "rejected" for row in orders),
    )


def trade_row(trade: DayTrade, book: InstrumentBook, labels: Mapping[UUID, str]) -> TradeRow:
    """Return a trade as the trade book lists it."""
    name = known_as(book, Exchange(trade.exchange), trade.symbol)
    return TradeRow(
        action=trade.transaction_type,
        symbol=name.symbol,
        exchange=name.exchange,
        orderid=trade.broker_order_id,
        product=trade.product_type,
        quantity=trade.quantity,
        average_price=tidy(trade.price),
        timestamp=stamp(trade.filled_at),
        trade_value=tidy(trade.quantity * trade.price),
        account=labels.get(trade.account_id, "?"),
    )


def position_row(
    position: Position, last: Decimal | None, book: InstrumentBook, labels: Mapping[UUID, str]
) -> PositionRow:
    """Return a position as the position book lists it, valued at *last* or, without one, at its own last price."""
    name = known_as(book, position.exchange, position.symbol)
    price = last or position.last_price or None
    return PositionRow(
        symbol=name.symbol,
        exchange=name.exchange,
        product=position.product_type.value,
        quantity=str(position.quantity),
        average_price=rupees(tidy(average_price(position))),
        ltp=rupees(tidy(price or _ZERO)),
        pnl=money(pnl(position, price)),
        account=labels.get(position.account_id, "?"),
    )


def holding_row(holding: BrokerHolding, label: str) -> HoldingRow:
    """Return shares that an account holds, those not settled yet included."""
    change = holding.last_price - holding.average_price
    return HoldingRow(
        symbol=holding.symbol,
        exchange=holding.exchange,
        product="CNC",
        quantity=holding.quantity + holding.t1_quantity,
        pnl=tidy(holding.pnl),
        pnlpercent=_percent(change, holding.average_price),
        average_price=tidy(holding.average_price),
        account=label,
    )


def holding_statistics(holdings: Iterable[BrokerHolding]) -> HoldingStatistics:
    """Return what *holdings* are worth, cost and made."""
    value = cost = made = _ZERO
    for row in holdings:
        units = row.quantity + row.t1_quantity
        value += units * row.last_price
        cost += units * row.average_price
        made += row.pnl
    return HoldingStatistics(
        totalholdingvalue=tidy(value),
        totalinvvalue=tidy(cost),
        totalprofitandloss=tidy(made),
        totalpnlpercentage=_percent(made, cost),
    )


def stamp(at: datetime) -> str:
    """Return a time as OpenAlgo writes it: 08-Apr-2025 13:58:03, in India."""
    local = at.astimezone(IST)
    return f"{local.day:02d}-{_MONTHS[local.month - 1]}-{local.year} {local:%H:%M:%S}"


def money(amount: Decimal) -> str:
    """Return rupees with two decimals, as text."""
    return f"{amount.quantize(_PERCENT):f}"


# not of the locale
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _percent(part: Decimal, whole: Decimal) -> Decimal:
    return tidy((part / whole * 100).quantize(_PERCENT)) if whole else _ZERO
