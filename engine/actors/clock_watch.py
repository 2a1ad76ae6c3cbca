"""The clock watch: says to every send gate whether the wall clock can be trusted, and tells people when not.

Owns one fact, `suspect`. Read by send gates (which look at the clocks themselves, so that a step is seen
before the next order, not at the next tick) and told the broker's `Date` by the client that reads from
it. No mailbox. Restart: permanent; what was suspect stays so.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import structlog
import trio

from engine.clock import Clock
from engine.domain.clock_watch import ClockWatch
from engine.runtime.beat import next_beat

_log = structlog.get_logger(__name__)

_TICK_S = 1.0
_APART_NS = 50_000_000
_READINGS = 3


class ClockKeeper:
    """Watches one clock; *alert* is for a person, *trusted* is called when the clock is believed again."""

    def __init__(self, clock: Clock, *, alert: Callable[[str, str], None], trusted: Callable[[], None]) -> None:
        self._clock = clock
        self._alert = alert
        self._trusted = trusted
        self._watch = ClockWatch(*self._instant())
        self._told: str | None = None
        self._seen: str | None = None
        self._changed = trio.Event()

    def _instant(self) -> tuple[datetime, int]:
        """Return both clocks as of one instant: a process stopped between the two readings has seen no step."""
        for _ in range(_READINGS):
            before_ns, now = self._clock.boottime_ns(), self._clock.now()
            boot_ns = self._clock.boottime_ns()
            if boot_ns - before_ns < _APART_NS:
                break
        return now, boot_ns

    def suspect(self) -> str | None:
        """Return why the wall clock cannot be trusted now, or None. Never waits, never raises."""
        reason = self._watch.look(*self._instant())
        if (reason is None) is not (self._told is None):
            self._note(reason)
        return reason

    def heard(self, date: str | None, elapsed_s: float) -> None:
        """Take in the `Date` of an answer of the broker that has just come, *elapsed_s* after it was asked for."""
        if date is None:
            return
        try:
            broker_at = parsedate_to_datetime(date)
        except ValueError:
            return
        if broker_at.tzinfo is None:
            broker_at = broker_at.replace(tzinfo=UTC)  # "-0000", which says so of UTC (RFC 5322)
        now, boot_ns = self._instant()
        self._note(self._watch.look(now, boot_ns))
        self._note(self._watch.heard(broker_at, now - timedelta(seconds=elapsed_s), now, boot_ns))

    def _note(self, reason: str | None) -> None:
        if (reason is None) != (self._told is None):
            # told by the actor's own task: here a send gate may be asking
            self._seen = reason or self._seen
            self._changed.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look once a second and tell of every change until cancelled."""
        task_status.started()
        while True:
            with trio.move_on_at(next_beat(_TICK_S)):
                await self._changed.wait()
            self._changed = trio.Event()
            now = self.suspect()
            # what was over before this task came to it is told all the same
            seen, self._seen = self._seen, None
            self._tell(seen or now)
            self._tell(now)

    def _tell(self, reason: str | None) -> None:
        if (reason is None) == (self._told is None):
            return
        before, self._told = self._told, reason
        if reason is not None:
            _log.error("clock.suspect", reason=reason)
            self._alert("clock", f"CLOCK_SUSPECT: {reason}; nothing that adds exposure is sent until it is right again")
        else:
            _log.warning("clock.trusted", was=before)
            self._trusted()
