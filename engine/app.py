"""The composition root: builds every object, states the supervision tree, starts and stops it in order.

    engine
    ├── infrastructure   postgres, valkey (embedded only), exchange (paper only)
    ├── stores           ledger, lease, journal
    ├── oversight        guardian, clock, watchdog
    ├── trading          crew, users (a risk actor each), accounts (an executor each), master, prices, ingest
    └── edge             control, alerts, http

Start is recovery: servers, lease, state of the ledger, journal past the ledger's cursor, and only
then intake. Stop is the reverse of the data's way in, each step with its own deadline.
"""

import fcntl
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import structlog
import trio

from engine import boot, first_run, recovery
from engine.actors.audit_writer import AuditWriter
from engine.actors.clock import ClockActor
from engine.actors.control import ControlSocket
from engine.actors.crew import Crew
from engine.actors.decision import Rules
from engine.actors.executor import Executor, ExecutorContext
from engine.actors.ingest import EarlierDeliveries, Ingest
from engine.actors.instrument_master import InstrumentMaster
from engine.actors.killswitch_file import KillFile, KillFileDamaged
from engine.actors.killswitch_guardian import KillSwitchGuardian, blocked_for_want_of_a_record
from engine.actors.lease_keeper import LeaseKeeper
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.ledger_reader import LedgerReader
from engine.actors.people_keeper import PeopleKeeper
from engine.actors.prices import Prices
from engine.actors.registrar import Registrar
from engine.actors.risk import RiskActor, RiskContext
from engine.actors.sessions import Sessions
from engine.actors.telegram_replies import TelegramReplies
from engine.clock import Clock, SystemClock
from engine.config import Config
from engine.domain.audit import AuditDraft
from engine.domain.directory import Account, Directory
from engine.domain.enums import AccountStatus, Exchange
from engine.domain.killswitch import KillSwitches, parse_scope
from engine.domain.tag import make_tag
from engine.embedded.postgres import EmbeddedPostgres
from engine.embedded.valkey import EmbeddedValkey
from engine.errors import StartupError
from engine.exchange.config import ExchangeConfig
from engine.exchange.server import ExchangeServer
from engine.http.app import create_app
from engine.http.ratelimit import RateLimits
from engine.http.routes import registry
from engine.http.server import HttpServer
from engine.http.services import Services
from engine.http.sign_in import reload_auth
from engine.journal.address import parse as parse_address
from engine.journal.store import JournalStore
from engine.journal.writer import JournalWriter
from engine.runtime.asyncio_bridge import open_aio
from engine.runtime.child import Backoff, ChildSpec
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

_FOREVER = float("inf")
_EAGER = 50


def lock_data_dir(data_dir: Path) -> int:
    """Make *data_dir* and lock it for this process; return the descriptor that holds the lock.

    Raises StartupError when another engine has it or it cannot be made.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "engine.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartupError(f"cannot use the data directory {data_dir}: {error.strerror}; use --data-dir DIR") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StartupError(
            f"another engine runs in {data_dir}; stop it first, or use --data-dir DIR for a second one"
        ) from error
    return descriptor


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
    ) -> None:
        self.config = config
        self.data_dir = data_dir.absolute()
        self._environ = environ
        self._announce = announce
        self.clock: Clock = clock or SystemClock()
        self.directory = Directory()
        self.users = UserDirectory()
        self.kill = KillSwitches()
        self.root = Supervisor("engine", Strategy.ONE_FOR_ONE, intensity=(0, 60.0))
        self._exchange: ExchangeServer | None = None
        self._exchange_url: str | None = None
        self._exchange_port = 0

    @property
    def is_paper(self) -> bool:
        """Whether the engine trades against its own exchange."""
        return self.config.broker.mode == "paper"

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

            async def live() -> None:
                await self._start(keys, watcher)
                started.set()

            async def drain_early() -> None:
                # a signal during start: nothing is half done that recovery does not take up
                await watcher.draining.wait()
                if not started.is_set():
                    nursery.cancel_scope.cancel()

            await nursery.start(self.root.run)
            nursery.start_soon(drain_early)
            await live()
            await watcher.draining.wait()
            await self._stop()
            nursery.cancel_scope.cancel()

    # start

    async def _start(self, keys: Keys, watcher: SignalWatcher) -> None:
        await self._add_infrastructure()
        database_url = self._postgres.url() if self._postgres else self.config.database.url
        redis_url = self._valkey.url() if self._valkey else self.config.redis.url
        self._database, schema_version, has_role = await boot.open_database(
            database_url, wait_s=10.0 if self._postgres else 3.0
        )
        self._journal_store = JournalStore(redis_url)
        await boot.check_journal(self._journal_store)
        epoch = await boot.take_lease(self._database)
        self._lease = LeaseKeeper(self._database, epoch=epoch, clock=self.clock)
        vault = Vault(KeyRing([keys.vault]))
        self._reader = LedgerReader(self._database)
        await self._load(vault)
        place = await boot.journal_place(self._database, self._journal_store, clock=self.clock)
        ledger_store = LedgerStore(database_url, role=APP_ROLE if has_role else None)
        self.ledger = AuditWriter(ledger_store, epoch=epoch)
        self._journal = JournalWriter(
            parse_address(redis_url), epoch=str(place.epoch), ttl_s=self.config.signals.dedup_window_s
        )
        await self._add("stores", Strategy.ONE_FOR_ONE, self._store_specs())
        if place.was_reset:
            self._note("JOURNAL_RESET", f"journal:{place.epoch}", {})
        told = await self._first_run(vault)
        self._build_trading(keys, vault, epoch)
        await self._add("oversight", Strategy.ONE_FOR_ONE, self._oversight_specs(place.epoch, watcher))
        await self._add("trading", Strategy.ONE_FOR_ONE, self._trading_specs())
        await self._recover(keys, place)
        services = self._services(keys, vault, schema_version)
        await self._open_edge(services, told)

    async def _add(self, name: str, strategy: Strategy, specs: list[ChildSpec]) -> Supervisor:
        supervisor = Supervisor(name, strategy, specs, intensity=(10, 60.0), rng=random.Random())  # noqa: S311 -- jitter
        await self.root.add_child(supervisor.child_spec())
        return supervisor

    async def _add_infrastructure(self) -> None:
        self._postgres = EmbeddedPostgres(self.data_dir) if self.config.database.is_embedded else None
        self._valkey = EmbeddedValkey(self.data_dir) if self.config.redis.is_embedded else None
        self._infrastructure = Supervisor("infrastructure", Strategy.ONE_FOR_ONE)
        await self.root.add_child(self._infrastructure.child_spec())
        # restarted for as long as the engine runs: accepting goes on with the other store meanwhile
        patience: dict[str, Any] = {"max_restarts": _FOREVER, "backoff": Backoff(initial=0.2, max=5.0)}
        async with trio.open_nursery() as starting:
            if self._postgres is not None:
                spec = ChildSpec(name="postgres", start=self._postgres.run, shutdown_s=12, **patience)
                starting.start_soon(self._infrastructure.add_child, spec)
            if self._valkey is not None:
                spec = ChildSpec(name="valkey", start=self._valkey.run, shutdown_s=12, **patience)
                starting.start_soon(self._infrastructure.add_child, spec)
            if self.is_paper:
                record = self.data_dir / "exchange" / "record.jsonl"
                self._exchange = ExchangeServer(
                    ExchangeConfig(record_path=record, token_expiry=False, market_open=True), self.clock
                )
                spec = ChildSpec(name="exchange", start=self._run_exchange, **patience)
                starting.start_soon(self._infrastructure.add_child, spec)

    async def _run_exchange(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        assert self._exchange is not None  # noqa: S101 -- narrows the type
        (self.data_dir / "exchange").mkdir(mode=0o700, exist_ok=True)

        class Announce:
            def started(_self, url: str | None = None) -> None:
                # the same port after a restart of the exchange: sessions hold its address
                self._exchange_url = url
                self._exchange_port = int(str(url).rpartition(":")[2])
                task_status.started()

        await self._exchange.run(port=self._exchange_port, task_status=Announce())

    async def _load(self, vault: Vault) -> None:
        async def unit(connection: Any) -> tuple[Any, Any]:
            await directory_store.load(connection, vault, self.directory)
            return await user_store.list_users(connection), await kill_records(connection)

        people, flags = await self._database.run(unit, timeout_s=30)
        self.users.load(people)
        self._kill_path = self.data_dir / "state" / "kill.wal"
        self._kill_file = KillFile(self._kill_path)
        try:
            on_file = self._kill_file.read().values()
        except KillFileDamaged as error:
            _log.error("killswitch.file_damaged", error=str(error))
            on_file = {"": blocked_for_want_of_a_record(self.clock.now())}.values()
        self.kill = KillSwitches([*flags, *on_file])

    def _store_specs(self) -> list[ChildSpec]:
        return [
            ChildSpec(name="ledger", start=self.ledger.run, mailbox=self.ledger.mailbox, shutdown_s=6),
            ChildSpec(name="lease", start=self._lease.run),
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
        plan = await trio.to_thread.run_sync(
            lambda: first_run.plan(paper=self.is_paper, given_password=given, vault=vault, clock=self.clock)
        )
        await self.ledger.write(LedgerEntry(writes=plan.writes, audit=plan.audit))
        plan.publish(self.directory, self.users)
        return plan.told

    def _build_trading(self, keys: Keys, vault: Vault, epoch: int) -> None:
        config, clock = self.config, self.clock
        kite = config.broker.kite
        deployment = _deployment(keys)

        def tag(order_id: UUID, attempt: int) -> str:
            return make_tag(keys.tag, deployment=deployment, epoch=epoch, order_id=order_id, attempt=attempt)

        self._sessions = Sessions(
            directory=self.directory,
            clock=clock,
            kite_url=kite.root_url,
            timeout_s=kite.timeout_s,
            paper_url=lambda: self._exchange_url,
        )
        self._registrar = Registrar(
            directory=self.directory, vault=vault, ledger=self.ledger, clock=clock, on_account=self._account_changed
        )
        self._master = InstrumentMaster(any_broker=self._sessions.any, clock=clock)
        self._prices = Prices(any_broker=self._sessions.any)
        self._crew = Crew(make_risk=self._make_risk, make_executor=self._make_executor, trip=self._trip)
        self._guardian = KillSwitchGuardian(
            switches=self.kill,
            file=self._kill_file,
            ledger=self.ledger,
            clock=clock,
            on_change=self._crew.wake,
        )
        enforce = config.market.enforce_hours
        self._risk_context = RiskContext(
            clock=clock,
            ledger=self.ledger,
            directory=self.directory,
            instruments=lambda: self._master.book,
            kill=self.kill,
            defaults=config.risk.limits(),
            rules=Rules(
                enforce_hours=(not self.is_paper) if enforce is None else enforce,
                max_age_s=float(config.signals.max_age_s),
                timezone=config.market.zone,
            ),
            orders=self._crew,
            prices=self._prices,
            tag=tag,
            epoch=epoch,
            load=self._reader.user,
        )
        self._executor_context = ExecutorContext(
            clock=clock,
            ledger=self.ledger,
            kill=self.kill,
            holds_lease=self._lease.holds,
            tag=tag,
            epoch=epoch,
            open_broker=self._sessions.open,
            load=self._reader.account,
            tell_risk=self._crew.tell_risk,
            account_status=self._account_status,
            multiplier=self._multiplier,
            orders_per_second=kite.orders_per_second,
            orders_per_minute=kite.orders_per_minute,
            orders_per_day=kite.orders_per_day,
        )
        self._ingest = Ingest(
            directory=self.directory,
            kill=self.kill,
            journal=self._journal,
            journal_key=keys.journal,
            clock=clock,
            dedup_window_s=config.signals.dedup_window_s,
            decide=self._crew.decide,
            waiting_orders=lambda: self._crew.waiting_orders,
            earlier=EarlierDeliveries(),
        )
        for account in self.directory.accounts.values():
            self._account_changed(account)

    def _make_risk(self, user_id: UUID) -> RiskActor:
        return RiskActor(user_id, self._risk_context)

    def _make_executor(self, account_id: UUID) -> Executor:
        account = self.directory.accounts.get(account_id)
        user_id = account.user_id if account is not None else UUID(int=0)
        return Executor(account_id, user_id, self._executor_context)

    def _multiplier(self, exchange: Exchange, symbol: str) -> Any:
        instrument = self._master.book.get(exchange, symbol)
        return 1 if instrument is None else instrument.multiplier

    def _trip(self, scope: str, why: str) -> None:
        self._guardian.block_nowait(scope, reason=f"ACTOR_FAILED: {why}", actor="system")

    def _account_changed(self, account: Account) -> None:
        if account.broker == "paper" and self._exchange is not None and account.api_secret is not None:
            self._exchange.add_account(
                account.api_key, account.api_secret.reveal(), f"PA{account.id.hex[-8:].upper()}", account.capital
            )
        self._sessions.forget(account.id)
        executor = self._crew.executors.get(account.id)
        if executor is not None:
            executor.reset_session()

    def _account_status(self, account_id: UUID, status: AccountStatus, reason: str | None) -> None:
        account = self.directory.accounts.get(account_id)
        if account is not None and account.broker == "paper" and status is AccountStatus.LOGIN_REQUIRED:
            # the engine's own exchange: logging in again is no person's business
            self._sessions.forget(account_id)
            self._crew.executor(account_id).reset_session()
            return
        self._sessions.forget(account_id)
        self._registrar.account_status_nowait(account_id, status, reason)

    def _oversight_specs(self, journal_epoch: UUID, watcher: SignalWatcher) -> list[ChildSpec]:
        self._clock_actor = ClockActor(
            clock=self.clock,
            ingest=self._ingest,
            ledger=self.ledger,
            journal=self._journal_store,
            journal_epoch=journal_epoch,
            guardian=self._guardian,
            kill_file=self._kill_file,
            kill_path=self._kill_path,
            crew=self._crew,
            is_draining=watcher.draining.is_set,
        )
        self._watchdog = Watchdog()
        return [
            ChildSpec(name="killswitch-guardian", start=self._guardian.run, mailbox=self._guardian.mailbox),
            ChildSpec(name="clock", start=self._clock_actor.run),
            ChildSpec(name="watchdog", start=self._watchdog.run),
        ]

    def _trading_specs(self) -> list[ChildSpec]:
        return [
            self._crew.users.child_spec(),
            self._crew.accounts.child_spec(),
            ChildSpec(name="crew", start=self._crew.run),
            ChildSpec(name="instruments", start=self._master.run),
            ChildSpec(name="prices", start=self._prices.run),
        ]

    async def _recover(self, keys: Keys, place: boot.JournalPlace) -> None:
        """Wake what has something going on, then take in what the journal holds and the ledger does not."""
        now = self.clock.now()
        users, accounts = await self._reader.busy()
        eager = list(self.directory.accounts.values())[:_EAGER]
        for account_id in {*accounts, *(a.id for a in eager)}:
            if account_id in self.directory.accounts:
                self._crew.executor(account_id)
        for user_id in {*users, *(a.user_id for a in eager)}:
            self._crew.risk(user_id)
        window_s = self.config.signals.dedup_window_s
        earlier = await self._reader.earlier(now, window_s)
        self._ingest.use_earlier(earlier)
        if self._sessions.can_read:
            # signals are judged by the instruments; a broker that is away does not hold up the start for long
            await self._master.wait_loaded(timeout_s=3.0)
        _, self._ingest.cursor = await recovery.replay(
            store=self._journal_store,
            epoch=place.epoch,
            position=place.position,
            key=keys.journal,
            ingest=self._ingest,
            ledger=self.ledger,
            now=now,
        )

    def _services(self, keys: Keys, vault: Vault, schema_version: int) -> Services:
        config = self.config
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
            registrar=self._registrar,
            vault=vault,
            ingest=self._ingest,
            crew=self._crew,
            guardian=self._guardian,
            journal=self._journal,
            lease=self._lease,
            master=self._master,
            prices=self._prices,
            tree=self.root.snapshot,
            reply_telegram=self._replies.tell,
            schema_version=schema_version,
            extras={"sessions": self._sessions, "watchdog": self._watchdog},
        )

    async def _open_edge(self, services: Services, told: first_run.FirstRun | None) -> None:
        await reload_auth(services)
        app = create_app(services, registry())
        server = self.config.server
        self._http = HttpServer(app, host=server.host, port=server.port, clock=self.clock)
        edge = [
            ChildSpec(name="people", start=PeopleKeeper(lambda: reload_auth(services)).run),
            ChildSpec(name="ingest", start=self._ingest.run, mailbox=self._ingest.mailbox),
            ChildSpec(name="control", start=ControlSocket(self.data_dir, self._control).run),
            ChildSpec(name="telegram-replies", start=self._replies.run, mailbox=self._replies.mailbox),
            ChildSpec(name="http", start=self._http.run, shutdown_s=2),
        ]
        await self._add("edge", Strategy.ONE_FOR_ONE, edge)
        self._ingest.open_intake()
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
                record = await self._guardian.block(
                    scope, reason=str(request.get("reason") or "by hand"), actor="cli", square_off=True
                )
                return {"record": msgspec.to_builtins(record)}
            case "killswitch-off":
                record = await self._guardian.release(
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
        drain = Drain(total_s=14.0)
        self._ingest.close_intake("the engine is stopping")
        drain.add("settle what was accepted", lambda: self._ingest.settle(timeout_s=2), 2.5)
        drain.add("orders on the wire", lambda: self._crew.drain(timeout_s=5), 5.5)
        drain.add("ledger", self._flush_ledger, 2.5)
        drain.add("edge", self._stop_edge, 4.0)
        drain.add("trading", lambda: self.root.remove_child("trading"), 3.0)
        drain.add("oversight", lambda: self.root.remove_child("oversight"), 2.0)
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

    async def _stop_edge(self) -> None:
        self._http.drain()
        await self.root.remove_child("edge")
        await self._sessions.aclose()

    async def _release_lease(self) -> None:
        await self.ledger.barrier(timeout_s=1)
        await self._reader.release_lease(self._lease.epoch)


def _deployment(keys: Keys) -> str:
    """Return the two characters that tell this deployment's tags from another's on the same account."""
    letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    number = int.from_bytes(keys.tag[:4], "big") % 1296
    return letters[number // 36] + letters[number % 36]
