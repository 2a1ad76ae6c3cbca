"""Units of work on sessions: what is known of each; each takes a connection inside a transaction."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from engine.store.database import Connection

KNOWN_FOR = timedelta(days=90)
"""How long an address, or a device's refresh token, is remembered as one that its user signed in from."""

# a session lives while it has a refresh token that is neither spent, revoked nor expired, and was used lately
_LIVE = (
    "EXISTS (SELECT FROM refresh_tokens t WHERE t.family_id = s.id AND t.spent_at IS NULL "
    "AND t.revoked_at IS NULL AND t.expires_at > $2) AND s.last_used_at > $3"
)


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A session: ``device`` is what the client called itself, ``last_used_at`` the sign-in or the last refresh."""

    id: UUID
    user_id: UUID
    began_at: datetime
    authenticated_at: datetime
    last_used_at: datetime
    device: str
    began_ip: str
    last_ip: str


async def begin(
    connection: Connection, *, session_id: UUID, user_id: UUID, now: datetime, device: str, client_ip: str
) -> None:
    """Note a session that has just begun."""
    await connection.execute(
        "INSERT INTO user_sessions (id, user_id, began_at, authenticated_at, last_used_at, device, began_ip, last_ip) "
        "VALUES ($1, $2, $3, $3, $3, $4, $5, $5)",
        session_id,
        user_id,
        now,
        device,
        client_ip,
    )


async def used(connection: Connection, session_id: UUID, *, now: datetime, client_ip: str) -> None:
    """Note that a session was renewed."""
    await connection.execute(
        "UPDATE user_sessions SET last_used_at = $2, last_ip = $3 WHERE id = $1", session_id, now, client_ip
    )


async def live_sessions(
    connection: Connection, user_id: UUID, *, now: datetime, idle: timedelta
) -> list[SessionRecord]:
    """Return the sessions of a user that can still be renewed, the newest first."""
    rows = await connection.fetch(
        "SELECT id, user_id, began_at, authenticated_at, last_used_at, device, began_ip, last_ip "  # noqa: S608
        f"FROM user_sessions s WHERE user_id = $1 AND {_LIVE} ORDER BY began_at DESC, id DESC",
        user_id,
        now,
        now - idle,
    )
    return [_record(row) for row in rows]


async def owner_of_live(connection: Connection, session_id: UUID, *, now: datetime, idle: timedelta) -> UUID | None:
    """Return whose session it is, None when there is none that lives."""
    owner: UUID | None = await connection.fetchval(
        f"SELECT user_id FROM user_sessions s WHERE id = $1 AND {_LIVE}",  # noqa: S608 -- constants only
        session_id,
        now,
        now - idle,
    )
    return owner


async def authenticated(connection: Connection, session_id: UUID, *, now: datetime) -> bool:
    """Note that the person of a session has just proved to be it again; False when the session has ended."""
    await connection.fetch(
        "SELECT id FROM users WHERE id IN (SELECT user_id FROM user_sessions WHERE id = $1) FOR NO KEY UPDATE",
        session_id,
    )
    done = await connection.execute(
        "UPDATE user_sessions s SET authenticated_at = $2 WHERE id = $1 AND EXISTS "
        "(SELECT FROM refresh_tokens t WHERE t.family_id = s.id AND t.spent_at IS NULL AND t.revoked_at IS NULL)",
        session_id,
        now,
    )
    return bool(done == "UPDATE 1")


async def known_addresses(connection: Connection, user_id: UUID, *, now: datetime) -> list[str]:
    """Return the client addresses that a user lately signed in from, at most 500."""
    rows = await connection.fetch(
        "SELECT began_ip FROM user_sessions WHERE user_id = $1 AND began_at > $2 "
        "GROUP BY began_ip ORDER BY max(began_at) DESC LIMIT 500",
        user_id,
        now - KNOWN_FOR,
    )
    return [row["began_ip"] for row in rows]


async def device_of(connection: Connection, *, token_hash: bytes, now: datetime) -> tuple[UUID, str] | None:
    """Return the session and the user's e-mail of a refresh token of a device that lately was signed in.

    It may be spent, expired or revoked: it says who holds it, and lets nobody in. One that was used twice by two
    parties (its whole family was revoked for it) is in strange hands and counts for nothing.
    """
    row = await connection.fetchrow(
        "SELECT t.family_id, u.email FROM refresh_tokens t JOIN users u ON u.id = t.user_id "
        "WHERE t.token_hash = $1 AND t.issued_at > $2 AND NOT EXISTS "
        "(SELECT FROM refresh_tokens o WHERE o.family_id = t.family_id AND o.reused_at IS NOT NULL)",
        token_hash,
        now - KNOWN_FOR,
    )
    return None if row is None else (row["family_id"], row["email"])


def _record(row: Any) -> SessionRecord:
    return SessionRecord(**dict(row))
