"""Counts of jobs that gave up, for the API (asyncio-flavoured units)."""

from typing import Any


async def waiting_by_queue(connection: Any) -> dict[str, int]:
    """Return how many dead letters of each queue wait for somebody to decide."""
    found = await connection.fetch(
        "SELECT queue, count(*) AS waiting FROM dead_letters WHERE status = 'WAITING' GROUP BY queue"
    )
    return {row["queue"]: row["waiting"] for row in found}
