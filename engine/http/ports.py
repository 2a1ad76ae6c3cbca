"""What the HTTP core asks of the objects that the composition root hands in."""

from typing import Any, Protocol

from engine.clock import Clock
from engine.config import Config
from engine.domain.audit import AuditDraft
from engine.http.ratelimit import RateLimits
from engine.security.passwords import PasswordHasher
from engine.security.sessions import SessionRegistry, UserDirectory
from engine.security.tokens import RefreshTokens, TokenIssuer
from engine.store.database import Unit


class Ledger(Protocol):
    """The writer of the audit log."""

    def record(self, draft: AuditDraft) -> Any:
        """Queue *draft*; it is written in order, soon."""


class UnitRunner(Protocol):
    """PostgreSQL, as ``engine.store.database.Database`` offers it."""

    async def run(self, unit: Unit[Any], *, timeout_s: float = 5.0, shield: bool = False) -> Any:
        """Run *unit* in one transaction. Raises StoreUnavailable."""


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
    def rate_limits(self) -> RateLimits:
        """Token buckets."""

    @property
    def config(self) -> Config:
        """The configuration: ``server.trusted_proxies``, ``security.refresh_ttl_s`` and ``.registration``."""
