"""The circuit breaker of one account or strategy: a state machine over what the broker made of its orders.

Closed, it counts refusals and failures in a row; at the limit it opens, and nothing is entered for the cool-down.
Then it is half open: one entry is tried, whose success closes it and whose failure opens it again. Only what
happened at the broker counts: an order that risk refused, or that a kill switch stopped, says nothing of it.
"""

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from engine.domain.enums import OrderStatus
from engine.domain.intent import RESLICED
from engine.domain.order import Order


class BreakerState(StrEnum):
    """Whether entries go."""

    CLOSED = "CLOSED"
    OPEN = "OPEN"
    HALF_OPEN = "HALF_OPEN"


class Outcome(StrEnum):
    """What the broker made of an order: refused or lost it at the door, received it, refused it later, or took it."""

    FAILED = "FAILED"
    RECEIVED = "RECEIVED"
    REJECTED = "REJECTED"
    TAKEN = "TAKEN"

    @property
    def is_failure(self) -> bool:
        """Whether it counts against the broker."""
        return self in (Outcome.FAILED, Outcome.REJECTED)


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """``failures`` are those in a row; ``until`` (UTC) is when an open one becomes half open, None: not by itself.

    Failures at the door and later rejections are counted apart (``at_door``, ``later``): an order that the broker
    receives ends a row of the one, but only one that it takes ends a row of the other, for its own checks follow.
    """

    state: BreakerState = BreakerState.CLOSED
    at_door: int = 0
    later: int = 0
    until: datetime | None = None

    @property
    def failures(self) -> int:
        """The longer of both rows."""
        return max(self.at_door, self.later)


CLOSED = Breaker()

# The order was never at the broker, for a reason of our own.
_OURS = ("NOT_SENT: LATE", "NOT_SENT: FENCED", "NOT_SENT: BUSY")
_WELL = (OrderStatus.OPEN, OrderStatus.TRIGGER_PENDING, OrderStatus.PARTIALLY_FILLED, OrderStatus.COMPLETE)


def outcome(order: Order) -> Outcome | None:
    """Return what the broker made of *order*; None while it, or nothing of ours, says so.

    One of unknown outcome says nothing until the order book settles it; never placed after all, it has failed.
    """
    message = order.status_message or ""
    if order.status in _WELL or order.filled_quantity:
        return Outcome.TAKEN
    if order.status is OrderStatus.REJECTED:
        if message.startswith(RESLICED):
            return None
        return Outcome.FAILED if order.broker_order_id is None else Outcome.REJECTED
    if order.status is OrderStatus.SUBMITTED:
        return Outcome.RECEIVED
    if order.status is OrderStatus.EXPIRED and message.startswith("UNPLACED"):
        return Outcome.FAILED
    if order.status is OrderStatus.FAILED and message.startswith("NOT_SENT") and not message.startswith(_OURS):
        return Outcome.FAILED
    return None


def heard(breaker: Breaker, said: Outcome, *, limit: int | None, cooldown_s: int | None, now: datetime) -> Breaker:
    """Return *breaker* after one more outcome; at *limit* failures in a row, or half open, it opens for *cooldown_s*.

    An open one stays as it is but for the count: what the broker says late is of what was sent before.
    """
    at_door, later = breaker.at_door, breaker.later
    match said:
        case Outcome.FAILED:
            at_door += 1
        case Outcome.REJECTED:
            later += 1
        case Outcome.RECEIVED:
            at_door = 0
        case Outcome.TAKEN:
            at_door = later = 0
    counted = msgspec.structs.replace(breaker, at_door=at_door, later=later)
    if breaker.state is BreakerState.OPEN:
        return counted
    is_half_open = breaker.state is BreakerState.HALF_OPEN
    if said.is_failure and (is_half_open or (limit is not None and counted.failures >= limit)):
        until = None if cooldown_s is None else now + timedelta(seconds=cooldown_s)
        return msgspec.structs.replace(counted, state=BreakerState.OPEN, until=until)
    return CLOSED if is_half_open and said is Outcome.TAKEN else counted


def opened(*, cooldown_s: int | None, now: datetime) -> Breaker:
    """Return a breaker that opened at *now*; without *cooldown_s* it stays open until a person closes it."""
    until = None if cooldown_s is None else now + timedelta(seconds=cooldown_s)
    return Breaker(state=BreakerState.OPEN, until=until)


def is_rested(breaker: Breaker, now: datetime) -> bool:
    """Return whether an open breaker has cooled down."""
    return breaker.state is BreakerState.OPEN and breaker.until is not None and breaker.until <= now


def rested(breaker: Breaker) -> Breaker:
    """Return an open breaker as it is after its cool-down: half open."""
    return msgspec.structs.replace(breaker, state=BreakerState.HALF_OPEN, until=None)
