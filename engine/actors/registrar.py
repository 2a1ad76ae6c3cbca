"""The registrar: the one writer of accounts, strategies, sources and limits.

Each change is one ledger entry (rows and audit record together); the directory changes when it is on
disk, so memory never promises what a crash would take back, and it does so whether or not the caller
still waits: a client that went away must not leave memory behind the store. No mailbox.
"""

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from engine.actors.audit_writer import AuditWriter
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock
from engine.domain.audit import AuditDraft
from engine.domain.directory import Account, BrokerLogin, Directory, Limits, Source, Strategy
from engine.domain.enums import AccountStatus, CapitalFrom
from engine.store.account_logins import write_login
from engine.store.directory import (
    Vault,
    delete,
    write_account,
    write_account_status,
    write_capital,
    write_limits,
    write_source,
    write_strategy,
)
from engine.store.ledger import Write


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

    async def put_account(self, account: Account, *, by: str, action: str) -> Account:
        """Add or replace an account; raises what `AuditWriter.write` raises (a label may be taken)."""
        version = self._next_version(self._directory.accounts.get(account.id))
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
            content={**content, "status": account.status.value},
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
            },
            publish=lambda: self._directory.put_strategy(strategy),
        )
        return strategy

    async def put_source(self, source: Source, *, by: str, action: str) -> Source:
        """Add or replace a source; its secret is sealed anew."""
        version = self._next_version(self._directory.sources.get(source.id))
        source = msgspec.structs.replace(source, row_version=version)
        await self._write(
            (write_source(source, self._vault, at=self._clock.now()),),
            by=by,
            action=action,
            subject=f"source:{source.id}",
            content={"type": source.type.value, "name": source.name, "strategyId": source.strategy_id},
            publish=lambda: self._directory.put_source(source),
        )
        return source

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

    async def remove(self, table: str, record_id: UUID, *, by: str) -> None:
        """Delete an account, strategy or source; its history stays."""
        await self._write(
            (delete(table, record_id, at=self._clock.now()),),
            by=by,
            action="DELETED",
            subject=f"{table}:{record_id}",
            content={},
            publish=lambda: self._directory.remove(record_id),
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
