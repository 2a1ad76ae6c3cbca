"""A clock that runs faster than the machine's, or from another instant on: replays and whole days in minutes."""

from datetime import UTC, datetime, timedelta

from engine.clock import Clock


class PacedClock:
    """Exchange time: begins at *start_at* (None: now) and passes *speed* times as fast as *base*'s.

    It follows the base's boot-time clock, so that a step of the wall clock does not move it.
    """

    def __init__(self, base: Clock, *, speed: float = 1.0, start_at: datetime | None = None) -> None:
        self._base = base
        self._speed = speed
        self._began_ns = base.boottime_ns()
        self._start = (base.now() if start_at is None else start_at).astimezone(UTC)

    def now(self) -> datetime:
        """Return the current instant of exchange time, aware."""
        return self._start + timedelta(microseconds=self._passed_ns() // 1000)

    def boottime_ns(self) -> int:
        """Return nanoseconds of exchange time; only differences mean anything."""
        return self._began_ns + self._passed_ns()

    def _passed_ns(self) -> int:
        return int((self._base.boottime_ns() - self._began_ns) * self._speed)
