"""The triggers' keeper: looks once a second at all that trips the kill switch by itself, and trips it.

Owns the memory of what held before (`engine.domain.kill_triggers`). Told by the watchdog of a held-up loop and by
the journal's writer of a wipe; reads everything else where it is. The audit chain is proved every half minute as
far as it has grown since the last proof, from its end at the start on; the whole is for `engine audit verify`.
No mailbox. Restart: permanent.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from uuid import UUID

import structlog
import trio

from engine.actors.executor import Executor
from engine.actors.killswitch_guardian import KillSwitchGuardian
from engine.clock import Clock
from engine.domain.audit import AuditRecord, verify
from engine.domain.enums import OrderStatus
from engine.domain.kill_triggers import (
    AccountSight,
    EngineSight,
    Reaction,
    Trigger,
    TriggerSettings,
    TriggerWatch,
    Trip,
)
from engine.errors import StoreUnavailable
from engine.runtime.beat import beat

_log = structlog.get_logger(__name__)

_TICK_S = 1.0
_READ_EVERY_S = 30.0
_FIRST_READ_S = 5.0
# Of a thousand accounts, or of what they add to the audit log, so many before others have their turn.
_AT_ONCE = 100


class TriggerKeeper:
    """Watches one engine.

    *executors* returns those that run, *is_open* whether a position of an account could be traded now, *suspect* why
    the clock cannot be trusted, *leads* whether the lease is held, *parked* the exits that wait for a person,
    *audit_after* the audit records after a number (a negative one counts from the end).
    """

    def __init__(
        self,
        settings: TriggerSettings,
        *,
        guardian: KillSwitchGuardian,
        clock: Clock,
        executors: Callable[[], Iterable[Executor]],
        is_open: Callable[[Executor], bool],
        suspect: Callable[[], str | None],
        leads: Callable[[], bool],
        parked: Callable[[], Awaitable[Sequence[object]]],
        audit_after: Callable[[int], Awaitable[Sequence[AuditRecord]]],
        alert: Callable[[str, str], None],
    ) -> None:
        self._settings = settings
        self._watch = TriggerWatch(settings)
        self._guardian = guardian
        self._clock = clock
        self._executors = executors
        self._is_open = is_open
        self._suspect = suspect
        self._leads = leads
        self._read_parked = parked
        self._audit_after = audit_after
        self._alert = alert
        self.looked_at: float | None = None
        self._lag_s = 0.0
        self._wipes = 0
        self._parked = 0
        self._proved: AuditRecord | None = None
        self._broken: int | None = None
        # of each account the instant of the comparison that was counted last, and how many in a row differed
        self._compared: dict[UUID, tuple[datetime, int]] = {}

    def stalled(self, lag_s: float) -> None:
        """The event loop was held up for *lag_s*."""
        self._lag_s = max(self._lag_s, lag_s)

    def journal_wiped(self) -> None:
        """The journal's server was emptied."""
        self._wipes += 1

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_on)
            task_status.started()
            while True:
                await beat(_TICK_S)
                await self.look()

    async def _read_on(self) -> None:
        """Read from the store what has to be, apart: a store that hangs must not keep the rest from being seen."""
        await trio.sleep(_FIRST_READ_S)
        while True:
            await self._read()
            await trio.sleep(_READ_EVERY_S)

    async def look(self) -> None:
        """Look at everything now, and trip what begins to hold."""
        sights: list[AccountSight] = []
        for number, executor in enumerate(list(self._executors()), 1):
            sights.append(self._sight(executor))
            if not number % _AT_ONCE:
                await trio.lowlevel.checkpoint()
        self.looked_at = trio.current_time()
        lag_s, self._lag_s = self._lag_s, 0.0
        engine = EngineSight(
            loop_lag_s=lag_s,
            clock=self._suspect(),
            audit_broken=self._broken,
            lease_lost=not self._leads(),
            parked=self._parked,
            journal_wipes=self._wipes,
        )
        for trip in self._watch.look(trio.current_time(), engine, sights):
            self._act(trip)

    def _act(self, trip: Trip) -> None:
        self._alert(trip.scope, trip.reason)
        mode = trip.reaction.mode
        if mode is None:
            return
        held = self._guardian.switches.records.get(trip.scope)
        if held is None or not held.enabled or held.mode.rank < mode.rank:
            self._guardian.block_nowait(trip.scope, reason=trip.reason, actor="system", mode=mode)

    def _sight(self, executor: Executor) -> AccountSight:
        sent, refused = executor.tally
        return AccountSight(
            account_id=executor.account_id,
            sent=sent,
            refused=refused,
            unknown=sum(
                executor.desk.orders[order_id].status is OrderStatus.UNKNOWN for order_id in executor.desk.index.open
            ),
            mismatches=self._mismatches(executor),
            unreachable_s=executor.unreachable_s,
            is_exposed=executor.unreachable_s > 0 and executor.desk.holdings.has_open and self._is_open(executor),
        )

    def _mismatches(self, executor: Executor) -> int:
        report = executor.last_reconciliation
        if report is None:
            return 0
        at, in_a_row = self._compared.get(executor.account_id, (None, 0))
        if at != report.read_at and report.positions is not None:
            in_a_row = in_a_row + 1 if report.open_differences else 0
            self._compared[executor.account_id] = (report.read_at, in_a_row)
        return in_a_row

    async def _read(self) -> None:
        try:
            if self._is_wanted(Trigger.PARKED_EXITS):
                self._parked = len(await self._read_parked())
            if self._is_wanted(Trigger.AUDIT_CHAIN) and self._broken is None:
                await self._prove()
        except StoreUnavailable as error:
            _log.info("triggers.store_away", error=str(error))

    def _is_wanted(self, trigger: Trigger) -> bool:
        return self._settings.reactions.get(trigger, Reaction.OFF) is not Reaction.OFF

    async def _prove(self) -> None:
        """Prove what the audit log has grown by; what was proved last must still stand at its end."""
        last = self._proved
        if last is None:
            records = await self._audit_after(-1)
            self._proved = records[-1] if records else None
            return
        records = await self._audit_after(last.seq - 1)
        if not records or records[0].hash != last.hash:
            self._broken = last.seq
            return
        for start in range(1, len(records), _AT_ONCE):
            part = records[start : start + _AT_ONCE]
            self._broken = verify(part, prev=last.hash, first_seq=last.seq + 1)
            if self._broken is not None:
                return
            last = self._proved = part[-1]
            await trio.lowlevel.checkpoint()
