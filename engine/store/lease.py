"""The lease: one row that says which engine may write and send, and its fencing token, the epoch.

Times are the database's own clock. Every ledger transaction checks the epoch, so an engine whose
lease was taken can make no write-ahead, and without one it can send no order.
"""

from datetime import datetime
from typing import Any

import msgspec

from engine.errors import Fenced


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """Who holds the lease. ``age_s`` is seconds since the last renewal, ``renewed_at``, by the database's clock."""

    epoch: int
    holder: str
    renewed_at: datetime
    age_s: float
    released: bool


async def read(connection: Any) -> Lease | None:
    """Return the lease row, or None before the first start (asyncio-flavoured unit)."""
    row = await connection.fetchrow(
        "SELECT epoch, holder, released, renewed_at, "
        "extract(epoch FROM clock_timestamp() - renewed_at)::float8 AS age_s FROM engine_lease"
    )
    return None if row is None else Lease(**dict(row))


async def take(connection: Any, *, holder: str, seen: Lease | None) -> int | None:
    """Take the lease as it was *seen* (None: never held) and return its epoch.

    Returns None when its holder has renewed it since, or another engine was faster.
    """
    if seen is None:
        taken = await connection.fetchval(
            "INSERT INTO engine_lease (epoch, holder, renewed_at, released) "
            "VALUES (1, $1, clock_timestamp(), false) ON CONFLICT DO NOTHING RETURNING epoch",
            holder,
        )
    else:
        taken = await connection.fetchval(
            "UPDATE engine_lease SET epoch = epoch + 1, holder = $1, renewed_at = clock_timestamp(), released = false "
            "WHERE epoch = $2 AND renewed_at = $3 RETURNING epoch",
            holder,
            seen.epoch,
            seen.renewed_at,
        )
    return None if taken is None else int(taken)


async def renew(connection: Any, *, epoch: int) -> None:
    """Say that the holder lives. Raises Fenced when the lease has gone to another engine."""
    status = await connection.execute("UPDATE engine_lease SET renewed_at = clock_timestamp() WHERE epoch = $1", epoch)
    if status != "UPDATE 1":
        raise Fenced(f"the lease of epoch {epoch} has been taken by another engine")


async def release(connection: Any, *, epoch: int) -> None:
    """Give the lease back after a clean stop, so that the next start need not wait."""
    await connection.execute(
        "UPDATE engine_lease SET released = true, renewed_at = clock_timestamp() WHERE epoch = $1", epoch
    )


async def check(connection: Any, *, epoch: int) -> None:
    """Raise Fenced unless *epoch* still holds the lease; holds the row until the transaction ends."""
    if await connection.fetchval("SELECT 1 FROM engine_lease WHERE epoch = $1 FOR KEY SHARE", epoch) is None:
        raise Fenced(f"the lease of epoch {epoch} has been taken by another engine")
