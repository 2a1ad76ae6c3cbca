"""The kill-switch guardian: holds every scope's state, changes it at once, and makes it last.

Owns the kill records. The change in memory comes first: from that moment no send gate lets an order
of the scope pass. It is then made durable in a small fsynced file and in the ledger, in parallel; the
file needs neither store; a file that cannot be written is tried again every second. Asked by HTTP, by
the control socket, and by whatever trips. Restart: permanent; at start the newest of file and store
counts, and no readable copy means blocked. Mailbox: bounded; its messages are the records still to be
written, refused only by a fault; when it stops it first writes what waits.
"""

from collections.abc import Callable, Iterable
from datetime import datetime

import msgspec
import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.killswitch_file import KillFile, KillFileDamaged, next_version
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock
from engine.domain.audit import AuditDraft
from engine.domain.enums import KillMode, KillState
from engine.domain.killswitch import KillRecord, KillSwitches, merge, tripped_at
from engine.errors import EngineError, MailboxFull
from engine.runtime.crashpoint import crashpoint
from engine.runtime.mailbox import Mailbox, Overflow
from engine.store.flags import write_kill_record

_log = structlog.get_logger(__name__)

_PERSIST_TIMEOUT_S = 5.0
_LAST_WRITES_S = 2.0
_RETRY_S = 1.0
_REASON_CHARACTERS = 500


class _Persist:
    __slots__ = ("done", "error", "given_up", "record")

    def __init__(self, record: KillRecord) -> None:
        self.record = record
        self.done = trio.Event()
        self.error: Exception | None = None
        self.given_up = False


def _plain(text: str) -> str:
    """Return *text* as every store can keep it: no lone surrogate, no control character, not endless."""
    clean = text[:_REASON_CHARACTERS].encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() else " " for letter in clean)


class KillSwitchGuardian:
    """The one writer of kill records."""

    def __init__(
        self,
        *,
        switches: KillSwitches,
        file: KillFile,
        ledger: AuditWriter,
        clock: Clock,
        on_change: Callable[[], None],
    ) -> None:
        self.switches = switches
        self._file = file
        self._ledger = ledger
        self._clock = clock
        self._on_change = on_change
        self._unwritten: dict[str, KillRecord] = {}
        self._releasing: set[str] = set()
        # how long the last trip of a scope took until no gate let an order of it pass
        self.blocked_in_s: dict[str, float] = {}
        self.mailbox: Mailbox[_Persist] = Mailbox("killswitch", capacity=10_000, overflow=Overflow.REFUSE)

    def block_nowait(self, scope: str, *, reason: str, actor: str, mode: KillMode = KillMode.BLOCK) -> KillRecord:
        """Block *scope* from this instant on; durability follows. Blocking again keeps it blocked."""
        return self._change(scope, reason=reason, actor=actor, mode=mode).record

    async def block(self, scope: str, *, reason: str, actor: str, mode: KillMode = KillMode.BLOCK) -> KillRecord:
        """Block *scope* at once and return when it is on disk, or after five seconds of trying.

        The block itself holds from the first instant, whatever the disk does.
        """
        persist = self._change(scope, reason=reason, actor=actor, mode=mode)
        with trio.move_on_after(_PERSIST_TIMEOUT_S):
            await persist.done.wait()
        return persist.record

    async def release(self, scope: str, *, reason: str, actor: str) -> KillRecord:
        """Let *scope* trade again, once that is on disk. Raises EngineError when it cannot be recorded."""
        now = self._clock.now()
        record = KillRecord(
            scope=scope,
            version=next_version(self.switches.records.get(scope), now),
            state=KillState.ARMED,
            reason=_plain(reason),
            actor=actor,
            at=now,
        )
        # the safe direction is on: the file must have it before memory lets anything pass
        persist = _Persist(record)
        self.mailbox.tell_nowait(persist)
        crashpoint("K2.release_asked")
        # a state that the sequence notes meanwhile must not count more than the release
        self._releasing.add(scope)
        try:
            with trio.move_on_after(_PERSIST_TIMEOUT_S):
                await persist.done.wait()
        except trio.Cancelled:
            persist.given_up = not persist.done.is_set()
            raise
        finally:
            self._releasing.discard(scope)
        if persist.error is not None or not persist.done.is_set():
            # the caller was told that it stays on: it must not go off later by itself
            persist.given_up = True
            raise EngineError(f"the kill switch stays on: the change cannot be recorded ({persist.error})")
        return record

    def _change(self, scope: str, *, reason: str, actor: str, mode: KillMode) -> _Persist:
        begun_ns = self._clock.boottime_ns()
        held = self.switches.records.get(scope)
        now = self._clock.now()
        is_on = held is not None and held.enabled
        record = KillRecord(
            scope=scope,
            version=next_version(held, now),
            # a second trip joins the one that runs; it may only widen it
            state=held.state if held is not None and is_on else KillState.BLOCKED,
            reason=_plain(reason),
            actor=actor,
            at=now,
            mode=max(mode, held.mode, key=lambda each: each.rank) if held is not None and is_on else mode,
            tripped_at=tripped_at(held, now),
        )
        persist = self._put(record)
        if not is_on:
            self.blocked_in_s[scope] = (self._clock.boottime_ns() - begun_ns) / 1e9
        return persist

    def advance(self, scope: str, state: KillState) -> KillRecord | None:
        """Note how far the sequence of a scope that is on has come; None, and nothing done, when it is off.

        Neither actor, reason nor mode change, and nothing of it is waited for: the next start begins where the
        newest record that it finds says, and doing a step again does no harm.
        """
        held = self.switches.records.get(scope)
        if held is None or not held.enabled or held.state is state or scope in self._releasing:
            return None
        now = self._clock.now()
        record = msgspec.structs.replace(held, version=next_version(held, now), state=state, at=now)
        self._put(record)
        return record

    def _put(self, record: KillRecord) -> _Persist:
        scope = record.scope
        self.switches.put(record)
        self._on_change()
        persist = _Persist(record)
        crashpoint("K0.blocked")
        try:
            self.mailbox.tell_nowait(persist)
        except MailboxFull:
            # it holds in memory; the retries write the newest record of each scope
            self._unwritten[scope] = record
            _log.error("killswitch.mailbox_full", scope=scope)
        return persist

    def adopt(self, records: Iterable[KillRecord]) -> None:
        """Take over records that another program wrote to the file and that count more than ours."""
        for record in records:
            held = self.switches.records.get(record.scope)
            self.switches.put(record)
            if self.switches.records[record.scope] != held:
                self._record_in_ledger(record)
                self._on_change()

    def record_missing(self, stored: Iterable[KillRecord]) -> None:
        """Put into the ledger what counts here and *stored* lacks: changes made while no engine ran."""
        known = merge(stored)
        for record in self.switches.records.values():
            if known.get(record.scope) != record:
                self._record_in_ledger(record)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Make changes durable until cancelled."""
        task_status.started()
        await self._mend_file()
        try:
            while True:
                with trio.move_on_after(_RETRY_S if self._unwritten else float("inf")):
                    await self.mailbox.wait()
                await self._write_what_waits()
        finally:
            with trio.move_on_after(_LAST_WRITES_S, shield=True):
                await self._write_what_waits()

    async def _write_what_waits(self) -> None:
        for record in list(self._unwritten.values()):
            await self._write(record)
        while self.mailbox.depth:
            await trio.lowlevel.checkpoint()
            persist = self.mailbox.receive_nowait()
            if persist.given_up:
                continue
            # taken out of the mailbox it is nowhere else: a cancel waits for the disk
            with trio.CancelScope(shield=True):
                persist.error = await self._write(persist.record)
            if persist.record.enabled or persist.error is None:
                self._settle(persist)
            persist.done.set()

    async def _write(self, record: KillRecord) -> OSError | None:
        """Write *record* to the file; a block that cannot be written now is kept for the next try."""
        try:
            crashpoint("K1.before_file")
            await trio.to_thread.run_sync(self._file.append, record, abandon_on_cancel=False)
        except OSError as error:
            _log.error("killswitch.file_unwritable", scope=record.scope, error=str(error))
            if record.enabled:
                self._unwritten[record.scope] = record
            return error
        crashpoint("K1.after_file")
        waiting = self._unwritten.get(record.scope)
        if waiting is not None and waiting.version <= record.version:
            del self._unwritten[record.scope]
        return None

    def _settle(self, persist: _Persist) -> None:
        record = persist.record
        if persist.given_up and not record.enabled:
            # it came onto the file after its caller had been told that the switch stays on
            self._change(record.scope, reason="the release came too late", actor="system", mode=KillMode.BLOCK)
            return
        if not record.enabled:
            self.switches.put(record)
            self._on_change()
            crashpoint("K2.released")
        self._record_in_ledger(record)
        crashpoint("K1.recorded")
        _log.warning(
            "killswitch.changed",
            scope=record.scope,
            state=record.state.value,
            reason=record.reason,
            actor=record.actor,
        )

    async def _mend_file(self) -> None:
        """Write a damaged file anew from what holds in memory, so that later changes can be read again."""
        try:
            await trio.to_thread.run_sync(self._file.read)
        except KillFileDamaged as damage:
            _log.error("killswitch.file_damaged", error=str(damage))
            records = list(self.switches.records.values())
            try:
                await trio.to_thread.run_sync(self._file.replace, records)
            except OSError as error:
                _log.error("killswitch.file_unwritable", error=str(error))
        except OSError as error:
            _log.error("killswitch.file_unreadable", error=str(error))

    def _record_in_ledger(self, record: KillRecord) -> None:
        action = "KILLSWITCH_ENABLED" if record.enabled else "KILLSWITCH_DISABLED"
        if record.enabled and record.at != record.since:
            action = "KILLSWITCH_ADVANCED"
        draft = AuditDraft(
            at=record.at,
            actor=record.actor,
            action=action,
            subject=f"killswitch:{record.scope}",
            content={"reason": record.reason, "version": record.version, "state": record.state.value},
        )
        try:
            self._ledger.append(LedgerEntry(writes=(write_kill_record(record),), audit=(draft,)))
        except MailboxFull as error:
            _log.error("killswitch.not_in_ledger", scope=record.scope, error=str(error))


def blocked_for_want_of_a_record(at: datetime) -> KillRecord:
    """Return the record that stands when a copy of the kill state cannot be read: newer than any other copy."""
    return KillRecord(
        scope="global",
        version=next_version(None, at),
        state=KillState.BLOCKED,
        reason="KILL_STATE_UNREADABLE: the kill switch file is damaged; check it, then disable the switch",
        actor="system",
        at=at,
    )
