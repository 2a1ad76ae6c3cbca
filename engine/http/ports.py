"""What the HTTP core asks of the objects that the composition root hands in."""

from collections.abc import Iterable
from typing import Any, Protocol
from uuid import UUID

from engine.clock import Clock
from engine.config import Config
from engine.domain.audit import AuditDraft
from engine.http.ratelimit import RateLimits
from engine.http.refusal_pace import RefusalPace
from engine.security.api_tokens import ApiTokenDirectory
from engine.security.passwords import PasswordHasher
from engine.security.sessions import SessionRegistry, UserDirectory
from engine.security.tokens import RefreshTokens, TokenIssuer
from engine.store.database import Unit
from engine.store.directory import Vault


class Ledger(Protocol):
    """The writer of the audit log."""

    def record(self, draft: AuditDraft) -> Any:
        """Queue *draft*; it is written in order, soon."""


class UnitRunner(Protocol):
    """PostgreSQL, as ``engine.store.database.Database`` offers it."""

    async def run(self, unit: Unit[Any], *, timeout_s: float = 5.0, shield: bool = False) -> Any:
        """Run *unit* in one transaction. Raises StoreUnavailable."""

    def for_request(self, users: Iterable[UUID] | None, accounts: Iterable[UUID] = ()) -> "UnitRunner":
        """Return the store as it is for a request of somebody who reaches only these; None: all of it."""


class CoreServices(Protocol):
    """The attributes of the services object that the HTTP core itself reads."""

    @property
    def clock(self) -> Clock:
        """The engine's clock."""

    @property
    def database(self) -> UnitRunner:
        """The store."""

    @property
    def ledger(self) -> Ledger:
        """The audit log's writer."""

    @property
    def users(self) -> UserDirectory:
        """Every user, in memory."""

    @property
    def sessions(self) -> SessionRegistry:
        """The sessions that ended lately."""

    @property
    def passwords(self) -> PasswordHasher:
        """Password hashing, off the event loop."""

    @property
    def tokens(self) -> TokenIssuer:
        """Access tokens."""

    @property
    def refresh_tokens(self) -> RefreshTokens:
        """Refresh tokens."""

    @property
    def api_tokens(self) -> ApiTokenDirectory:
        """Every API token, in memory."""

    @property
    def vault(self) -> Vault:
        """Seals and opens the seeds of one-time codes."""

    @property
    def refusals(self) -> RefusalPace:
        """How often what strangers can cause goes on record."""

    def clock_suspect(self) -> str | None:
        """Return why the wall clock cannot be trusted now, or None."""

    @property
    def rate_limits(self) -> RateLimits:
        """Token buckets."""

    @property
    def config(self) -> Config:
        """The configuration: ``server.trusted_proxies`` and ``security``."""
