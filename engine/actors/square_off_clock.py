"""Squaring intraday positions off by the clock, once a day for each account and time.

At its time every account's intraday (MIS) orders of an exchange are cancelled and its intraday positions closed,
without a kill switch. What is done is kept in the ledger, so that a start after it does not do it again and a start
in the middle goes on. Restart: permanent.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import date, time
from uuid import UUID

import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.crew import Crew
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock, trading_day
from engine.domain.audit import AuditDraft
from engine.domain.calendar import Calendar
from engine.domain.directory import Directory
from engine.domain.enums import Exchange
from engine.domain.flatten import Demand, Stage, Standing
from engine.domain.kill_sequence import AccountEnd, reasons
from engine.domain.square_off_times import INTRADAY, Due, dues
from engine.errors import MailboxFull, StoreUnavailable
from engine.store.flags import write_squared_off

_log = structlog.get_logger(__name__)

_TICK_S = 1.0


class SquareOffClock:
    """Squares off at *times* (IST) of each exchange; *load* reads what was done, of what day."""

    def __init__(
        self,
        times: Mapping[Exchange, time],
        *,
        crew: Crew,
        directory: Directory,
        calendar: Calendar,
        ledger: AuditWriter,
        clock: Clock,
        load: Callable[[], Awaitable[dict[str, list[str]]]],
        alert: Callable[[str, str], None],
        suspect: Callable[[], str | None],
    ) -> None:
        self._times = times
        self._crew = crew
        self._directory = directory
        self._calendar = calendar
        self._ledger = ledger
        self._clock = clock
        self._load = load
        self._alert = alert
        self._suspect = suspect
        self._done: dict[str, set[str]] = {}
        self._demands: dict[tuple[UUID, str], Demand] = {}
        self._told: set[tuple[UUID, str]] = set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        task_status.started()
        self._done = {name: set(accounts) for name, accounts in (await self._restored()).items()}
        while True:
            self._look()
            await trio.sleep(_TICK_S)

    async def _restored(self) -> dict[str, list[str]]:
        while True:
            try:
                return await self._load()
            except StoreUnavailable as error:
                _log.warning("square_off.waits_for_ledger", error=str(error))
                await trio.sleep(_TICK_S)

    def _look(self) -> None:
        now = self._clock.now()
        if self._suspect() is not None:
            return  # a clock that may be wrong closes nobody's positions
        day = trading_day(now)
        self._forget_before(day)
        for due in dues(day, self._calendar, self._times):
            if due.at <= now < due.until:
                for account_id in list(self._directory.accounts):
                    if str(account_id) not in self._done.get(due.name, ()):
                        self._square_off(account_id, due)
            elif now >= due.until:
                self._end(due)

    def _square_off(self, account_id: UUID, due: Due) -> None:
        key = (account_id, due.name)
        square_off = self._crew.executor(account_id).square_off
        demand = self._demands.get(key)
        if demand is None:
            demand = self._demands[key] = Demand(
                name=f"clock:{due.name}",
                version=int(due.at.timestamp() * 1000),
                since=due.at,
                by=f"square-off of intraday positions at {due.at:%H:%M} IST",
                exchanges=due.exchanges,
                products=INTRADAY,
            )
            self._record("SQUARE_OFF_BEGUN", account_id, due, None)
        square_off.want(demand)
        standing = square_off.standing(demand)
        if standing is None:
            return
        if standing.stage is Stage.DONE:
            square_off.drop(demand.name)
            self._settle(account_id, due, standing)
        elif standing.failed and key not in self._told:
            self._told.add(key)
            self._tell(account_id, due, standing, "it is tried until the close")

    def _settle(self, account_id: UUID, due: Due, standing: Standing) -> None:
        self._done.setdefault(due.name, set()).add(str(account_id))
        self._demands.pop((account_id, due.name), None)
        self._record("SQUARE_OFF_DONE", account_id, due, standing)

    def _end(self, due: Due) -> None:
        """The session is over: what is not flat by now is for a person."""
        for account_id, name in [key for key in self._demands if key[1] == due.name]:
            demand = self._demands.pop((account_id, name))
            square_off = self._crew.executor(account_id).square_off
            standing = square_off.standing(demand)
            square_off.drop(demand.name)
            self._tell(account_id, due, standing, "the exchange has closed")
            self._record("SQUARE_OFF_FAILED", account_id, due, standing)

    def _tell(self, account_id: UUID, due: Due, standing: Standing | None, what_next: str) -> None:
        account = self._directory.accounts.get(account_id)
        name = str(account_id) if account is None else account.label
        why = reasons([AccountEnd(account_id=account_id, standing=standing)], {account_id: name})
        self._alert(
            f"account:{account_id}", f"SQUARE_OFF_FAILED: intraday positions are not closed: {why}; {what_next}"
        )

    def _record(self, action: str, account_id: UUID, due: Due, standing: Standing | None) -> None:
        now = self._clock.now()
        content: dict[str, object] = {"at": due.at, "exchanges": sorted(due.exchanges), "products": sorted(INTRADAY)}
        if standing is not None:
            content["notFlat"] = [f"{':'.join(left.place)} {left.quantity}: {left.why}" for left in standing.not_flat]
        draft = AuditDraft(at=now, actor="system", action=action, subject=f"account:{account_id}", content=content)
        done = {name: sorted(accounts) for name, accounts in self._done.items()}
        writes = (write_squared_off(done, at=now),) if action == "SQUARE_OFF_DONE" else ()
        try:
            self._ledger.append(LedgerEntry(writes=writes, audit=(draft,)))
        except MailboxFull as error:
            _log.error("square_off.not_recorded", account=str(account_id), error=str(error))

    def _forget_before(self, day: date) -> None:
        self._done = {name: accounts for name, accounts in self._done.items() if name.startswith(str(day))}
        self._told = {key for key in self._told if key[1].startswith(str(day))}
