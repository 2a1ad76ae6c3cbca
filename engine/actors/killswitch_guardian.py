"""The kill-switch guardian: holds every scope's state, changes it at once, and makes it last.

Owns the kill records. The change in memory comes first: from that moment no send gate lets an order
of the scope pass. It is then made durable in a small fsynced file, in the ledger and in Valkey, in parallel
(`engine.actors.kill_lanes`); one that cannot be written is tried again every second and delays no other. A release
is the other way round: it holds only once all three have it, the file last. Asked by HTTP, by the control socket,
and by whatever trips. Restart: permanent; at start the newest of the copies counts
(`engine.domain.killswitch.settle`). No mailbox: each lane holds the newest record of a scope; when the guardian
stops it first writes what waits.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from typing import Any

import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.kill_lanes import CopyLane, FileLane, Lane, LedgerLane, Write
from engine.actors.killswitch_file import KillFile
from engine.clock import Clock, trading_day
from engine.domain.enums import KillMode, KillState
from engine.domain.killswitch import KillRecord, KillSwitches, merge, next_version, tripped_at
from engine.errors import EngineError
from engine.runtime.crashpoint import crashpoint
from engine.security.kill_seal import KillSeal

_log = structlog.get_logger(__name__)

_PERSIST_TIMEOUT_S = 5.0
_OTHERS_TIMEOUT_S = 1.0
_LAST_WRITES_S = 2.0
_REASON_CHARACTERS = 500
DAY_LOSS = ("MAX_DAILY_LOSS_", "MAX_DRAWDOWN_", "PROFIT_")
"""How reasons begin after which the scope is not to trade again on the same day (reliability.md 5.6)."""


def _plain(text: str) -> str:
    """Return *text* as every store can keep it: no lone surrogate, no control character, not endless."""
    clean = text[:_REASON_CHARACTERS].encode("utf-8", "replace").decode()
    return "".join(letter if letter.isprintable() else " " for letter in clean)


class KillSwitchGuardian:
    """The one writer of kill records; *journal* writes the copy in Valkey, None where there is none."""

    def __init__(
        self,
        *,
        switches: KillSwitches,
        file: KillFile,
        ledger: AuditWriter,
        clock: Clock,
        on_change: Callable[[], None],
        seal: KillSeal,
        journal: Write | None = None,
    ) -> None:
        self.switches = switches
        self._clock = clock
        self._on_change = on_change
        self._seal = seal
        self._file = FileLane(file, lambda: list(switches.records.values()))
        self._ledger = LedgerLane(ledger)
        self._journal = None if journal is None else CopyLane("journal", journal)
        self._issued: dict[str, int] = {}
        self._releasing: set[str] = set()
        # how long the last trip of a scope took until no gate let an order of it pass
        self.blocked_in_s: dict[str, float] = {}

    @property
    def lanes(self) -> Sequence[Lane]:
        """The stores, the file first."""
        return (self._file, self._ledger, *(() if self._journal is None else (self._journal,)))

    @property
    def writing_since(self) -> float | None:
        """When the write into the file began that is going on now (trio's clock), None when there is none."""
        return self._file.writing_since

    def block_nowait(self, scope: str, *, reason: str, actor: str, mode: KillMode = KillMode.BLOCK) -> KillRecord:
        """Block *scope* from this instant on; durability follows. Blocking again keeps it blocked."""
        begun_ns = self._clock.boottime_ns()
        held = self.switches.records.get(scope)
        is_on = held is not None and held.enabled
        day = trading_day(self._clock.now()) if reason.startswith(DAY_LOSS) else None
        record = self._change(
            scope,
            # a second trip joins the one that runs; it may only widen it
            state=held.state if held is not None and is_on else KillState.BLOCKED,
            reason=reason,
            actor=actor,
            mode=max(mode, held.mode, key=lambda each: each.rank) if held is not None and is_on else mode,
            day=_later(day, held.day) if held is not None and is_on else day,
            tripped_at=tripped_at(held, self._clock.now()),
        )
        if not is_on:
            self.blocked_in_s[scope] = (self._clock.boottime_ns() - begun_ns) / 1e9
        return record

    def advance(self, scope: str, state: KillState) -> KillRecord | None:
        """Note how far the sequence of a scope that is on has come; None, and nothing done, when it is off.

        Neither actor, reason nor mode change, and nothing of it is waited for: the next start begins where the
        newest record that it finds says, and doing a step again does no harm.
        """
        held = self.switches.records.get(scope)
        if held is None or not held.enabled or held.state is state or scope in self._releasing:
            return None
        return self._change(scope, advances=True, state=state, **_kept(held))

    async def block(self, scope: str, *, reason: str, actor: str, mode: KillMode = KillMode.BLOCK) -> KillRecord:
        """Block *scope* at once and return when it is on disk, or after some seconds of trying.

        The block itself holds from the first instant, whatever the disk does.
        """
        record = self.block_nowait(scope, reason=reason, actor=actor, mode=mode)
        with trio.move_on_after(_PERSIST_TIMEOUT_S):
            await self._file.wait_tried(record)
            if not self._file.has(record):
                await self._wait_for_any(record)
        return record

    async def release(self, scope: str, *, reason: str, actor: str) -> KillRecord:
        """Let *scope* trade again, once every store has that; return what counts then.

        Raises EngineError that names the stores which did not take it: the switch stays on.
        """
        held = self.switches.records.get(scope)
        # it says which loss is let pass, so that a start does not take it back
        day = held.day if held is not None and held.enabled else None
        record = self._record(scope, state=KillState.ARMED, reason=reason, actor=actor, day=day)
        crashpoint("K2.release_asked")
        # a state that the sequence notes meanwhile must not count more than the release
        self._releasing.add(scope)
        try:
            # the file last: one that has a release proves that the others have it
            lacking = await self._write_all(self.lanes[1:], record) or await self._write_all(self.lanes[:1], record)
        except trio.Cancelled:
            self._take_back(held, record)
            raise
        finally:
            self._releasing.discard(scope)
        if lacking:
            # the caller is told that it stays on: it must not go off later by itself
            back = self._take_back(held, record)
            await self._wait_for_any(back)
            raise EngineError(
                f"the kill switch stays on: the change cannot be recorded ({', '.join(lacking)}); try again "
                "when that store is back"
            )
        self.switches.put(record)
        self._on_change()
        crashpoint("K2.released")
        self._log_change(record)
        return self.switches.records[scope]

    async def _write_all(self, lanes: Sequence[Lane], record: KillRecord) -> list[str]:
        """Have *record* written by all of *lanes*, each tried once; return the names of those that lack it."""
        for lane in lanes:
            lane.put(record)
        with trio.move_on_after(_PERSIST_TIMEOUT_S):
            for lane in lanes:
                await lane.wait_tried(record)
        return [lane.name for lane in lanes if not lane.has(record)]

    async def _wait_for_any(self, record: KillRecord) -> None:
        with trio.move_on_after(_OTHERS_TIMEOUT_S):
            async with trio.open_nursery() as nursery:

                async def wait(lane: Lane) -> None:
                    await lane.wait_tried(record)
                    if lane.has(record):
                        nursery.cancel_scope.cancel()

                for lane in self.lanes:
                    nursery.start_soon(wait, lane)

    def _take_back(self, held: KillRecord | None, released: KillRecord) -> KillRecord:
        """Follow a release that did not come about with the block that it would have ended."""
        now_held = self.switches.records.get(released.scope, held)
        if now_held is None or not now_held.enabled:
            # there was nothing to release: what stood stands
            return released
        return self._change(now_held.scope, state=now_held.state, **_kept(now_held))

    def _change(self, scope: str, *, advances: bool = False, **fields: Any) -> KillRecord:
        """Put a new record of *scope* into memory, then on its way to every store."""
        record = self._record(scope, **fields)
        self.switches.put(record)
        crashpoint("K0.blocked")
        # first on its way to disk: that must not hang on what others make of it
        self._spread(record, self.lanes, advances=advances)
        self._on_change()
        self._log_change(record)
        return record

    def _record(self, scope: str, *, reason: str, **fields: Any) -> KillRecord:
        now = self._clock.now()
        version = max(next_version(self.switches.records.get(scope), now), self._issued.get(scope, 0) + 1)
        self._issued[scope] = version
        return self._seal.sign(KillRecord(scope=scope, version=version, reason=_plain(reason), at=now, **fields))

    def adopt(self, records: Iterable[KillRecord]) -> None:
        """Take over records that another program wrote to the file and that count more than ours."""
        for record in records:
            if not self._seal.believes(record):
                _log.error("killswitch.not_believed", scope=record.scope, actor=record.actor)
                continue
            held = self.switches.records.get(record.scope)
            self.switches.put(record)
            if self.switches.records[record.scope] != held:
                self._spread(record, self.lanes[1:])
                self._on_change()

    def record_missing(self, copies: Mapping[str, Iterable[KillRecord]]) -> None:
        """Have every store that *copies* names, by what it held, take what counts here and it lacks."""
        for lane in self.lanes:
            known = merge(copies.get(lane.name, ()))
            for record in self.switches.records.values():
                if known.get(record.scope) != record:
                    self._spread(record, [lane])

    def journal_wiped(self) -> None:
        """Valkey was emptied: it gets everything again."""
        if self._journal is not None:
            for record in self.switches.records.values():
                self._journal.put(record)

    def _spread(self, record: KillRecord, lanes: Sequence[Lane], *, advances: bool = False) -> None:
        for lane in lanes:
            lane.put(record, advances=advances)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Make changes durable until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                for lane in self.lanes:
                    nursery.start_soon(lane.run)
                task_status.started()
        finally:
            with trio.move_on_after(_LAST_WRITES_S, shield=True):
                async with trio.open_nursery() as nursery:
                    for lane in self.lanes:
                        nursery.start_soon(lane.flush)

    def _log_change(self, record: KillRecord) -> None:
        _log.warning(
            "killswitch.changed",
            scope=record.scope,
            state=record.state.value,
            mode=record.mode.value,
            reason=record.reason,
            actor=record.actor,
        )


def _kept(held: KillRecord) -> dict[str, Any]:
    """Return what a new record of a scope that stays on takes over from *held*."""
    return {
        "reason": held.reason,
        "actor": held.actor,
        "mode": held.mode,
        "day": held.day,
        "tripped_at": held.since,
    }


def _later(first: date | None, second: date | None) -> date | None:
    return max(first, second) if first and second else first or second
