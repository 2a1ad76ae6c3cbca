"""The clock actor: what happens because time passes.

Every second: the journal's cursor goes into the ledger when it moved, and the kill file is read when
another program wrote it. Every 30 s: the journal is trimmed below the cursor. At IST midnight: the
day rolls in every executor. No mailbox. Restart: permanent.
"""

from datetime import date
from pathlib import Path
from uuid import UUID

import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.crew import Crew
from engine.actors.ingest import Ingest
from engine.actors.killswitch_file import KillFile, KillFileDamaged
from engine.actors.killswitch_guardian import KillSwitchGuardian
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock, trading_day
from engine.errors import JournalUnavailable
from engine.journal.store import JournalStore
from engine.store.history import CURSOR
from engine.store.ledger import Write

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
        guardian: KillSwitchGuardian,
        kill_file: KillFile,
        kill_path: Path,
        crew: Crew,
    ) -> None:
        self._clock = clock
        self._ingest = ingest
        self._ledger = ledger
        self._journal = journal
        self._epoch = journal_epoch
        self._guardian = guardian
        self._kill_file = kill_file
        self._kill_path = kill_path
        self._crew = crew
        self._cursor_written = ""
        self._cursor_trimmed = ""
        self._kill_seen = (0, 0, 0)
        self._day: date | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tick until cancelled."""
        task_status.started()
        ticks = 0
        while True:
            await trio.sleep(_TICK_S)
            ticks += 1
            self.write_cursor()
            await self._read_kill_file()
            self._roll_day()
            if ticks % _TRIM_EVERY == 0:
                await self._trim()

    def write_cursor(self) -> None:
        """Put the journal's cursor into the ledger if it moved."""
        cursor = self._ingest.cursor
        # 0-0 is where ingest stands before replay: the ledger's cursor never goes back to it
        if cursor in ("0-0", self._cursor_written) or not self._ledger.available:
            return
        self._cursor_written = cursor
        now = self._clock.now()
        self._ledger.append(LedgerEntry(writes=(Write(sql=CURSOR, args=(self._epoch, cursor, now)),)))

    async def _read_kill_file(self) -> None:
        try:
            found = self._kill_path.stat()
        except OSError:
            return  # none was ever written, or it cannot be seen now
        # two changes within one tick of the file system's clock differ in size at least
        seen = (found.st_mtime_ns, found.st_size, found.st_ino)
        if seen == self._kill_seen:
            return
        self._kill_seen = seen
        try:
            records = await trio.to_thread.run_sync(self._kill_file.read)
        except (KillFileDamaged, OSError) as error:
            _log.error("killswitch.file_damaged", error=str(error))
            return
        self._guardian.adopt(records.values())

    def _roll_day(self) -> None:
        day = trading_day(self._clock.now())
        if self._day is not None and day != self._day:
            for executor in self._crew.executors.values():
                executor.wake()
        self._day = day

    async def _trim(self) -> None:
        cursor = self._cursor_written
        if not cursor or cursor == self._cursor_trimmed or not self._ledger.available:
            return
        try:
            await self._journal.trim(str(self._epoch), cursor)
            self._cursor_trimmed = cursor
        except JournalUnavailable as error:
            _log.debug("journal.not_trimmed", error=str(error))
