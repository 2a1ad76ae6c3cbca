"""The directory: who and what exists, in memory, for decisions that may not wait for the store.

Loaded at start and changed only after the ledger has committed the change. Records are immutable; a
change replaces the record. Secrets are held decrypted here and nowhere else.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.enums import AccountStatus, CapitalFrom, GroupPolicy, SizingMode, SourceType
from engine.domain.limits import RiskLimits, TradingWindow
from engine.secret import Secret


class BrokerLogin(msgspec.Struct, frozen=True, kw_only=True):
    """The last login of an account: whose session it is, since when (aware UTC), and what it may use.

    ``broker_user_id`` is None for a token that was pasted in and of which no profile has been read.
    """

    broker_user_id: str | None = None
    logged_in_at: datetime | None = None
    exchanges: tuple[str, ...] = ()
    products: tuple[str, ...] = ()


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A broker account; ``capital`` is rupees, ``access_token`` and ``login`` None until somebody logged in.

    ``market_protection`` is how far from the last price a MARKET or SL-M order may fill: percent, or -1 for the
    broker's own table (Kite Connect v3, orders). With ``capital_from`` BROKER the capital is what its margins said
    at ``capital_read_at`` (aware UTC; None: not yet, and 0 then).
    """

    id: UUID
    user_id: UUID
    label: str
    broker: str
    capital: Decimal
    status: AccountStatus
    api_key: str
    api_secret: Secret | None = None
    access_token: Secret | None = None
    status_reason: str | None = None
    row_version: int = 1
    market_protection: Decimal = Decimal(-1)
    login: BrokerLogin | None = None
    capital_from: CapitalFrom = CapitalFrom.STATED
    capital_read_at: datetime | None = None


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An account of a strategy and how its quantity is sized.

    ``max_quantity`` (units) and ``max_value`` (rupees) cap what adds exposure; what reduces it is never capped.
    """

    account_id: UUID
    mode: SizingMode
    value: Decimal
    max_quantity: int | None = None
    max_value: Decimal | None = None


class Strategy(msgspec.Struct, frozen=True, kw_only=True):
    """A strategy and the accounts that it trades.

    ``approval`` other than "auto" holds every signal until a person approves it: at most ``approval_ttl_s`` seconds
    from its receipt, and only while the price is within ``approval_price_move_pct`` percent of that at receipt.
    ``group_deadline_s`` (seconds from receipt or approval) bounds what ``group_policy`` does. Outside ``entry_window``
    (market.timezone) only orders that reduce are sent. At ``square_off_at`` (HH:MM, IST) of every trading day what it
    holds is closed, and until the next day it opens nothing.
    """

    id: UUID
    user_id: UUID
    name: str
    enabled: bool = True
    approval: str = "auto"
    approval_ttl_s: int = 300
    approval_price_move_pct: Decimal = Decimal(1)
    group_policy: GroupPolicy = GroupPolicy.LEAVE
    group_deadline_s: int = 30
    entry_window: TradingWindow | None = None
    square_off_at: str | None = None
    allowed_symbols: frozenset[str] | None = None
    defaults: dict[str, Any] = {}
    targets: tuple[Target, ...] = ()


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A source of signals; ``api_key_hash`` is SHA-256 of the key that names it."""

    id: UUID
    user_id: UUID
    strategy_id: UUID
    type: SourceType
    name: str
    api_key_hash: bytes | None
    secret: Secret | None
    require_timestamp: bool = True
    enabled: bool = True
    ip_allowlist: tuple[str, ...] = ()
    telegram_chat_ids: frozenset[int] = frozenset()
    row_version: int = 1


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Risk limits as somebody set them: for a user, one account or one strategy of the user, or both together."""

    id: UUID
    user_id: UUID
    account_id: UUID | None
    limits: RiskLimits
    strategy_id: UUID | None = None

    @property
    def place(self) -> tuple[UUID, UUID | None, UUID | None]:
        """User, account and strategy: there is one set of limits for each."""
        return (self.user_id, self.account_id, self.strategy_id)


class Directory:
    """Lookups over the records above; a single writer keeps it."""

    def __init__(self) -> None:
        self.accounts: dict[UUID, Account] = {}
        self.strategies: dict[UUID, Strategy] = {}
        self.sources: dict[UUID, Source] = {}
        self.limits: dict[tuple[UUID, UUID | None, UUID | None], Limits] = {}
        self._limits_of: dict[UUID, dict[tuple[UUID | None, UUID | None], Limits]] = {}
        self._source_by_key: dict[bytes, UUID] = {}
        self._source_by_chat: dict[int, UUID] = {}

    def put_account(self, account: Account) -> None:
        """Add or replace an account."""
        self.accounts[account.id] = account

    def put_strategy(self, strategy: Strategy) -> None:
        """Add or replace a strategy."""
        self.strategies[strategy.id] = strategy

    def put_source(self, source: Source) -> None:
        """Add or replace a source; an old key of it stops working."""
        before = self.sources.get(source.id)
        if before is not None:
            if before.api_key_hash is not None:
                self._source_by_key.pop(before.api_key_hash, None)
            for chat in before.telegram_chat_ids:
                self._source_by_chat.pop(chat, None)
        self.sources[source.id] = source
        if source.api_key_hash is not None:
            self._source_by_key[source.api_key_hash] = source.id
        for chat in source.telegram_chat_ids:
            self._source_by_chat[chat] = source.id

    def source_by_key_hash(self, digest: bytes) -> Source | None:
        """Return the source whose API key has this SHA-256."""
        found = self._source_by_key.get(digest)
        return None if found is None else self.sources[found]

    def source_by_chat(self, chat_id: int) -> Source | None:
        """Return the telegram source that a chat may signal for."""
        found = self._source_by_chat.get(chat_id)
        return None if found is None else self.sources[found]

    def put_limits(self, limits: Limits) -> None:
        """Add or replace limits of a user, an account or a strategy."""
        self.limits[limits.place] = limits
        self._limits_of.setdefault(limits.user_id, {})[limits.account_id, limits.strategy_id] = limits

    def limits_of(self, user_id: UUID) -> Mapping[tuple[UUID | None, UUID | None], Limits]:
        """Return the limits that were set for a user, by account and strategy."""
        return self._limits_of.get(user_id, {})

    def remove(self, record_id: UUID) -> None:
        """Forget an account, strategy or source."""
        self.accounts.pop(record_id, None)
        self.strategies.pop(record_id, None)
        source = self.sources.get(record_id)
        if source is not None:
            self.put_source(msgspec.structs.replace(source, api_key_hash=None, telegram_chat_ids=frozenset()))
            del self.sources[record_id]

    def accounts_of(self, user_id: UUID) -> Iterable[Account]:
        """Return the accounts that a user owns."""
        return [account for account in self.accounts.values() if account.user_id == user_id]
