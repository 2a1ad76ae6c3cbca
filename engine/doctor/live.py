"""The checks of a running engine: the box, the stores, and what only its own memory knows."""

import os
import resource
from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path
from uuid import UUID

import trio

from engine import __version__
from engine.actors.lease_keeper import LeaseKeeper
from engine.assembly import Trading
from engine.clock import Clock, trading_day
from engine.config import Config
from engine.doctor import box, stores
from engine.doctor.looks import Look, in_thread, look, of_the_box
from engine.domain import day_checks
from engine.domain.day_checks import Check, LeftOver, Scope, Seen, State, check
from engine.domain.directory import Account, Directory
from engine.domain.readiness import Finding, dump_day
from engine.domain.source_watch import missing_count
from engine.infrastructure import Infrastructure
from engine.store.database import Database

_AT_ONCE = 8
_MOST_PAPER = 50
_SAMPLE_S = 300.0
_SAMPLES = 288


class Doctor:
    """Examines one engine, for everybody who asks at once; *login_page* says where accounts are logged in."""

    def __init__(
        self,
        config: Config,
        data_dir: Path,
        *,
        clock: Clock,
        database: Database,
        infrastructure: Infrastructure,
        trading: Trading,
        directory: Directory,
        lease: LeaseKeeper,
        login_page: Callable[[], str],
    ) -> None:
        self._config = config
        self._data_dir = data_dir
        self._clock = clock
        self._database = database
        self._infrastructure = infrastructure
        self._trading = trading
        self._directory = directory
        self._lease = lease
        self._login_page = login_page
        self._lock = trio.Lock()
        self._began = float("-inf")
        self._seen: tuple[Check, ...] = ()
        self._samples: list[tuple[datetime, int]] = []

    async def examine(self) -> tuple[Check, ...]:
        """Make every check now; those who ask at the same time share one look that began after they asked."""
        asked = trio.current_time()
        async with self._lock:
            if self._began <= asked:
                began = trio.current_time()
                self._seen = await self._examine()
                self._began = began
            return self._seen

    async def keep_samples(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Note every five minutes what is free on the disk, for a day, until cancelled."""
        task_status.started()
        while True:
            try:
                free = await trio.to_thread.run_sync(box.free, self._data_dir)
                self._samples = [*self._samples, (self._clock.now(), free)][-_SAMPLES:]
            except OSError:
                pass  # the look at the disk says so
            await trio.sleep(_SAMPLE_S)

    async def _examine(self) -> tuple[Check, ...]:
        now = self._clock.now()
        found: list[list[Check]] = []
        ways = [(code, of) for code, of in self._looks(now).items()]
        order = {code: place for place, (code, _) in enumerate(ways)}

        async def one(code: str, of: Look) -> None:
            found.append([await look(code, of, now)])

        async with trio.open_nursery() as nursery:
            for code, of in ways:
                nursery.start_soon(one, code, of)
            nursery.start_soon(self._of_ledger, now, found)
            nursery.start_soon(self._of_accounts, now, found)
        flat = [each for group in found for each in group]
        return tuple(sorted(flat, key=lambda each: (each.scope != Scope.ENGINE, order.get(each.code, len(order)))))

    def _looks(self, now: datetime) -> Mapping[str, Look]:
        infrastructure, trading, live = self._infrastructure, self._trading, self._config.broker.mode == "kite"
        day, master = trading_day(now), trading.master

        def at_once(of: Callable[[], Seen]) -> Look:
            async def seen() -> Seen:
                return of()

            return seen

        return {
            "market": at_once(lambda: day_checks.market(now, trading.calendar)),
            "clock": in_thread(lambda: box.clock(now, trading.clock_watch.suspect())),
            **of_the_box(self._config, self._data_dir, self._clock),
            "disk": in_thread(lambda: box.disk(self._data_dir, self._samples)),
            "descriptors": in_thread(_descriptors),
            "version": at_once(lambda: day_checks.ok(f"engine {__version__}")),
            "database": lambda: stores.database(infrastructure.database_url, self._config),
            "migrations": lambda: stores.migrations(infrastructure.database_url),
            "journal": lambda: stores.journal(infrastructure.redis_url),
            "lease": at_once(self._holds_lease),
            "instruments": at_once(lambda: day_checks.instruments(master.loaded_for, dump_day(now), len(master.book))),
            "freezeQuantities": at_once(lambda: day_checks.freeze(self._freeze_day(), day, live=live)),
            "holidays": at_once(lambda: day_checks.holidays(now, trading.calendar)),
        }

    def _holds_lease(self) -> Seen:
        if self._lease.holds():
            return day_checks.ok(f"held by this engine, epoch {self._lease.epoch}")
        return day_checks.fail("the lease is not held: nothing is sent", "see which engine leads: `engine doctor`")

    def _freeze_day(self) -> date | None:
        return max((row.as_of for row in self._trading.freeze.table), default=None)

    async def _of_ledger(self, now: datetime, found: list[list[Check]]) -> None:
        """What is not finished, kill switches and sources; the switches count as memory has them."""
        left = LeftOver()

        async def count() -> Seen:
            nonlocal left
            left, _ = await stores.unfinished(self._database, now)
            return day_checks.ok("counted")

        counted = await look("database", count, now)
        seen: dict[str, Seen] = {}
        if counted.state is State.OK:
            seen |= day_checks.left_over(left, live=self._config.broker.mode == "kite")
        else:
            seen["deadLetters"] = day_checks.fail(f"cannot be counted: {counted.found}", counted.mend)
        seen |= stores.kill_switches(self._trading.guardian.switches.records.values())
        checks = [check(code, each, now) for code, each in seen.items()]
        found.append(checks + self._of_sources(now, left.heard))

    def _of_sources(self, now: datetime, days: Mapping[UUID, tuple[date, ...]]) -> list[Check]:
        trading, today = self._trading, trading_day(now)
        checks = []
        for source in self._directory.sources.values():
            if not source.enabled:
                continue
            heard = trading.source_watch.heard_of(source.id)
            seen = day_checks.source(
                heard.silent_since, missing_count(heard), days.get(source.id, ()), today, trading.calendar
            )
            checks.append(
                Check(
                    code="signals",
                    state=seen.state,
                    found=seen.found,
                    mend=seen.mend,
                    checked_at=now,
                    scope=Scope.SOURCE,
                    subject=source.id,
                    name=source.name,
                )
            )
        return checks

    async def _of_accounts(self, now: datetime, found: list[list[Check]]) -> None:
        accounts = list(self._directory.accounts.values())
        paper = [account for account in accounts if account.broker != "kite"][:_MOST_PAPER]
        limiter = trio.CapacityLimiter(_AT_ONCE)

        async def one(account: Account) -> None:
            async with limiter:
                found.append(await self._account(account, now))

        async with trio.open_nursery() as nursery:
            for account in [account for account in accounts if account.broker == "kite"] + paper:
                nursery.start_soon(one, account)

    async def _account(self, account: Account, now: datetime) -> list[Check]:
        found: tuple[Finding, ...] = ()

        async def examine() -> Seen:
            nonlocal found
            found = (await self._trading.readiness.examine(account)).findings
            return day_checks.ok("examined")

        examined = await look("session", examine, now)
        if examined.state is not State.OK:
            found = (Finding(check="session", ok=False, detail=f"cannot be looked at: {examined.found}"),)
        return day_checks.account(found, subject=account.id, name=account.label, at=now, login=self._login_page())


def _descriptors() -> Seen:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return day_checks.descriptors(len(os.listdir("/proc/self/fd")), limit)
