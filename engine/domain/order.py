"""The order: its states, the table of its transitions, and how broker reports fold into it.

The table admits the real world (a fill after a cancel request, a fill after the broker called the
order cancelled): money that moved is always taken up, and reported as an anomaly where it should not
have been. Broker reports come from several witnesses, late and out of order (Kite Connect v3 orders;
kite.trade forum 33971): the fold is monotone in the filled quantity and terminal states absorb.

A cancel request is not a state. Between the request and the broker's CANCELLED the order works on and
may fill, in part or whole; only a report ends it. The request itself is noted by a move of the order
to the state it is in.
"""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.enums import (
    Exchange,
    OrderStatus,
    OrderType,
    ProductType,
    TransactionType,
    Validity,
    Variety,
)
from engine.domain.options import NO_OPTIONS, OrderOptions, OrderRole
from engine.errors import EngineError

CHANGE_NOTES = ("cancel requested", "modify requested", "LATE_FOUND: cancelling")
"""How the detail of an event begins that stands for a cancel or modify call to the broker: they count as calls."""


class OrderOrigin(StrEnum):
    """Who made an order.

    This engine for a signal, somebody else on the same account (by hand, the broker, another program), or this
    engine to flatten a position.
    """

    ENGINE = "ENGINE"
    EXTERNAL = "EXTERNAL"
    SQUARE_OFF = "SQUARE_OFF"


class Order(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One order on one account.

    ``quantity`` is units, ``price``, ``trigger_price`` and ``average_price`` rupees, ``market_protection``
    percent (-1 for the broker's automatic table). ``tag`` is unique per attempt and is how the order is
    found at the broker. ``deadline`` (UTC) is when the order may no longer be sent; ``submitting_at``
    (UTC) is when the write-ahead row was made, the start of the wait for proof of absence.
    ``trading_day`` is the IST date of the broker's book that holds the order. An order of ``origin``
    EXTERNAL was found in the book: it has no intent, and the engine neither sends nor cancels it by itself; one of
    SQUARE_OFF closes a position and nothing else, and passes a kill switch for that.
    ``role`` other than ENTRY is an exit attached to the entry ``parent_id``; ``stop_loss`` and ``target``
    (rupees) of an entry are the exits to attach to what of it fills. ``modifications`` counts the changes that
    the broker took (25 at most, kite.md 4.1). An order that replaces another has it as ``parent_id``.
    ``source_id`` is the source of its intent, None where there is none.
    """

    id: UUID
    account_id: UUID
    user_id: UUID
    exchange: Exchange
    symbol: str
    transaction_type: TransactionType
    quantity: int
    order_type: OrderType
    product_type: ProductType
    status: OrderStatus
    tag: str
    attempt: int
    epoch: int
    trading_day: date
    deadline: datetime
    created_at: datetime
    updated_at: datetime
    intent_id: UUID | None = None
    strategy_id: UUID | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    market_protection: Decimal | None = None
    validity: Validity = Validity.DAY
    variety: Variety = Variety.REGULAR
    status_message: str | None = None
    broker_order_id: str | None = None
    filled_quantity: int = 0
    average_price: Decimal = Decimal(0)
    submitting_at: datetime | None = None
    origin: OrderOrigin = OrderOrigin.ENGINE
    role: OrderRole = OrderRole.ENTRY
    parent_id: UUID | None = None
    stop_loss: Decimal | None = None
    target: Decimal | None = None
    options: OrderOptions = NO_OPTIONS
    modifications: int = 0
    source_id: UUID | None = None

    @property
    def is_attached(self) -> bool:
        """Whether the order is an exit attached to another order: it only ever reduces what that one filled."""
        return self.role is not OrderRole.ENTRY

    @property
    def is_external(self) -> bool:
        """Whether somebody else than this engine made the order."""
        return self.origin is OrderOrigin.EXTERNAL

    @property
    def is_square_off(self) -> bool:
        """Whether the order was made to flatten a position."""
        return self.origin is OrderOrigin.SQUARE_OFF

    @property
    def key(self) -> tuple[Exchange, str]:
        """What orders are sequenced by within an account: the exchange and symbol."""
        return (self.exchange, self.symbol)

    @property
    def remaining_quantity(self) -> int:
        """Units that may still fill: none once terminal."""
        return 0 if self.status.is_terminal else self.quantity - self.filled_quantity


class OrderReport(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one witness (order book, push, postback) says of an order at the broker.

    ``status`` is already translated by the broker adapter, UNKNOWN standing for words that say nothing of
    it; ``filled_quantity`` and ``average_price`` (rupees) are cumulative.
    """

    broker_order_id: str
    status: OrderStatus
    filled_quantity: int
    average_price: Decimal
    status_message: str | None = None


class OrderEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry in an order's history. ``anomaly`` marks a report that the real world should not make."""

    order_id: UUID
    at: datetime
    from_status: OrderStatus
    to_status: OrderStatus
    filled_quantity: int
    detail: str = ""
    anomaly: bool = False


class IllegalTransition(EngineError, ValueError):
    """An order was told to make a move that its table does not have."""


_WORKING = (OrderStatus.SUBMITTED, OrderStatus.TRIGGER_PENDING, OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED)
_ENDED_AT_BROKER = (OrderStatus.COMPLETE, OrderStatus.CANCELLED, OrderStatus.REJECTED, OrderStatus.EXPIRED)
_AT_BROKER = (*_WORKING, *_ENDED_AT_BROKER)

TRANSITIONS: Mapping[OrderStatus, frozenset[OrderStatus]] = {
    # Sent (SUBMITTING), or ended before a byte left: risk or kill switch, user, staleness, our failure.
    # A report for it (the rest) means that this ledger is older than the broker's: a restored backup.
    OrderStatus.PENDING: frozenset({OrderStatus.SUBMITTING, OrderStatus.FAILED, *_AT_BROKER}),
    # Answered, or not (UNKNOWN), or proven not sent (FAILED; EXPIRED and CANCELLED by the send gate).
    # A push may overtake the answer, hence every state at the broker. Never back to PENDING: that is a
    # second sending.
    OrderStatus.SUBMITTING: frozenset({OrderStatus.UNKNOWN, OrderStatus.FAILED, *_AT_BROKER}),
    # Found by its tag in any state, or proven absent (EXPIRED, FAILED); a note while parked (UNKNOWN).
    # Neither PENDING nor SUBMITTING: an order of unknown outcome is never sent again.
    OrderStatus.UNKNOWN: frozenset({OrderStatus.UNKNOWN, OrderStatus.FAILED, *_AT_BROKER}),
    # The broker has it; anything may follow, and interim states may be skipped between two reads.
    OrderStatus.SUBMITTED: frozenset(_AT_BROKER),
    # Waits for its trigger, is triggered, or ends. A fill means that the trigger was not witnessed.
    OrderStatus.TRIGGER_PENDING: frozenset(_AT_BROKER) - {OrderStatus.SUBMITTED},
    # At the exchange: new terms or a cancel request (OPEN), fills, end. REJECTED: thrown out by the exchange.
    OrderStatus.OPEN: frozenset(_AT_BROKER) - {OrderStatus.SUBMITTED, OrderStatus.TRIGGER_PENDING},
    # As OPEN, but what has filled cannot be undone. CANCELLED here keeps its filled quantity.
    OrderStatus.PARTIALLY_FILLED: frozenset({OrderStatus.PARTIALLY_FILLED, *_ENDED_AT_BROKER}),
    # The end.
    OrderStatus.COMPLETE: frozenset(),
    # LATE_FOUND: the fill crossed the cancellation. A late part fill stays CANCELLED, with its quantity.
    OrderStatus.CANCELLED: frozenset({OrderStatus.COMPLETE}),
    # LATE_FOUND: refused as far as we were told, filled all the same.
    OrderStatus.REJECTED: frozenset({OrderStatus.COMPLETE}),
    # LATE_FOUND: believed never placed (or over with the day), filled all the same.
    OrderStatus.EXPIRED: frozenset({OrderStatus.COMPLETE}),
    # LATE_FOUND: believed never sent, filled all the same.
    OrderStatus.FAILED: frozenset({OrderStatus.COMPLETE}),
}

# How far along a report is: the fold never goes back among working states.
_PROGRESS = dict.fromkeys(OrderStatus, 0) | {status: 1 + step for step, status in enumerate(_WORKING)}


def can_move(a: OrderStatus, b: OrderStatus) -> bool:
    """Return whether the table has a row from *a* to *b*."""
    return b in TRANSITIONS[a]


def move(
    order: Order, to: OrderStatus, *, at: datetime, message: str | None = None, **changes: Any
) -> tuple[Order, OrderEvent]:
    """Move *order* to *to*, with *changes* of other fields, and return it with the event of the move.

    *message*, when given, becomes the status message and the detail of the event. Rows that only a
    surprise of the real world takes give an event with ``anomaly`` set.

    Raises:
        IllegalTransition: the table has no such row, or the filled quantity would shrink.
    """
    if not can_move(order.status, to):
        raise IllegalTransition(f"order {order.id} cannot go from {order.status} to {to}")
    if changes.get("filled_quantity", order.filled_quantity) < order.filled_quantity:
        raise IllegalTransition(f"order {order.id} has filled {order.filled_quantity}; that cannot shrink")
    if message is not None:
        changes["status_message"] = message
    moved = msgspec.structs.replace(order, status=to, updated_at=at, **changes)
    late = order.status.is_terminal or (order.status is OrderStatus.PENDING and to in _WORKING)
    return moved, _event(order, moved, at, message or "", anomaly=late)


def fold(order: Order, report: OrderReport, *, at: datetime) -> tuple[Order, OrderEvent | None]:
    """Take a broker's report into *order*; the event is None when it says nothing new.

    The filled quantity only grows and the average price goes with the larger fill; the state only
    advances; a terminal state stays, whatever a late witness says, except that a fill which makes the
    order whole makes it COMPLETE. A fill after the end, an overfill, a COMPLETE that is short and an
    order found alive after it was given up are taken up with ``anomaly`` set. Reports of one true
    history give the same state, fill and price in any order.

    Raises:
        IllegalTransition: the report is about another order at the broker.
    """
    if order.broker_order_id not in (None, report.broker_order_id):
        raise IllegalTransition(
            f"order {order.id} is {order.broker_order_id} at the broker; this report is of {report.broker_order_id}"
        )
    grew = report.filled_quantity > order.filled_quantity
    filled = max(order.filled_quantity, report.filled_quantity)
    # A witness may know the quantity before the price; the price may then follow with the same quantity.
    priced = grew or (0 < filled == report.filled_quantity and not order.average_price)
    to = _folded_status(order, report.status, filled)
    folded = msgspec.structs.replace(
        order,
        status=to,
        broker_order_id=report.broker_order_id,
        filled_quantity=filled,
        average_price=report.average_price if priced else order.average_price,
        status_message=_folded_message(order, report),
    )
    if folded == order:
        return order, None
    detail, anomaly = _judge(order, folded, report, grew=grew)
    folded = msgspec.structs.replace(folded, updated_at=at)
    return folded, _event(order, folded, at, detail, anomaly=anomaly)


def _folded_status(order: Order, reported: OrderStatus, filled: int) -> OrderStatus:
    if filled >= order.quantity:
        return OrderStatus.COMPLETE
    if order.status.is_terminal:
        return order.status
    if reported in _ENDED_AT_BROKER:
        return reported
    if filled:
        return OrderStatus.PARTIALLY_FILLED
    return max(order.status, reported, key=_PROGRESS.__getitem__)


def _folded_message(order: Order, report: OrderReport) -> str | None:
    if report.status_message is None:
        return order.status_message
    if order.status_message is None or not order.status.is_terminal:
        stale = not report.status.is_terminal and _PROGRESS[report.status] < _PROGRESS[order.status]
        return order.status_message if stale else report.status_message
    return order.status_message


def _judge(order: Order, folded: Order, report: OrderReport, *, grew: bool) -> tuple[str, bool]:
    note = report.status_message or ""
    if order.status.is_terminal and grew:
        return (
            f"LATE_FOUND: filled {folded.filled_quantity} of {order.quantity} after {order.status}. {note}".strip(),
            True,
        )
    if order.status.is_terminal and order.broker_order_id is None and not report.status.is_terminal:
        return f"LATE_FOUND: {report.status} at the broker after {order.status}. {note}".strip(), True
    if order.status is OrderStatus.PENDING:
        return f"LATE_FOUND: {report.status} at the broker, never sent by this ledger. {note}".strip(), True
    if folded.filled_quantity > order.quantity:
        return f"OVERFILLED: {folded.filled_quantity} of {order.quantity}. {note}".strip(), True
    if folded.status is OrderStatus.COMPLETE and folded.filled_quantity < order.quantity:
        return f"COMPLETE with {folded.filled_quantity} of {order.quantity}. {note}".strip(), True
    return note, False


def _event(before: Order, after: Order, at: datetime, detail: str, *, anomaly: bool) -> OrderEvent:
    return OrderEvent(
        order_id=before.id,
        at=at,
        from_status=before.status,
        to_status=after.status,
        filled_quantity=after.filled_quantity,
        detail=detail,
        anomaly=anomaly,
    )
