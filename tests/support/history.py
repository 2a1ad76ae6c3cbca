"""History by the thousand: finished signals put straight into the tables, spread over months that have gone by."""

from typing import Any

from tests.support.ledger_rows import Trader

# n is the number of the signal: ids are hashes, as the engine's are; times go back from now
_NUMBERS = """
SELECT n, now() - make_interval(days => {rest}) - make_interval(days => $1) * ((n % 1000) / 1000.0 + 0.001) AS at
FROM generate_series($2::bigint, $3) AS n"""
_INTENTS = """
INSERT INTO trade_intents (id, source_id, strategy_id, user_id, idempotency_key, position, body_sha256, symbol,
    exchange, transaction_type, quantity, order_type, product_type, validity, variety, status, received_at, updated_at)
SELECT md5('i' || n)::uuid, $4, $5, $6, md5('k' || n), 0, '\\x00', 'S' || n % 500, 'NSE', 'BUY', 10, 'MARKET', 'MIS',
    'DAY', 'regular', 'EXECUTED', at, at FROM numbers"""
_ORDERS = """
INSERT INTO orders (id, intent_id, account_id, user_id, strategy_id, exchange, symbol, transaction_type, quantity,
    order_type, product_type, validity, variety, status, broker_order_id, tag, attempt, epoch, trading_day,
    filled_quantity, average_price, deadline, submitting_at, created_at, updated_at)
SELECT md5('o' || n)::uuid, md5('i' || n)::uuid, $7, $6, $5, 'NSE', 'S' || n % 500, 'BUY', 10, 'MARKET', 'MIS', 'DAY',
    'regular', 'COMPLETE', (2600000000000 + n)::text, left(md5('t' || n), 20), 1, 1,
    (at AT TIME ZONE 'Asia/Kolkata')::date, 10, 100, at, at, at, at FROM numbers"""
_INTENT_EVENTS = """
INSERT INTO intent_events (intent_id, at, event) SELECT md5('i' || n)::uuid, at, event
FROM numbers CROSS JOIN (VALUES ('RECEIVED'), ('APPROVED'), ('EXECUTED')) AS e (event)"""
_ORDER_EVENTS = """
INSERT INTO order_events (order_id, at, from_status, to_status, filled_quantity)
SELECT md5('o' || n)::uuid, at, 'PENDING', status, 0
FROM numbers CROSS JOIN (VALUES ('SUBMITTING'), ('SUBMITTED'), ('COMPLETE')) AS e (status)"""
_VERDICTS = """
INSERT INTO risk_verdicts (intent_id, at, body) SELECT md5('i' || n)::uuid, at, repeat('x', 200) FROM numbers"""
_FILLS = """
INSERT INTO fills (account_id, order_id, trade_id, broker_order_id, exchange, symbol, product_type, transaction_type,
    quantity, price, filled_at)
SELECT $7, md5('o' || n)::uuid, 't' || n, (2600000000000 + n)::text, 'NSE', 'S' || n % 500, 'MIS', 'BUY', 10, 100, at
FROM numbers"""
# not a chain that verifies: its numbers, sizes and subjects are what is asked for
_AUDIT = """
INSERT INTO audit_logs (seq, at, actor, action, subject, content, prev_hash, hash)
SELECT {base} + (n - $2) * 4 + k, at, 'system', 'ORDER_SUBMITTED', 'order:' || md5('o' || n)::uuid, repeat('x', 120),
    sha256(n::text::bytea), sha256((n + k)::text::bytea)
FROM numbers CROSS JOIN generate_series(1, 4) AS k"""
_NEWEST = "SELECT coalesce(max(seq), 0) FROM audit_logs"
_ALL = (_INTENTS, _ORDERS, _INTENT_EVENTS, _ORDER_EVENTS, _VERDICTS, _FILLS, _AUDIT)


async def fill(connection: Any, trader: Trader, first: int, last: int, *, days: int, rest: int = 0) -> None:
    """Put signals *first* to *last* of *trader* into every table, spread over *days* that ended *rest* days ago.

    *connection* is the owner's: parts of months gone by are made. The audit records follow the newest.
    """
    await connection.execute("SET LOCAL synchronous_commit = off")
    months = await connection.fetch(
        "SELECT generate_series(date_trunc('month', now() - make_interval(days => $1) - interval '1 day'), now(),"
        " interval '1 month') AS month",
        days + rest,
    )
    for row in months:
        low = row["month"]
        for parent in ("intent_events", "order_events", "risk_verdicts"):
            await connection.execute(
                "SELECT engine_add_part($1, $2, 'at', $3::timestamptz::text, ($3 + interval '1 month')::text)",
                parent,
                f"{parent}_{low:%Y%m}",
                low,
            )
    size, base = await connection.fetchval("SELECT engine_audit_part_size()"), await connection.fetchval(_NEWEST)
    for number in range(base // size, (base + 4 * (last - first + 1)) // size + 1):
        await connection.execute(
            "SELECT engine_add_part('audit_logs', 'audit_logs_' || $1, 'seq', $2, $3)",
            str(number),
            str(number * size),
            str((number + 1) * size),
        )
    for statement in _ALL:
        # only the parameters that a statement names, in their order
        values = (trader.source_id, trader.strategy_id, trader.user_id, trader.account_id)
        used = [number for number in range(4, 8) if f"${number}" in statement]
        for place, number in enumerate(used, 4):
            statement = statement.replace(f"${number}", f"${place}::uuid")
        head, _, body = statement.partition("SELECT")
        sql = f"{head} WITH numbers AS ({_NUMBERS.format(rest=rest)}) SELECT{body.replace('{base}', str(base))}"
        await connection.execute(sql, days, first, last, *(values[number - 4] for number in used), timeout=900)
