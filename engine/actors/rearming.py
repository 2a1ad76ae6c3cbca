"""Letting a scope trade again: looks at everything that must be in order first (reliability.md 5.6).

Asked by HTTP and by the control socket. An account whose last comparison with its broker is not clean or older
than 30 s is compared now, all side by side within one deadline; one that cannot trade (nobody logged in, its
orders are blocked) is left out: it compares itself before its first order. No mailbox, no state.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import UUID

import structlog
import trio

from engine.actors.crew import Crew
from engine.actors.executor import Executor
from engine.actors.reconcile_report import ReconcileReport
from engine.clock import Clock, trading_day
from engine.domain.calendar import Calendar
from engine.domain.directory import Directory
from engine.domain.enums import AccountStatus, OrderStatus
from engine.domain.killswitch import KillRecord, scopes_of
from engine.domain.rearming import Obstacle, accounts_of, covers_intent, next_trading_day, standing
from engine.errors import EngineError, StoreUnavailable

_log = structlog.get_logger(__name__)

_FRESH = timedelta(seconds=30)
_COMPARE_WITHIN_S = 10.0


class Rearming:
    """Says what stands against a release.

    *parked* returns (user, strategy, source) of the exits that wait for a person, *stores_away* the names of the
    stores that cannot be used now, *suspect* why the clock cannot be trusted. Every day is a trading day unless
    *enforce_hours*.
    """

    def __init__(
        self,
        *,
        crew: Crew,
        directory: Directory,
        clock: Clock,
        calendar: Calendar,
        enforce_hours: bool,
        two_admins: bool,
        parked: Callable[[], Awaitable[list[tuple[UUID, UUID, UUID]]]],
        stores_away: Callable[[], list[str]],
        suspect: Callable[[], str | None],
    ) -> None:
        self._crew = crew
        self._directory = directory
        self._clock = clock
        self._calendar = calendar
        self._enforce_hours = enforce_hours
        self._two_admins = two_admins
        self._parked = parked
        self._stores_away = stores_away
        self._suspect = suspect

    async def against(self, record: KillRecord) -> list[Obstacle]:
        """Return what stands against letting the scope of *record* trade again; empty when nothing does."""
        scope, away = record.scope, self._stores_away()
        parked = 0
        try:
            parked = sum(covers_intent(scope, *each, self._directory) for each in await self._parked())
        except StoreUnavailable as error:
            _log.warning("rearming.parked_unread", error=str(error))
            away = away or ["ledger"]
        reopens = None
        if record.day is not None:
            reopens = next_trading_day(record.day, self._calendar, every_day=not self._enforce_hours)
        unclean = await self._unclean(scope)
        return standing(
            record,
            today=trading_day(self._clock.now()),
            reopens=reopens,
            unknown_orders=self._unknown(scope),
            parked=parked,
            unclean=unclean,
            stores=away,
            clock=self._suspect(),
            two_admins=self._two_admins,
        )

    def _unknown(self, scope: str) -> int:
        return sum(
            order.status is OrderStatus.UNKNOWN
            and scope in scopes_of(executor.user_id, executor.account_id, order.strategy_id, order.source_id)
            for executor in self._crew.executors.values()
            for order in executor.desk.orders.values()
        )

    async def _unclean(self, scope: str) -> list[str]:
        wanted = accounts_of(scope, self._directory)
        found: dict[UUID, str] = {}

        async def look(executor: Executor) -> None:
            report = executor.last_reconciliation
            if report is None or self._clock.now() - report.read_at > _FRESH or _problem(report) is not None:
                try:
                    report = await executor.reconcile()
                except EngineError as error:
                    found[executor.account_id] = str(error)
                    return
            problem = _problem(report)
            if problem is not None:
                found[executor.account_id] = problem
            else:
                del found[executor.account_id]

        with trio.move_on_after(_COMPARE_WITHIN_S):
            async with trio.open_nursery() as nursery:
                for executor in list(self._crew.executors.values()):
                    account = self._directory.accounts.get(executor.account_id)
                    if account is None or account.id not in wanted or account.status is not AccountStatus.ACTIVE:
                        continue
                    found[account.id] = f"the broker did not answer within {_COMPARE_WITHIN_S:g} s"
                    nursery.start_soon(look, executor)
        return [
            f"account {account_id} does not agree with its broker: {text}"
            for account_id, text in sorted(found.items(), key=lambda item: str(item[0]))
        ]


def _problem(report: ReconcileReport) -> str | None:
    if not report.is_whole:
        return "not everything could be read"
    if report.unreadable:
        return f"{len(report.unreadable)} row(s) cannot be read"
    return f"{len(report.open_differences)} position(s) differ" if report.open_differences else None
