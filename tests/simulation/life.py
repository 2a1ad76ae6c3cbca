"""One life of an engine: the real actors wired by the real composition, on ports of the simulated world."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import trio

from engine import boot, leadership
from engine.actors.audit_writer import AuditWriter
from engine.actors.clock import ClockActor
from engine.actors.lease_keeper import LeaseKeeper
from engine.actors.ledger_reader import LedgerReader
from engine.assembly import Trading
from engine.broker.base import Broker, BrokerAuthError
from engine.config import Config
from engine.config.sections import RiskConfig, SignalsConfig
from engine.domain.audit import AuditDraft
from engine.domain.directory import Account, Directory, Limits, Strategy, Target
from engine.domain.enums import AccountStatus, SizingMode
from engine.domain.killswitch import KillRecord, KillSwitches, merge
from engine.errors import BrokerUnavailable, EngineError
from engine.journal.address import parse as parse_address
from engine.journal.writer import JournalWriter
from engine.recovery import Recovery
from engine.runtime.child import ChildSpec
from engine.runtime.lifecycle import Drain
from engine.runtime.supervisor import Strategy as Restarts
from engine.runtime.supervisor import Supervisor
from engine.secret import Secret
from engine.security.keys import Keys
from engine.security.wrapping import Kek
from tests.simulation import broker as simulated_broker
from tests.simulation import database, valkey
from tests.simulation.plan import START, name_id

CANARY = "CANARY7f3a"
KEYS = Keys(
    master=f"{CANARY}-master-key-of-32-bytes!!".encode(),
    jwt=f"{CANARY}-jwt".encode(),
    journal=f"{CANARY}-journal".encode().ljust(32, b"."),
    tag=f"{CANARY}-tag".encode().ljust(32, b"."),
    audit=f"{CANARY}-audit".encode().ljust(32, b"."),
    keks=(Kek(f"{CANARY}-kek".encode().ljust(32, b".")),),
)


class Killed(BaseException):
    """This task's process was killed at this very point."""


class LifeClock:
    """The clock of the host that a life runs on: trio's time, and the host's own idea of the wall clock."""

    def __init__(self, world: Any, host: int) -> None:
        self._world = world
        self._host = host

    def now(self) -> datetime:
        return START + timedelta(seconds=trio.current_time() + self._world.wall_offset[self._host])

    def boottime_ns(self) -> int:
        return int((trio.current_time() + 1000) * 1e9)


class SimKillFile:
    """The kill switch's file of one host, as one life holds it."""

    def __init__(self, life: "Life") -> None:
        self._life = life
        self._records: list[KillRecord] = life.world.kill_files[life.host]

    def append(self, record: KillRecord) -> None:
        if self._life.is_dead:
            raise OSError("the process is dead")
        self._records.append(record)
        self._life.world.filed(self._life.host, record)

    def read(self) -> dict[str, KillRecord]:
        return merge(self._records)

    read_undamaged = read

    def replace(self, records: Any) -> None:
        self._records[:] = records

    def stamp(self) -> tuple[int, int, int] | None:
        return (0, len(self._records), 0) if self._records else None


class SimSessions:
    """Stands for engine.actors.sessions.Sessions in engine.assembly."""

    def __init__(self, *, directory: Directory, life: "Life") -> None:
        self._directory = directory
        self._life = life
        self._brokers: dict[UUID, simulated_broker.SimBroker] = {}

    async def open(self, account_id: UUID) -> Broker:
        world = self._life.world
        held = self._brokers.get(account_id)
        if held is not None:
            return held
        await trio.sleep(0.003)
        if world.weather.no_login or world.weather.refuses or self._life.is_dead:
            raise BrokerUnavailable("the broker does not answer")
        if account_id not in self._directory.accounts:
            raise BrokerAuthError("no such account")
        return self._brokers.setdefault(account_id, simulated_broker.SimBroker(self._life, world.books[account_id]))

    async def any(self) -> Broker | None:
        for account in self._directory.accounts.values():
            if account.status is not AccountStatus.LOGIN_REQUIRED:
                try:
                    return await self.open(account.id)
                except BrokerUnavailable:
                    continue
        return None

    @property
    def can_read(self) -> bool:
        return any(a.status is not AccountStatus.LOGIN_REQUIRED for a in self._directory.accounts.values())

    def forget(self, account_id: UUID) -> None:
        self._brokers.pop(account_id, None)

    def current(self, account_id: UUID) -> Broker | None:
        return self._brokers.get(account_id)

    def account_of(self, broker: Broker) -> UUID | None:
        return next((account_id for account_id, held in self._brokers.items() if held is broker), None)

    def no_prices(self, broker: Broker) -> None:
        """One account at a time reads prices here."""

    def lacks_prices(self, account_id: UUID) -> bool:
        return False

    def ticket(self, account_id: UUID) -> None:
        """No ticker: pushes come straight to the executor (`Book`)."""

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


class _Infrastructure:
    exchange_url = None

    def open_paper_account(self, account: Account) -> None:
        return None


class Life:
    """A process, from its start to its end."""

    def __init__(self, world: Any, host: int, number: int) -> None:
        self.world = world
        self.host = host
        self.number = number
        self.name = f"{'AB'[host]}{number}"
        self.is_dead = False
        self.is_stopped = False
        self.held: list[Any] = []
        self.clock = LifeClock(world, host)
        self.ended = trio.Event()
        self.told_to_stop = trio.Event()
        self.is_ready = False
        self.loaded_at = 0.0
        self.renewed_at = float("-inf")
        self.epoch = 0
        self.answered_tags: dict[str, float] = {}
        self.trading: Trading | None = None
        self.nursery: trio.Nursery | None = None
        self.drained: Any = None

    def point(self, name: str) -> None:
        """Pass a named point: the world may kill or stop this life here."""
        if self.is_dead:
            raise Killed
        self.world.passed(self, name)
        if self.is_dead:
            raise Killed

    # as engine.app does it

    async def main(self) -> None:
        """Run as a process does."""
        try:
            async with trio.open_nursery() as nursery:
                self.nursery = nursery
                self.root = Supervisor("engine", Restarts.ONE_FOR_ONE, intensity=(0, 60.0))
                await nursery.start(self.root.run)
                await self._start()
                self.is_ready = True
                self.world.note("ready", life=self)
                await self.told_to_stop.wait()
                await self._stop()
                nursery.cancel_scope.cancel()
        except* Killed:
            pass
        except* EngineError as group:
            self.world.died(self, group)
        except* Exception as group:
            self.world.crashed(self, group)
        finally:
            self.is_ready = False
            self.ended.set()

    async def _start(self) -> None:
        world, plan = self.world, self.world.plan
        client = database.Client(self, world.db)
        self.database: Any = database.SimDatabase(client)
        journal_store: Any = valkey.SimJournalStore(self, world.valkey)
        await boot.check_journal(journal_store)
        grant = await leadership.take_lease(self.database, clock=self.clock)
        self.point("R2.lease_taken")
        self.epoch = grant.epoch
        self.lease = LeaseKeeper(self.database, epoch=self.epoch, clock=self.clock, asked_ns=grant.asked_ns)
        stores = await self._add("stores", [ChildSpec(name="lease", start=self.lease.run, max_restarts=0)])
        self.reader = LedgerReader(self.database)
        await self._load(client)
        place = await boot.journal_place(self.database, journal_store, clock=self.clock, lease_epoch=self.epoch)
        self.point("R3.journal_placed")
        store: Any = _NotingStore(self, client)
        self.ledger = AuditWriter(store, epoch=self.epoch)
        self.journal = JournalWriter(
            parse_address("redis://simulated:1"),
            epoch=str(place.epoch),
            ttl_s=plan.dedup_window_s,
            fence=self.epoch,
        )
        await stores.add_child(
            ChildSpec(name="ledger", start=self.ledger.run, mailbox=self.ledger.mailbox, shutdown_s=6)
        )
        await stores.add_child(ChildSpec(name="journal", start=self.journal.run))
        self._note("ENGINE_STARTED", f"epoch:{self.epoch}")
        if place.was_reset:
            self._note("JOURNAL_RESET", f"journal:{place.epoch}")
        kill_file: Any = SimKillFile(self)
        trading = self.trading = Trading(
            Config(
                signals=SignalsConfig(max_age_s=plan.max_age_s, dedup_window_s=plan.dedup_window_s),
                risk=RiskConfig(
                    max_orders_per_minute=plan.max_per_minute, circuit_breaker_failures=None, max_daily_loss_pct=None
                ),
            ),
            clock=self.clock,
            keys=KEYS,
            vault=None,  # type: ignore[arg-type]
            directory=self.directory,
            kill=self.kill,
            kill_file=kill_file,
            ledger=self.ledger,
            journal=self.journal,
            lease=self.lease,
            reader=self.reader,
            infrastructure=_Infrastructure(),  # type: ignore[arg-type]
        )
        trading.freeze.restore(await self.reader.freeze_quantities())
        trading.guardian.record_missing({"ledger": self._stored_kills, "file": kill_file.read().values()})
        self.clock_actor = ClockActor(
            clock=self.clock,
            ingest=trading.ingest,
            ledger=self.ledger,
            journal=journal_store,
            journal_epoch=place.epoch,
            kill_look=trading.kill_look,
            crew=trading.crew,
        )
        await self._add(
            "oversight",
            [
                ChildSpec(name="killswitch-guardian", start=trading.guardian.run),
                ChildSpec(name="clock", start=self.clock_actor.run),
            ],
        )
        await self._add("trading", trading.specs())
        await self._recover(place, journal_store)
        self.point("R6.recovered")
        await self._add("edge", [ChildSpec(name="ingest", start=trading.ingest.run, mailbox=trading.ingest.mailbox)])
        trading.ingest.open_intake()

    async def _add(self, name: str, specs: list[ChildSpec]) -> Supervisor:
        supervisor = Supervisor(name, Restarts.ONE_FOR_ONE, specs, intensity=(10, 60.0))
        await self.root.add_child(supervisor.child_spec())
        return supervisor

    def _note(self, action: str, subject: str) -> None:
        self.ledger.record(AuditDraft(at=self.clock.now(), actor="system", action=action, subject=subject, content={}))

    async def _load(self, client: database.Client) -> None:
        self.loaded_at = trio.current_time()
        db = self.world.db
        flags, statuses = await client.call("load", lambda: (dict(db.flags), dict(db.account_status)), timeout_s=30.0)
        self.directory = self.world.directory(statuses)
        self._stored_kills = [msgspec.convert(value, KillRecord) for value, _ in flags.values()]
        on_file = self.world.kill_files[self.host]
        self.kill = KillSwitches([*self._stored_kills, *on_file])

    async def _recover(self, place: boot.JournalPlace, journal_store: Any) -> None:
        assert self.trading is not None
        crew, now = self.trading.crew, self.clock.now()
        users, accounts = await self.reader.busy()
        for account_id in dict.fromkeys([*accounts, *self.directory.accounts]):
            if account_id in self.directory.accounts:
                crew.executor(account_id)
        for user_id in dict.fromkeys([*users, *(a.user_id for a in self.directory.accounts.values())]):
            crew.risk(user_id)
        ingest = self.trading.ingest
        ingest.use_earlier(await self.reader.earlier(now, self.world.plan.dedup_window_s))
        if self.trading.sessions.can_read:
            await self.trading.master.wait_loaded(timeout_s=3.0)
        recovery = Recovery(
            ingest=ingest,
            ledger=self.ledger,
            letters=self.trading.dead_letters,
            attempts_of=self.reader.journal_attempts,
            key=KEYS.journal,
        )
        await recovery.replay(journal_store, epoch=place.epoch, position=place.position)
        await recovery.take_requeued(await self.reader.requeued_letters(), now=now)

    async def _stop(self) -> None:
        trading, drain = self.trading, Drain(total_s=14.0)
        assert trading is not None
        trading.ingest.close_intake("the engine is stopping")
        drain.add("settle what was accepted", lambda: trading.ingest.settle(timeout_s=2), 2.5)
        drain.add("orders on the wire", lambda: trading.crew.drain(timeout_s=5), 5.5)
        drain.add("ledger", self._flush_ledger, 2.5)
        for name, seconds in (("edge", 6.0), ("trading", 3.0), ("oversight", 2.0)):
            drain.add(name, lambda name=name: self.root.remove_child(name), seconds)  # type: ignore[misc]
        drain.add("lease", self._release_lease, 1.5)
        drain.add("stores", lambda: self.root.remove_child("stores"), 3.0)
        self.drained = await drain.run()

    async def _flush_ledger(self) -> None:
        self._note("ENGINE_STOPPING", f"epoch:{self.epoch}")
        self.clock_actor.write_cursor()
        await self.ledger.barrier(timeout_s=2)

    async def _release_lease(self) -> None:
        await self.ledger.barrier(timeout_s=1)
        await self.lease.give_back()


class _NotingStore(database.SimLedgerStore):
    """Notes when this life learned that a write-ahead row is on disk."""

    def __init__(self, life: Life, client: database.Client) -> None:
        super().__init__(client)
        self._life = life
        self._latest: Any = None

    async def has(self, head: Any, *, timeout_s: float = 5.0) -> bool:
        found = await super().has(head, timeout_s=timeout_s)
        if found and self._latest is not None:
            self.learned(self._latest)
        return found

    async def commit(self, batch: Any, *, epoch: int, timeout_s: float) -> None:
        self._latest = batch
        await super().commit(batch, epoch=epoch, timeout_s=timeout_s)
        self.learned(batch)

    def learned(self, batch: Any) -> None:
        for order in (*batch.new_orders, *batch.order_updates):
            if order.status.value == "SUBMITTING":
                self._life.answered_tags[order.tag] = trio.current_time()


def make_directory(plan: Any, statuses: dict[UUID, Any], limits: dict[str, Any]) -> Directory:
    """Return users' accounts and strategies, the accounts in the states that the database holds."""
    directory = Directory()
    for user in range(plan.users):
        targets = []
        for number in range(plan.accounts[user]):
            account_id = name_id(f"account{user}-", number)
            status, reason = statuses.get(account_id, (AccountStatus.ACTIVE, None))
            directory.put_account(
                Account(
                    id=account_id,
                    user_id=name_id("user", user),
                    label=f"A{user}{number}",
                    broker="paper",
                    capital=Decimal(1_000_000),
                    status=status,
                    status_reason=reason,
                    api_key=f"key{user}{number}",
                    api_secret=Secret(f"{CANARY}-api-secret"),
                )
            )
            targets.append(Target(account_id=account_id, mode=SizingMode.MULTIPLIER, value=Decimal(1)))
        directory.put_strategy(
            Strategy(
                id=name_id("strategy", user), user_id=name_id("user", user), name=f"S{user}", targets=tuple(targets)
            )
        )
    return directory


__all__ = ["CANARY", "KEYS", "Callable", "Killed", "Life", "Limits", "SimSessions", "make_directory"]
