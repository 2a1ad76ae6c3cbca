"""Everything that an endpoint may use, in one object that the composition root fills."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from engine.actors.audit_writer import AuditWriter
from engine.actors.clock_watch import ClockKeeper
from engine.actors.crew import Crew
from engine.actors.ingest import Ingest
from engine.actors.instrument_master import InstrumentMaster
from engine.actors.killswitch_guardian import KillSwitchGuardian
from engine.actors.lease_keeper import LeaseKeeper
from engine.actors.prices import Prices
from engine.actors.registrar import Registrar
from engine.clock import Clock
from engine.config import Config
from engine.domain.directory import Directory
from engine.http.ratelimit import RateLimits
from engine.http.refusal_pace import RefusalPace
from engine.journal.writer import JournalWriter
from engine.runtime.child import ChildState
from engine.security.api_tokens import ApiTokenDirectory
from engine.security.passwords import PasswordHasher
from engine.security.sessions import SessionRegistry, UserDirectory
from engine.security.tokens import RefreshTokens, TokenIssuer
from engine.store.database import Database
from engine.store.directory import Vault


@dataclass(frozen=True, kw_only=True)
class Services:
    """The engine, as its HTTP face sees it.

    ``tree`` returns the supervision tree; ``reply_telegram`` queues a text for a chat and never waits;
    ``schema_version`` is the number of the newest migration applied.
    """

    config: Config
    clock: Clock
    database: Database
    ledger: AuditWriter
    users: UserDirectory
    sessions: SessionRegistry
    passwords: PasswordHasher
    tokens: TokenIssuer
    refresh_tokens: RefreshTokens
    api_tokens: ApiTokenDirectory = field(default_factory=ApiTokenDirectory)
    refusals: RefusalPace = field(default_factory=RefusalPace)
    rate_limits: RateLimits
    directory: Directory
    registrar: Registrar
    vault: Vault
    ingest: Ingest
    crew: Crew
    guardian: KillSwitchGuardian
    journal: JournalWriter
    lease: LeaseKeeper
    master: InstrumentMaster
    prices: Prices
    tree: Callable[[], ChildState]
    reply_telegram: Callable[[int, str], None]
    schema_version: int
    extras: dict[str, Any] = field(default_factory=dict)

    def clock_suspect(self) -> str | None:
        """Return why the wall clock cannot be trusted now, or None."""
        watch = self.extras.get("clock_watch")
        return None if watch is None else cast("ClockKeeper", watch).suspect()

    async def read_your_writes(self) -> None:
        """Wait, briefly, until what was accepted before this call can be read from the store."""
        await self.ingest.settle(timeout_s=1.0)
        await self.ledger.barrier(timeout_s=1.0)
