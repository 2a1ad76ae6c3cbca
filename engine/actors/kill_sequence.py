"""What follows a block: every covered account cancels and flattens, and the scope's state and certificate follow.

Owns no account: it tells each account's executor what is demanded, hears how that stands, and has the guardian note
how far the scope is. A scope that was on its way when the engine died goes on from there. Certificates are kept in
the ledger, when it is there, and the newest of each scope here. Restart: permanent; nothing in it but certificates
outlives a start, and those are read again.
"""

from collections.abc import Awaitable, Callable, Iterable
from math import inf
from uuid import UUID

import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.crew import Crew, accounts_of_strategy
from engine.actors.killswitch_guardian import KillSwitchGuardian
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock
from engine.domain.audit import AuditDraft
from engine.domain.directory import Directory
from engine.domain.enums import KillState
from engine.domain.flatten import Demand
from engine.domain.flatten_plan import OVERDUE_S
from engine.domain.kill_sequence import (
    AccountEnd,
    Certificate,
    KillOutcome,
    certify,
    demand_of,
    reasons,
    state_of,
)
from engine.domain.killswitch import KillRecord
from engine.domain.rearming import accounts_of
from engine.errors import MailboxFull, StoreUnavailable
from engine.runtime.crashpoint import crashpoint
from engine.store.kill_certificates import write_certificate

_log = structlog.get_logger(__name__)

_LOOK_S = 1.0
_OUTCOMES = {
    KillState.BLOCKED: KillOutcome.CANCELLED,
    KillState.FLAT_VERIFIED: KillOutcome.FLAT_VERIFIED,
    KillState.FLAT_FAILED: KillOutcome.FLAT_FAILED,
}


class KillSequence:
    """Drives every kill switch that does more than block; *key* signs, *load* reads the newest certificates."""

    def __init__(
        self,
        *,
        guardian: KillSwitchGuardian,
        crew: Crew,
        directory: Directory,
        ledger: AuditWriter,
        clock: Clock,
        key: bytes,
        delivery: bool,
        load: Callable[[], Awaitable[list[Certificate]]],
        alert: Callable[[str, str], None],
    ) -> None:
        self._guardian = guardian
        self._crew = crew
        self._directory = directory
        self._ledger = ledger
        self._clock = clock
        self.key = key
        self.delivery = delivery
        self._load = load
        self._alert = alert
        # what is demanded now by scope, since when (monotonic), and of which accounts
        self._driven: dict[str, tuple[Demand, float, set[UUID]]] = {}
        self.certificates: dict[str, Certificate] = {}
        self._wake = trio.Event()

    def wake(self) -> None:
        """Look at the switches and how they stand, soon."""
        self._wake.set()

    def ends(self, record: KillRecord) -> list[AccountEnd]:
        """Return how every account of a scope that is being ended stands; none for one that only blocks."""
        driven = self._driven.get(record.scope)
        return [] if driven is None else [self._end(account_id, driven[0]) for account_id in sorted(driven[2])]

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        task_status.started()
        try:
            for certificate in await self._load():
                self.certificates.setdefault(certificate.scope, certificate)
        except StoreUnavailable as error:
            _log.warning("kill.certificates_unreadable", error=str(error))
        while True:
            self._look()
            with trio.move_on_after(_LOOK_S if self._driven else inf):
                await self._wake.wait()
            self._wake = trio.Event()

    def _look(self) -> None:
        for record in list(self._guardian.switches.records.values()):
            demand = demand_of(record, delivery=self.delivery)
            if demand is None:
                self._let_go(record.scope)
            else:
                self._drive(record, demand)

    def _let_go(self, scope: str) -> None:
        driven = self._driven.pop(scope, None)
        for account_id in () if driven is None else driven[2]:
            executor = self._crew.executors.get(account_id)
            if executor is not None:
                executor.square_off.drop(scope)

    def _drive(self, record: KillRecord, demand: Demand) -> None:
        now = trio.current_time()
        held = self._driven.get(record.scope)
        since, accounts = now, set(self._accounts_of(record.scope))
        if held is not None:
            # one whose last position is closed has no business any more: the proof of it is still to come, and the
            # demand to be taken back from it
            accounts |= held[2] & self._directory.accounts.keys()
            since = held[1] if held[0].version == demand.version else now
        self._driven[record.scope] = (demand, since, accounts)
        for account_id in accounts:
            square_off = self._crew.executor(account_id).square_off
            square_off.on_told = self.wake
            square_off.want(demand)
        ends = self.ends(record)
        if not ends and record.scope.startswith(("account:", "strategy:")):
            return  # nobody can prove it flat: right after a start, or of what is not known
        state = state_of(record, ends, overdue=now - since >= OVERDUE_S)
        if state is record.state:
            return
        if state in _OUTCOMES and not (state is KillState.BLOCKED and record.state is not KillState.CANCELLING):
            self._certify(record, ends, _OUTCOMES[state])
        if state is KillState.FLAT_FAILED:
            names = {account.id: account.label for account in self._directory.accounts.values()}
            self._alert(f"killswitch:{record.scope}", f"FLAT_FAILED: {reasons(ends, names)}; it is tried on")
        self._guardian.advance(record.scope, state)

    def _accounts_of(self, scope: str) -> Iterable[UUID]:
        """Return the accounts that *scope* covers, those of a strategy by what it may hold."""
        kind, _, number = scope.partition(":")
        if kind == "strategy":
            return accounts_of_strategy(UUID(number), self._directory, self._crew)
        return accounts_of(scope, self._directory)

    def _end(self, account_id: UUID, demand: Demand) -> AccountEnd:
        executor = self._crew.executors.get(account_id)
        if executor is None:
            return AccountEnd(account_id=account_id, standing=None)
        in_flight, in_doubt = executor.square_off.flattener.drained
        return AccountEnd(
            account_id=account_id,
            standing=executor.square_off.standing(demand),
            in_flight=in_flight,
            in_doubt=in_doubt,
        )

    def _certify(self, record: KillRecord, ends: list[AccountEnd], outcome: KillOutcome) -> None:
        crashpoint("K6.flat")
        now = self._clock.now()
        certificate = certify(
            self.key,
            record,
            ends,
            outcome,
            at=now,
            time_to_block_s=self._guardian.blocked_in_s.get(record.scope),
        )
        self.certificates[record.scope] = certificate
        draft = AuditDraft(
            at=now,
            actor="system",
            action="KILL_CERTIFICATE",
            subject=f"killswitch:{record.scope}",
            content={
                "certificateId": certificate.id,
                "outcome": outcome.value,
                "signature": certificate.signature.hex(),
                "trippedAt": record.since,
                "accounts": len(ends),
            },
        )
        try:
            self._ledger.append(LedgerEntry(writes=(write_certificate(certificate),), audit=(draft,)))
        except MailboxFull as error:
            _log.error("kill.certificate_not_recorded", scope=record.scope, error=str(error))
        crashpoint("K6.certified")
        _log.warning("kill.certificate", scope=record.scope, outcome=outcome.value, accounts=len(ends))
