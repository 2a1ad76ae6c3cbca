"""The composition root: builds every object, states the supervision tree, starts and stops it in order.

    engine
    ├── infrastructure   postgres, valkey (embedded only), exchange (paper only)
    ├── stores           ledger, lease, journal
    ├── oversight        killswitch-guardian, kill-sequence, kill-triggers, kill-by-hand, clock, keys, checkpoints,
    │                    watchdog, backups, history
    ├── trading          risk (an actor per user), execution and feeds (one per account), crew, feed-keeper,
    │                    instruments, prices, clock-watch, broker-logins, session-keeper, creds-keeper,
    │                    square-off-clock, drills, live-figures, standing-watch
    └── edge             people, morning-report, disk-samples, ingest, control, telegram-replies, errands,
                         telegram-poller or -webhook, alerts (the desk, a sender for each channel), heartbeat, http

Start is recovery: servers, lease, state of the ledger, journal past the ledger's cursor, and only
then intake. Stop is the reverse of the data's way in, each step with its own deadline.
"""

import random
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio

from engine import boot, first_run
from engine.actors.audit_writer import AuditWriter
from engine.actors.checkpoint_keeper import CheckpointKeeper
from engine.actors.clock import ClockActor
from engine.actors.flatten_file import FlattenFile
from engine.actors.history_keeper import HistoryKeeper
from engine.actors.key_keeper import KeyKeeper
from engine.actors.kill_by_hand import KillFileWatch, KillSignal
from engine.actors.kill_pulse import KillPulse
from engine.actors.killswitch_file import KillFile, KillFileDamaged
from engine.actors.killswitch_guardian import KillSwitchGuardian
from engine.actors.lease_keeper import LeaseKeeper
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.ledger_reader import LedgerReader
from engine.assembly import Trading
from engine.backup.daily import daily_backups
from engine.clock import Clock, SystemClock
from engine.config import Config
from engine.demo import world as demo_world
from engine.demo.director import DAY_S, Director
from engine.doctor.live import Doctor
from engine.domain.audit import AuditDraft
from engine.domain.directory import Directory
from engine.domain.enums import KillMode, KillState
from engine.domain.killswitch import GLOBAL, KillRecord, KillSwitches, merge, next_version, settle, unreadable
from engine.edge import Edge
from engine.errors import JournalUnavailable
from engine.infrastructure import Infrastructure
from engine.journal.address import parse as parse_address
from engine.journal.store import JournalStore
from engine.journal.writer import JournalWriter
from engine.observability.logs import copy_audit
from engine.observability.measures import LOOP_LAG
from engine.recovery import Recovery, record_flattened
from engine.runtime.asyncio_bridge import open_aio
from engine.runtime.child import ChildSpec
from engine.runtime.crashpoint import crashpoint
from engine.runtime.lifecycle import Drain, SignalWatcher
from engine.runtime.service_manager import ServiceManager
from engine.runtime.supervisor import Strategy, Supervisor
from engine.runtime.watchdog import Watchdog
from engine.security.checkpoint_book import CheckpointBook
from engine.security.keys import Keys, derive, load_or_create
from engine.security.kill_seal import KillSeal
from engine.security.sessions import UserDirectory, normalise_email
from engine.standby import Standby
from engine.store import directory as directory_store
from engine.store import users as user_store
from engine.store.database import APP_ROLE
from engine.store.directory import Vault
from engine.store.flags import kill_records
from engine.store.ledger import LedgerStore
from engine.store.parts import drop_months, keep_parts

_log = structlog.get_logger(__name__)

_EAGER = 50
_OLDER = (
    "LEDGER_OLDER: the database is older than the signed checkpoints in audit/: it came out of a copy; compare every "
    "account with its broker, move the files of that day in audit/ away, then disable the switch"
)


class Demo(msgspec.Struct, frozen=True, kw_only=True):
    """The demo that is asked for: its *seed*, and how many seconds its first day takes."""

    seed: int = 1
    day_s: float = DAY_S


class Engine:
    """One engine on one data directory; *announce* prints a line for the operator."""

    def __init__(
        self,
        config: Config,
        data_dir: Path,
        *,
        environ: Mapping[str, str],
        announce: Callable[[str], None],
        clock: Clock | None = None,
        demo: Demo | None = None,
    ) -> None:
        self.config = config
        self._demo = demo
        self.data_dir = data_dir.absolute()
        self._environ = environ
        self._announce = announce
        self.clock: Clock = clock or SystemClock()
        self.directory = Directory()
        self.users = UserDirectory()
        self.kill = KillSwitches()
        self.root = Supervisor("engine", Strategy.ONE_FOR_ONE, intensity=(0, 60.0))
        self._infrastructure = Infrastructure(config, self.data_dir, self.clock)
        self._service = ServiceManager(environ)
        self._standby = Standby(config.server, self.data_dir, clock=self.clock, announce=self._stands_by)
        self._kill_path = self.data_dir / "state" / "kill.wal"
        self._kill_file = KillFile(self._kill_path)
        self._guardian: KillSwitchGuardian | None = None
        self._early_trips: list[tuple[str, str, str, KillMode]] = []
        self._flatten_file = FlattenFile(self.data_dir / "state" / "flatten.wal")

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT or a failure that supervision cannot mend.

        Raises StartupError or ConfigError, each one line with the mend, when the engine cannot start.
        """
        # the lock on the data directory outlives the servers in it
        with closing(self._standby):
            async with (
                open_aio(lambda context: _log.error("asyncio.stray", message=str(context.get("message")))),
                trio.open_nursery() as nursery,
            ):
                await self._run(nursery)
                nursery.cancel_scope.cancel()

    async def _run(self, nursery: trio.Nursery) -> None:
        watcher = SignalWatcher(nursery.cancel_scope)
        await nursery.start(watcher.run)
        # from the first moment on: unhandled, the signal would end the process
        await nursery.start(KillSignal(self._trip_by_hand).run)
        started = trio.Event()

        async def drain_early() -> None:
            # a signal during start or on standby: nothing is half done that recovery does not take up
            await watcher.draining.wait()
            if not started.is_set():
                nursery.cancel_scope.cancel()

        nursery.start_soon(drain_early)
        nursery.start_soon(self._service.run)
        await self._enter(nursery)
        await nursery.start(self.root.run)
        await self._start()
        started.set()
        self._service.ready(f"leads, epoch {self._lease.epoch}")
        await watcher.draining.wait()
        self._service.stopping()
        await self._stop()

    def _trip_by_hand(self, scope: str, reason: str, actor: str, mode: KillMode) -> None:
        if self._guardian is not None:
            self._guardian.block_nowait(scope, reason=reason, actor=actor, mode=mode)
        else:
            # this engine starts or stands by: it counts as soon as there is somebody to count it, and is kept
            self._early_trips.append((scope, reason, actor, mode))
            now = self.clock.now()
            record = KillRecord(
                scope=scope,
                version=next_version(None, now),
                state=KillState.BLOCKED,
                reason=reason,
                actor=actor,
                at=now,
                mode=mode,
            )
            try:
                self._kill_file.append(record)
            except OSError as error:
                _log.error("killswitch.file_unwritable", error=str(error))

    def _stands_by(self, line: str) -> None:
        """Announce that this engine waits: to a service manager its start is over."""
        self._announce(line)
        self._service.ready("on standby")

    # start

    async def _enter(self, nursery: trio.Nursery) -> None:
        """Make the data directory ours; one whose embedded servers another engine runs is waited for."""
        boot.check_times(self.config)
        self._standby.nursery = nursery
        if not self._standby.try_directory() and self._infrastructure.is_embedded:
            await self._standby.wait_for_directory()
        nursery.start_soon(self._standby.keep_beating)

    async def _start(self) -> None:
        servers, security = self._infrastructure, self.config.security
        keys = load_or_create(
            master_key=security.master_key,
            jwt_secret=security.jwt_secret,
            data_dir=self.data_dir,
            previous=security.master_key_previous,
        )
        await self.root.add_child(servers.supervisor.child_spec())
        await servers.start()
        crashpoint("R1.servers_up")
        self._keys = keys = await boot.take_over_root(keys, servers.owner_url, self.data_dir / "keys")
        vault = Vault(keys.ring())
        if self._demo is not None:
            # stores of the engine's own are in a folder that is a demo's by its mark
            await demo_world.check_stores(
                None if self.config.database.is_embedded else servers.owner_url,
                None if self.config.redis.is_embedded else servers.redis_url,
            )
        self._journal_store = JournalStore(
            servers.redis_url, deployment=derive(keys.master, "kill switch store")[:8].hex()
        )
        led = await self._standby.lead(
            servers.database_url,
            self._journal_store,
            owner_url=servers.owner_url,
            wait_s=servers.database_wait_s,
            prove=lambda database: boot.prove_keys(database, vault),
        )
        crashpoint("R2.lease_taken")
        epoch, self._database = led.grant.epoch, led.database
        self._lease = LeaseKeeper(self._database, epoch=epoch, clock=self.clock, asked_ns=led.grant.asked_ns)
        # it ends by itself only when another engine has the lease: then this one stops at once
        stores = await self._add("stores", [ChildSpec(name="lease", start=self._lease.run, max_restarts=0)])
        await self._standby.follow_into_directory(led.former)
        await servers.start_exchange()
        self._reader = LedgerReader(self._database)
        await self._settle_keys(keys, vault)
        await self._load(vault, KillSeal(keys.master))
        crashpoint("R3.ledger_loaded")
        place = await boot.journal_place(self._database, self._journal_store, clock=self.clock, lease_epoch=epoch)
        crashpoint("R3.journal_placed")
        role = APP_ROLE if led.has_role else None
        self.ledger = AuditWriter(LedgerStore(servers.database_url, role=role), epoch=epoch)
        if self.config.logging.audit:
            self.ledger.on_audit = copy_audit
        self._journal = JournalWriter(
            parse_address(servers.redis_url),
            epoch=str(place.epoch),
            ttl_s=self.config.signals.dedup_window_s,
            fence=epoch,
        )
        await stores.add_child(
            ChildSpec(name="ledger", start=self.ledger.run, mailbox=self.ledger.mailbox, shutdown_s=6)
        )
        await stores.add_child(ChildSpec(name="journal", start=self._journal.run))
        self._checkpoints = CheckpointKeeper(
            CheckpointBook(self.data_dir / "audit", keys.audit), ledger=self.ledger, clock=self.clock
        )
        await self._checkpoints.open()
        is_older = len(self.users) > 0 and await self._is_older()
        if place.was_reset:
            self._note("JOURNAL_RESET", f"journal:{place.epoch}", {})
        told = await self._first_run(vault)
        self._trading = Trading(
            self.config,
            clock=self.clock,
            keys=keys,
            vault=vault,
            directory=self.directory,
            kill=self.kill,
            kill_file=self._kill_file,
            flatten_file=self._flatten_file,
            ledger=self.ledger,
            journal=self._journal,
            lease=self._lease,
            reader=self._reader,
            infrastructure=servers,
            kill_journal=self._journal_store.put_kill,
            creds_path=self.data_dir / "state" / "creds.enc",
        )
        self._key_keeper.joins(self.ledger, self._trading.creds, clock=self.clock)
        self._checkpoints.alert = self._trading.alert
        self._guardian = self._trading.guardian
        for trip in self._early_trips:
            self._trip_by_hand(*trip)
        if place.was_reset:
            self._trading.alert("journal", "the journal was wiped, foreign or older than the ledger: it begins anew")
        self._trading.freeze.restore(await self._reader.freeze_quantities())
        self._trading.guardian.record_missing(self._kill_copies)
        if is_older:
            # before the journal is replayed: what it holds may have been executed already, and nobody here knows
            self._trip_by_hand(GLOBAL, _OLDER, "system", KillMode.BLOCK)
            self._trading.alert("ledger", _OLDER)
        oversight = await self._add("oversight", self._oversight_specs(place))
        self._service.fault = KillPulse(self._guardian, self._trading.triggers, oversight.snapshot).fault
        await self._add("trading", self._trading.specs())
        await self._recover(keys, place)
        crashpoint("R6.recovered")
        trading = self._trading
        doctor = Doctor(
            self.config,
            self.data_dir,
            clock=self.clock,
            database=self._database,
            infrastructure=servers,
            trading=trading,
            directory=self.directory,
            lease=self._lease,
            login_page=lambda: trading.login_page,
        )
        trading.morning.examine = doctor.examine
        edge = Edge(
            self.config,
            self.data_dir,
            clock=self.clock,
            announce=self._announce,
            keys=keys,
            vault=vault,
            database=self._database,
            schema_version=led.schema_version,
            ledger=self.ledger,
            journal=self._journal,
            lease=self._lease,
            directory=self.directory,
            users=self.users,
            kill=self.kill,
            trading=self._trading,
            watchdog=self._watchdog,
            tree=self.root.snapshot,
            key_keeper=self._key_keeper,
            checkpoints=self._checkpoints,
            doctor=doctor,
        )
        director = self._director(is_new=told is not None)
        await self._add("edge", await edge.specs(demo=director, listener=await self._standby.retire()))
        crashpoint("R6.edge_open")
        self._trading.ingest.open_intake()
        crashpoint("R6.intake_open")
        if servers.exchange_url is not None:
            self._announce(f"paper exchange, its orders and prices: {servers.exchange_url}/book")
        edge.tell(told)

    def _director(self, *, is_new: bool) -> Director | None:
        exchange = self._infrastructure.exchange
        if self._demo is None or exchange is None:
            return None
        return Director(
            trading=self._trading,
            directory=self.directory,
            exchange=exchange,
            clock=self.clock,
            seed=self._demo.seed,
            day_s=self._demo.day_s,
            was_played=not is_new,
        )

    async def _add(self, name: str, specs: list[ChildSpec]) -> Supervisor:
        jitter = random.Random()  # noqa: S311 -- spreads restarts, guards nothing
        supervisor = Supervisor(name, Strategy.ONE_FOR_ONE, specs, intensity=(10, 60.0), rng=jitter)
        await self.root.add_child(supervisor.child_spec())
        return supervisor

    async def _settle_keys(self, keys: Keys, vault: Vault) -> None:
        """See that everybody has a data key, and that the root key is kept where commands without a store find it."""
        self._key_keeper = KeyKeeper(
            vault.ring,
            keys,
            database=self._database,
            data_dir=self.data_dir,
            users=lambda: [user.id for user in self.users.all()],
            is_kept=self.config.security.master_key is None,
        )
        await self._key_keeper.settle()

    async def _load(self, vault: Vault, seal: KillSeal) -> None:
        async def unit(connection: Any) -> tuple[Any, Any]:
            await directory_store.load(connection, vault, self.directory)
            return await user_store.list_users(connection), await kill_records(connection)

        people, flags = await self._database.run(unit, timeout_s=30)
        self.users.load(people)
        self._kill_file = KillFile(self._kill_path, believes=seal.believes)
        now = self.clock.now()
        try:
            on_file = list(self._kill_file.read().values())
        except KillFileDamaged as error:
            _log.error("killswitch.file_damaged", error=str(error))
            # a block that only this file has must outlive the switch that its damage turns on
            on_file = [unreadable(now), *self._kill_file.read_undamaged().values()]
        except OSError as error:
            _log.error("killswitch.file_unreadable", error=str(error))
            on_file = [unreadable(now)]
        copies: dict[str, list[KillRecord]] = {"file": on_file, "ledger": flags}
        try:
            copies["journal"] = await self._journal_store.kill_records()
        except JournalUnavailable as error:
            _log.error("killswitch.journal_unreadable", error=str(error))
        self._kill_copies = {name: [r for r in found if seal.believes(r)] for name, found in copies.items()}
        self.kill = KillSwitches(settle([merge(found) for found in self._kill_copies.values()], now).values())

    async def _is_older(self) -> bool:
        """Whether the database is from before what this data directory has signed: it came out of a copy."""
        newest = await self._reader.audit_after(-1)
        return self._checkpoints.is_ahead_of(newest[0].seq if newest else 0)

    def _note(self, action: str, subject: str, content: dict[str, Any]) -> None:
        self.ledger.record(
            AuditDraft(at=self.clock.now(), actor="system", action=action, subject=subject, content=content)
        )

    async def _first_run(self, vault: Vault) -> first_run.FirstRun | None:
        content = {"mode": self.config.broker.mode, **self._checkpoints.claim}
        self._note("ENGINE_STARTED", f"epoch:{self._lease.epoch}", content)
        if len(self.users):
            return None
        given = self._environ.get("ENGINE_ADMIN_PASSWORD")
        is_paper = self.config.broker.mode == "paper"
        plan = await trio.to_thread.run_sync(
            lambda: first_run.plan(
                paper=is_paper,
                email=normalise_email(self.config.security.admin_email),
                given_password=given,
                vault=vault,
                clock=self.clock,
            )
        )
        crashpoint("R3.first_run_planned")
        cast = None
        if self._demo is not None:
            password_hash, seed = plan.user.password_hash, self._demo.seed
            cast = demo_world.make(vault, password_hash=password_hash, seed=seed, at=self.clock.now())
        await self.ledger.write(
            LedgerEntry(
                writes=plan.writes + (() if cast is None else cast.writes),
                audit=plan.audit + (() if cast is None else cast.audit),
            )
        )
        crashpoint("R3.first_run_done")
        plan.publish(self.directory, self.users)
        if cast is not None:
            cast.publish(self.directory, self.users)
            people = ", ".join(user.email for user in cast.users)
            self._announce(f"people of the demo, with the administrator's password: {people}")
        return plan.told

    def _oversight_specs(self, place: boot.JournalPlace) -> list[ChildSpec]:
        trading = self._trading
        self._clock_actor = ClockActor(
            clock=self.clock,
            ingest=trading.ingest,
            ledger=self.ledger,
            journal=self._journal_store,
            journal_epoch=place.epoch,
            kill_look=trading.kill_look,
            crew=trading.crew,
        )
        self._watchdog = Watchdog(on_stall=trading.triggers.stalled, lags=LOOP_LAG)
        backups = daily_backups(
            self.config,
            self.data_dir,
            keys=self._keys,
            database_url=self._infrastructure.owner_url,
            redis_url=self._infrastructure.redis_url,
            ledger=self.ledger,
            clock=self.clock,
            alert=trading.alert,
        )
        owner_url = self._infrastructure.owner_url
        history = HistoryKeeper(
            self.config.database.history_months,
            keep=lambda: keep_parts(self._database),
            drop=lambda before: drop_months(owner_url, before),
            ledger=self.ledger,
            clock=self.clock,
        )
        return [
            *([] if backups is None else [ChildSpec(name="backups", start=backups.run)]),
            ChildSpec(name="history", start=history.run),
            ChildSpec(name="killswitch-guardian", start=trading.guardian.run),
            ChildSpec(name="kill-by-hand", start=KillFileWatch(self.data_dir, self._trip_by_hand).run),
            ChildSpec(name="kill-sequence", start=trading.kill_sequence.run),
            ChildSpec(name="clock", start=self._clock_actor.run),
            ChildSpec(name="keys", start=self._key_keeper.run),
            ChildSpec(name="checkpoints", start=self._checkpoints.run),
            ChildSpec(name="watchdog", start=self._watchdog.run),
            ChildSpec(name="kill-triggers", start=trading.triggers.run),
        ]

    async def _recover(self, keys: Keys, place: boot.JournalPlace) -> None:
        """Wake what has something going on, then take in what the journal holds and the ledger does not."""
        await record_flattened(self._flatten_file, ledger=self.ledger, reader=self._reader, clock=self.clock)
        crew, now = self._trading.crew, self.clock.now()
        users, accounts = await self._reader.busy()
        eager = list(self.directory.accounts.values())[:_EAGER]
        for account_id in {*accounts, *(a.id for a in eager)}:
            if account_id in self.directory.accounts:
                crew.executor(account_id)
        for user_id in {*users, *(a.user_id for a in eager)}:
            crew.risk(user_id)
        ingest = self._trading.ingest
        ingest.use_earlier(await self._reader.earlier(now, self.config.signals.dedup_window_s))
        if self._trading.sessions.can_read:
            # signals are judged by the instruments; a broker that is away does not hold up the start for long
            await self._trading.master.wait_loaded(timeout_s=3.0)
        recovery = Recovery(
            ingest=ingest,
            ledger=self.ledger,
            letters=self._trading.dead_letters,
            attempts_of=self._reader.journal_attempts,
            key=keys.journal,
        )
        await recovery.replay(self._journal_store, epoch=place.epoch, position=place.position)
        await recovery.take_requeued(await self._reader.requeued_letters(), now=now)

    # stop

    async def _stop(self) -> None:
        trading, drain = self._trading, Drain(total_s=14.0)
        trading.ingest.close_intake("the engine is stopping")
        crashpoint("T.begin")
        drain.add("settle what was accepted", lambda: trading.ingest.settle(timeout_s=2), 2.5)
        drain.add("orders on the wire", lambda: trading.crew.drain(timeout_s=7), 7.5)
        drain.add("ledger", self._flush_ledger, 2.5)
        drain.add("edge", lambda: self.root.remove_child("edge"), 6.0)
        drain.add("trading", lambda: self.root.remove_child("trading"), 3.0)
        drain.add("oversight", lambda: self.root.remove_child("oversight"), 2.0)
        drain.add("broker sessions", trading.sessions.aclose, 2.0)
        drain.add("lease", self._release_lease, 1.5)
        drain.add("stores", lambda: self.root.remove_child("stores"), 3.0)
        drain.add("database", lambda: self._database.close(timeout_s=1), 2.5)
        drain.add("infrastructure", lambda: self.root.remove_child("infrastructure"), 12.0)
        report = await drain.run()
        crashpoint("T.end")
        self._announce("engine stopped" if report.is_clean else f"engine stopped; overran: {', '.join(report.overran)}")

    async def _flush_ledger(self) -> None:
        await self._checkpoints.look("interval")
        self._note("ENGINE_STOPPING", f"epoch:{self._lease.epoch}", self._checkpoints.claim)
        self._clock_actor.write_cursor()
        await self.ledger.barrier(timeout_s=2)
        await self._checkpoints.look("stop")

    async def _release_lease(self) -> None:
        await self.ledger.barrier(timeout_s=1)
        await self._lease.give_back()
        crashpoint("T.lease_released")
