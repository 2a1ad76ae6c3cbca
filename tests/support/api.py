"""The HTTP core on a real port, with real parts; only the audit writer is a list."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import msgspec
import trio

from engine.config import Config
from engine.domain.audit import AuditDraft
from engine.domain.enums import Role
from engine.errors import StoreUnavailable
from engine.http.app import create_app
from engine.http.endpoint import Registry
from engine.http.limits import ServerLimits
from engine.http.ratelimit import RateLimits
from engine.http.refusal_pace import RefusalPace
from engine.http.server import HttpServer
from engine.ids import uuid7
from engine.security.api_tokens import ApiTokenDirectory
from engine.security.envelope import KeyRing
from engine.security.passwords import PasswordHasher
from engine.security.sessions import SessionRegistry, UserDirectory, UserRecord
from engine.security.tokens import RefreshTokens, TokenIssuer
from engine.store.directory import Vault

JWT_KEY = bytes(range(32))


class MovableClock:
    """A clock that stands until it is moved."""

    def __init__(self, now: datetime = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def boottime_ns(self) -> int:
        return int(self._now.timestamp() * 1e9)

    def advance(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class AuditList:
    """Keeps the drafts that the audit writer would write."""

    def __init__(self) -> None:
        self.drafts: list[AuditDraft] = []

    def record(self, draft: AuditDraft) -> None:
        self.drafts.append(draft)

    @property
    def actions(self) -> list[str]:
        return [draft.action for draft in self.drafts]


class NoDatabase:
    """A store that cannot be reached."""

    async def run(self, unit: Any, *, timeout_s: float = 5.0, shield: bool = False) -> Any:
        raise StoreUnavailable("PostgreSQL: connection refused to db.internal:5432")

    def for_request(self, users: Any, accounts: Any = ()) -> "NoDatabase":
        return self


class ApiServices:
    """What the HTTP core asks of the composition root."""

    def __init__(self, *, database: Any = None, config: Config | None = None) -> None:
        self.config = config or Config()
        self.clock = MovableClock()
        self.database = database or NoDatabase()
        self.ledger = AuditList()
        self.users = UserDirectory()
        self.sessions = SessionRegistry(access_ttl_s=self.config.security.access_ttl_s)
        self.passwords = PasswordHasher()
        self.tokens = TokenIssuer(JWT_KEY, ttl_s=self.config.security.access_ttl_s)
        self.refresh_tokens = RefreshTokens(JWT_KEY)
        self.api_tokens = ApiTokenDirectory()
        self.refusals = RefusalPace()
        self.vault = Vault(KeyRing([JWT_KEY]))
        self.suspicion: str | None = None
        self.rate_limits = RateLimits(
            login_per_minute=self.config.limits.login_per_minute,
            webhook_per_minute=self.config.limits.webhook_per_minute,
            api_per_minute=self.config.limits.api_per_minute,
        )

    def clock_suspect(self) -> str | None:
        return self.suspicion

    def add_user(self, role: Role, **changes: Any) -> UserRecord:
        """Put a user into the directory only."""
        user_id = uuid7()
        user = UserRecord(
            id=user_id,
            email=f"{user_id}@example.com",
            name="A",
            role=role,
            password_hash="",
            token_epoch=0,
            disabled=False,
        )
        user = msgspec.structs.replace(user, **changes)
        self.users.put(user)
        return user

    def bearer(self, user: UserRecord, *, session_id: UUID | None = None) -> dict[str, str]:
        """Return the headers of *user* with a fresh access token."""
        now = self.clock.now()
        token = self.tokens.issue(
            user_id=user.id,
            role=user.role,
            session_id=session_id or uuid7(),
            epoch=user.token_epoch,
            signed_in_at=now,
            now=now,
        )
        return {"Authorization": f"Bearer {token}"}


class RunningApi:
    """A server on loopback and a client that speaks to it."""

    def __init__(self, server: HttpServer, client: httpx.AsyncClient, services: Any) -> None:
        self.server = server
        self.client = client
        self.services = services

    @property
    def port(self) -> int:
        return int(self.server.base_url.rsplit(":", 1)[1])

    async def connect(self) -> trio.SocketStream:
        """Open a raw connection."""
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def exchange(self, raw: bytes) -> bytes:
        """Send *raw* on a connection of its own; return everything until the server closes it."""
        async with await self.connect() as stream:
            await stream.send_all(raw)
            return await read_all(stream)


async def read_all(stream: trio.SocketStream) -> bytes:
    """Read until the other side closes, however it does so."""
    received = bytearray()
    with trio.fail_after(20):
        while True:
            try:
                octets = await stream.receive_some(65536)
            except trio.BrokenResourceError:
                return bytes(received)
            if not octets:
                return bytes(received)
            received += octets


@asynccontextmanager
async def running_api(
    services: Any, registry: Registry, *, limits: ServerLimits | None = None, gate: Any = None, once: Any = None
) -> AsyncIterator[RunningApi]:
    """Serve *registry* on a free port for the time of the block."""
    app = create_app(services, registry, gate=gate, once=once)
    server = HttpServer(app, port=0, limits=limits or ServerLimits(drain_s=0.5), clock=services.clock)
    async with trio.open_nursery() as nursery:
        base_url = await nursery.start(server.run)
        async with httpx.AsyncClient(base_url=base_url, timeout=20) as client:
            yield RunningApi(server, client, services)
        server.drain()


def free_port() -> int:
    """Return a port that nobody uses now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
