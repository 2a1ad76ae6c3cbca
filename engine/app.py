"""The composition root: builds every object, states the supervision tree, starts and stops it in order.

    engine
    ├── infrastructure   postgres, valkey (embedded only), exchange (paper only)
    ├── stores           ledger, lease, journal
    ├── oversight        killswitch-guardian, clock, watchdog
    ├── trading          risk (an actor per user), execution (one per account), crew, instruments, prices
    └── edge             people, ingest, control, telegram-replies, http

Start is recovery: servers, lease, state of the ledger, journal past the ledger's cursor, and only
then intake. Stop is the reverse of the data's way in, each step with its own deadline.
"""

import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio

from engine import boot, first_run, recovery
from engine.actors.audit_writer import AuditWriter
from engine.actors.clock import ClockActor
from engine.actors.control import ControlSocket
from engine.actors.demo_feeder import DemoFeeder
from engine.actors.killswitch_file import KillFile, KillFileDamaged
from engine.actors.killswitch_guardian import blocked_for_want_of_a_record
from engine.actors.lease_keeper import LeaseKeeper
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.ledger_reader import LedgerReader
from engine.actors.people_keeper import PeopleKeeper
from engine.actors.telegram_replies import TelegramReplies
from engine.assembly import Trading
from engine.clock import Clock, SystemClock
from engine.config import Config
from engine.data_dir import lock_data_dir
from engine.domain.audit import AuditDraft
from engine.domain.directory import Directory
from engine.domain.killswitch import KillSwitches, parse_scope
from engine.http.app import create_app
from engine.http.ratelimit import RateLimits
from engine.http.routes import registry
from engine.http.server import HttpServer
from engine.http.services import Services
from engine.http.sign_in import reload_auth
from engine.infrastructure import Infrastructure
from engine.journal.address import parse as parse_address
from engine.journal.store import JournalStore
from engine.journal.writer import JournalWriter
from engine.runtime.asyncio_bridge import open_aio
from engine.runtime.child import ChildSpec
from engine.runtime.lifecycle import Drain, SignalWatcher
from engine.runtime.supervisor import Strategy, Supervisor
from engine.runtime.watchdog import Watchdog
from engine.security.envelope import KeyRing
from engine.security.keys import Keys, load_or_create
from engine.security.passwords import PasswordHasher
from engine.security.sessions import SessionRegistry, UserDirectory
from engine.security.tokens import RefreshTokens, TokenIssuer
from engine.store import directory as directory_store
from engine.store import users as user_store
from engine.store.database import APP_ROLE
from engine.store.directory import Vault
from engine.store.flags import kill_records
from engine.store.ledger import LedgerStore

_log = structlog.get_logger(__name__)

_EAGER = 50


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
        demo: bool = False,
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
        self._kill_path = self.data_dir / "state" / "kill.wal"
        self._kill_file = KillFile(self._kill_path)

    async def run(self) -> None:
        """Run until SIGTERM, SIGINT or a failure that supervision cannot mend.

        Raises StartupError or ConfigError, each one line with the mend, when the engine cannot start.
        """
        lock = lock_data_dir(self.data_dir)
        try:
            keys = load_or_create(
                master_key=self.config.security.master_key,
                jwt_secret=self.config.security.jwt_secret,
                data_dir=self.data_dir,
            )
            async with open_aio(lambda context: _log.error("asyncio.stray", message=str(context.get("message")))):
                await self._run(keys)
        finally:
            os.close(lock)

    async def _run(self, keys: Keys) -> None:
        async with trio.open_nursery() as nursery:
            watcher = SignalWatcher(nursery.cancel_scope)
            await nursery.start(watcher.run)
            started = trio.Event()

            async def drain_early() -> None:
                # a signal during start: nothing is half done that recovery does not take up
                await watcher.draining.wait()
                if not started.is_set():
                    nursery.cancel_scope.cancel()

            await nursery.start(self.root.run)
            nursery.start_soon(drain_early)
            await self._start(keys)
            started.set()
            await watcher.draining.wait()
            await self._stop()
            nursery.cancel_scope.cancel()

    # start

    async def _start(self, keys: Keys) -> None:
        servers = self._infrastructure
        await self.root.add_child(servers.supervisor.child_spec())
        await servers.start()
        self._database, schema_version, has_role = await boot.open_database(
            servers.database_url, wait_s=servers.database_wait_s
        )
        self._journal_store = JournalStore(servers.redis_url)
        await boot.check_journal(self._journal_store)
        epoch = await boot.take_lease(self._database)
        self._lease = LeaseKeeper(self._database, epoch=epoch, clock=self.clock)
        self._reader = LedgerReader(self._database)
        vault = Vault(KeyRing([keys.vault]))
        await self._load(vault)
        place = await boot.journal_place(self._database, self._journal_store, clock=self.clock)
        self.ledger = AuditWriter(LedgerStore(servers.database_url, role=APP_ROLE if has_role else None), epoch=epoch)
        self._journal = JournalWriter(
            parse_address(servers.redis_url), epoch=str(place.epoch), ttl_s=self.config.signals.dedup_window_s
        )
        await self._add("stores", self._store_specs())
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
            ledger=self.ledger,
            journal=self._journal,
            lease=self._lease,
            reader=self._reader,
            infrastructure=servers,
        )
        self._trading.guardian.record_missing(self._stored_kills)
        await self._add("oversight", self._oversight_specs(place))
        await self._add("trading", self._trading.specs())
        await self._recover(keys, place)
        await self._open_edge(self._services(keys, vault, schema_version), told)

    async def _add(self, name: str, specs: list[ChildSpec]) -> None:
        jitter = random.Random()  # noqa: S311 -- spreads restarts, guards nothing
        supervisor = Supervisor(name, Strategy.ONE_FOR_ONE, specs, intensity=(10, 60.0), rng=jitter)
        await self.root.add_child(supervisor.child_spec())

    async def _load(self, vault: Vault) -> None:
        async def unit(connection: Any) -> tuple[Any, Any]:
            await directory_store.load(connection, vault, self.directory)
            return await user_store.list_users(connection), await kill_records(connection)

        people, flags = await self._database.run(unit, timeout_s=30)
        self.users.load(people)
        try:
            on_file = list(self._kill_file.read().values())
        except (KillFileDamaged, OSError) as error:
            _log.error("killswitch.file_damaged", error=str(error))
            on_file = [blocked_for_want_of_a_record(self.clock.now())]
        self.kill = KillSwitches([*flags, *on_file])
        self._stored_kills = flags

    def _store_specs(self) -> list[ChildSpec]:
        return [
            ChildSpec(name="ledger", start=self.ledger.run, mailbox=self.ledger.mailbox, shutdown_s=6),
            # it ends by itself only when another engine has the lease: then this one stops at once
            ChildSpec(name="lease", start=self._lease.run, max_restarts=0),
            ChildSpec(name="journal", start=self._journal.run),
        ]

    def _note(self, action: str, subject: str, content: dict[str, Any]) -> None:
        self.ledger.record(
            AuditDraft(at=self.clock.now(), actor="system", action=action, subject=subject, content=content)
        )

    async def _first_run(self, vault: Vault) -> first_run.FirstRun | None:
        self._note("ENGINE_STARTED", f"epoch:{self._lease.epoch}", {"mode": self.config.broker.mode})
        if len(self.users):
            return None
        given = self._environ.get("ENGINE_ADMIN_PASSWORD")
        is_paper = self.config.broker.mode == "paper"
        plan = await trio.to_thread.run_sync(
            lambda: first_run.plan(paper=is_paper, given_password=given, vault=vault, clock=self.clock)
        )
        await self.ledger.write(LedgerEntry(writes=plan.writes, audit=plan.audit))
        plan.publish(self.directory, self.users)
        return plan.told

    def _oversight_specs(self, place: boot.JournalPlace) -> list[ChildSpec]:
        trading = self._trading
        self._clock_actor = ClockActor(
            clock=self.clock,
            ingest=trading.ingest,
            ledger=self.ledger,
            journal=self._journal_store,
            journal_epoch=place.epoch,
            guardian=trading.guardian,
            kill_file=self._kill_file,
            kill_path=self._kill_path,
            crew=trading.crew,
        )
        self._watchdog = Watchdog()
        return [
            ChildSpec(name="killswitch-guardian", start=trading.guardian.run, mailbox=trading.guardian.mailbox),
            ChildSpec(name="clock", start=self._clock_actor.run),
            ChildSpec(name="watchdog", start=self._watchdog.run),
        ]

    async def _recover(self, keys: Keys, place: boot.JournalPlace) -> None:
        """Wake what has something going on, then take in what the journal holds and the ledger does not."""
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
        _, ingest.cursor = await recovery.replay(
            store=self._journal_store,
            epoch=place.epoch,
            position=place.position,
            key=keys.journal,
            ingest=ingest,
            ledger=self.ledger,
            now=now,
        )

    def _services(self, keys: Keys, vault: Vault, schema_version: int) -> Services:
        config, trading = self.config, self._trading
        self._replies = TelegramReplies(config.telegram.api_url, config.telegram.bot_token)
        return Services(
            config=config,
            clock=self.clock,
            database=self._database,
            ledger=self.ledger,
            users=self.users,
            sessions=SessionRegistry(access_ttl_s=config.security.access_ttl_s),
            passwords=PasswordHasher(),
            tokens=TokenIssuer(keys.jwt, ttl_s=config.security.access_ttl_s),
            refresh_tokens=RefreshTokens(keys.jwt),
            rate_limits=RateLimits(
                login_per_minute=config.limits.login_per_minute,
                webhook_per_minute=config.limits.webhook_per_minute,
                api_per_minute=config.limits.api_per_minute,
            ),
            directory=self.directory,
            registrar=trading.registrar,
            vault=vault,
            ingest=trading.ingest,
            crew=trading.crew,
            guardian=trading.guardian,
            journal=self._journal,
            lease=self._lease,
            master=trading.master,
            prices=trading.prices,
            tree=self.root.snapshot,
            reply_telegram=self._replies.tell,
            schema_version=schema_version,
            extras={"sessions": trading.sessions, "watchdog": self._watchdog},
        )

    async def _open_edge(self, services: Services, told: first_run.FirstRun | None) -> None:
        await reload_auth(services)
        server, ingest = self.config.server, self._trading.ingest
        self._http = HttpServer(create_app(services, registry()), host=server.host, port=server.port, clock=self.clock)
        edge = [
            ChildSpec(name="people", start=PeopleKeeper(lambda: reload_auth(services)).run),
            ChildSpec(name="ingest", start=ingest.run, mailbox=ingest.mailbox),
            ChildSpec(name="control", start=ControlSocket(self.data_dir, self._control).run),
            ChildSpec(name="telegram-replies", start=self._replies.run, mailbox=self._replies.mailbox),
            ChildSpec(name="http", start=self._http.run, stop=self._http.drain, shutdown_s=5),
        ]
        if self._demo:
            feeder = DemoFeeder(ingest=ingest, directory=self.directory, clock=self.clock)
            edge.append(ChildSpec(name="demo", start=feeder.run))
        await self._add("edge", edge)
        ingest.open_intake()
        if told is not None:
            self._tell_first_run(told)
        self._announce(f"engine ready {self._http.base_url}")

    def _tell_first_run(self, told: first_run.FirstRun) -> None:
        if told.password is not None:
            self._announce(f"first administrator: {first_run.ADMIN_EMAIL}  password: {told.password}  (shown only now)")
        if told.api_key is not None:
            self._announce(f"sheets source: X-API-Key {told.api_key}  secret {told.source_secret}  (shown only now)")
            self._announce("a first signal, good for five minutes:")
            self._announce(first_run.curl_line(self._http.base_url, told, self.clock))

    async def _control(self, request: dict[str, Any]) -> dict[str, Any]:
        scope = parse_scope(str(request.get("scope") or "global"))
        match request.get("command"):
            case "killswitch-on":
                record = await self._trading.guardian.block(
                    scope, reason=str(request.get("reason") or "by hand"), actor="cli", square_off=True
                )
                return {"record": msgspec.to_builtins(record)}
            case "killswitch-off":
                record = await self._trading.guardian.release(
                    scope, reason=str(request.get("reason") or "by hand"), actor="cli"
                )
                return {"record": msgspec.to_builtins(record)}
            case "killswitch-status":
                return {"records": msgspec.to_builtins(list(self.kill.records.values()))}
            case "users-changed":
                version = self.users.version
                self.users.load(await self._database.run(user_store.list_users), read_after=version)
                return {"users": len(self.users)}
            case other:
                return {"error": f"unknown command {other!r}"}

    # stop

    async def _stop(self) -> None:
        trading, drain = self._trading, Drain(total_s=14.0)
        trading.ingest.close_intake("the engine is stopping")
        drain.add("settle what was accepted", lambda: trading.ingest.settle(timeout_s=2), 2.5)
        drain.add("orders on the wire", lambda: trading.crew.drain(timeout_s=5), 5.5)
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
        self._announce("engine stopped" if report.is_clean else f"engine stopped; overran: {', '.join(report.overran)}")

    async def _flush_ledger(self) -> None:
        self._note("ENGINE_STOPPING", f"epoch:{self._lease.epoch}", {})
        self._clock_actor.write_cursor()
        await self.ledger.barrier(timeout_s=2)

    async def _release_lease(self) -> None:
        await self.ledger.barrier(timeout_s=1)
        await self._reader.release_lease(self._lease.epoch)
