"""The registrar: the one writer of accounts, strategies, sources and limits.

Each change is one ledger entry (rows and audit record together); the directory changes when it is on
disk, so memory never promises what a crash would take back, and it does so whether or not the caller
still waits: a client that went away must not leave memory behind the store. No mailbox.

A change replaces the whole of what it is about. So whoever makes one from what it reads here holds `changing` from the
reading on: a change beside it would be undone, a key that was rotated be good again.
"""

from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock
from engine.domain.audit import AuditDraft
from engine.domain.directory import Account, BrokerLogin, Directory, Limits, Source, Strategy
from engine.domain.enums import AccountStatus, CapitalFrom
from engine.domain.grants import GrantBook, ReadGrant
from engine.errors import UnavailableError
from engine.runtime.keyed_lock import KeyedLock
from engine.store.account_logins import write_login
from engine.store.directory import (
    Vault,
    delete,
    delete_limits,
    write_account,
    write_account_status,
    write_capital,
    write_end_of_old_keys,
    write_limits,
    write_source,
    write_strategy,
)
from engine.store.grants import delete_grants, write_grant
from engine.store.ledger import Write
from engine.store.telegram import write_senders


def _no_change(_account: Account) -> None:
    return None


class Registrar:
    """Changes the directory, durably and on the record."""

    def __init__(
        self,
        *,
        directory: Directory,
        vault: Vault,
        ledger: AuditWriter,
        clock: Clock,
        on_account: Callable[[Account], None] = _no_change,
    ) -> None:
        self._directory = directory
        self._vault = vault
        self._ledger = ledger
        self._clock = clock
        self.on_account = on_account
        self._changing = KeyedLock()

    @asynccontextmanager
    async def changing(self, owner: UUID, *more: Hashable) -> AsyncIterator[None]:
        """Keep other changes away from what belongs to *owner*, and from whatever else *more* names.

        A holder asks for no more. Raises UnavailableError when others are at it for too long.
        """
        async with AsyncExitStack() as held:
            try:
                await held.enter_async_context(self._changing.of(owner, *more))
            except trio.TooSlowError:
                text = "other changes of the same owner are on their way; try again"
                raise UnavailableError(text, retry_after_s=2) from None
            yield

    async def put_account(self, account: Account, *, by: str, action: str) -> Account:
        """Add or replace an account; raises what `AuditWriter.write` raises (a label may be taken)."""
        before = self._directory.accounts.get(account.id)
        version = self._next_version(before)
        account = msgspec.structs.replace(account, row_version=version)
        content = {"label": account.label, "broker": account.broker, "capital": account.capital}
        await self._write(
            (
                write_account(account, self._vault, at=self._clock.now()),
                write_login(account.id, account.login, at=self._clock.now()),
            ),
            by=by,
            action=action,
            subject=f"account:{account.id}",
            content={
                **content,
                "status": account.status.value,
                "before": None if before is None else _account_told(before),
                "after": _account_told(account),
            },
            publish=lambda: self._publish_account(account),
        )
        return account

    def _publish_account(self, account: Account) -> None:
        self._directory.put_account(account)
        self.on_account(account)

    def account_status_nowait(self, account_id: UUID, status: AccountStatus, reason: str | None) -> None:
        """Change an account's state at once; the record follows. The same state again changes nothing.

        It is about the account as it stands: a change of the whole account that is on its way to disk, such as a
        login, is not undone by what the session before it came to.
        """
        account = self._directory.accounts.get(account_id)
        if account is None or account.status is status:
            return
        version = account.row_version

        def apply() -> None:
            now_held = self._directory.accounts.get(account_id)
            if now_held is not None and now_held.row_version == version:
                changed = msgspec.structs.replace(now_held, status=status, status_reason=reason)
                self._directory.put_account(changed)

        apply()
        self._ledger.append(
            LedgerEntry(
                writes=(write_account_status(account_id, status, reason, version=version, at=self._clock.now()),),
                audit=(self._draft("system", f"ACCOUNT_{status}", f"account:{account_id}", {"reason": reason}),),
            )
        )

    def capital_nowait(self, account_id: UUID, capital: Decimal) -> None:
        """Take over what the broker says the capital of an account is now, in rupees; a change is put on record.

        An account whose capital a person has stated meanwhile keeps that. Raises MailboxFull, nothing changed then.
        """
        held = self._directory.accounts.get(account_id)
        if held is None or held.capital_from is not CapitalFrom.BROKER:
            return
        now = self._clock.now()
        is_news = held.capital != capital or held.capital_read_at is None
        if is_news:
            content = {"before": held.capital, "after": capital}
            self._ledger.append(
                LedgerEntry(
                    writes=(write_capital(account_id, capital, at=now),),
                    audit=(self._draft("system", "CAPITAL_READ", f"account:{account_id}", content),),
                )
            )
        self._directory.put_account(msgspec.structs.replace(held, capital=capital, capital_read_at=now))

    async def note_login(self, account_id: UUID, login: BrokerLogin, *, action: str) -> None:
        """Keep what was learned of the session that an account has already; nothing else of it changes."""

        def publish() -> None:
            now_held = self._directory.accounts.get(account_id)
            if now_held is not None:
                self._directory.put_account(msgspec.structs.replace(now_held, login=login))

        await self._write(
            (write_login(account_id, login, at=self._clock.now()),),
            by="system",
            action=action,
            subject=f"account:{account_id}",
            content={"brokerUserId": login.broker_user_id},
            publish=publish,
        )

    async def put_strategy(self, strategy: Strategy, *, by: str, action: str) -> Strategy:
        """Add or replace a strategy with its accounts."""
        before = self._directory.strategies.get(strategy.id)
        await self._write(
            write_strategy(strategy, at=self._clock.now()),
            by=by,
            action=action,
            subject=f"strategy:{strategy.id}",
            content={
                "name": strategy.name,
                "enabled": strategy.enabled,
                "approval": strategy.approval,
                "groupPolicy": strategy.group_policy.value,
                "accounts": [
                    {"accountId": t.account_id, "mode": t.mode.value, "value": t.value} for t in strategy.targets
                ],
                "before": None if before is None else _strategy_told(before),
                "after": _strategy_told(strategy),
            },
            publish=lambda: self._directory.put_strategy(strategy),
        )
        return strategy

    async def put_source(self, source: Source, *, by: str, action: str) -> Source:
        """Add or replace a source; its secret is sealed anew."""
        before = self._directory.sources.get(source.id)
        version = self._next_version(before)
        source = msgspec.structs.replace(source, row_version=version)
        await self._write(
            (write_source(source, self._vault, at=self._clock.now()), write_senders(source)),
            by=by,
            action=action,
            subject=f"source:{source.id}",
            content={
                "type": source.type.value,
                "name": source.name,
                "strategyId": source.strategy_id,
                "before": None if before is None else _source_told(before),
                "after": _source_told(source),
            },
            publish=lambda: self._directory.put_source(source),
        )
        return source

    async def end_old_keys(self, source: Source) -> None:
        """Take the keys of before its last rotation away from *source*; nothing else of it changes.

        By their own date: a rotation that is on its way to disk is not undone.
        """
        if source.old is None:
            return
        until = source.old.until

        def publish() -> None:
            held = self._directory.sources.get(source.id)
            if held is not None and held.old is not None and held.old.until == until:
                self._directory.put_source(msgspec.structs.replace(held, old=None))

        await self._write(
            (write_end_of_old_keys(source.id, until, at=self._clock.now()),),
            by="system",
            action="SOURCE_OLD_KEYS_ENDED",
            subject=f"source:{source.id}",
            content={"until": until},
            publish=publish,
        )

    async def put_limits(self, limits: Limits, *, by: str, action: str) -> Limits:
        """Set the limits of a user or of one account."""
        before = self._directory.limits.get(limits.place)
        await self._write(
            (write_limits(limits, at=self._clock.now()),),
            by=by,
            action=action,
            subject=f"limits:{limits.id}",
            content={
                "userId": limits.user_id,
                "accountId": limits.account_id,
                "strategyId": limits.strategy_id,
                "before": None if before is None else msgspec.to_builtins(before.limits),
                "after": msgspec.to_builtins(limits.limits),
            },
            publish=lambda: self._directory.put_limits(limits),
        )
        return limits

    async def put_grant(self, grant: ReadGrant, book: GrantBook) -> None:
        """Let a viewer read; raises what `AuditWriter.write` raises (it may be granted already)."""
        await self._write(
            (write_grant(grant),),
            by=grant.granted_by,
            action="READ_GRANTED",
            subject=f"user:{grant.viewer_id}",
            content={"userId": grant.owner_id, "accountId": grant.account_id},
            publish=lambda: book.put(grant),
        )

    async def remove_grants(self, grants: Sequence[ReadGrant], book: GrantBook, *, by: str) -> None:
        """Take grants back, all of one viewer or of one account."""
        ids = [grant.id for grant in grants]
        await self._write(
            (delete_grants(ids),),
            by=by,
            action="READ_REVOKED",
            subject=f"user:{grants[0].viewer_id}",
            content={
                "grants": [{"viewerId": g.viewer_id, "userId": g.owner_id, "accountId": g.account_id} for g in grants]
            },
            publish=lambda: book.remove(*ids),
        )

    async def remove_account(self, account_id: UUID, *, by: str) -> None:
        """Delete an account, with it its place in strategies and its limits; its history stays."""
        at, directory = self._clock.now(), self._directory
        without = [
            msgspec.structs.replace(s, targets=tuple(t for t in s.targets if t.account_id != account_id))
            for s in directory.strategies.values()
            if any(target.account_id == account_id for target in s.targets)
        ]
        limits = [each for each in directory.limits.values() if each.account_id == account_id]

        def publish() -> None:
            for strategy in without:
                directory.put_strategy(strategy)
            directory.drop_limits(limits)
            directory.remove(account_id)

        rewritten = [write for strategy in without for write in write_strategy(strategy, at=at)]
        await self._write(
            (*rewritten, delete_limits([each.id for each in limits]), delete("kite_accounts", account_id, at=at)),
            by=by,
            action="DELETED",
            subject=f"kite_accounts:{account_id}",
            content={"strategies": [s.id for s in without], "limits": [each.id for each in limits]},
            publish=publish,
        )

    async def remove_strategy(self, strategy_id: UUID, *, by: str) -> None:
        """Delete a strategy, with it its sources and its limits; its history stays."""
        at, directory = self._clock.now(), self._directory
        sources = [source.id for source in directory.sources.values() if source.strategy_id == strategy_id]
        limits = [each for each in directory.limits.values() if each.strategy_id == strategy_id]

        def publish() -> None:
            for source_id in sources:
                directory.remove(source_id)
            directory.drop_limits(limits)
            directory.remove(strategy_id)

        ended = [delete("signal_sources", source_id, at=at) for source_id in sources]
        await self._write(
            (*ended, delete_limits([each.id for each in limits]), delete("strategies", strategy_id, at=at)),
            by=by,
            action="DELETED",
            subject=f"strategies:{strategy_id}",
            content={"sources": sources, "limits": [each.id for each in limits]},
            publish=publish,
        )

    async def remove_source(self, source_id: UUID, *, by: str) -> None:
        """Delete a source; its history stays."""
        await self._write(
            (delete("signal_sources", source_id, at=self._clock.now()),),
            by=by,
            action="DELETED",
            subject=f"signal_sources:{source_id}",
            content={},
            publish=lambda: self._directory.remove(source_id),
        )

    async def _write(
        self,
        writes: Sequence[Write],
        *,
        by: str,
        action: str,
        subject: str,
        content: dict[str, Any],
        publish: Callable[[], None],
    ) -> None:
        audit = (self._draft(by, action, subject, content),)
        await self._ledger.write(LedgerEntry(writes=writes, audit=audit, on_commit=publish))

    def _draft(self, by: str, action: str, subject: str, content: dict[str, Any]) -> AuditDraft:
        return AuditDraft(at=self._clock.now(), actor=by, action=action, subject=subject, content=content)

    @staticmethod
    def _next_version(held: Account | Source | None) -> int:
        return 1 if held is None else held.row_version + 1


def _account_told(account: Account) -> dict[str, Any]:
    """Return what the record says of an account: never a key."""
    return {
        "label": account.label,
        "capital": account.capital,
        "capitalFrom": account.capital_from.value,
        "status": account.status.value,
        "marketProtection": account.market_protection,
        "hasToken": account.access_token is not None,
    }


def _strategy_told(strategy: Strategy) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(strategy, str_keys=True)
    symbols = told.get("allowed_symbols")
    return told if symbols is None else told | {"allowed_symbols": sorted(symbols)}


def _source_told(source: Source) -> dict[str, Any]:
    """Return what the record says of a source: of its keys only a digest, so that a rotation shows."""
    return {
        "name": source.name,
        "strategyId": source.strategy_id,
        "enabled": source.enabled,
        "requireTimestamp": source.require_timestamp,
        "ipAllowlist": list(source.ip_allowlist),
        "telegramChatIds": sorted(source.telegram_chat_ids),
        "allowedSymbols": None if source.allowed_symbols is None else sorted(source.allowed_symbols),
        "maxOrderValue": source.max_order_value,
        "keySha256": None if source.api_key_hash is None else source.api_key_hash.hex(),
    }
