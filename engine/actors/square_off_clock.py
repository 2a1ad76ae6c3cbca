"""Squaring positions off by the clock, once a day for each account and time.

At its time every account's intraday (MIS) orders of an exchange are cancelled and its intraday positions closed,
without a kill switch; and at a strategy's own time (``squareOffAt``) its orders and its share of the positions, of
every product but shares held for delivery. What is done is kept in the ledger, so that a start after it does not do
it again and a start in the middle goes on. Restart: permanent.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import date, time
from functools import partial
from typing import NamedTuple
from uuid import UUID

import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.crew import Crew, accounts_of_strategy
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock, trading_day
from engine.domain.audit import AuditDraft
from engine.domain.calendar import Calendar
from engine.domain.directory import Directory
from engine.domain.enums import Exchange
from engine.domain.flatten import Demand, Stage, Standing
from engine.domain.kill_sequence import AccountEnd, reasons
from engine.domain.square_off_times import INTRADAY, Due, dues, dues_of
from engine.errors import MailboxFull, StoreUnavailable
from engine.runtime.beat import beat
from engine.store.flags import write_squared_off

_log = structlog.get_logger(__name__)

_TICK_S = 1.0


class _Begun(NamedTuple):
    due: Due
    demand: Demand


class SquareOffClock:
    """Squares intraday positions off at *times* (IST) of each exchange, none when empty, and strategies at theirs.

    *load* reads what was done, of what day. With *delivery* a strategy's shares held for delivery are sold too.
    """

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
        delivery: bool = False,
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
        self._delivery = delivery
        self._done: dict[str, set[str]] = {}
        self._begun: dict[tuple[UUID, str], _Begun] = {}
        self._told: set[tuple[UUID, str]] = set()
        # the dues of a day are the same at every look
        self._listed: dict[tuple[date, UUID | None, str | None], list[Due]] = {}

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until cancelled."""
        task_status.started()
        for name, accounts in (await self._restored()).items():
            # what a life before this one did may be on its way to the ledger still
            self._done.setdefault(name, set()).update(accounts)
        while True:
            self._look()
            await beat(_TICK_S)

    async def _restored(self) -> dict[str, list[str]]:
        while True:
            try:
                return await self._load()
            except StoreUnavailable as error:
                _log.warning("square_off.waits_for_ledger", error=str(error))
                await beat(_TICK_S)

    def _look(self) -> None:
        now = self._clock.now()
        if self._suspect() is not None:
            return  # a clock that may be wrong closes nobody's positions
        day = trading_day(now)
        self._forget_before(day)
        found = self._dues(day)
        self._take_back({due.name for due in found}, day)
        for due in found:
            if due.at <= now < due.until:
                for account_id in self._accounts(due):
                    if str(account_id) not in self._done.get(due.name, ()):
                        self._square_off(account_id, due)
            elif now >= due.until:
                for account_id, name in list(self._begun):
                    if name == due.name:
                        self._end(account_id, name)

    def _dues(self, day: date) -> list[Due]:
        found = list(self._once((day, None, None), lambda: dues(day, self._calendar, self._times)))
        for strategy in self._directory.strategies.values():
            if strategy.square_off_at is not None:
                key = (day, strategy.id, strategy.square_off_at)
                found += self._once(key, partial(dues_of, strategy, day, self._calendar))
        return found

    def _once(self, key: tuple[date, UUID | None, str | None], make: Callable[[], list[Due]]) -> list[Due]:
        if key not in self._listed:
            self._listed[key] = make()
        return self._listed[key]

    def _accounts(self, due: Due) -> list[UUID]:
        if due.strategy_id is None:
            return list(self._directory.accounts)
        return accounts_of_strategy(due.strategy_id, self._directory, self._crew)

    def _square_off(self, account_id: UUID, due: Due) -> None:
        key = (account_id, due.name)
        square_off = self._crew.executor(account_id).square_off
        begun = self._begun.get(key)
        if begun is None:
            begun = self._begun[key] = _Begun(due, self._demand(due))
            self._record("SQUARE_OFF_BEGUN", account_id, due, None)
        demand = begun.demand
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

    def _demand(self, due: Due) -> Demand:
        is_intraday = due.strategy_id is None
        return Demand(
            name=f"clock:{due.name}",
            version=int(due.at.timestamp() * 1000),
            since=due.at,
            by=f"square-off of {self._what(due)} at {due.at:%H:%M} IST",
            exchanges=due.exchanges,
            products=INTRADAY if is_intraday else None,
            strategy_id=due.strategy_id,
            delivery=self._delivery and not is_intraday,
        )

    def _what(self, due: Due) -> str:
        if due.strategy_id is None:
            return "intraday positions"
        strategy = self._directory.strategies.get(due.strategy_id)
        return f"positions of the strategy {due.strategy_id if strategy is None else strategy.name}"

    def _settle(self, account_id: UUID, due: Due, standing: Standing) -> None:
        self._done.setdefault(due.name, set()).add(str(account_id))
        self._begun.pop((account_id, due.name), None)
        self._record("SQUARE_OFF_DONE", account_id, due, standing)

    def _end(self, account_id: UUID, name: str) -> None:
        """The session is over: what is not flat by now is for a person."""
        due, standing = self._stop(account_id, name)
        self._tell(account_id, due, standing, "the exchange has closed")
        self._record("SQUARE_OFF_FAILED", account_id, due, standing)

    def _take_back(self, names: set[str], day: date) -> None:
        """Stop what is not asked for any more: a person has changed the strategy's time, or the day is over."""
        for account_id, name in list(self._begun):
            if name in names:
                continue
            if self._begun[account_id, name].due.day < day:
                self._end(account_id, name)
                continue
            due, standing = self._stop(account_id, name)
            self._record("SQUARE_OFF_TAKEN_BACK", account_id, due, standing)

    def _stop(self, account_id: UUID, name: str) -> tuple[Due, Standing | None]:
        due, demand = self._begun.pop((account_id, name))
        square_off = self._crew.executor(account_id).square_off
        standing = square_off.standing(demand)
        square_off.drop(demand.name)
        return due, standing

    def _tell(self, account_id: UUID, due: Due, standing: Standing | None, what_next: str) -> None:
        account = self._directory.accounts.get(account_id)
        name = str(account_id) if account is None else account.label
        why = reasons([AccountEnd(account_id=account_id, standing=standing)], {account_id: name})
        self._alert(f"account:{account_id}", f"SQUARE_OFF_FAILED: {self._what(due)} are not closed: {why}; {what_next}")

    def _record(self, action: str, account_id: UUID, due: Due, standing: Standing | None) -> None:
        now = self._clock.now()
        content: dict[str, object] = {"at": due.at, "exchanges": sorted(due.exchanges)}
        if due.strategy_id is None:
            content["products"] = sorted(INTRADAY)
        else:
            content["strategyId"] = due.strategy_id
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
        self._listed = {key: found for key, found in self._listed.items() if key[0] == day}
