"""The parts of the tables that history fills, one a month (the audit log: one for so many records): migration 0020."""

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any, TypeVar

import asyncpg

from engine.errors import StoreUnavailable
from engine.store.database import Database

T = TypeVar("T")

MONTHS_AHEAD = 2
_TIMEOUT_S = 30.0
# a part that is dropped waits for those who read, and whoever writes waits behind it
_LOCKS = "SET LOCAL lock_timeout = '1s'"


async def keep_parts(database: Database) -> int:
    """See that what is written in the next months finds its part; return how many were made.

    A row without a part is caught by a net and moved later: nothing is refused for the want of one. Raises
    StoreUnavailable.
    """

    async def unit(connection: Any) -> int:
        await connection.execute(_LOCKS)
        return int(await connection.fetchval("SELECT engine_keep_parts($1)", MONTHS_AHEAD))

    return await _told(lambda: database.run(unit, timeout_s=_TIMEOUT_S, shield=True))


async def drop_months(owner_url: str, before: date) -> list[str]:
    """Drop the months of timelines and verdicts that ended before a day; return their names.

    *owner_url* is the login that owns the schema: the engine's own role can drop nothing. Raises StoreUnavailable.
    """

    async def unit(connection: Any) -> list[str]:
        await connection.execute(_LOCKS)
        found = await connection.fetch("SELECT engine_drop_months($1::date::timestamp AT TIME ZONE 'UTC')", before)
        return [row[0] for row in found]

    owner = Database(owner_url, max_connections=1)
    try:
        await owner.open()
        return await _told(lambda: owner.run(unit, timeout_s=_TIMEOUT_S))
    finally:
        await owner.close(timeout_s=1)


async def _told(work: Callable[[], Awaitable[T]]) -> T:
    try:
        return await work()
    except asyncpg.PostgresError as error:
        raise StoreUnavailable(f"PostgreSQL: {error}") from error
