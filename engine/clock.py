"""The one source of time.

Wall-clock time is for business rules and records, ``boottime_ns`` for durations that decide whether
an order may still be sent: it counts time spent suspended, which CLOCK_MONOTONIC does not on Linux.
Tests put a clock of their own in place.
"""

import time
from datetime import UTC, date, datetime
from typing import Protocol
from zoneinfo import ZoneInfo

IST = ZoneInfo("Asia/Kolkata")


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


def trading_day(instant: datetime) -> date:
    """Return the IST calendar date of *instant*: limits and Kite's order book roll at IST midnight."""
    return instant.astimezone(IST).date()
