"""What is not finished, and when each source signalled of late, for the checks of the day (asyncio-flavoured units)."""

from datetime import date, datetime
from typing import Any

from engine.domain.day_checks import LeftOver
from engine.store.queries.dead_letters import waiting_by_queue

_COUNTS = """
SELECT
    (SELECT count(*) FROM trade_intents WHERE status = 'PENDING_APPROVAL') AS approvals,
    (SELECT count(*) FROM orders WHERE status = 'UNKNOWN') AS unknown,
    (SELECT count(*) FROM orders WHERE status IN ('UNKNOWN', 'SUBMITTING') AND created_at < $1) AS old_unknown"""
_OVERNIGHT = """
SELECT a.label, p.exchange, p.symbol, p.quantity FROM positions AS p JOIN kite_accounts AS a ON a.id = p.account_id
WHERE p.product_type = 'MIS' AND p.quantity <> 0 AND (p.trading_day < $1 OR p.overnight_quantity <> 0)
ORDER BY a.label, p.symbol LIMIT 20"""
_HEARD = """
SELECT source_id, array_agg(DISTINCT (received_at AT TIME ZONE 'Asia/Kolkata')::date) AS days FROM trade_intents
WHERE received_at > $1 GROUP BY source_id"""


async def left_over(connection: Any, *, day: date, began: datetime, heard_since: datetime) -> LeftOver:
    """Return what is not finished on the IST *day* that *began*, and the sources' days since *heard_since*."""
    counts = await connection.fetchrow(_COUNTS, began)
    overnight = await connection.fetch(_OVERNIGHT, day)
    return LeftOver(
        dead=await waiting_by_queue(connection),
        approvals=counts["approvals"],
        unknown=counts["unknown"],
        old_unknown=counts["old_unknown"],
        overnight=tuple(f"{r['quantity']} {r['exchange']}:{r['symbol']} of {r['label']}" for r in overnight),
        heard={row["source_id"]: tuple(row["days"]) for row in await connection.fetch(_HEARD, heard_since)},
    )
