"""The curve of a day's profit and loss in the store: one figure a minute for each user (asyncio-flavoured unit)."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from engine.store.ledger import Write

KEEP_DAYS = 400
"""How long points are kept: a year, and what a look back at it needs."""

_PUT = (
    "INSERT INTO pnl_points (user_id, minute, pnl) VALUES ($1, $2, $3) "
    "ON CONFLICT (user_id, minute) DO UPDATE SET pnl = excluded.pnl"
)


def write_point(user_id: UUID, at: datetime, pnl: Decimal) -> Write:
    """Return the statement that keeps *pnl* (net rupees of the day so far) for the minute of *at* (aware UTC)."""
    return Write(sql=_PUT, args=(user_id, at.replace(second=0, microsecond=0), pnl))


def forget_points(user_id: UUID, before: datetime) -> Write:
    """Return the removal of a user's points of before an instant."""
    return Write(sql="DELETE FROM pnl_points WHERE user_id = $1 AND minute < $2", args=(user_id, before))


async def points(connection: Any, user_id: UUID, start: datetime, end: datetime) -> list[tuple[datetime, Decimal]]:
    """Return a user's points from *start* until before *end*, oldest first."""
    found = await connection.fetch(
        "SELECT minute, pnl FROM pnl_points WHERE user_id = $1 AND minute >= $2 AND minute < $3 ORDER BY minute",
        user_id,
        start,
        end,
    )
    return [(row["minute"], row["pnl"]) for row in found]
