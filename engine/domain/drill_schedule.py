"""When a drill of the kill switch is due: once a week or a day at a time (IST) outside the hours of every exchange."""

from datetime import datetime, time, timedelta
from typing import Literal

import msgspec

from engine.clock import IST
from engine.domain.calendar import Calendar, is_open, parse_hhmm
from engine.domain.enums import Exchange

DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
LATE = timedelta(hours=1)
"""How late a drill may still begin; after that it is one that was missed."""

Every = Literal["off", "weekly", "daily"]

_SATURDAY = 5
# from the first session of a weekday to the end of MCX in winter
_OPENS, _CLOSES = time(9, 0), time(23, 55)


class DrillTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Once a week on ``weekday`` (Monday is 0), or every day where that is None, at ``at`` (IST)."""

    weekday: int | None
    at: time

    def __str__(self) -> str:
        clock = self.at.strftime("%H:%M")
        return clock if self.weekday is None else f"{DAYS[self.weekday]} {clock}"

    def last_due(self, now: datetime) -> datetime:
        """Return the latest instant (UTC offset of IST) at or before *now* (aware) at which a drill was due."""
        local = now.astimezone(IST)
        due = datetime.combine(local.date(), self.at, IST)
        if self.weekday is not None:
            due -= timedelta(days=(local.weekday() - self.weekday) % 7)
        if due > local:
            due -= timedelta(days=1 if self.weekday is None else 7)
        return due


def read_times(every: Every, at: str) -> DrillTimes | None:
    """Return the times of a schedule, None for "off". Raises ValueError that says what was expected of *at*."""
    if every == "off":
        return None
    day, _, clock = at.rpartition(" ")
    wish = 'a day and a time such as "SAT 10:00"' if every == "weekly" else 'a time without a day such as "07:00"'
    if (every == "weekly") != (day in DAYS) or (every == "daily" and day):
        raise ValueError(f'expected {wish} while drill.schedule is "{every}"')
    try:
        times = DrillTimes(weekday=DAYS.index(day) if day else None, at=parse_hhmm(clock))
    except ValueError:
        raise ValueError(f'expected {wish} while drill.schedule is "{every}"') from None
    if _OPENS <= times.at < _CLOSES and (times.weekday is None or times.weekday < _SATURDAY):
        raise ValueError("expected a time when no exchange is open (09:00 to 23:55 IST from Monday to Friday one is)")
    return times


def open_exchange(now: datetime, calendar: Calendar) -> Exchange | None:
    """Return an exchange that takes orders at *now* (aware), None while all are closed."""
    return next((exchange for exchange in Exchange if is_open(exchange, now, calendar)), None)


def next_step(handled: datetime | None, times: DrillTimes, now: datetime) -> tuple[datetime, bool] | None:
    """Return the due time that is to be handled now and whether it comes in time to be run; None when there is none.

    *handled* is the latest due time that was handled, or when the schedule was first seen.
    """
    due = times.last_due(now)
    if handled is None or due <= handled:
        return None
    return due, now - due <= LATE
