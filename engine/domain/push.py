"""Whether an order update that was pushed is news. Pure.

Pushes come late, twice and out of order, and some never come (Kite Connect v3, WebSocket; kite.trade forum
33971, 30402). They are a reason to read the order book and never data; this fold decides which of them are
a reason: the filled quantity only grows, an end absorbs, a repetition says nothing.
"""

from collections import OrderedDict
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from engine.domain.enums import OrderStatus
from engine.domain.order import OrderReport

_MAX_ORDERS = 10_000
_NEVER = datetime.min.replace(tzinfo=UTC)


class Push(StrEnum):
    """What a push is: NEWS advances what is known, STALE contradicts it, ECHO adds nothing."""

    NEWS = "NEWS"
    STALE = "STALE"
    ECHO = "ECHO"


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What pushes have told of an order: units filled, its state, and the exchange's time of the latest."""

    filled_quantity: int
    status: OrderStatus
    updated_at: datetime


def fold_push(known: Known | None, report: OrderReport, updated_at: datetime | None) -> tuple[Known, Push]:
    """Take *report*, of the exchange's time *updated_at*, into what is *known*; return both.

    Every order of the same reports ends with the same quantity and, if one of them is an end, at an end. A
    fill after the end is NEWS, for money has moved.
    """
    at = updated_at or _NEVER
    told = Known(filled_quantity=report.filled_quantity, status=report.status, updated_at=at)
    if known is None:
        return told, Push.NEWS
    grew = told.filled_quantity > known.filled_quantity
    filled = max(known.filled_quantity, told.filled_quantity)
    latest = max(known.updated_at, at)
    if known.status.is_terminal:
        # which end it was, the order book says
        return Known(filled_quantity=filled, status=known.status, updated_at=latest), Push.NEWS if grew else Push.ECHO
    if told.status.is_terminal or grew:
        return Known(filled_quantity=filled, status=told.status, updated_at=latest), Push.NEWS
    if told == known:
        return known, Push.ECHO
    if told.filled_quantity < known.filled_quantity or at < known.updated_at:
        return known, Push.STALE
    return Known(filled_quantity=filled, status=told.status, updated_at=latest), Push.NEWS


class PushFold:
    """The pushes of one account, by the broker's order id; those heard of longest ago are forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Known] = OrderedDict()

    def take(self, report: OrderReport, updated_at: datetime | None = None) -> Push:
        """Take in a push and return what it is."""
        known, push = fold_push(self._known.pop(report.broker_order_id, None), report, updated_at)
        self._known[report.broker_order_id] = known
        if len(self._known) > _MAX_ORDERS:
            self._known.popitem(last=False)
        return push

    def get(self, broker_order_id: str) -> Known | None:
        """Return what pushes have told of an order."""
        return self._known.get(broker_order_id)
