"""The edge: every way into the engine from outside, and what it may use of the inside."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import trio

from engine import console, first_run
from engine.actors.audit_writer import AuditWriter
from engine.actors.checkpoint_keeper import CheckpointKeeper
from engine.actors.control import ControlSocket
from engine.actors.dead_letters import letter_id_of, told_letter
from engine.actors.key_keeper import KeyKeeper
from engine.actors.kill_words import KillWords
from engine.actors.lease_keeper import LeaseKeeper
from engine.actors.people_keeper import PeopleKeeper
from engine.alert_side import AlertSide
from engine.assembly import Trading
from engine.clock import Clock, trading_day
from engine.config import Config
from engine.demo.director import Director
from engine.doctor.live import Doctor
from engine.domain.directory import Directory
from engine.domain.enums import KillMode, KillState
from engine.domain.freeze import freeze_list
from engine.domain.killswitch import KillRecord, KillSwitches, parse_scope
from engine.errors import EngineError
from engine.http import login_commands, telegram_approvals
from engine.http.app import create_app
from engine.http.client_ip import parse_networks
from engine.http.exposure import secured, server_limits
from engine.http.login_links import CONSOLE_PATH
from engine.http.once import OnceKeeper
from engine.http.ratelimit import RateLimits
from engine.http.routes import registry
from engine.http.server import HttpServer
from engine.http.services import Services
from engine.http.sign_in import reload_auth
from engine.journal.writer import JournalWriter
from engine.observability.measures import METRICS
from engine.runtime.child import ChildSpec, ChildState
from engine.runtime.watchdog import Watchdog
from engine.security.keys import Keys, derive, previous_jwt_key
from engine.security.login_states import LoginStates
from engine.security.passwords import PasswordHasher
from engine.security.sessions import SessionRegistry, UserDirectory
from engine.security.tokens import LEEWAY_S, RefreshTokens, TokenIssuer
from engine.store import users as user_store
from engine.store.database import Database
from engine.store.directory import Vault
from engine.telegram_side import TelegramSide

_FLATTENED_WITHIN_S = 15.0
_FLATTENED_LOOK_S = 0.1
_AT_WORK = frozenset({KillState.CANCELLING, KillState.FLATTENING})


class Edge:
    """The children of the supervisor ``edge``; *announce* prints a line for the operator."""

    def __init__(
        self,
        config: Config,
        data_dir: Path,
        *,
        clock: Clock,
        announce: Callable[[str], None],
        keys: Keys,
        vault: Vault,
        database: Database,
        schema_version: int,
        ledger: AuditWriter,
        journal: JournalWriter,
        lease: LeaseKeeper,
        directory: Directory,
        users: UserDirectory,
        kill: KillSwitches,
        trading: Trading,
        watchdog: Watchdog,
        tree: Callable[[], ChildState],
        key_keeper: KeyKeeper,
        checkpoints: CheckpointKeeper,
        doctor: Doctor,
    ) -> None:
        self._config = config
        self._data_dir = data_dir
        self._clock = clock
        self._announce = announce
        self._database = database
        self._users = users
        self._kill = kill
        self._trading = trading
        self._key_keeper = key_keeper
        approval_key = derive(keys.tag, "approval")
        self._telegram = TelegramSide(
            config,
            clock=clock,
            database=database,
            ledger=ledger,
            trading=trading,
            users=users,
            vault=vault,
            button_key=approval_key,
        )
        self._alerts = AlertSide(
            config, clock=clock, database=database, trading=trading, telegram=self._telegram.tell_alert
        )
        words = KillWords(trading.alerts.take)
        words.know(kill)
        trading.on_kill = lambda: words.changed(kill)
        self._replies = self._telegram.replies
        self._doctor = doctor
        checkpoints.push = self._tell_admins
        self._mark_key = derive(keys.tag, "idempotency fingerprint")
        self._services = Services(
            config=config,
            clock=clock,
            database=database,
            ledger=ledger,
            users=users,
            sessions=SessionRegistry(access_ttl_s=config.security.access_ttl_s),
            passwords=PasswordHasher(),
            tokens=TokenIssuer(
                keys.jwt,
                ttl_s=config.security.access_ttl_s,
                previous=previous_jwt_key(config.security.jwt_secret_previous, data_dir),
                # whatever it signed was signed before this start
                retires_at=clock.now() + timedelta(seconds=config.security.access_ttl_s + LEEWAY_S),
            ),
            refresh_tokens=RefreshTokens(keys.jwt),
            rate_limits=RateLimits(
                login_per_minute=config.limits.login_per_minute,
                webhook_per_minute=config.limits.webhook_per_minute,
                api_per_minute=config.limits.api_per_minute,
            ),
            directory=directory,
            registrar=trading.registrar,
            vault=vault,
            ingest=trading.ingest,
            crew=trading.crew,
            guardian=trading.guardian,
            journal=journal,
            lease=lease,
            master=trading.master,
            prices=trading.prices,
            tree=tree,
            reply_telegram=self._replies.tell,
            schema_version=schema_version,
            extras={
                "sessions": trading.sessions,
                "watchdog": watchdog,
                "dead_letters": trading.dead_letters,
                "clock_watch": trading.clock_watch,
                "freeze": trading.freeze,
                "calendar": trading.calendar,
                "feeds": trading.feeds,
                "login_states": LoginStates(),
                "broker_logins": trading.logins,
                "readiness": trading.readiness,
                "session_refused": trading.session_refused,
                "approval_key": approval_key,
                **self._telegram.extras(),
                "rearming": trading.rearming,
                "kill_sequence": trading.kill_sequence,
                "drills": trading.drills,
                "source_watch": trading.source_watch,
                "rows_taken": trading.rows_taken,
                "hub": trading.hub,
                "doctor": doctor,
                "morning": trading.morning,
                "alerts": trading.alerts,
                "alert_senders": self._alerts.senders,
                "metrics": METRICS,
            },
        )
        trading.ask_person = lambda intent: telegram_approvals.ask(
            intent,
            directory=directory,
            admin_user_ids=config.telegram.admin_user_ids,
            key=approval_key,
            tell=self._replies.tell,
        )

    def _tell_admins(self, text: str) -> None:
        # a person's chat with the bot has the person's own id
        for chat_id in self._config.telegram.admin_user_ids:
            self._replies.tell(chat_id, text)

    async def specs(
        self, *, demo: Director | None = None, listener: trio.socket.SocketType | None = None
    ) -> list[ChildSpec]:
        """Return the children; *listener* is the socket of an engine that was on standby, *demo* plays the demo."""
        services, server, ingest = self._services, self._config.server, self._trading.ingest
        await reload_auth(services)
        once = OnceKeeper(database=services.database, vault=services.vault, clock=self._clock, mark_key=self._mark_key)
        endpoints = registry()
        for page in console.pages():
            endpoints.add(page)
        await self._telegram.begin(services, endpoints)
        await self._alerts.begin()
        self._http = HttpServer(
            create_app(services, endpoints, once=once),
            host=server.host,
            port=server.port,
            limits=server_limits(server),
            clock=self._clock,
            listener=listener,
            tls=secured(server),
            uncounted=parse_networks(server.trusted_proxies),
        )
        edge = [
            ChildSpec(name="people", start=PeopleKeeper(lambda: reload_auth(services)).run),
            ChildSpec(name="ingest", start=ingest.run, mailbox=ingest.mailbox),
            ChildSpec(name="morning-report", start=self._trading.morning.run),
            ChildSpec(name="disk-samples", start=self._doctor.keep_samples),
            ChildSpec(name="control", start=ControlSocket(self._data_dir, self._control).run),
            *self._telegram.specs(lease=services.lease, base=self._base_url),
            *self._alerts.specs(),
            ChildSpec(name="http", start=self._http.run, stop=self._drain_http, shutdown_s=5),
        ]
        if demo is not None:
            edge.append(ChildSpec(name="demo", start=demo.run))
        return edge

    def tell(self, told: first_run.FirstRun | None) -> None:
        """Print what a first start made, and that the engine is ready."""
        self._trading.login_page = f"{self._base_url()}{CONSOLE_PATH}"
        if told is not None and told.password is not None:
            self._announce(f"first administrator: {told.email}  password: {told.password}  (shown only now)")
        if told is not None and told.api_key is not None:
            self._announce(f"sheets source: X-API-Key {told.api_key}  secret {told.source_secret}  (shown only now)")
            self._announce("a first signal, good for five minutes:")
            self._announce(first_run.curl_line(self._reached_at(), told, self._clock))
        if self._config.broker.mode == "kite":
            self._announce(f"accounts are logged in at {self._trading.login_page}")
        self._announce(f"engine ready {self._http.base_url}")

    def _drain_http(self) -> None:
        self._http.drain()
        # streams wait for events: they look whether the server closes
        self._trading.hub.nudge()

    def _base_url(self) -> str:
        """Return where a browser reaches the engine: as configured, else as it listens."""
        return self._config.server.public_url.rstrip("/") or self._http.base_url

    def _reached_at(self) -> str:
        """Return where a program on this machine reaches the engine: a certificate is good for one name only."""
        return self._base_url() if self._config.server.tls_cert else self._http.base_url

    async def _control(self, request: dict[str, Any]) -> dict[str, Any]:
        guardian, scope = self._trading.guardian, parse_scope(str(request.get("scope") or "global"))
        reason = str(request.get("reason") or "by hand")
        match request.get("command"):
            case "killswitch-on":
                mode = KillMode(str(request.get("mode") or KillMode.SQUARE_OFF))
                record = await guardian.block(scope, reason=reason, actor="cli", mode=mode)
                return {"record": msgspec.to_builtins(record)}
            case "killswitch-off":
                return {"record": msgspec.to_builtins(await self._release(scope, reason, request))}
            case "doctor":
                return {"checks": msgspec.to_builtins(await self._doctor.examine())}
            case "killswitch-status":
                return {"records": msgspec.to_builtins(list(self._kill.records.values()))}
            case "users-changed":
                version = self._users.version
                self._users.load(await self._database.run(user_store.list_users), read_after=version)
                return {"users": len(self._users)}
            case "keys-status" | "keys-renewed" | "keys-retired":
                return await self._key_keeper.obey(request)
            case "freeze-set":
                rows = freeze_list(str(request.get("csv") or ""), as_of=trading_day(self._clock.now()))
                return {"quantities": len(await self._trading.freeze.replace(rows, by="cli"))}
            case "login-url":
                return login_commands.link(self._services, request, base=self._base_url())
            case "login-complete":
                return await login_commands.complete(self._services, request)
            case "alert-ack":
                acked = self._trading.alerts.acknowledge(UUID(str(request.get("id"))), by="cli")
                return {"error": "there is no such alert"} if acked is None else {"code": acked.code}
            case "dead-letter-requeue":
                return told_letter(await self._trading.dead_letters.requeue(letter_id_of(request), actor="cli"))
            case "dead-letter-discard":
                return told_letter(await self._trading.dead_letters.discard(letter_id_of(request), actor="cli"))
            case other:
                return {"error": f"unknown command {other!r}"}

    async def _flattened(self, scope: str) -> None:
        """Wait until what the kill switch of *scope* does is over, or as long as an operator's command can."""
        begins = () if scope.startswith("source:") else (KillState.BLOCKED,)
        with trio.move_on_after(_FLATTENED_WITHIN_S):
            while (held := self._trading.guardian.switches.records.get(scope)) is not None and (  # noqa: ASYNC110 -- bounded
                held.state in _AT_WORK or (held.square_off and held.state in begins)
            ):
                await trio.sleep(_FLATTENED_LOOK_S)

    async def _release(self, scope: str, reason: str, request: dict[str, Any]) -> KillRecord:
        guardian = self._trading.guardian
        if request.get("force") is not True:
            await self._flattened(scope)
        held = guardian.switches.records.get(scope)
        if held is not None and not held.enabled:
            return held  # turned off once more it would end what waits, as if it had been on
        if held is not None and request.get("force") is not True:
            against = [obstacle.text for obstacle in await self._trading.rearming.against(held)]
            if self._config.security.two_admins:
                against.append("two administrators must ask for it through the API")
            if against:
                raise EngineError(f"the kill switch stays on: {'; '.join(against)}; mend it, or give --force")
        return await guardian.release(scope, reason=reason, actor="cli")
