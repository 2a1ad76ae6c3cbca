"""The session keeper: looks at every account's broker session when the day makes it needful, and speaks up.

06:00 and 07:30 IST: sessions are probed, and logins of before 07:30 end. On trading days at the configured times:
each kite account is examined, the result is put on record, and those that could not trade are named in alerts;
a little later once more those that are still not logged in. Each once on its day, whatever restarts in between:
the days stand in the store together with the record. No mailbox. Restart: permanent.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime, time
from typing import Any

import msgspec
import structlog
import trio

from engine.actors.account_readiness import ReadinessCheck
from engine.actors.audit_writer import AuditWriter
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock
from engine.domain.audit import AuditDraft
from engine.domain.broker_session import Round, day_of, due, marks
from engine.domain.directory import Account, Directory
from engine.domain.enums import AccountStatus
from engine.domain.readiness import AccountReadiness
from engine.errors import EngineError, MailboxFull, StoreUnavailable
from engine.runtime.beat import beat
from engine.store.flags import write_rounds

_log = structlog.get_logger(__name__)

_TICK_S = 1.0
_RETRY_S = 2.0
_AT_ONCE = 8


class SessionKeeper:
    """Makes the rounds of the day; *login_page* is where a person logs an account in."""

    def __init__(
        self,
        *,
        directory: Directory,
        check: ReadinessCheck,
        ledger: AuditWriter,
        clock: Clock,
        load_rounds: Callable[[], Awaitable[dict[str, str]]],
        alert: Callable[[str, str], None],
        suspect: Callable[[], str | None],
        is_trading_day: Callable[[date], bool],
        login_page: Callable[[], str],
        readiness_at: time,
        remind_at: time,
    ) -> None:
        self._directory = directory
        self._check = check
        self._ledger = ledger
        self._clock = clock
        self._load_rounds = load_rounds
        self._alert = alert
        self._suspect = suspect
        self._is_trading_day = is_trading_day
        self._login_page = login_page
        self._readiness_at = readiness_at
        self._remind_at = remind_at
        self._done: dict[str, str] | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look at the clock every second until cancelled."""
        task_status.started()
        while self._done is None:
            try:
                self._done = await self._load_rounds()
            except StoreUnavailable as error:
                # without it a restart would repeat what was said already
                _log.warning("rounds.not_loaded", error=str(error))
                await trio.sleep(_RETRY_S)
        while True:
            await self.tick()
            await beat(_TICK_S)

    async def tick(self) -> None:
        """Make the rounds that are due now; none while the clock cannot be trusted."""
        if self._done is None or self._suspect() is not None:
            return
        now = self._clock.now()
        rounds = due(
            self._done,
            now,
            readiness_at=self._readiness_at,
            remind_at=self._remind_at,
            is_trading_day=self._is_trading_day(day_of(now)),
        )
        if not rounds:
            return
        audit = [draft for name in rounds for draft in await self._make(name, now)]
        self._done |= marks(rounds, now, remind_at=self._remind_at)
        entry = LedgerEntry(writes=(write_rounds(self._done, at=now),), audit=audit)
        try:
            self._ledger.append(entry)
        except MailboxFull as error:
            _log.error("rounds.not_recorded", rounds=[name.value for name in rounds], error=str(error))

    async def _make(self, name: Round, now: datetime) -> list[AuditDraft]:
        accounts = [account for account in self._directory.accounts.values() if account.broker == "kite"]
        if name is Round.READINESS:
            return await self._readiness(accounts, now)
        if name is Round.REMINDER:
            self._remind(accounts)
            return []
        wanted = [a for a in accounts if a.access_token is not None and a.status is not AccountStatus.LOGIN_REQUIRED]
        await self._each(wanted, self._check.probe)
        return []

    async def _readiness(self, accounts: Sequence[Account], now: datetime) -> list[AuditDraft]:
        reports: list[AccountReadiness] = await self._each(accounts, self._check.examine)
        for report in reports:
            if not report.is_ready:
                text = f"account {report.label} is not ready for today: {report.faults}. {self._where()}"
                self._alert(f"account:{report.account_id}", text)
        return [
            AuditDraft(
                at=now,
                actor="system",
                action="READINESS_CHECKED",
                subject=f"account:{report.account_id}",
                content={"ready": report.is_ready, "findings": msgspec.to_builtins(report.findings)},
            )
            for report in reports
        ]

    def _remind(self, accounts: Sequence[Account]) -> None:
        for account in accounts:
            if account.status is AccountStatus.LOGIN_REQUIRED:
                text = f"account {account.label} is still not logged in: its signals are refused. {self._where()}"
                self._alert(f"account:{account.id}", text)

    def _where(self) -> str:
        return f"Log in at {self._login_page()}"

    async def _each(self, accounts: Sequence[Account], look: Callable[[Account], Awaitable[Any]]) -> list[Any]:
        """Look at all accounts, a few at a time; one that cannot be looked at does not keep the others waiting."""
        limiter = trio.CapacityLimiter(_AT_ONCE)
        found: list[Any] = []

        async def one(account: Account) -> None:
            async with limiter:
                try:
                    found.append(await look(account))
                except EngineError as error:
                    _log.warning("account.not_examined", account=str(account.id), error=str(error))

        async with trio.open_nursery() as nursery:
            for account in accounts:
                nursery.start_soon(one, account)
        return found
