"""Changing and deleting people: units of work that end what a change must end, in one transaction."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from engine.domain.enums import Role
from engine.security.sessions import UserRecord
from engine.store.users import user_by_id

# the user's own row with the others, in one order: two that end each other's role would wait in a circle
_OTHER_ADMINS = (
    "SELECT count(*) FILTER (WHERE id <> $1) FROM (SELECT id FROM users WHERE deleted_at IS NULL"
    " AND (id = $1 OR (role = 'ADMIN' AND NOT disabled)) ORDER BY id FOR NO KEY UPDATE) AS held"
)


class Changed(NamedTuple):
    """A user before and after a change."""

    before: UserRecord
    after: UserRecord


async def other_admins(connection: Any, user_id: UUID) -> int:
    """Count the administrators besides *user_id* who can sign in; they and the user stay as they are until the
    transaction ends.
    """
    return int(await connection.fetchval(_OTHER_ADMINS, user_id))


async def change_user(
    connection: Any, user_id: UUID, *, name: str | None, role: Role | None, disabled: bool | None, now: datetime
) -> Changed | None:
    """Write what is not None; return the user before and after, None when there is no such user.

    Whoever is disabled by it loses every session: the token epoch rises, refresh tokens are revoked.
    """
    # from here on nobody else changes the row: what one did not send must not be undone by it
    await connection.execute("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", user_id)
    before = await user_by_id(connection, user_id)
    done = await connection.execute(
        "UPDATE users SET name = coalesce($2, name), role = coalesce($3, role), disabled = coalesce($4, disabled),"
        " updated_at = $5, token_epoch = token_epoch + CASE WHEN $4 AND NOT disabled THEN 1 ELSE 0 END"
        " WHERE id = $1 AND deleted_at IS NULL",
        user_id,
        name,
        None if role is None else role.value,
        disabled,
        now,
    )
    after = await user_by_id(connection, user_id)
    if before is None or after is None or done != "UPDATE 1":
        return None
    if after.disabled and not before.disabled:
        await _end_sessions(connection, user_id, now)
    return Changed(before, after)


async def delete_user(connection: Any, user_id: UUID, *, now: datetime) -> bool:
    """Mark a user as deleted, for good, and end its sessions; False when there is no such user.

    The row stays: what the user did refers to it.
    """
    done = await connection.execute(
        "UPDATE users SET deleted_at = $2, updated_at = $2, disabled = true, token_epoch = token_epoch + 1"
        " WHERE id = $1 AND deleted_at IS NULL",
        user_id,
        now,
    )
    await _end_sessions(connection, user_id, now)
    await connection.execute("DELETE FROM read_grants WHERE viewer_id = $1 OR owner_id = $1", user_id)
    return bool(done == "UPDATE 1")


async def _end_sessions(connection: Any, user_id: UUID, now: datetime) -> None:
    await connection.execute(
        "UPDATE refresh_tokens SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL", user_id, now
    )
