"""How long an order in hand may still be sent, counted on the boot-time clock from when it was taken in.

The deadline of an order is an instant of the wall clock; a wall clock that is set must neither give an
old order more time nor take a young one's. So the time left is read off the wall clock once.
"""

from datetime import datetime
from math import inf
from uuid import UUID

from engine.domain.order import Order

# What a clock may be set back without making an order older than it says.
_TOLERANCE_S = 2.0


class Freshness:
    """Deadlines of one account's orders, in nanoseconds of CLOCK_BOOTTIME.

    *max_age_s* is how long signals live: a deadline further ahead means that the wall clock was set back
    since the signal came, so that its age cannot be told.
    """

    def __init__(self, max_age_s: float = inf) -> None:
        self._max_age_s = max_age_s
        self._deadline_ns: dict[UUID, int] = {}
        self._ahead_s: dict[UUID, float] = {}

    def note(self, order: Order, now: datetime, boot_ns: int) -> int:
        """Return the order's deadline on the boot-time clock; repeating it changes nothing."""
        deadline_ns = self._deadline_ns.get(order.id)
        if deadline_ns is None:
            left_s = (order.deadline - now).total_seconds()
            if order.intent_id is not None and left_s > self._max_age_s + _TOLERANCE_S:
                self._ahead_s[order.id] = left_s - self._max_age_s
                left_s = 0.0
            deadline_ns = self._deadline_ns[order.id] = boot_ns + int(left_s * 1e9)
        return deadline_ns

    def stale(self, order: Order, now: datetime, boot_ns: int) -> str | None:
        """Return why *order* is too old to be sent, or None."""
        late_s = (boot_ns - self.note(order, now, boot_ns)) / 1e9
        if late_s < 0:
            return None
        ahead_s = self._ahead_s.get(order.id)
        if ahead_s is not None:
            return f"SIGNAL_TOO_OLD: its age cannot be told, it came {ahead_s:.1f} s ahead of the clock"
        age_s = (order.deadline - order.created_at).total_seconds() + late_s
        return f"SIGNAL_TOO_OLD: {late_s:.1f} s past its deadline, {age_s:.1f} s old"

    def forget(self, order_id: UUID) -> None:
        """Drop what is known of an order that is settled."""
        self._deadline_ns.pop(order_id, None)
        self._ahead_s.pop(order_id, None)
