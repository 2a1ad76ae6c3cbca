"""Intents that ended before an order of theirs turned out filled (asyncio-flavoured units)."""

from collections import defaultdict
from datetime import date
from typing import Any
from uuid import UUID

from engine.domain.enums import OrderStatus
from engine.domain.intent import Intent
from engine.store import rows
from engine.store.rows import MADE_SINCE

OrderEnd = tuple[UUID, OrderStatus, int, int, str | None]
"""Id, status, quantity, filled quantity and message of an order."""

# only these can be wrong about a fill: EXECUTED has all, REJECTED never had an order
_ENDED_SHORT = "('PARTIAL', 'FAILED', 'CANCELLED', 'EXPIRED')"
_FILLED_TODAY = (
    "SELECT intent_id FROM orders WHERE trading_day = (now() AT TIME ZONE 'Asia/Kolkata')::date "
    "AND created_at >= now() - interval '15 days' "
    "AND filled_quantity > 0 AND intent_id IS NOT NULL AND role = 'ENTRY'"
)
_FILLED = (
    f"SELECT intent_id FROM orders WHERE trading_day = $1 AND {MADE_SINCE.format('$1')} AND filled_quantity > 0 "  # noqa: S608
    "AND intent_id IS NOT NULL AND role = 'ENTRY'"
)


async def ended_short(connection: Any, user_id: UUID, day: date) -> list[tuple[Intent, list[OrderEnd]]]:
    """Return a user's intents that ended short though something of them filled on the IST *day*, with their orders."""
    found = await connection.fetch(
        f"SELECT * FROM trade_intents WHERE user_id = $2 AND status IN {_ENDED_SHORT} "  # noqa: S608 -- constants
        f"AND id IN ({_FILLED} AND user_id = $2)",
        day,
        user_id,
    )
    theirs = await connection.fetch(
        "SELECT id, intent_id, status, quantity, filled_quantity, status_message FROM orders "
        "WHERE intent_id = ANY($1::uuid[]) AND role = 'ENTRY' ORDER BY created_at, id",
        [row["id"] for row in found],
    )
    orders: defaultdict[UUID, list[OrderEnd]] = defaultdict(list)
    for row in theirs:
        end = (row["id"], OrderStatus(row["status"]), row["quantity"], row["filled_quantity"], row["status_message"])
        orders[row["intent_id"]].append(end)
    return [(rows.intent(row), orders[row["id"]]) for row in found]


async def users_ended_short(connection: Any) -> list[UUID]:
    """Return the users that have such intents today (IST): some of them may not know of a fill yet."""
    found = await connection.fetch(
        f"SELECT DISTINCT user_id FROM trade_intents WHERE status IN {_ENDED_SHORT} AND id IN ({_FILLED_TODAY})"  # noqa: S608 -- constants
    )
    return [row["user_id"] for row in found]
