"""The people of the demo with what they own, made at its first start; and whether a place is a demo's to use."""

import hashlib
import secrets
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from engine.demo import script
from engine.domain.audit import AuditDraft
from engine.domain.directory import Account, Directory, Limits, Source, Strategy, Target
from engine.domain.enums import AccountStatus, Role, SizingMode, SourceType
from engine.domain.limits import RiskLimits
from engine.errors import StartupError
from engine.ids import uuid7
from engine.journal.store import JournalStore
from engine.secret import Secret
from engine.security.sessions import UserDirectory, UserRecord
from engine.store.database import Database
from engine.store.directory import Vault, write_account, write_limits, write_source, write_strategy
from engine.store.flags import write_latest
from engine.store.ledger import Write
from engine.store.migrate import applied

MARK = "demo.json"
_FLAG = "demo"
_MAY_STAND = frozenset({"engine.lock", "logs"})
_DAY_S = 86_400
_REFUSED = "is not a demo's: give --data-dir DIR with a new folder, so that nothing of yours is touched"


def claim(data_dir: Path, seed: int) -> None:
    """Mark *data_dir* as a demo's. Raises StartupError when it is somebody's already, and touches nothing then."""
    mark = data_dir / MARK
    if mark.is_file():
        return
    others = [path.name for path in data_dir.iterdir() if path.name not in _MAY_STAND] if data_dir.is_dir() else []
    if others:
        raise StartupError(f"{data_dir} {_REFUSED}")
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    mark.write_bytes(msgspec.json.encode({"seed": seed}) + b"\n")


def is_demos(data_dir: Path) -> bool:
    """Whether *data_dir* was made by a demo."""
    return (data_dir / MARK).is_file()


async def check_stores(database_url: str | None, redis_url: str | None) -> None:
    """Raise StartupError unless the stores that are given are empty or a demo's; before anything is written to them."""
    if database_url is not None and await applied(database_url):
        database = Database(database_url, max_connections=1)
        await database.open()
        try:
            if await database.run(_is_demos):
                return
            if await database.run(_has_users):
                raise StartupError(f"the database {_REFUSED}, and no [database] url")
        finally:
            await database.close()
    if redis_url is not None and await JournalStore(redis_url).epoch() is not None:
        raise StartupError(f"the journal's server {_REFUSED}, and no [redis] url")


async def _is_demos(connection: Any) -> bool:
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM system_flags WHERE name = $1)", _FLAG))


async def _has_users(connection: Any) -> bool:
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM users)"))


class World(msgspec.Struct, frozen=True, kw_only=True):
    """What is made, and the writes and audit records by which it is."""

    users: Sequence[UserRecord]
    accounts: Sequence[Account]
    strategies: Sequence[Strategy]
    sources: Sequence[Source]
    limits: Sequence[Limits]
    writes: tuple[Write, ...]
    audit: tuple[AuditDraft, ...]

    def publish(self, directory: Directory, users: UserDirectory) -> None:
        """Put it into memory."""
        for user in self.users:
            users.put(user)
        for account in self.accounts:
            directory.put_account(account)
        for strategy in self.strategies:
            directory.put_strategy(strategy)
        for source in self.sources:
            directory.put_source(source)
        for limits in self.limits:
            directory.put_limits(limits)


def make(vault: Vault, *, password_hash: str, seed: int, at: datetime) -> World:
    """Return the world of a demo; everybody has the administrator's password (by its hash)."""
    meera = _user("meera@demo.localhost", "Meera", Role.TRADER, password_hash)
    arjun = _user("arjun@demo.localhost", "Arjun", Role.TRADER, password_hash)
    nisha = _user("nisha@demo.localhost", "Nisha", Role.VIEWER, password_hash)
    hers = _account(meera.id, "meera-main", 500_000)
    his, second = _account(arjun.id, script.DRILLED, 300_000), _account(arjun.id, "arjun-second", 200_000)
    momentum = _strategy(meera.id, "momentum", (hers,))
    reversal = _strategy(arjun.id, "reversal", (his, second))
    desk = msgspec.structs.replace(
        _strategy(arjun.id, "desk", (second,)),
        approval="manual",
        approval_ttl_s=_DAY_S,
        approval_price_move_pct=Decimal(20),
    )
    sources = (
        _source(momentum, SourceType.WEBHOOK, script.MOMENTUM),
        _source(reversal, SourceType.TRADINGVIEW, script.REVERSAL),
        _source(desk, SourceType.TELEGRAM, script.DESK),
    )
    limits = (
        Limits(
            id=uuid7(),
            user_id=meera.id,
            account_id=None,
            limits=RiskLimits(max_order_quantity=500, max_order_value=Decimal(200_000), price_band_pct=Decimal(5)),
        ),
    )
    users, accounts, strategies = (meera, arjun, nisha), (hers, his, second), (momentum, reversal, desk)

    def draft(action: str, subject: str, content: dict[str, Any]) -> AuditDraft:
        return AuditDraft(at=at, actor="system", action=action, subject=subject, content=content)

    return World(
        users=users,
        accounts=accounts,
        strategies=strategies,
        sources=sources,
        limits=limits,
        writes=(
            *(_write_user(user, at) for user in users),
            *(write_account(account, vault, at=at) for account in accounts),
            *(write for strategy in strategies for write in write_strategy(strategy, at=at)),
            *(write_source(source, vault, at=at) for source in sources),
            *(write_limits(each, at=at) for each in limits),
            write_latest(_FLAG, {"seed": seed}, at=at),
        ),
        audit=(
            draft("DEMO_MADE", "demo", {"seed": seed}),
            *(draft("USER_CREATED", f"user:{u.id}", {"email": u.email, "role": u.role.value}) for u in users),
            *(draft("ACCOUNT_CREATED", f"account:{a.id}", {"label": a.label, "broker": "paper"}) for a in accounts),
            *(draft("STRATEGY_CREATED", f"strategy:{s.id}", {"name": s.name}) for s in strategies),
            *(draft("SOURCE_CREATED", f"source:{s.id}", {"type": s.type.value}) for s in sources),
        ),
    )


def _user(email: str, name: str, role: Role, password_hash: str) -> UserRecord:
    return UserRecord(
        id=uuid7(), email=email, name=name, role=role, password_hash=password_hash, token_epoch=0, disabled=False
    )


def _write_user(user: UserRecord, at: datetime) -> Write:
    return Write(
        sql="INSERT INTO users (id, email, name, role, password_hash, created_at, updated_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $6)",
        args=(user.id, user.email, user.name, user.role, user.password_hash, at),
    )


def _account(user_id: UUID, label: str, capital: int) -> Account:
    return Account(
        id=uuid7(),
        user_id=user_id,
        label=label,
        broker="paper",
        capital=Decimal(capital),
        status=AccountStatus.ACTIVE,
        api_key="paper" + secrets.token_hex(6),
        api_secret=Secret(secrets.token_hex(16)),
    )


def _strategy(user_id: UUID, name: str, accounts: Sequence[Account]) -> Strategy:
    return Strategy(
        id=uuid7(),
        user_id=user_id,
        name=name,
        defaults={"exchange": "NSE", "productType": "MIS", "orderType": "MARKET"},
        targets=tuple(Target(account_id=a.id, mode=SizingMode.MULTIPLIER, value=Decimal(1)) for a in accounts),
    )


def _source(strategy: Strategy, kind: SourceType, name: str) -> Source:
    is_chat = kind is SourceType.TELEGRAM
    return Source(
        id=uuid7(),
        user_id=strategy.user_id,
        strategy_id=strategy.id,
        type=kind,
        name=name,
        # nobody knows the key: the demo's own signals need none
        api_key_hash=None if is_chat else hashlib.sha256(secrets.token_bytes(16)).digest(),
        secret=None if is_chat else Secret(secrets.token_urlsafe(32)),
    )
