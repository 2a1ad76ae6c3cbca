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


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """``failures`` are those in a row; ``until`` (UTC) is when an open one becomes half open, None: not by itself."""

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    until: datetime | None = None


CLOSED = Breaker()

# The order was never at the broker, for a reason of our own.
_OURS = ("NOT_SENT: LATE", "NOT_SENT: FENCED", "NOT_SENT: BUSY")
_WELL = (OrderStatus.OPEN, OrderStatus.TRIGGER_PENDING, OrderStatus.PARTIALLY_FILLED, OrderStatus.COMPLETE)


def outcome(order: Order) -> bool | None:
    """Return whether the broker took *order* (True) or refused or failed it (False); None while it says nothing.

    An order that the broker has only received is not taken yet: its own checks follow (kite.md 7). One of unknown
    outcome says nothing until the order book settles it; never placed after all, it has failed.
    """
    message = order.status_message or ""
    if order.status in _WELL or order.filled_quantity:
        return True
    if order.status is OrderStatus.REJECTED:
        return None if message.startswith(RESLICED) else False
    if order.status is OrderStatus.EXPIRED and message.startswith("UNPLACED"):
        return False
    if order.status is OrderStatus.FAILED and message.startswith("NOT_SENT") and not message.startswith(_OURS):
        return False
    return None


def failed(breaker: Breaker, *, limit: int | None, cooldown_s: int | None, now: datetime) -> Breaker:
    """Return *breaker* after one more failure; at *limit* in a row, or half open, it opens for *cooldown_s*."""
    failures = breaker.failures + 1
    opens = breaker.state is BreakerState.HALF_OPEN or (limit is not None and failures >= limit)
    if breaker.state is BreakerState.OPEN or not opens:
        return msgspec.structs.replace(breaker, failures=failures)
    return opened(failures, cooldown_s=cooldown_s, now=now)


def opened(failures: int, *, cooldown_s: int | None, now: datetime) -> Breaker:
    """Return a breaker that opened at *now*; without *cooldown_s* it stays open until a person closes it."""
    until = None if cooldown_s is None else now + timedelta(seconds=cooldown_s)
    return Breaker(state=BreakerState.OPEN, failures=failures, until=until)


def succeeded(breaker: Breaker) -> Breaker:
    """Return *breaker* after the broker took an order: the count begins anew, and half open it closes.

    An open one stays open: what the broker takes late was sent before.
    """
    if breaker.state is BreakerState.OPEN:
        return msgspec.structs.replace(breaker, failures=0)
    return CLOSED


def is_rested(breaker: Breaker, now: datetime) -> bool:
    """Return whether an open breaker has cooled down."""
    return breaker.state is BreakerState.OPEN and breaker.until is not None and breaker.until <= now


def rested(breaker: Breaker) -> Breaker:
    """Return an open breaker as it is after its cool-down: half open."""
    return msgspec.structs.replace(breaker, state=BreakerState.HALF_OPEN, until=None)
