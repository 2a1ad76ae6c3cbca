"""Jobs that gave up, for the API and for the start of an engine (asyncio-flavoured units)."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.dead_letter import DeadLetter, LetterKind, LetterQueue, LetterStatus
from engine.store.queries.filters import Filters


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters: ``start`` inclusive, ``end`` exclusive, ``after`` the last one already seen."""

    limit: int
    queue: LetterQueue | None = None
    status: LetterStatus | None = None
    start: datetime | None = None
    end: datetime | None = None
    after: tuple[datetime, UUID] | None = None


async def waiting_by_queue(connection: Any) -> dict[str, int]:
    """Return how many dead letters of each queue wait for somebody to decide."""
    found = await connection.fetch(
        "SELECT queue, count(*) AS waiting FROM dead_letters WHERE status = 'WAITING' GROUP BY queue"
    )
    return {row["queue"]: row["waiting"] for row in found}


async def waiting_parked(connection: Any) -> list[tuple[UUID, UUID, UUID]]:
    """Return (user, strategy, source) of every exit that came too late and that nobody has decided about."""
    found = await connection.fetch(
        "SELECT i.user_id, i.strategy_id, i.source_id FROM dead_letters d "
        "JOIN trade_intents i ON d.subject = 'intent:' || i.id::text WHERE d.kind = 'PARKED' AND d.status = 'WAITING'"
    )
    return [(row["user_id"], row["strategy_id"], row["source_id"]) for row in found]


async def list_letters(connection: Any, wanted: LetterFilter) -> list[DeadLetter]:
    """Return up to ``limit`` letters, newest first."""
    filters = (
        Filters()
        .add("queue = {}", wanted.queue)
        .add("status = {}", wanted.status)
        .add("created_at >= {}", wanted.start)
        .add("created_at < {}", wanted.end)
        .add_tuple("(created_at, id) < ({}, {})", wanted.after)
    )
    sql = (
        f"SELECT * FROM dead_letters{filters.where()} "  # noqa: S608 -- constants
        f"ORDER BY created_at DESC, id DESC LIMIT {filters.parameter(wanted.limit)}"
    )
    return [_letter(row) for row in await connection.fetch(sql, *filters.args)]


async def find(connection: Any, letter_id: UUID) -> DeadLetter | None:
    """Return one letter, or None."""
    row = await connection.fetchrow("SELECT * FROM dead_letters WHERE id = $1", letter_id)
    return None if row is None else _letter(row)


async def requeued(connection: Any) -> list[DeadLetter]:
    """Return the letters that a person requeued and that have not become intents, in the order of the decisions."""
    found = await connection.fetch(
        "SELECT * FROM dead_letters WHERE status = 'REQUEUED' AND taken_at IS NULL ORDER BY decided_at, id"
    )
    return [_letter(row) for row in found]


def _letter(row: Any) -> DeadLetter:
    fields = dict(row)
    return DeadLetter(
        **fields
        | {
            "queue": LetterQueue(fields["queue"]),
            "kind": LetterKind(fields["kind"]),
            "status": LetterStatus(fields["status"]),
        }
    )
