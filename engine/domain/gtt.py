"""A good-till-triggered order (GTT) of ours as a value: its states, what the broker shows of it, how it is found.

A trigger is kept by the broker: a price, or two of which one cancels the other, and for each a LIMIT order that
the broker places itself when the price is met (kite.md 13). It bears no tag of ours and there is no key that
makes its placement safe to repeat. So it is written ahead, and one of unknown outcome is settled by reading the
broker's list alone: found by everything that it is made of, or proven absent.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.enums import Exchange, ProductType, TransactionType
from engine.domain.options import OrderRole
from engine.domain.order import IllegalTransition

ABSENT_AFTER_S = 30.0
"""How long after it can have been sent the first read begins that may prove a trigger absent."""

GONE = "GONE"
"""How the message begins of a trigger that was ended because the broker's list has it no more."""

CLEAN_READS = 2
CLEAN_READS_APART_S = 2.0

# The broker's stamps have whole seconds, and its clock is not ours.
_STAMP_SLACK = timedelta(seconds=60)


class GttStatus(StrEnum):
    """State of a trigger of ours.

    SUBMITTING is the row written ahead, UNKNOWN one that may stand at the broker, ACTIVE one that does. TRIGGERED:
    the broker has placed its order, or tried to. CANCELLED: somebody ended it. REJECTED: the broker refused it.
    EXPIRED: its year is over. FAILED: it is not at the broker, for it was not sent or was proven absent.
    """

    SUBMITTING = "SUBMITTING"
    UNKNOWN = "UNKNOWN"
    ACTIVE = "ACTIVE"
    TRIGGERED = "TRIGGERED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    EXPIRED = "EXPIRED"
    FAILED = "FAILED"

    @property
    def is_live(self) -> bool:
        """Whether it stands at the broker and may fire, or may do so."""
        return self in LIVE

    @property
    def is_unresolved(self) -> bool:
        """Whether bytes may have left and the broker's answer is not known."""
        return self in (GttStatus.SUBMITTING, GttStatus.UNKNOWN)


LIVE = (GttStatus.SUBMITTING, GttStatus.UNKNOWN, GttStatus.ACTIVE)
_AT_BROKER = (GttStatus.ACTIVE, GttStatus.TRIGGERED, GttStatus.CANCELLED, GttStatus.REJECTED, GttStatus.EXPIRED)

TRANSITIONS: Mapping[GttStatus, frozenset[GttStatus]] = {
    # Answered or not, or proven not sent.
    GttStatus.SUBMITTING: frozenset({GttStatus.UNKNOWN, GttStatus.FAILED, *_AT_BROKER}),
    # Found in the list in any state, or proven absent. Never SUBMITTING: that would be a second sending.
    GttStatus.UNKNOWN: frozenset({GttStatus.UNKNOWN, GttStatus.FAILED, *_AT_BROKER}),
    # New terms (ACTIVE), or any end.
    GttStatus.ACTIVE: frozenset(_AT_BROKER),
    # What its order became may be shown later than that it fired.
    GttStatus.TRIGGERED: frozenset({GttStatus.TRIGGERED}),
    # It fired before it was ended, or is in the list again that it was missing from.
    GttStatus.CANCELLED: frozenset({GttStatus.TRIGGERED, GttStatus.ACTIVE}),
    GttStatus.REJECTED: frozenset({GttStatus.TRIGGERED}),
    GttStatus.EXPIRED: frozenset({GttStatus.TRIGGERED}),
    # Shown after it was taken for absent.
    GttStatus.FAILED: frozenset(_AT_BROKER),
}


class GttLeg(msgspec.Struct, frozen=True, kw_only=True):
    """One side of a trigger: at *trigger* rupees the broker places a LIMIT order at *price* rupees."""

    role: OrderRole
    trigger: Decimal
    price: Decimal


class Gtt(msgspec.Struct, frozen=True, kw_only=True):
    """The exit of one unit of an entry's fills, kept by the broker.

    ``quantity`` and ``unit_quantity`` are units: what it would sell (or buy) now, and what of the entry it was
    made for; ``attempt`` counts the triggers of that unit. ``transaction_type`` is the side of its orders. Prices
    are rupees, those of a side that it does not have None; ``last_price`` is the price that it was made at.
    ``trigger_id`` is the broker's id. ``fired_role`` and ``broker_order_id`` are the side that fired and the
    order that the broker placed then. ``submitting_at`` (UTC) is when the row was written ahead.
    """

    id: UUID
    entry_id: UUID
    account_id: UUID
    user_id: UUID
    exchange: Exchange
    symbol: str
    transaction_type: TransactionType
    product_type: ProductType
    quantity: int
    last_price: Decimal
    status: GttStatus
    unit: int
    unit_quantity: int
    attempt: int
    submitting_at: datetime
    created_at: datetime
    updated_at: datetime
    strategy_id: UUID | None = None
    stop_trigger: Decimal | None = None
    stop_price: Decimal | None = None
    target_trigger: Decimal | None = None
    target_price: Decimal | None = None
    status_message: str | None = None
    trigger_id: str | None = None
    fired_role: OrderRole | None = None
    broker_order_id: str | None = None
    expires_at: datetime | None = None

    @property
    def key(self) -> tuple[Exchange, str]:
        """The exchange and symbol."""
        return (self.exchange, self.symbol)

    @property
    def legs(self) -> tuple[GttLeg, ...]:
        """The sides that it has, the lower trigger first, as Kite wants them."""
        sides = (
            (OrderRole.STOP, self.stop_trigger, self.stop_price),
            (OrderRole.TARGET, self.target_trigger, self.target_price),
        )
        legs = [
            GttLeg(role=role, trigger=trigger, price=price)
            for role, trigger, price in sides
            if trigger is not None and price is not None
        ]
        return tuple(sorted(legs, key=lambda leg: leg.trigger))

    @property
    def kind(self) -> str:
        """``two-leg`` when it has a stop and a target, else ``single``."""
        return "two-leg" if len(self.legs) == 2 else "single"


class BrokerGttOrder(msgspec.Struct, frozen=True, kw_only=True):
    """One order of a trigger as the broker shows it: ``price`` is rupees, ``quantity`` units.

    ``order_id`` is what it placed when it fired, ``rejection_reason`` why it could not; both empty before.
    """

    transaction_type: str = ""
    quantity: int = 0
    price: Decimal = Decimal(0)
    product: str = ""
    order_type: str = ""
    order_id: str = ""
    rejection_reason: str = ""

    @property
    def has_result(self) -> bool:
        """Whether its side has fired and the broker says what became of it."""
        return bool(self.order_id or self.rejection_reason)


class BrokerGtt(msgspec.Struct, frozen=True, kw_only=True):
    """A trigger as the broker's list shows it: ``status`` is the broker's word, times are aware UTC."""

    trigger_id: str
    status: str
    kind: str = ""
    exchange: str = ""
    symbol: str = ""
    trigger_values: tuple[Decimal, ...] = ()
    last_price: Decimal = Decimal(0)
    orders: tuple[BrokerGttOrder, ...] = ()
    created_at: datetime | None = None
    updated_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def is_active(self) -> bool:
        """Whether it may fire."""
        return self.status == "active"


_ENDS = {
    "cancelled": GttStatus.CANCELLED,
    "deleted": GttStatus.CANCELLED,
    "disabled": GttStatus.CANCELLED,
    "rejected": GttStatus.REJECTED,
    "expired": GttStatus.EXPIRED,
}


def move(gtt: Gtt, to: GttStatus, *, at: datetime, message: str | None = None, **changes: Any) -> Gtt:
    """Return *gtt* in state *to*, with *changes* of other fields.

    Raises:
        IllegalTransition: the table has no such row.
    """
    if to not in TRANSITIONS[gtt.status]:
        raise IllegalTransition(f"GTT {gtt.id} cannot go from {gtt.status} to {to}")
    if message is not None:
        changes["status_message"] = message
    return msgspec.structs.replace(gtt, status=to, updated_at=at, **changes)


def fold(gtt: Gtt, row: BrokerGtt, *, at: datetime) -> Gtt:
    """Return *gtt* as the broker's *row* of it says; the same object when that is no news.

    Words of the broker that we do not have say nothing. Terms that somebody changed by hand are taken over.
    """
    if row.status == "triggered":
        return _fired(gtt, row, at)
    if row.is_active:
        return _active(gtt, row, at)
    end = _ENDS.get(row.status)
    if end is None or end is gtt.status or end not in TRANSITIONS[gtt.status]:
        return gtt
    return move(gtt, end, at=at, message=f"{row.status} at the broker", trigger_id=row.trigger_id)


def _fired(gtt: Gtt, row: BrokerGtt, at: datetime) -> Gtt:
    legs = gtt.legs
    place, order = next(((i, order) for i, order in enumerate(row.orders) if order.has_result), (0, None))
    role = legs[place].role if order is not None and place < len(legs) else gtt.fired_role
    broker_order_id = (order.order_id or None) if order is not None else gtt.broker_order_id
    message = "fired"
    if order is None:
        message = "fired; the broker does not show its order yet"
    elif not order.order_id:
        message = f"REFUSED: {order.rejection_reason}"
    if (gtt.status, gtt.fired_role, gtt.broker_order_id) == (GttStatus.TRIGGERED, role, broker_order_id) and (
        order is None or gtt.status_message == message
    ):
        return gtt
    return move(
        gtt,
        GttStatus.TRIGGERED,
        at=at,
        message=message,
        trigger_id=row.trigger_id,
        fired_role=role,
        broker_order_id=broker_order_id,
    )


def _active(gtt: Gtt, row: BrokerGtt, at: datetime) -> Gtt:
    was_missed = gtt.status is GttStatus.CANCELLED and (gtt.status_message or "").startswith(GONE)
    if not (was_missed or gtt.status in (*LIVE, GttStatus.FAILED)):
        return gtt  # an old answer
    changes: dict[str, Any] = {}
    if row.expires_at is not None and row.expires_at != gtt.expires_at:
        changes["expires_at"] = row.expires_at
    quantity = max((order.quantity for order in row.orders), default=0)
    if quantity > 0 and quantity != gtt.quantity:
        changes["quantity"] = quantity
    legs = gtt.legs
    if len(row.trigger_values) == len(row.orders) == len(legs):
        for leg, trigger, order in zip(legs, row.trigger_values, row.orders, strict=True):
            side = "stop" if leg.role is OrderRole.STOP else "target"
            if trigger != leg.trigger:
                changes[f"{side}_trigger"] = trigger
            if order.price != leg.price:
                changes[f"{side}_price"] = order.price
    if gtt.status is GttStatus.ACTIVE and not changes:
        return gtt
    terms = ", ".join(f"{name} {value}" for name, value in changes.items() if name != "expires_at")
    message = f"changed at the broker: {terms}" if terms else gtt.status_message
    if gtt.status is not GttStatus.ACTIVE:
        message = "found at the broker"
    return move(gtt, GttStatus.ACTIVE, at=at, message=message, trigger_id=row.trigger_id, **changes)


def matches(gtt: Gtt, row: BrokerGtt) -> bool:
    """Whether *row* is *gtt*, whose id at the broker is not known: everything that it is made of agrees.

    Made no earlier than it was written ahead, less what two clocks may differ; a row without a time of making
    is nobody's.
    """
    if row.created_at is None or row.created_at < gtt.submitting_at - _STAMP_SLACK:
        return False
    legs = gtt.legs
    if (row.exchange, row.symbol, row.kind) != (gtt.exchange, gtt.symbol, gtt.kind):
        return False
    if tuple(leg.trigger for leg in legs) != row.trigger_values or len(row.orders) != len(legs):
        return False
    return all(
        (order.transaction_type, order.quantity, order.product, order.price)
        == (gtt.transaction_type, gtt.quantity, gtt.product_type, leg.price)
        for leg, order in zip(legs, row.orders, strict=True)
    )


def find(gtt: Gtt, rows: Iterable[BrokerGtt], owned: AbstractSet[str]) -> tuple[BrokerGtt, ...]:
    """Return the rows that *gtt* may be, the oldest first; *owned* are ids that others of ours have."""
    found = [row for row in rows if row.trigger_id not in owned and matches(gtt, row)]
    return tuple(sorted(found, key=lambda row: (row.created_at or gtt.submitting_at, _number(row.trigger_id))))


def _number(trigger_id: str) -> int:
    return int(trigger_id) if trigger_id.isdigit() else 0


class GttSearch:
    """The search for one trigger of unknown outcome; *sent_at_s* (monotonic) is the latest it can have left."""

    def __init__(self, sent_at_s: float) -> None:
        self._provable_at_s = sent_at_s + ABSENT_AFTER_S
        self._clean: list[float] = []

    def add(self, began_s: float, *, is_clean: bool) -> bool:
        """Take in a read of the list without the trigger, begun at *began_s*; return whether it is proven absent.

        A read that is not clean (the list lacks triggers known to stand in it) proves nothing, and what was
        read before it has to be read again.
        """
        if not is_clean:
            self._clean.clear()
        elif began_s >= self._provable_at_s and (not self._clean or began_s - self._clean[-1] >= CLEAN_READS_APART_S):
            self._clean.append(began_s)
        return len(self._clean) >= CLEAN_READS
