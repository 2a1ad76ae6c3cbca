"""Units of work on people and their sessions; each takes an asyncpg connection inside a transaction.

Every write that concerns a user's sessions first locks the user's row, so that a rotation and a
revocation of the same family can never pass each other and leave a living child behind.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.enums import Role
from engine.ids import uuid7
from engine.security.sessions import UserRecord, normalise_email
from engine.store.database import Connection

_COLUMNS = (
    "id, email, name, role, password_hash, token_epoch, disabled, short_password, "
    "EXISTS (SELECT FROM user_factors f WHERE f.user_id = users.id AND f.confirmed_at IS NOT NULL) AS mfa"
)
_INSERT_USER = (
    "INSERT INTO users (id, email, name, role, password_hash, created_at, updated_at) "  # noqa: S608 -- constants only
    f"VALUES ($1, $2, $3, $4, $5, $6, $6) ON CONFLICT DO NOTHING RETURNING {_COLUMNS}"
)
_SET_PASSWORD = (
    "UPDATE users SET password_hash = $2, token_epoch = token_epoch + 1, updated_at = $3, "  # noqa: S608 -- as above
    "short_password = $4, failed_logins = 0 "
    f"WHERE id = $1 RETURNING {_COLUMNS}"
)
# does not stand in the way of rows that refer to the user, such as intents
_LOCK_USER = f"SELECT {_COLUMNS} FROM users WHERE id = $1 FOR NO KEY UPDATE"  # noqa: S608 -- constants only


class RefreshOutcome(StrEnum):
    """What became of a refresh token that was presented."""

    ROTATED = "ROTATED"
    REPEATED = "REPEATED"
    """Spent moments ago: the child that it was exchanged for then is the answer again."""
    REUSED = "REUSED"
    """Spent longer ago: the whole family is revoked now."""
    REFUSED = "REFUSED"
    """Unknown, expired, revoked, or its user is disabled."""


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a rotation; user, family and sign-in time are None when the token is unknown."""

    outcome: RefreshOutcome
    user: UserRecord | None = None
    family_id: UUID | None = None
    signed_in_at: datetime | None = None


def _record(row: Any) -> UserRecord:
    return UserRecord(
        id=row["id"],
        email=row["email"],
        name=row["name"],
        role=Role(row["role"]),
        password_hash=row["password_hash"],
        token_epoch=row["token_epoch"],
        disabled=row["disabled"],
        mfa=row["mfa"],
        short_password=row["short_password"],
    )


async def insert_user(
    connection: Connection,
    *,
    user_id: UUID,
    email: str,
    name: str,
    role: Role,
    password_hash: str,
    now: datetime,
) -> UserRecord | None:
    """Add a user; return it, or None when the e-mail address is taken."""
    row = await connection.fetchrow(
        _INSERT_USER,
        user_id,
        normalise_email(email),
        name,
        role.value,
        password_hash,
        now,
    )
    return None if row is None else _record(row)


async def user_by_email(connection: Connection, email: str) -> UserRecord | None:
    """Return the user of *email*, whatever its case, or None."""
    query = f"SELECT {_COLUMNS} FROM users WHERE lower(email) = $1 AND deleted_at IS NULL"  # noqa: S608 -- constants only
    row = await connection.fetchrow(query, normalise_email(email))
    return None if row is None else _record(row)


async def list_users(connection: Connection) -> list[UserRecord]:
    """Return every user, in the order of their making."""
    rows = await connection.fetch(f"SELECT {_COLUMNS} FROM users WHERE deleted_at IS NULL ORDER BY created_at, id")  # noqa: S608
    return [_record(row) for row in rows]


async def set_password(
    connection: Connection,
    user_id: UUID,
    *,
    password_hash: str,
    expected_hash: str | None = None,
    is_short: bool = False,
    now: datetime,
) -> UserRecord | None:
    """Replace the password and end every session of the user; *is_short* says that it may not be the only factor.

    With *expected_hash* only while that is still the stored one. Returns the user as it is now, or
    None when there is no such user or the password has changed meanwhile.
    """
    before = await connection.fetchrow(_LOCK_USER, user_id)
    if before is None or (expected_hash is not None and before["password_hash"] != expected_hash):
        return None
    row = await connection.fetchrow(
        _SET_PASSWORD,
        user_id,
        password_hash,
        now,
        is_short,
    )
    await _revoke_all(connection, user_id, now)
    return _record(row)


async def end_sessions(connection: Connection, user_id: UUID, *, now: datetime) -> UserRecord | None:
    """End every session of the user, with all access tokens; return the user as it is now, or None."""
    row = await connection.fetchrow(
        "UPDATE users SET token_epoch = token_epoch + 1, updated_at = $2 WHERE id = $1 "  # noqa: S608 -- constants only
        f"RETURNING {_COLUMNS}",
        user_id,
        now,
    )
    if row is None:
        return None
    await _revoke_all(connection, user_id, now)
    return _record(row)


async def _revoke_all(connection: Connection, user_id: UUID, now: datetime) -> None:
    await connection.execute(
        "UPDATE refresh_tokens SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL", user_id, now
    )


async def user_by_id(connection: Connection, user_id: UUID) -> UserRecord | None:
    """Return the user, or None."""
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM users WHERE id = $1", user_id)  # noqa: S608
    return None if row is None else _record(row)


async def failures_of(connection: Connection, user_id: UUID) -> int:
    """Return how often signing in failed in a row."""
    found: int | None = await connection.fetchval("SELECT failed_logins FROM users WHERE id = $1", user_id)
    return found or 0


async def count_failure(connection: Connection, user_id: UUID | None) -> int:
    """Count one failed sign-in of a user; return how many that are in a row.

    None, for somebody who is not there, does as much and changes nothing, so that both take as long: nothing is
    waited for until it is on disk, and a count that a crash loses is no loss.
    """
    await connection.execute("SET LOCAL synchronous_commit = off")
    found: int | None = await connection.fetchval(
        "UPDATE users SET failed_logins = failed_logins + 1 WHERE id = $1 RETURNING failed_logins", user_id
    )
    return found or 0


async def forgive_failures(connection: Connection, user_id: UUID) -> None:
    """Begin the count of failed sign-ins anew."""
    await connection.execute("UPDATE users SET failed_logins = 0 WHERE id = $1 AND failed_logins > 0", user_id)


async def rehash_password(
    connection: Connection, user_id: UUID, *, old_hash: str, new_hash: str, now: datetime
) -> None:
    """Store the same password under newer parameters, unless it was changed meanwhile; sessions go on."""
    await connection.execute(
        "UPDATE users SET password_hash = $3, updated_at = $4 WHERE id = $1 AND password_hash = $2",
        user_id,
        old_hash,
        new_hash,
        now,
    )


async def insert_refresh(
    connection: Connection,
    *,
    user_id: UUID,
    expected_epoch: int,
    expects_mfa: bool,
    family_id: UUID,
    token_hash: bytes,
    now: datetime,
    expires_at: datetime,
) -> bool:
    """Begin a session with its first refresh token.

    Returns False, and does nothing, when the user was disabled, its password changed or a second factor came or
    went since *expected_epoch* and *expects_mfa* were read.
    """
    user = await connection.fetchrow(_LOCK_USER, user_id)
    if user is None or user["disabled"] or (user["token_epoch"], user["mfa"]) != (expected_epoch, expects_mfa):
        return False
    await _insert_token(connection, uuid7(), family_id, user_id, token_hash, now, expires_at)
    return True


async def rotate_refresh(
    connection: Connection, *, token_hash: bytes, child_hash: bytes, now: datetime, grace_s: float, idle_s: float
) -> Rotation:
    """Exchange a refresh token for its one child, atomically.

    Of many at once one rotates, the others within *grace_s* seconds repeat its answer; later ones
    revoke the family. The child expires when its parent would have: a session does not slide for ever. A token
    that lay unused for more than *idle_s* seconds is refused.
    """
    named = await connection.fetchrow("SELECT user_id FROM refresh_tokens WHERE token_hash = $1", token_hash)
    if named is None:
        return Rotation(outcome=RefreshOutcome.REFUSED)
    user = await connection.fetchrow(_LOCK_USER, named["user_id"])
    token = await connection.fetchrow(
        "SELECT t.id, family_id, issued_at, spent_at, expires_at, revoked_at, s.authenticated_at AS signed_in_at "
        "FROM refresh_tokens t LEFT JOIN user_sessions s ON s.id = t.family_id WHERE token_hash = $1",
        token_hash,
    )

    def outcome(kind: RefreshOutcome) -> Rotation:
        return Rotation(
            outcome=kind, user=_record(user), family_id=token["family_id"], signed_in_at=token["signed_in_at"]
        )

    if token["revoked_at"] is not None or token["expires_at"] <= now or user["disabled"]:
        return outcome(RefreshOutcome.REFUSED)
    if token["spent_at"] is not None:
        if (now - token["spent_at"]).total_seconds() <= grace_s:
            return outcome(RefreshOutcome.REPEATED)
        await revoke_family(connection, token["family_id"], now=now)
        await connection.execute("UPDATE refresh_tokens SET reused_at = $2 WHERE id = $1", token["id"], now)
        return outcome(RefreshOutcome.REUSED)
    if (now - token["issued_at"]).total_seconds() > idle_s:
        return outcome(RefreshOutcome.REFUSED)
    child_id = uuid7()
    await connection.execute(
        "UPDATE refresh_tokens SET spent_at = $2, child_id = $3 WHERE id = $1", token["id"], now, child_id
    )
    await _insert_token(
        connection, child_id, token["family_id"], named["user_id"], child_hash, now, token["expires_at"]
    )
    return outcome(RefreshOutcome.ROTATED)


async def revoke_token_family(connection: Connection, *, token_hash: bytes, now: datetime) -> tuple[UUID, UUID] | None:
    """End the session that a refresh token belongs to; return its family and user, or None if unknown.

    A spent token ends its session too; one that expired or was revoked is not known any more.
    """
    row = await connection.fetchrow(
        "SELECT family_id, user_id FROM refresh_tokens "
        "WHERE token_hash = $1 AND revoked_at IS NULL AND expires_at > $2",
        token_hash,
        now,
    )
    if row is None:
        return None
    await revoke_family(connection, row["family_id"], now=now)
    return row["family_id"], row["user_id"]


async def revoke_family(connection: Connection, family_id: UUID, *, now: datetime) -> bool:
    """End one session; tell whether there was anything to end."""
    # the lock first, in a statement of its own: the next one then sees every child
    await connection.fetch(
        "SELECT id FROM users WHERE id IN (SELECT user_id FROM refresh_tokens WHERE family_id = $1) FOR NO KEY UPDATE",
        family_id,
    )
    done = await connection.execute(
        "UPDATE refresh_tokens SET revoked_at = $2 WHERE family_id = $1 AND revoked_at IS NULL", family_id, now
    )
    return bool(done != "UPDATE 0")


async def revoked_since(connection: Connection, since: datetime) -> list[tuple[UUID, datetime]]:
    """Return the sessions revoked after *since*, each with when."""
    rows = await connection.fetch(
        "SELECT family_id, max(revoked_at) AS at FROM refresh_tokens WHERE revoked_at > $1 GROUP BY family_id", since
    )
    return [(row["family_id"], row["at"]) for row in rows]


async def _insert_token(
    connection: Connection,
    token_id: UUID,
    family_id: UUID,
    user_id: UUID,
    token_hash: bytes,
    now: datetime,
    expires_at: datetime,
) -> None:
    await connection.execute(
        "INSERT INTO refresh_tokens (id, family_id, user_id, token_hash, issued_at, expires_at) "
        "VALUES ($1, $2, $3, $4, $5, $6)",
        token_id,
        family_id,
        user_id,
        token_hash,
        now,
        expires_at,
    )
