"""Keys of calls that must not run twice (asyncio-flavoured units of work)."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec


class KeptCall(msgspec.Struct, frozen=True, kw_only=True):
    """A key as it is stored; ``answer`` is the sealed answer, None while nobody knows whether the call ran."""

    id: UUID
    fingerprint: bytes
    answer: bytes | None
    is_new: bool


async def take_key(
    connection: Any, *, call_id: UUID, user_id: UUID, key: str, fingerprint: bytes, now: datetime, horizon: datetime
) -> KeptCall:
    """Take *key* of a caller, or return the call that has it; one from before *horizon* is forgotten."""
    taken = await connection.fetchrow(
        "INSERT INTO idempotency_keys AS k (id, user_id, key, fingerprint, created_at) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (user_id, key) DO UPDATE SET id = excluded.id, fingerprint = excluded.fingerprint,"
        " answer = NULL, created_at = excluded.created_at WHERE k.created_at < $6 RETURNING id",
        call_id,
        user_id,
        key,
        fingerprint,
        now,
        horizon,
    )
    if taken is not None:
        return KeptCall(id=call_id, fingerprint=fingerprint, answer=None, is_new=True)
    row = await connection.fetchrow(
        "SELECT id, fingerprint, answer FROM idempotency_keys WHERE user_id = $1 AND key = $2", user_id, key
    )
    return KeptCall(id=row["id"], fingerprint=row["fingerprint"], answer=row["answer"], is_new=False)


async def keep_answer(connection: Any, *, call_id: UUID, answer: bytes) -> None:
    """Store the sealed answer of a call."""
    await connection.execute("UPDATE idempotency_keys SET answer = $2 WHERE id = $1", call_id, answer)


async def give_back(connection: Any, *, call_id: UUID) -> None:
    """Free the key of a call that was refused: nothing was done."""
    await connection.execute("DELETE FROM idempotency_keys WHERE id = $1 AND answer IS NULL", call_id)


async def forget_older(connection: Any, *, horizon: datetime) -> None:
    """Drop what is older than anybody may ask for."""
    await connection.execute("DELETE FROM idempotency_keys WHERE created_at < $1", horizon)
