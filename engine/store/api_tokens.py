"""Units of work on API tokens; each takes a connection inside a transaction."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from engine.security.api_tokens import ApiToken, Scope, Use
from engine.store.database import Connection

_COLUMNS = "id, user_id, name, token_hash, scopes, ip_allowlist, created_at, expires_at, last_used_at, last_used_ip"


async def insert_token(connection: Connection, token: ApiToken, *, limit: int) -> bool:
    """Add a token; False, and nothing is done, when its owner has *limit* already that were not revoked."""
    await connection.fetchval("SELECT id FROM users WHERE id = $1 FOR NO KEY UPDATE", token.user_id)
    held = await connection.fetchval(
        "SELECT count(*) FROM api_tokens WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > $2",
        token.user_id,
        token.created_at,
    )
    if held >= limit:
        return False
    await connection.execute(
        f"INSERT INTO api_tokens ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",  # noqa: S608
        token.id,
        token.user_id,
        token.name,
        token.token_hash,
        sorted(scope.value for scope in token.scopes),
        list(token.ip_allowlist),
        token.created_at,
        token.expires_at,
        token.last_used_at,
        token.last_used_ip,
    )
    return True


async def list_tokens(connection: Connection, user_id: UUID | None = None) -> list[ApiToken]:
    """Return the tokens that were not revoked, of one user or of everybody, the newest first."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM api_tokens WHERE revoked_at IS NULL AND ($1::uuid IS NULL OR user_id = $1) "  # noqa: S608
        "ORDER BY created_at DESC, id DESC",
        user_id,
    )
    return [_token(row) for row in rows]


async def revoke_token(connection: Connection, token_id: UUID, *, user_id: UUID | None, now: datetime) -> UUID | None:
    """Revoke a token, of *user_id* or of whomever; return its owner, None when there is no such token."""
    owner: UUID | None = await connection.fetchval(
        "UPDATE api_tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL "
        "AND ($3::uuid IS NULL OR user_id = $3) RETURNING user_id",
        token_id,
        now,
        user_id,
    )
    return owner


async def note_uses(connection: Connection, uses: Mapping[UUID, Use]) -> None:
    """Write down when and from where tokens were used last."""
    await connection.executemany(
        "UPDATE api_tokens SET last_used_at = $2, last_used_ip = $3 WHERE id = $1",
        [(token_id, use.at, use.ip) for token_id, use in uses.items()],
    )


def _token(row: Any) -> ApiToken:
    return ApiToken(
        id=row["id"],
        user_id=row["user_id"],
        name=row["name"],
        token_hash=row["token_hash"],
        scopes=frozenset(Scope(name) for name in row["scopes"]),
        ip_allowlist=tuple(row["ip_allowlist"]),
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        last_used_at=row["last_used_at"],
        last_used_ip=row["last_used_ip"],
    )
