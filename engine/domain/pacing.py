"""Pacing of order calls below the broker's limits, without a clock: seconds are handed in.

Kite counts place, modify and cancel together for each account: 10 in a calendar second of its own
clock, 400 a minute, 5000 a day (kite.md 4.1). No calendar second sees more than its limit if no
rolling second does; the margin covers that calls spread in time on their way.
"""

from collections import deque
from datetime import date
from math import inf

_SECOND_S = 1.0 + 0.1
_MINUTE_S = 60.0
# Calls this close together count as one entry at the later time: memory stays small at any limit.
_ENTRIES_PER_SPAN = 1000


class _Window:
    """How many calls lie in the last *span* seconds; each counts until a little after it must."""

    def __init__(self, limit: int, span: float) -> None:
        self.limit = limit
        self._span = span
        self._merge = span / _ENTRIES_PER_SPAN
        # (first call, last call, calls), oldest first
        self._entries: deque[tuple[float, float, int]] = deque()
        self._count = 0

    def room(self, now: float, reserve: int) -> bool:
        entries = self._entries
        while entries and now >= entries[0][1] + self._span:
            self._count -= entries.popleft()[2]
        return self._count < self.limit - min(reserve, self.limit - 1)

    def take(self, now: float) -> None:
        self._count += 1
        if self._entries and now < self._entries[-1][0] + self._merge:
            first, _, calls = self._entries[-1]
            self._entries[-1] = (first, now, calls + 1)
        else:
            self._entries.append((now, now, 1))

    def next_at(self, now: float, reserve: int) -> float:
        if self.room(now, reserve):
            return now
        excess = self._count - (self.limit - min(reserve, self.limit - 1)) + 1
        for _, last, calls in self._entries:
            excess -= calls
            if excess <= 0:
                return last + self._span
        return now


class Pacer:
    """The budget of order calls of one account.

    Raises:
        ValueError: a limit is not positive.
    """

    def __init__(self, per_second: int, per_minute: int, per_day: int) -> None:
        for name, limit in (("per_second", per_second), ("per_minute", per_minute), ("per_day", per_day)):
            if limit < 1:
                raise ValueError(f"{name} is {limit}; it must be at least 1")
        self._second = _Window(per_second, _SECOND_S)
        self._minute = _Window(per_minute, _MINUTE_S)
        self._per_day = per_day
        self._day: date | None = None
        self._day_count = 0
        self._last = -inf
        self._held_until = -inf

    def try_take(self, now_s: float, day: date, *, reserve: int = 0, urgent: bool = False) -> bool:
        """Take one call at *now_s* (monotonic seconds) on the IST *day*, or return False and take none.

        *reserve* calls of every window are left for others: give it for entries, so that cancels find
        room. An *urgent* call is not stopped by `hold`, which halves its second's budget instead. A *day*
        before the latest one seen does not give the day's budget back.
        """
        now = self._advance(now_s)
        if self._day is None or day > self._day:
            self._day, self._day_count = day, 0
        if self._day_count >= self._per_day - min(reserve, self._per_day - 1):
            return False
        if now < self._held_until:
            if not urgent:
                return False
            reserve = max(reserve, self._second.limit // 2)
        if not (self._second.room(now, reserve) and self._minute.room(now, reserve)):
            return False
        self._second.take(now)
        self._minute.take(now)
        self._day_count += 1
        return True

    def next_at(self, now_s: float, *, reserve: int = 0) -> float:
        """Return the earliest second at which `try_take` can succeed if nobody takes before.

        Infinite when the day's budget is used up: wait for the next day.
        """
        now = self._advance(now_s)
        if self._day_count >= self._per_day - min(reserve, self._per_day - 1):
            return inf
        return max(self._held_until, self._second.next_at(now, reserve), self._minute.next_at(now, reserve))

    def restore(self, day: date, taken: int) -> None:
        """Take over what was already used on *day*, after a restart."""
        self._day, self._day_count = day, taken

    def hold(self, until_s: float) -> None:
        """Give nothing but urgent calls before *until_s*: the broker's cool-down after a 429."""
        self._held_until = max(self._held_until, until_s)

    def _advance(self, now_s: float) -> float:
        self._last = max(self._last, now_s)
        return self._last
