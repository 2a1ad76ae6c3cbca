"""Pacing of order calls below the broker's limits, without a clock: seconds are handed in.

Zerodha counts place, modify and cancel together for each of its accounts, what it refuses too: 10 in a
calendar second of its own clock, 400 a minute, 5000 a day (kite.trade forum 52882, 51478, 7679).

Why no calendar second of that clock sees more, whatever its phase: a call counts from when it is granted
until a span after its first byte has left. So whenever a call is granted, all that has left within the span
before, and all that may still leave, is within the limit; and of the calls that leave within any span, the
one that was granted last saw all the others. A calendar second there receives what left here within one
second plus the difference between two calls' ways, and the span is longer than a second by that margin. A
minute is treated alike. What a call waits here between grant and wire (ledger, login, connection) is covered
by the first rule, for any length.
"""

from collections import deque
from collections.abc import Hashable, Iterable
from datetime import date
from enum import StrEnum
from math import inf

import msgspec

from engine.domain.lanes import Lane

MARGIN_S = 0.1
"""By how much the ways of two calls to the broker may differ; small against what entries leave over anyway."""

_SECOND_S = 1.0 + MARGIN_S
_MINUTE_S = 60.0 + 1.0
_HOLD_MARGIN_S = 1.0
_AGAIN_S = 60.0
# The gate lets nothing leave later than that after its grant.
_LAPSE_S = 10.0
_LOOK_S = 0.05
# Calls this close together count as one entry at the later time: memory stays small at any limit.
_ENTRIES_PER_SPAN = 1000
_RESERVE_FROM = 5


class Window:
    """How many calls lie in the last *span* seconds; each counts until a little after it must."""

    def __init__(self, limit: int, span: float) -> None:
        self.limit = limit
        self._span = span
        self._merge = span / _ENTRIES_PER_SPAN
        # (first call, last call, calls), oldest first
        self._entries: deque[tuple[float, float, int]] = deque()
        self._count = 0

    def count(self, now: float) -> int:
        """Return how many count at *now*."""
        entries = self._entries
        while entries and now >= entries[0][1] + self._span:
            self._count -= entries.popleft()[2]
        return self._count

    def take(self, now: float) -> None:
        """Count one call at *now*."""
        self._count += 1
        if self._entries and now < self._entries[-1][0] + self._merge:
            first, _, calls = self._entries[-1]
            self._entries[-1] = (first, now, calls + 1)
        else:
            self._entries.append((now, now, 1))

    def next_at(self, now: float, room: int) -> float:
        """Return when *room* calls or fewer count, if none is made before."""
        excess = self.count(now) - room
        if excess <= 0:
            return now
        for _, last, calls in self._entries:
            excess -= calls
            if excess <= 0:
                return last + self._span
        return now

    def add_past(self, instants: Iterable[float]) -> None:
        """Count calls made at *instants*, in any order, before those to come."""
        entries = [*self._entries, *((at, at, 1) for at in instants)]
        self._entries = deque(sorted(entries, key=lambda entry: entry[1]))
        self._count = sum(calls for _, _, calls in entries)

    def instants(self) -> list[float]:
        """Return the latest possible instant of every call that is still counted."""
        return [last for _, last, calls in self._entries for _ in range(calls)]


class Cap(StrEnum):
    """Which cap the broker says is reached, as far as can be told."""

    MINUTE = "minute"
    DAY = "day"


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """The calls of one account that count now, and how many are allowed; ``held_s`` is the rest of a cool-down."""

    second: int
    per_second: int
    minute: int
    per_minute: int
    day: int
    per_day: int
    held_s: float
    is_day_capped: bool


class Pacer:
    """The budget of order calls of one Zerodha account.

    Each lane leaves a part of every window to the lanes before it: entries 2 calls of a second and a tenth
    of a minute, cancels half of that.

    Raises:
        ValueError: a limit is not positive.
    """

    def __init__(self, per_second: int, per_minute: int, per_day: int) -> None:
        for name, limit in (("per_second", per_second), ("per_minute", per_minute), ("per_day", per_day)):
            if limit < 1:
                raise ValueError(f"{name} is {limit}; it must be at least 1")
        self._second = Window(per_second, _SECOND_S)
        self._minute = Window(per_minute, _MINUTE_S)
        self.per_day = per_day
        few = per_second < _RESERVE_FROM
        self._kept = {
            Lane.EXIT: (0, 0),
            Lane.CANCEL: (0 if few else 1, per_minute // 20),
            Lane.ENTRY: (0 if few else 2, per_minute // 10),
        }
        self._day: date | None = None
        self._day_count = 0
        # granted and not known to have left: when, and on which day; oldest first
        self._on_their_way: dict[Hashable, tuple[float, date]] = {}
        self._last = -inf
        self._held_until = -inf
        self._cap_held_until = -inf
        self._capped_day: date | None = None

    def try_take(
        self, now_s: float, day: date, lane: Lane = Lane.ENTRY, *, slot: Hashable = None, starved: bool = False
    ) -> bool:
        """Take one call at *now_s* (monotonic seconds) on the IST *day*, or return False and take none.

        With *slot* the call is on its way until `depart` or `give_back`; without, it leaves now. A lane that
        is *starved* takes what it would have left to others. A *day* before the latest one seen does not
        give the day's budget back.
        """
        now = self._advance(now_s)
        self._turn(day)
        if self._day_count >= self.per_day:
            return False
        of_second, of_minute = (0, 0) if starved else self._kept[lane]
        if now < self._held_until:
            if lane is Lane.ENTRY:
                return False
            of_second = max(of_second, self._second.limit // 2)
        if lane is Lane.ENTRY and self.is_day_capped(day):
            return False
        way = len(self._on_their_way)
        if self._second.count(now) + way >= self._second.limit - min(of_second, self._second.limit - 1):
            return False
        if self._minute.count(now) + way >= self._minute.limit - min(of_minute, self._minute.limit - 1):
            return False
        self._day_count += 1
        if slot is None:
            self._leave(now)
        else:
            # a slot taken twice is two calls: the earlier one may have left
            if self._on_their_way.pop(slot, None) is not None:
                self._leave(now)
            self._on_their_way[slot] = (now, day)
        return True

    def depart(self, slot: Hashable, now_s: float, day: date) -> bool:
        """The first byte of a granted call leaves now; False when it must not.

        One whose grant has lapsed, or that departs again, needs a new call and may find none.
        """
        now = self._advance(now_s)
        if self._on_their_way.pop(slot, None) is not None:
            self._leave(now)
            return True
        return self.try_take(now, day, Lane.EXIT)

    def give_back(self, slot: Hashable) -> None:
        """Nothing of a granted call has left, and nothing will; harmless when it has departed."""
        granted = self._on_their_way.pop(slot, None)
        if granted is not None and granted[1] == self._day:
            self._day_count -= 1

    def next_at(self, now_s: float, lane: Lane = Lane.ENTRY) -> float:
        """Return the earliest second at which `try_take` can succeed if nobody takes before.

        Infinite when the day's budget is used up: wait for the next day. With calls on their way it is when
        to look again.
        """
        now = self._advance(now_s)
        if self._day_count >= self.per_day:
            return inf
        of_second, of_minute = self._kept[lane]
        at = now
        if now < self._held_until:
            if lane is Lane.ENTRY:
                at = self._held_until
            else:
                of_second = max(of_second, self._second.limit // 2)
        way = len(self._on_their_way)
        for window, kept in ((self._second, of_second), (self._minute, of_minute)):
            room = window.limit - min(kept, window.limit - 1) - 1 - way
            at = max(at, window.next_at(now, room) if room >= 0 else now + _LOOK_S)
        return at

    def left(self, day: date) -> int:
        """Return how many calls of the IST *day* are left."""
        return self.per_day - (0 if self._day is None or day > self._day else self._day_count)

    def restore(self, now_s: float, day: date, taken: int, ages_s: Iterable[float] = ()) -> None:
        """Count what an engine before this one used: *taken* calls of *day*, and calls of so many seconds ago."""
        self._turn(day)
        if day == self._day:
            self._day_count += taken
        recent = [now_s - age for age in ages_s if 0 <= age < _MINUTE_S]
        self._minute.add_past(recent)
        self._second.add_past(at for at in recent if now_s - at < _SECOND_S)

    def absorb(self, other: "Pacer") -> None:
        """Count what *other* counted: it turned out to be the budget of the same account."""
        self._second.add_past(other._second.instants())
        self._minute.add_past(other._minute.instants())
        ways = {**self._on_their_way, **other._on_their_way}
        self._on_their_way = dict(sorted(ways.items(), key=lambda way: way[1][0]))
        if other._day is not None:
            self._turn(other._day)
            if other._day == self._day:
                self._day_count += other._day_count
        self._held_until = max(self._held_until, other._held_until)

    def hold(self, until_s: float) -> None:
        """Give entries nothing before *until_s*, and halve the rest: the broker's cool-down after a 429."""
        self._held_until = max(self._held_until, until_s)

    def is_held(self, now_s: float) -> bool:
        """Whether entries wait for the end of a cool-down."""
        return now_s < self._held_until

    def cap(self, now_s: float, day: date, minute_left_s: float) -> Cap | None:
        """The broker says that a cap is reached: hold entries until the minute turns, or until the day does.

        *minute_left_s* is what is left of the calendar minute. Its words are the same for both caps: it is the
        day's when the own count says so, or when they come again after the minute has turned. None when this
        cap is known already.
        """
        now = self._advance(now_s)
        if now < self._cap_held_until or self.is_day_capped(day):
            return None
        again = now < self._cap_held_until + _AGAIN_S
        if again or self.left(day) <= self.per_day // 50:
            self._capped_day = day
            return Cap.DAY
        self._cap_held_until = now + minute_left_s + _HOLD_MARGIN_S
        self.hold(self._cap_held_until)
        return Cap.MINUTE

    def is_day_capped(self, day: date) -> bool:
        """Whether the broker takes no more calls on *day*."""
        return self._capped_day is not None and day <= self._capped_day

    def usage(self, now_s: float, day: date) -> Usage:
        """Return what counts now."""
        now, way = self._advance(now_s), len(self._on_their_way)
        return Usage(
            second=self._second.count(now) + way,
            per_second=self._second.limit,
            minute=self._minute.count(now) + way,
            per_minute=self._minute.limit,
            day=self.per_day - self.left(day),
            per_day=self.per_day,
            held_s=max(0.0, self._held_until - now),
            is_day_capped=self.is_day_capped(day),
        )

    def _leave(self, now: float) -> None:
        self._second.take(now)
        self._minute.take(now)

    def _turn(self, day: date) -> None:
        if self._day is None or day > self._day:
            self._day = day
            self._day_count = sum(of == day for _, of in self._on_their_way.values())

    def _advance(self, now_s: float) -> float:
        self._last = max(self._last, now_s)
        # whoever had it is gone, and may have sent it until now
        while self._on_their_way:
            slot, (granted, _) = next(iter(self._on_their_way.items()))
            if self._last < granted + _LAPSE_S:
                break
            del self._on_their_way[slot]
            self._leave(self._last)
        return self._last


def calls_to_flatten(positions: Iterable[tuple[int, int | None]], live_orders: int) -> int:
    """Return how many calls it takes to cancel *live_orders* and close *positions*.

    A position is its signed units and the largest single order of its instrument (None: not known, then one
    order closes it); it is closed in as many orders as that takes.
    """
    exits = 0
    for units, freeze in positions:
        exits += -(-abs(units) // freeze) if freeze else bool(units)
    return live_orders + exits


def against_entry(left: int, needed: int, per_day: int) -> str | None:
    """Return why an entry must not take one of the *left* calls of the day, or None.

    *needed* is what flattening takes without the entry, which is one more to cancel or to close. A
    twenty-fifth of the day is kept beyond that, for modifications, repeated attempts and counting errors.
    """
    kept = per_day // 25
    if left - 1 >= needed + 1 + kept:
        return None
    return (
        f"ORDER_BUDGET: {max(left, 0)} of the account's {per_day} order calls of today are left; flattening would take "
        f"{needed + 1}, and {kept} are kept in reserve; only exits and cancels go until tomorrow"
    )
