"""Drills of the kill switch on a schedule and when asked for: one at a time, each due time once, reports kept.

A due time is handled by what the ledger holds before the drill begins, so that no start repeats it; a drill that an
engine left unfinished is told as one. Restart: permanent.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime

import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock
from engine.domain.audit import AuditDraft
from engine.domain.calendar import Calendar
from engine.domain.drill import Drill, DrillEnd, DrillVerdict, ended
from engine.domain.drill_schedule import DrillTimes, next_step, open_exchange
from engine.errors import ConflictError, MailboxFull, StoreUnavailable, UnavailableError
from engine.ids import uuid7
from engine.runtime.beat import next_beat
from engine.store.kill_drills import DrillMemory, write_begun, write_ended, write_handled
from engine.store.ledger import Write

_log = structlog.get_logger(__name__)

_TICK_S = 1.0
_RETRY_S = 2.0
_DURABLE_S = 30.0
SCHEDULE = "schedule"


class DrillKeeper:
    """Runs drills at *times* (None: only when asked); *rehearse* runs one, *load* reads what was done."""

    def __init__(
        self,
        times: DrillTimes | None,
        *,
        rehearse: Callable[[], Awaitable[DrillEnd]],
        ledger: AuditWriter,
        clock: Clock,
        calendar: Calendar,
        load: Callable[[], Awaitable[DrillMemory]],
        alert: Callable[[str, str], None],
        suspect: Callable[[], str | None],
    ) -> None:
        self._times = times
        self._schedule = "" if times is None else str(times)
        self._rehearse = rehearse
        self._ledger = ledger
        self._clock = clock
        self._calendar = calendar
        self._load = load
        self._alert = alert
        self._suspect = suspect
        self._handled: datetime | None = None
        self._current: Drill | None = None
        self._is_loaded = False
        self._wake = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled; a drill that runs is stopped then."""
        task_status.started()
        self._is_loaded = False
        self._current = None
        self._take_up(await self._restored())
        self._is_loaded = True
        while True:
            drill = self._look()
            if drill is not None:
                await self._carry_out(drill)
                continue
            with trio.move_on_at(next_beat(_TICK_S)):
                await self._wake.wait()
            self._wake = trio.Event()

    def ask(self, by: str) -> Drill:
        """Have a drill run now and return it. Raises ConflictError while one runs, UnavailableError."""
        if not self._is_loaded:
            raise UnavailableError("the drills so far are not read yet", retry_after_s=2)
        if self._current is not None:
            raise ConflictError(f"drill {self._current.id} runs; wait for its end", code="DRILL_RUNNING")
        try:
            drill = self._begin(None, by, write_more=())
        except MailboxFull as error:
            raise UnavailableError(str(error), retry_after_s=2) from error
        self._wake.set()
        return drill

    # what was

    async def _restored(self) -> DrillMemory:
        while True:
            try:
                return await self._load()
            except StoreUnavailable as error:
                # without it a due time would be handled twice
                _log.warning("drills.wait_for_ledger", error=str(error))
                await trio.sleep(_RETRY_S)

    def _take_up(self, memory: DrillMemory) -> None:
        for drill in memory.unfinished:
            self._finish(drill, DrillEnd(why="the engine ended while it ran"))
        if memory.schedule == self._schedule:
            self._handled = memory.handled
        elif self._times is None:
            # a schedule that is wanted again begins anew
            now = self._clock.now()
            self._ledger.append(LedgerEntry(writes=(write_handled("", now, at=now),)))

    # what is due

    def _look(self) -> Drill | None:
        """Return the drill to run now: one that was asked for, or that is due; none is by a clock that may be wrong."""
        if self._current is not None or self._times is None or self._suspect() is not None:
            return self._current
        now = self._clock.now()
        try:
            if self._handled is None:
                # what was due before anybody wanted drills is not missed
                self._ledger.append(LedgerEntry(writes=(write_handled(self._schedule, now, at=now),)))
                self._handled = now
                return None
            step = next_step(self._handled, self._times, now)
            if step is None:
                return None
            due, in_time = step
            drill = self._begin(due, SCHEDULE, write_more=(write_handled(self._schedule, due, at=now),))
            self._handled = due
        except MailboxFull as error:
            _log.error("drill.not_begun", error=str(error))
            return None
        exchange = open_exchange(now, self._calendar)
        if in_time and exchange is None:
            return drill
        missed = f"the engine did not run when it was due, at {due:%a %d %b %H:%M} IST"
        self._end(drill, DrillEnd(why=missed if exchange is None else f"{exchange.value} is open"))
        return None

    def _begin(self, due: datetime | None, by: str, *, write_more: tuple[Write, ...]) -> Drill:
        now = self._clock.now()
        drill = Drill(id=uuid7(), due_at=due, asked_by=by, started_at=now)
        draft = AuditDraft(
            at=now,
            actor="system" if due is not None else by,
            action="DRILL_BEGUN",
            subject=f"drill:{drill.id}",
            content={"dueAt": due},
        )
        self._ledger.append(LedgerEntry(writes=(write_begun(drill), *write_more), audit=(draft,)))
        self._current = drill
        return drill

    async def _carry_out(self, drill: Drill) -> None:
        if not await self._ledger.barrier(timeout_s=_DURABLE_S):
            # run now, it could be run again by the next engine
            self._end(drill, DrillEnd(why="the ledger could not be written before it"))
            return
        _log.info("drill.begins", drill=str(drill.id), asked_by=drill.asked_by)
        self._end(drill, await self._rehearse())

    # what it came to

    def _end(self, drill: Drill, end: DrillEnd) -> None:
        self._current = None
        self._finish(drill, end)

    def _finish(self, drill: Drill, end: DrillEnd) -> None:
        now = self._clock.now()
        done = ended(drill, end, now)
        content: dict[str, object] = {"verdict": done.verdict, "why": done.why, "dueAt": done.due_at}
        if done.report is not None:
            report = done.report
            content |= {
                "timeToBlockS": report.time_to_block_s,
                "timeToCancelledS": report.time_to_cancelled_s,
                "timeToFlatS": report.time_to_flat_s,
                "ordersAfterBlock": report.orders_after_block,
                "overFlattens": report.over_flattens,
                "certificateVerified": report.certificate_verified,
            }
        draft = AuditDraft(at=now, actor="system", action="DRILL", subject=f"drill:{done.id}", content=content)
        try:
            self._ledger.append(LedgerEntry(writes=(write_ended(done),), audit=(draft,)))
        except MailboxFull as error:
            _log.error("drill.not_recorded", drill=str(done.id), error=str(error))
        if done.verdict is DrillVerdict.FAIL:
            self._alert(f"drill:{done.id}", f"DRILL_FAILED: the kill switch failed its drill: {done.why}")
        elif done.verdict is DrillVerdict.NOT_RUN:
            self._alert(f"drill:{done.id}", f"DRILL_NOT_RUN: the drill of the kill switch was not run: {done.why}")
