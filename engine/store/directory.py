"""Accounts, strategies, sources and limits in the store; secrets sealed, each to its own row.

Reads are units of work; writes are statements for a ledger entry, so that each goes with its audit
record in one transaction.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.directory import Account, BrokerLogin, Directory, Limits, OldKeys, Source, Strategy, Target
from engine.domain.enums import AccountStatus, CapitalFrom, GroupPolicy, SizingMode, SourceType
from engine.domain.limits import RiskLimits, TradingWindow
from engine.domain.source_checks import SourceChecks
from engine.secret import Secret
from engine.security.envelope import KeyRing, Place
from engine.store import data_keys
from engine.store.account_logins import all_logins
from engine.store.ledger import Write


class Vault:
    """Seals and opens the secrets of rows."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    @property
    def ring(self) -> KeyRing:
        """The keys."""
        return self._ring

    def seal(
        self,
        secret: Secret | None,
        *,
        table: str,
        column: str,
        row_id: UUID,
        version: int,
        user_id: UUID | None = None,
    ) -> bytes | None:
        """Return the record of *secret* for its place, None for none; *user_id* is whose it is. Raises SealRefused."""
        if secret is None:
            return None
        place = Place(table=table, column=column, row_id=row_id, version=version, user_id=user_id)
        return self._ring.seal(secret.reveal().encode(), place)

    def open(
        self,
        record: bytes | None,
        *,
        table: str,
        column: str,
        row_id: UUID,
        version: int,
        user_id: UUID | None = None,
    ) -> Secret | None:
        """Return the secret of a record. Raises SecretUnreadable."""
        if record is None:
            return None
        place = Place(table=table, column=column, row_id=row_id, version=version, user_id=user_id)
        return Secret(self._ring.open(record, place).decode())


def _account(row: Any, vault: Vault, login: BrokerLogin | None) -> Account:
    def secret(column: str) -> Secret | None:
        return vault.open(
            row[column],
            table="kite_accounts",
            column=column,
            row_id=row["id"],
            version=row["row_version"],
            user_id=row["user_id"],
        )

    return Account(
        id=row["id"],
        user_id=row["user_id"],
        label=row["label"],
        broker=row["broker"],
        capital=row["capital"],
        status=AccountStatus(row["status"]),
        status_reason=row["status_reason"],
        api_key=row["api_key"],
        api_secret=secret("api_secret"),
        access_token=secret("access_token"),
        row_version=row["row_version"],
        market_protection=row["market_protection"].normalize(),
        login=login,
        capital_from=CapitalFrom(row["capital_from"]),
        capital_read_at=row["capital_read_at"],
    )


def _source(row: Any, vault: Vault) -> Source:
    def secret(column: str) -> Secret | None:
        return vault.open(
            row[column],
            table="signal_sources",
            column=column,
            row_id=row["id"],
            version=row["row_version"],
            user_id=row["user_id"],
        )

    old_secret = secret("old_secret")
    old = None
    if old_secret is not None:
        old = OldKeys(api_key_hash=row["old_api_key_hash"], secret=old_secret, until=row["old_until"])
    return Source(
        id=row["id"],
        user_id=row["user_id"],
        strategy_id=row["strategy_id"],
        type=SourceType(row["type"]),
        name=row["name"],
        api_key_hash=row["api_key_hash"],
        secret=secret("secret"),
        require_timestamp=row["require_timestamp"],
        enabled=row["enabled"],
        ip_allowlist=tuple(row["ip_allowlist"] or ()),
        telegram_chat_ids=frozenset(row["telegram_chat_ids"] or ()),
        telegram_user_ids=frozenset(row["telegram_user_ids"] or ()),
        row_version=row["row_version"],
        allowed_symbols=None if row["allowed_symbols"] is None else frozenset(row["allowed_symbols"]),
        max_order_value=row["max_order_value"],
        old=old,
        checks=msgspec.convert(row["checks"], SourceChecks, strict=False),
        expect_every_s=row["expect_every_s"],
        strict_replay=row["strict_replay"],
    )


def _window(start: str | None, end: str | None) -> TradingWindow | None:
    return None if start is None or end is None else TradingWindow(start=start, end=end)


async def load(connection: Any, vault: Vault, directory: Directory) -> None:
    """Fill *directory* from the store. Raises SecretUnreadable when the master key does not fit."""
    await data_keys.load(connection, vault.ring)
    logins = await all_logins(connection)
    for row in await connection.fetch("SELECT * FROM kite_accounts WHERE deleted_at IS NULL"):
        directory.put_account(_account(row, vault, logins.get(row["id"])))
    targets: defaultdict[UUID, list[Target]] = defaultdict(list)
    for row in await connection.fetch("SELECT * FROM strategy_accounts ORDER BY account_id"):
        mode = SizingMode(row["sizing_mode"])
        targets[row["strategy_id"]].append(
            Target(
                account_id=row["account_id"],
                mode=mode,
                value=row["sizing_value"],
                max_quantity=row["max_quantity"],
                max_value=row["max_value"],
            )
        )
    for row in await connection.fetch("SELECT * FROM strategies WHERE deleted_at IS NULL"):
        symbols = row["allowed_symbols"]
        directory.put_strategy(
            Strategy(
                id=row["id"],
                user_id=row["user_id"],
                name=row["name"],
                enabled=row["enabled"],
                approval=row["approval"],
                approval_ttl_s=row["approval_ttl_s"],
                approval_price_move_pct=row["approval_price_move_pct"],
                group_policy=GroupPolicy(row["group_policy"]),
                group_deadline_s=row["group_deadline_s"],
                entry_window=_window(row["entry_start"], row["entry_end"]),
                square_off_at=row["square_off_at"],
                allowed_symbols=None if symbols is None else frozenset(symbols),
                defaults=row["defaults"],
                targets=tuple(targets[row["id"]]),
            )
        )
    for row in await connection.fetch("SELECT * FROM signal_sources WHERE deleted_at IS NULL"):
        directory.put_source(_source(row, vault))
    for row in await connection.fetch("SELECT * FROM risk_limits"):
        directory.put_limits(
            Limits(
                id=row["id"],
                user_id=row["user_id"],
                account_id=row["account_id"],
                limits=msgspec.convert(row["limits"], RiskLimits, strict=False),
                strategy_id=row["strategy_id"],
            )
        )


def write_account(account: Account, vault: Vault, *, at: datetime) -> Write:
    """Return the statement that adds *account*, or replaces it at a higher row version."""

    def sealed(secret: Secret | None, column: str) -> bytes | None:
        return vault.seal(
            secret,
            table="kite_accounts",
            column=column,
            row_id=account.id,
            version=account.row_version,
            user_id=account.user_id,
        )

    return Write(
        sql="INSERT INTO kite_accounts (id, user_id, label, broker, capital, status, status_reason, api_key,"
        " api_secret, access_token, row_version, created_at, updated_at, market_protection,"
        " capital_from, capital_read_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13, $14, $15)"
        " ON CONFLICT (id) DO UPDATE SET label = excluded.label, capital = excluded.capital, status = excluded.status,"
        " status_reason = excluded.status_reason, api_key = excluded.api_key, api_secret = excluded.api_secret,"
        " access_token = excluded.access_token, row_version = excluded.row_version, updated_at = excluded.updated_at,"
        " market_protection = excluded.market_protection, capital_from = excluded.capital_from,"
        " capital_read_at = excluded.capital_read_at",
        args=(
            account.id,
            account.user_id,
            account.label,
            account.broker,
            account.capital,
            account.status,
            account.status_reason,
            account.api_key,
            sealed(account.api_secret, "api_secret"),
            sealed(account.access_token, "access_token"),
            account.row_version,
            at,
            account.market_protection,
            account.capital_from,
            account.capital_read_at,
        ),
    )


def write_account_status(
    account_id: UUID, status: AccountStatus, reason: str | None, *, version: int, at: datetime
) -> Write:
    """Return the statement that changes the state of an account, and nothing else of it, as of its *version*."""
    return Write(
        sql="UPDATE kite_accounts SET status = $2, status_reason = $3, updated_at = $4"
        " WHERE id = $1 AND row_version = $5",
        args=(account_id, status, reason, at, version),
    )


def write_capital(account_id: UUID, capital: Decimal, *, at: datetime) -> Write:
    """Return the statement that keeps what the broker said the capital of an account is, rupees, as of *at*."""
    return Write(
        sql="UPDATE kite_accounts SET capital = $2, capital_read_at = $3, updated_at = $3"
        " WHERE id = $1 AND capital_from = 'BROKER'",
        args=(account_id, capital, at),
    )


def write_strategy(strategy: Strategy, *, at: datetime) -> tuple[Write, ...]:
    """Return the statements that add *strategy*, or replace it and its accounts."""
    symbols = None if strategy.allowed_symbols is None else sorted(strategy.allowed_symbols)
    window = strategy.entry_window
    head = Write(
        sql="INSERT INTO strategies (id, user_id, name, enabled, approval, allowed_symbols, defaults, created_at,"
        " updated_at, approval_ttl_s, approval_price_move_pct, group_policy, group_deadline_s, entry_start, entry_end,"
        " square_off_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11, $12, $13, $14, $15)"
        " ON CONFLICT (id) DO UPDATE SET name = excluded.name, enabled = excluded.enabled,"
        " approval = excluded.approval, allowed_symbols = excluded.allowed_symbols, defaults = excluded.defaults,"
        " updated_at = excluded.updated_at, approval_ttl_s = excluded.approval_ttl_s,"
        " approval_price_move_pct = excluded.approval_price_move_pct, group_policy = excluded.group_policy,"
        " group_deadline_s = excluded.group_deadline_s, entry_start = excluded.entry_start,"
        " entry_end = excluded.entry_end, square_off_at = excluded.square_off_at",
        args=(
            strategy.id,
            strategy.user_id,
            strategy.name,
            strategy.enabled,
            strategy.approval,
            symbols,
            strategy.defaults,
            at,
            strategy.approval_ttl_s,
            strategy.approval_price_move_pct,
            strategy.group_policy,
            strategy.group_deadline_s,
            None if window is None else window.start,
            None if window is None else window.end,
            strategy.square_off_at,
        ),
    )
    clear = Write(sql="DELETE FROM strategy_accounts WHERE strategy_id = $1", args=(strategy.id,))
    targets = tuple(
        Write(
            sql="INSERT INTO strategy_accounts (strategy_id, account_id, sizing_mode, sizing_value, max_quantity,"
            " max_value) VALUES ($1, $2, $3, $4, $5, $6)",
            args=(
                strategy.id,
                target.account_id,
                target.mode,
                target.value,
                target.max_quantity,
                target.max_value,
            ),
        )
        for target in strategy.targets
    )
    return (head, clear, *targets)


def write_source(source: Source, vault: Vault, *, at: datetime) -> Write:
    """Return the statement that adds *source*, or replaces it at a higher row version."""

    def sealed(secret: Secret | None, column: str) -> bytes | None:
        return vault.seal(
            secret,
            table="signal_sources",
            column=column,
            row_id=source.id,
            version=source.row_version,
            user_id=source.user_id,
        )

    old = source.old
    return Write(
        sql="INSERT INTO signal_sources (id, user_id, strategy_id, type, name, api_key_hash, secret, require_timestamp,"
        " ip_allowlist, telegram_chat_ids, enabled, row_version, created_at, updated_at, allowed_symbols,"
        " max_order_value, old_api_key_hash, old_secret, old_until, checks, expect_every_s, strict_replay)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13, $14, $15, $16, $17, $18, $19, $20, $21)"
        " ON CONFLICT (id) DO UPDATE SET strategy_id = excluded.strategy_id, name = excluded.name,"
        " api_key_hash = excluded.api_key_hash, secret = excluded.secret,"
        " require_timestamp = excluded.require_timestamp, ip_allowlist = excluded.ip_allowlist,"
        " telegram_chat_ids = excluded.telegram_chat_ids, enabled = excluded.enabled,"
        " row_version = excluded.row_version, updated_at = excluded.updated_at,"
        " allowed_symbols = excluded.allowed_symbols, max_order_value = excluded.max_order_value,"
        " old_api_key_hash = excluded.old_api_key_hash, old_secret = excluded.old_secret,"
        " old_until = excluded.old_until, checks = excluded.checks, expect_every_s = excluded.expect_every_s,"
        " strict_replay = excluded.strict_replay",
        args=(
            source.id,
            source.user_id,
            source.strategy_id,
            source.type,
            source.name,
            source.api_key_hash,
            sealed(source.secret, "secret"),
            source.require_timestamp,
            list(source.ip_allowlist) or None,
            sorted(source.telegram_chat_ids) or None,
            source.enabled,
            source.row_version,
            at,
            None if source.allowed_symbols is None else sorted(source.allowed_symbols),
            source.max_order_value,
            None if old is None else old.api_key_hash,
            None if old is None else sealed(old.secret, "old_secret"),
            None if old is None else old.until,
            # as text: a JSON number would come back from the store as a float
            msgspec.to_builtins(source.checks, builtin_types=()),
            source.expect_every_s,
            source.strict_replay,
        ),
    )


def write_end_of_old_keys(source_id: UUID, until: datetime, *, at: datetime) -> Write:
    """Return the statement that takes the old keys that were believed *until* then away from a source."""
    return Write(
        sql="UPDATE signal_sources SET old_api_key_hash = NULL, old_secret = NULL, old_until = NULL, updated_at = $3"
        " WHERE id = $1 AND old_until = $2",
        args=(source_id, until, at),
    )


def write_limits(limits: Limits, *, at: datetime) -> Write:
    """Return the statement that adds or replaces *limits*."""
    # as text: a JSON number would come back from the store as a float
    value = msgspec.to_builtins(limits.limits, builtin_types=(), str_keys=True)
    return Write(
        sql="INSERT INTO risk_limits (id, user_id, account_id, limits, created_at, updated_at, strategy_id)"
        " VALUES ($1, $2, $3, $4, $5, $5, $6)"
        " ON CONFLICT (id) DO UPDATE SET limits = excluded.limits, updated_at = excluded.updated_at",
        args=(limits.id, limits.user_id, limits.account_id, value, at, limits.strategy_id),
    )


def delete_limits(limits_ids: Sequence[UUID]) -> Write:
    """Return the statement that ends limits, those of what is deleted."""
    return Write(sql="DELETE FROM risk_limits WHERE id = ANY($1::uuid[])", args=(list(limits_ids),))


def delete(table: str, row_id: UUID, *, at: datetime) -> Write:
    """Return the statement that marks an account, strategy or source as deleted."""
    if table not in ("kite_accounts", "strategies", "signal_sources"):
        raise ValueError(table)
    return Write(
        sql=f"UPDATE {table} SET deleted_at = $2, updated_at = $2 WHERE id = $1",  # noqa: S608 -- checked above
        args=(row_id, at),
    )
