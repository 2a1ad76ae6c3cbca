"""The clock actor: what happens because time passes.

Every second: the journal's cursor goes into the ledger when no traffic has taken it along, and the kill
file is read when another program wrote it. Every 30 s: the journal is trimmed below the cursor as it is on
disk. At IST midnight: the day rolls in every executor. No mailbox. Restart: permanent.
"""

from datetime import date
from uuid import UUID

import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.crew import Crew
from engine.actors.ingest import Ingest
from engine.actors.kill_gate import KillFileLook
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock, trading_day
from engine.domain.reconcile import next_day_close
from engine.errors import JournalUnavailable
from engine.journal.store import JournalStore
from engine.runtime.beat import beat
from engine.runtime.crashpoint import crashpoint

_log = structlog.get_logger(__name__)

_TICK_S = 1.0
_TRIM_EVERY = 30


class ClockActor:
    """Runs what is due."""

    def __init__(
        self,
        *,
        clock: Clock,
        ingest: Ingest,
        ledger: AuditWriter,
        journal: JournalStore,
        journal_epoch: UUID,
        kill_look: KillFileLook,
        crew: Crew,
    ) -> None:
        self._clock = clock
        self._ingest = ingest
        self._ledger = ledger
        self._journal = journal
        self._epoch = journal_epoch
        self._kill_look = kill_look
        self._crew = crew
        self._cursor_trimmed = ""
        self._day: date | None = None
        self._day_close_at = next_day_close(clock.now())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tick until cancelled."""
        task_status.started()
        ticks = 0
        while True:
            await beat(_TICK_S)
            ticks += 1
            self.write_cursor()
            self._kill_look.look()
            self._roll_day()
            self._close_day()
            if ticks % _TRIM_EVERY == 0:
                await self._trim()

    def write_cursor(self) -> None:
        """Have the ledger write the journal's cursor if it is behind and nothing else is under way."""
        if not self._ingest.progress.is_behind or not self._ledger.available or self._ledger.mailbox.depth:
            return
        crashpoint("S11.cursor_noted")
        # every transaction takes the cursor along, also one of nothing else
        self._ledger.append(LedgerEntry())

    def _roll_day(self) -> None:
        day = trading_day(self._clock.now())
        if self._day is not None and day != self._day:
            for executor in self._crew.executors.values():
                executor.wake()
        self._day = day

    def _close_day(self) -> None:
        now = self._clock.now()
        if now >= self._day_close_at:
            self._day_close_at = next_day_close(now)
            for executor in self._crew.executors.values():
                executor.close_day()

    async def _trim(self) -> None:
        cursor = self._ingest.progress.on_disk
        if cursor in ("0-0", self._cursor_trimmed):
            return
        try:
            crashpoint("S11.before_trim")
            await self._journal.trim(str(self._epoch), cursor)
            crashpoint("S11.after_trim")
            self._cursor_trimmed = cursor
        except JournalUnavailable as error:
            _log.debug("journal.not_trimmed", error=str(error))
