"""The one source of time.

Wall-clock time is for business rules and records, ``boottime_ns`` for durations that decide whether
an order may still be sent: it counts time spent suspended, which CLOCK_MONOTONIC does not on Linux.
Tests put a clock of their own in place.
"""

import time
from datetime import UTC, date, datetime, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

IST = ZoneInfo("Asia/Kolkata")
_IST_OFFSET = timedelta(hours=5, minutes=30)


class Clock(Protocol):
    """What the engine asks of a clock."""

    def now(self) -> datetime:
        """Return the current instant, aware, in UTC."""

    def boottime_ns(self) -> int:
        """Return nanoseconds since boot, suspend included; only differences mean anything."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current instant, aware, in UTC."""
        return datetime.now(UTC)  # noqa: TID251 -- the one place that may read it

    def boottime_ns(self) -> int:
        """Return nanoseconds of CLOCK_BOOTTIME."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class SteadyTime:
    """Instants that only durations are made of: the wall clock as it stood once, and the boot-time clock since.

    A wall clock that is set does not move them.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wall = clock.now()
        self._boot_ns = clock.boottime_ns()

    def now(self) -> datetime:
        """Return the instant, aware, in UTC."""
        return self._wall + timedelta(microseconds=(self._clock.boottime_ns() - self._boot_ns) // 1000)


def trading_day(instant: datetime) -> date:
    """Return the IST calendar date of *instant*: limits and Kite's order book roll at IST midnight."""
    # asked many times an order, nearly always of an instant in UTC; India has kept one offset since 1945
    return (instant + _IST_OFFSET).date() if instant.tzinfo is UTC else instant.astimezone(IST).date()
