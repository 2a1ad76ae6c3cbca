"""The first start: the first ADMIN, and in paper mode all that a first signal needs."""

import hashlib
import secrets
from decimal import Decimal
from typing import Any

import msgspec

from engine.clock import Clock
from engine.domain.audit import AuditDraft
from engine.domain.directory import Account, Directory, Source, Strategy, Target
from engine.domain.enums import AccountStatus, Role, SizingMode, SourceType
from engine.errors import StartupError
from engine.ids import uuid7
from engine.secret import Secret
from engine.security.password_rules import check
from engine.security.passwords import hash_password
from engine.security.sessions import UserDirectory, UserRecord
from engine.security.signatures import sign
from engine.store.directory import Vault, write_account, write_source, write_strategy
from engine.store.ledger import Write

PAPER_CAPITAL = Decimal(1_000_000)
_SIGNAL = {
    "symbol": "INFY",
    "exchange": "NSE",
    "transactionType": "BUY",
    "quantity": 10,
    "orderType": "MARKET",
    "productType": "MIS",
}


class FirstRun(msgspec.Struct, frozen=True, kw_only=True):
    """What was made, and what is told once: the password unless it was given, and the source's keys."""

    email: str
    password: str | None
    api_key: str | None
    source_secret: str | None


class FirstRunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The writes and audit records of a first start; the directory takes the records once they are on disk."""

    writes: tuple[Write, ...]
    audit: tuple[AuditDraft, ...]
    user: UserRecord
    account: Account | None
    strategy: Strategy | None
    sources: tuple[Source, ...]
    told: FirstRun

    def publish(self, directory: Directory, users: UserDirectory) -> None:
        """Put what was made into memory."""
        users.put(self.user)
        if self.account is not None:
            directory.put_account(self.account)
        if self.strategy is not None:
            directory.put_strategy(self.strategy)
        for source in self.sources:
            directory.put_source(source)


def new_api_key() -> str:
    """Return a fresh key that names a source."""
    return "src_" + secrets.token_hex(16)


def new_secret() -> str:
    """Return a fresh signing secret: 256 bits as URL-safe text."""
    return secrets.token_urlsafe(32)


def plan(*, paper: bool, email: str, given_password: str | None, vault: Vault, clock: Clock) -> FirstRunPlan:
    """Make the records of a first start, *email* the administrator's.

    Hashing the password takes some 50 ms, so not on the event loop.

    Raises StartupError for a given password that would not be taken from anybody else either.
    """
    now = clock.now()
    password = given_password or secrets.token_urlsafe(15)
    if given_password and (faults := check(given_password, email)):
        raise StartupError(f"ENGINE_ADMIN_PASSWORD {' and '.join(faults)}: set another, or none to have one made")
    user = UserRecord(
        id=uuid7(),
        email=email,
        name="Administrator",
        role=Role.ADMIN,
        password_hash=hash_password(password),
        token_epoch=0,
        disabled=False,
    )
    writes = [
        Write(
            sql="INSERT INTO users (id, email, name, role, password_hash, created_at, updated_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $6)",
            args=(user.id, user.email, user.name, user.role, user.password_hash, now),
        )
    ]

    def draft(action: str, subject: str, content: dict[str, Any]) -> AuditDraft:
        return AuditDraft(at=now, actor="system", action=action, subject=subject, content=content)

    audit = [draft("USER_CREATED", f"user:{user.id}", {"email": user.email, "role": user.role.value})]
    told_password = None if given_password else password
    if not paper:
        told = FirstRun(email=email, password=told_password, api_key=None, source_secret=None)
        return FirstRunPlan(
            writes=tuple(writes),
            audit=tuple(audit),
            user=user,
            account=None,
            strategy=None,
            sources=(),
            told=told,
        )
    account = Account(
        id=uuid7(),
        user_id=user.id,
        label="paper",
        broker="paper",
        capital=PAPER_CAPITAL,
        status=AccountStatus.ACTIVE,
        api_key="paper" + secrets.token_hex(6),
        api_secret=Secret(secrets.token_hex(16)),
    )
    target = Target(account_id=account.id, mode=SizingMode.MULTIPLIER, value=Decimal(1))
    strategy = Strategy(
        id=uuid7(),
        user_id=user.id,
        name="default",
        defaults={"exchange": "NSE", "productType": "MIS", "orderType": "MARKET"},
        targets=(target,),
    )
    api_key, secret = new_api_key(), new_secret()
    sheets = Source(
        id=uuid7(),
        user_id=user.id,
        strategy_id=strategy.id,
        type=SourceType.SHEETS,
        name="sheets",
        api_key_hash=hashlib.sha256(api_key.encode()).digest(),
        secret=Secret(secret),
    )
    telegram = Source(
        id=uuid7(),
        user_id=user.id,
        strategy_id=strategy.id,
        type=SourceType.TELEGRAM,
        name="telegram",
        api_key_hash=None,
        secret=None,
    )
    writes += [
        write_account(account, vault, at=now),
        *write_strategy(strategy, at=now),
        write_source(sheets, vault, at=now),
        write_source(telegram, vault, at=now),
    ]
    audit += [
        draft("ACCOUNT_CREATED", f"account:{account.id}", {"label": account.label, "broker": "paper"}),
        draft("STRATEGY_CREATED", f"strategy:{strategy.id}", {"name": strategy.name}),
        draft("SOURCE_CREATED", f"source:{sheets.id}", {"type": "sheets"}),
        draft("SOURCE_CREATED", f"source:{telegram.id}", {"type": "telegram"}),
    ]
    return FirstRunPlan(
        writes=tuple(writes),
        audit=tuple(audit),
        user=user,
        account=account,
        strategy=strategy,
        sources=(sheets, telegram),
        told=FirstRun(email=email, password=told_password, api_key=api_key, source_secret=secret),
    )


def curl_line(base_url: str, told: FirstRun, clock: Clock) -> str:
    """Return one line for sh that sends a first signed signal and prints the answer; it holds for five minutes."""
    body = msgspec.json.encode(_SIGNAL)
    timestamp = str(int(clock.now().timestamp()))
    signature = sign((told.source_secret or "").encode(), body, timestamp)
    return (
        f"curl -sS -X POST '{base_url}/api/v1/signals/sheets/webhook'"
        f" -H 'Content-Type: application/json' -H 'X-API-Key: {told.api_key}'"
        f" -H 'X-Timestamp: {timestamp}' -H 'X-Signature: {signature}' --data-binary '{body.decode()}'"
    )
