"""The three stores of the kill switch, each with a lane of its own: none waits for another.

A lane holds what its store still lacks and writes it until the store has it: the file and Valkey the newest record
of each scope, the ledger every change, for each has its audit record. A release is tried once: whoever asked for
it is told, and it must not come later by itself.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable

import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.killswitch_file import KillFile, KillFileDamaged
from engine.actors.ledger_entry import LedgerEntry
from engine.domain.audit import AuditDraft
from engine.domain.killswitch import KillRecord
from engine.errors import EngineError, MailboxFull
from engine.runtime.crashpoint import crashpoint
from engine.store.flags import write_kill_record

_log = structlog.get_logger(__name__)

_RETRY_S = 1.0
_WAITING = 10_000

Write = Callable[[KillRecord], Awaitable[None]]


class Lane(ABC):
    """One store: what it is known to have, and who waits for that."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._has: dict[str, int] = {}
        self._failed: dict[str, int] = {}
        self._wake = trio.Event()
        self._moved = trio.Event()

    @property
    @abstractmethod
    def waiting(self) -> int:
        """Records that nobody has taken yet."""

    @abstractmethod
    def put(self, record: KillRecord, *, advances: bool = False) -> None:
        """Have *record* written, which *advances* a scope that was on before; never waits."""

    @abstractmethod
    async def run(self) -> None:
        """Write until cancelled."""

    @abstractmethod
    async def flush(self) -> None:
        """Try once to write what waits."""

    def has(self, record: KillRecord) -> bool:
        """Whether the store has *record*, or a later one of its scope."""
        return self._has.get(record.scope, 0) >= record.version

    def was_tried(self, record: KillRecord) -> bool:
        """Whether the store has *record*, or could not take it when it was last tried."""
        return self.has(record) or self._failed.get(record.scope, 0) >= record.version

    async def wait_tried(self, record: KillRecord) -> None:
        """Wait until the store has *record* or has refused it once."""
        while not self.was_tried(record):
            await self._moved.wait()

    def _written(self, record: KillRecord) -> None:
        self._has[record.scope] = max(self._has.get(record.scope, 0), record.version)
        self._move()

    def _refused(self, record: KillRecord, error: Exception) -> None:
        _log.error("killswitch.not_written", store=self.name, scope=record.scope, error=str(error))
        self._failed[record.scope] = max(self._failed.get(record.scope, 0), record.version)
        self._move()

    def _move(self) -> None:
        moved, self._moved = self._moved, trio.Event()
        moved.set()


class CopyLane(Lane):
    """Writes the newest record of each scope; *write* raises OSError or EngineError when it cannot."""

    def __init__(self, name: str, write: Write) -> None:
        super().__init__(name)
        self._write = write
        self._waiting: dict[str, KillRecord] = {}
        # when the write began that is going on, on trio's clock
        self.writing_since: float | None = None

    @property
    def waiting(self) -> int:
        """Scopes of which the store lacks the newest record."""
        return len(self._waiting)

    def put(self, record: KillRecord, *, advances: bool = False) -> None:
        """Have *record* written in place of an older one of its scope; never waits."""
        waiting = self._waiting.get(record.scope)
        # a release that was under way when the scope tripped anew comes after that trip, and must not replace it
        if waiting is None or waiting.version <= record.version:
            self._waiting[record.scope] = record
        self._wake.set()

    async def run(self) -> None:
        """Write until cancelled, what could not be written every second."""
        while True:
            with trio.move_on_after(_RETRY_S if self._waiting else float("inf")):
                await self._wake.wait()
            self._wake = trio.Event()
            await self.flush()

    async def flush(self) -> None:
        """Try once to write what waits."""
        for record in list(self._waiting.values()):
            if self._waiting.get(record.scope) is not record:
                continue  # a later one of its scope has its turn
            self.writing_since = trio.current_time()
            try:
                await self._write(record)
            except (OSError, EngineError) as error:
                if not record.enabled and self._waiting.get(record.scope) is record:
                    del self._waiting[record.scope]
                self._refused(record, error)
            else:
                if self._waiting.get(record.scope) is record:
                    del self._waiting[record.scope]
                self._written(record)
            finally:
                self.writing_since = None


class FileLane(CopyLane):
    """The file ``state/kill.wal``, in a thread of its own; a damaged one is mended from what *held* returns."""

    def __init__(self, file: KillFile, held: Callable[[], list[KillRecord]]) -> None:
        super().__init__("file", self._append)
        self._file = file
        self._held = held
        self._limiter = trio.CapacityLimiter(1)

    async def _append(self, record: KillRecord) -> None:
        crashpoint("K1.before_file")
        await trio.to_thread.run_sync(self._file.append, record, abandon_on_cancel=False, limiter=self._limiter)
        crashpoint("K1.after_file")

    async def run(self) -> None:
        """Mend the file, then write until cancelled."""
        await self._mend()
        await super().run()

    async def _mend(self) -> None:
        try:
            await trio.to_thread.run_sync(self._file.read, limiter=self._limiter)
        except KillFileDamaged as damage:
            _log.error("killswitch.file_damaged", error=str(damage))
            try:
                await trio.to_thread.run_sync(self._file.replace, self._held(), limiter=self._limiter)
            except OSError as error:
                _log.error("killswitch.file_unwritable", error=str(error))
        except OSError as error:
            _log.error("killswitch.file_unreadable", error=str(error))


class LedgerLane(Lane):
    """The ledger's flags, with an audit record for every change; the ledger itself waits for its server."""

    def __init__(self, ledger: AuditWriter) -> None:
        super().__init__("ledger")
        self._ledger = ledger
        self._without_room: deque[tuple[KillRecord, bool]] = deque(maxlen=_WAITING)

    @property
    def waiting(self) -> int:
        """Records that the ledger could not take."""
        return len(self._without_room)

    def put(self, record: KillRecord, *, advances: bool = False) -> None:
        """Hand *record* to the ledger, which *advances* a scope that was on before; never waits."""

        def committed() -> None:
            crashpoint("K1.recorded")
            self._written(record)

        def failed(error: Exception) -> None:
            if record.enabled:
                self._without_room.append((record, advances))
                self._wake.set()
            self._refused(record, error)

        entry = LedgerEntry(
            writes=(write_kill_record(record),),
            audit=(_draft(record, advances=advances),),
            on_commit=committed,
            on_fail=failed,
        )
        try:
            self._ledger.append(entry)
        except MailboxFull as full:
            failed(full)

    async def run(self) -> None:
        """Hand what the ledger could not take to it again, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            await trio.sleep(_RETRY_S)
            await self.flush()

    async def flush(self) -> None:
        """Try once more what the ledger could not take."""
        again, self._without_room = self._without_room, deque(maxlen=_WAITING)
        for record, advances in again:
            self.put(record, advances=advances)


def _draft(record: KillRecord, *, advances: bool) -> AuditDraft:
    action = "KILLSWITCH_ENABLED" if record.enabled else "KILLSWITCH_DISABLED"
    return AuditDraft(
        at=record.at,
        actor=record.actor,
        action="KILLSWITCH_ADVANCED" if advances else action,
        subject=f"killswitch:{record.scope}",
        content={
            "reason": record.reason,
            "version": record.version,
            "state": record.state.value,
            "mode": record.mode.value,
        },
    )
