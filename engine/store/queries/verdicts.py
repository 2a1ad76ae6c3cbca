"""Reads of stored verdicts, for the API and the command line (asyncio-flavoured units)."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.verdict import VerdictRow


class StoredVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """A stored verdict with its number; numbers grow in the order of the decisions."""

    id: int
    row: VerdictRow


async def of_intent(connection: Any, intent_id: UUID) -> list[VerdictRow]:
    """Return the verdicts on an intent, oldest first: one, and another where it waited for approval."""
    found = await connection.fetch(
        "SELECT intent_id, at, body FROM risk_verdicts WHERE intent_id = $1 ORDER BY id", intent_id
    )
    return [VerdictRow(**dict(row)) for row in found]


async def count_between(connection: Any, start: datetime, end: datetime) -> int:
    """Return how many verdicts there are from *start* to before *end*."""
    return int(await connection.fetchval("SELECT count(*) FROM risk_verdicts WHERE at >= $1 AND at < $2", start, end))


async def between(connection: Any, start: datetime, end: datetime, *, after: int, limit: int) -> list[StoredVerdict]:
    """Return up to *limit* verdicts from *start* to before *end* whose number is above *after*, oldest first."""
    found = await connection.fetch(
        "SELECT id, intent_id, at, body FROM risk_verdicts WHERE at >= $1 AND at < $2 AND id > $3 ORDER BY id LIMIT $4",
        start,
        end,
        after,
        limit,
    )
    return [
        StoredVerdict(id=row["id"], row=VerdictRow(intent_id=row["intent_id"], at=row["at"], body=row["body"]))
        for row in found
    ]
