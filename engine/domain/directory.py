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
from engine.domain.source_checks import NO_CHECKS, SourceChecks
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


class OldKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The key (SHA-256) and secret of a source before its last rotation, believed until ``until`` (aware UTC)."""

    api_key_hash: bytes
    secret: Secret
    until: datetime


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """A source of signals; ``api_key_hash`` is SHA-256 of the key that names it.

    ``telegram_user_ids`` are the people who may signal in its chats; empty: everybody there. Whatever its signature
    allows, it opens orders only in ``allowed_symbols`` (None: those of its strategy) and of at most ``max_order_value``
    rupees each (None: as risk allows). ``old`` is the pair before the last rotation while that is in its grace. A
    source with ``expect_every_s`` is expected to be heard that often while the market is open. With ``strict_replay``
    one signed message is taken once, whatever key it comes under.
    """

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
    telegram_user_ids: frozenset[int] = frozenset()
    row_version: int = 1
    allowed_symbols: frozenset[str] | None = None
    max_order_value: Decimal | None = None
    old: OldKeys | None = None
    checks: SourceChecks = NO_CHECKS
    expect_every_s: int | None = None
    strict_replay: bool = False

    def secrets(self, now: datetime) -> tuple[Secret, ...]:
        """Return the secrets that are believed at *now*, the newest first."""
        old = self.old is not None and now < self.old.until
        found = (self.secret, self.old.secret if self.old is not None and old else None)
        return tuple(secret for secret in found if secret is not None)

    def secret_of_key(self, digest: bytes, now: datetime) -> Secret | None:
        """Return the secret that goes with the API key of this SHA-256 at *now*; None for a key that is over."""
        if digest == self.api_key_hash:
            return self.secret
        if self.old is not None and digest == self.old.api_key_hash and now < self.old.until:
            return self.old.secret
        return None

    def hears(self, telegram_user_id: int) -> bool:
        """Whether a person may signal in the chats of the source."""
        return not self.telegram_user_ids or telegram_user_id in self.telegram_user_ids


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
        self._accounts_of: dict[UUID, dict[UUID, Account]] = {}
        # worked out when asked for, and again after a change of an account or strategy
        self._capital_of: dict[UUID, Decimal] = {}
        self._capital_under: dict[UUID, Decimal] = {}
        self.strategies: dict[UUID, Strategy] = {}
        self.sources: dict[UUID, Source] = {}
        self.limits: dict[tuple[UUID, UUID | None, UUID | None], Limits] = {}
        self._limits_of: dict[UUID, dict[tuple[UUID | None, UUID | None], Limits]] = {}
        self._source_by_key: dict[bytes, UUID] = {}
        self._source_by_chat: dict[int, UUID] = {}

    def put_account(self, account: Account) -> None:
        """Add or replace an account."""
        before = self.accounts.get(account.id)
        if before is not None and before.user_id != account.user_id:
            self._accounts_of[before.user_id].pop(account.id, None)
        self.accounts[account.id] = account
        self._accounts_of.setdefault(account.user_id, {})[account.id] = account
        self._forget_capital()

    def put_strategy(self, strategy: Strategy) -> None:
        """Add or replace a strategy."""
        self.strategies[strategy.id] = strategy
        self._forget_capital()

    def put_source(self, source: Source) -> None:
        """Add or replace a source; an old key of it stops working."""
        before = self.sources.get(source.id)
        if before is not None:
            for digest in _key_hashes(before):
                self._source_by_key.pop(digest, None)
            for chat in before.telegram_chat_ids:
                self._source_by_chat.pop(chat, None)
        self.sources[source.id] = source
        for digest in _key_hashes(source):
            self._source_by_key[digest] = source.id
        for chat in source.telegram_chat_ids:
            self._source_by_chat[chat] = source.id

    def source_by_key_hash(self, digest: bytes) -> Source | None:
        """Return the source whose API key, today's or the one before, has this SHA-256 (`Source.secret_of_key`)."""
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

    def drop_limits(self, dropped: Iterable[Limits]) -> None:
        """Forget limits of what is deleted."""
        for limits in dropped:
            self.limits.pop(limits.place, None)
            self._limits_of.get(limits.user_id, {}).pop((limits.account_id, limits.strategy_id), None)

    def remove(self, record_id: UUID) -> None:
        """Forget an account, strategy or source."""
        account = self.accounts.pop(record_id, None)
        if account is not None:
            self._accounts_of[account.user_id].pop(record_id, None)
        self.strategies.pop(record_id, None)
        self._forget_capital()
        source = self.sources.get(record_id)
        if source is not None:
            self.put_source(msgspec.structs.replace(source, api_key_hash=None, old=None, telegram_chat_ids=frozenset()))
            del self.sources[record_id]

    def accounts_of(self, user_id: UUID) -> Iterable[Account]:
        """Return the accounts that a user owns."""
        return list(self._accounts_of.get(user_id, {}).values())

    def capital_of(self, user_id: UUID) -> Decimal:
        """Return the capital, in rupees, of all accounts of a user."""
        found = self._capital_of.get(user_id)
        if found is None:
            accounts = self._accounts_of.get(user_id, {}).values()
            found = self._capital_of[user_id] = sum((account.capital for account in accounts), Decimal(0))
        return found

    def capital_under(self, strategy_id: UUID) -> Decimal:
        """Return the capital, in rupees, of the accounts that a strategy trades."""
        found = self._capital_under.get(strategy_id)
        if found is None:
            strategy = self.strategies.get(strategy_id)
            ids = set() if strategy is None else {target.account_id for target in strategy.targets}
            held = (self.accounts.get(each) for each in ids)
            capitals = (account.capital for account in held if account is not None)
            found = self._capital_under[strategy_id] = sum(capitals, Decimal(0))
        return found

    def _forget_capital(self) -> None:
        self._capital_of.clear()
        self._capital_under.clear()


def _key_hashes(source: Source) -> tuple[bytes, ...]:
    found = (source.api_key_hash, None if source.old is None else source.old.api_key_hash)
    return tuple(digest for digest in found if digest is not None)
