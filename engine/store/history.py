"""What actors rebuild their state from: one unit of work each, used at every start."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from engine.clock import IST
from engine.domain.order import CHANGE_NOTES
from engine.domain.position import roll_day
from engine.store import books, gtts, rows

_LIVE_ORDERS = """('PENDING', 'SUBMITTING', 'SUBMITTED', 'OPEN', 'TRIGGER_PENDING', 'PARTIALLY_FILLED', 'UNKNOWN')"""
# an order knows its source by its intent: a kill switch may stop one source
_ORDERS = "SELECT orders.*, (SELECT source_id FROM trade_intents WHERE id = orders.intent_id) AS source_id FROM orders"
_LIVE_INTENTS = """('RECEIVED', 'PENDING_APPROVAL', 'APPROVED', 'EXECUTING')"""
# As many as a minute's budget can hold (kite.trade forum 52882).
_LATEST_CALLS = 400
# As many as any row of refusals that a breaker may be set to.
_LATEST_ORDERS = 200
# an order ended otherwise than filled stays watched for the day: a late fill must find it
_WATCHED = (
    f"(status IN {_LIVE_ORDERS} OR (trading_day = $2 AND status IN ('CANCELLED', 'REJECTED', 'EXPIRED', 'FAILED')))"
)


async def account(connection: Any, account_id: UUID, day: date) -> dict[str, Any]:
    """Return what an executor starts from, as keyword arguments of its AccountHistory."""
    return account_of(await accounts(connection, [account_id], day), account_id)


async def accounts(connection: Any, account_ids: Sequence[UUID], day: date) -> "AccountRows":
    """Return the rows that the executors of several accounts start from, for `account_of`.

    A round trip costs more than what it brings of one account, and a thousand may be opened at once.
    """
    found = AccountRows()
    ids = list(account_ids)
    orders = found.add(
        "orders",
        await connection.fetch(
            f"{_ORDERS} WHERE account_id = ANY($1::uuid[]) AND {_WATCHED} ORDER BY created_at, id", ids, day
        ),
    )
    account_by_order = {row["id"]: row["account_id"] for row in orders}
    for row in await connection.fetch("SELECT * FROM fills WHERE order_id = ANY($1::uuid[])", list(account_by_order)):
        found.put("fills", account_by_order[row["order_id"]], row)
    found.add("positions", await connection.fetch("SELECT * FROM positions WHERE account_id = ANY($1::uuid[])", ids))
    found.add(
        "ids",
        await connection.fetch(
            "SELECT account_id, broker_order_id FROM orders WHERE account_id = ANY($1::uuid[]) AND trading_day = $2 "
            "AND broker_order_id IS NOT NULL",
            ids,
            day,
        ),
    )
    found.add(
        "earlier",
        await connection.fetch(
            "SELECT account_id, broker_order_id, tag FROM orders WHERE account_id = ANY($1::uuid[]) "
            "AND trading_day > $2::date - 7 AND broker_order_id IS NOT NULL",
            ids,
            day,
        ),
    )
    attached = await connection.fetch(
        f"{_ORDERS} WHERE account_id = ANY($1::uuid[]) AND trading_day > $2::date - 7 AND origin = 'ENGINE' "
        "AND (role <> 'ENTRY' OR stop_loss IS NOT NULL OR target IS NOT NULL) ORDER BY created_at, id",
        ids,
        day,
    )
    triggers = found.add("gtts", await gtts.rows_of_accounts(connection, ids, [row["id"] for row in attached]))
    # a trigger outlives the week that its entry is remembered for, and so do the orders in place of others
    found.add(
        "attached",
        await connection.fetch(
            f"{_ORDERS} WHERE (id = ANY($1::uuid[]) OR (parent_id = ANY($1::uuid[]) AND origin = 'ENGINE')) "
            "AND NOT id = ANY($2::uuid[]) ORDER BY created_at, id",
            list({row["entry_id"] for row in triggers}),
            [row["id"] for row in attached],
        ),
    )
    found.add("attached", attached)
    await _add_calls(connection, found, ids, day)
    found.add(
        "square_offs",
        await connection.fetch(
            "SELECT account_id, id FROM orders WHERE account_id = ANY($1::uuid[]) AND trading_day > $2::date - 7 "
            "AND origin = 'SQUARE_OFF'",
            ids,
            day,
        ),
    )
    found.add("books", await books.rows_of_accounts(connection, ids, day))
    return found


class AccountRows:
    """Rows by what they are and whose."""

    def __init__(self) -> None:
        self._rows: defaultdict[tuple[str, UUID], list[Any]] = defaultdict(list)

    def add(self, name: str, found: Sequence[Any]) -> Sequence[Any]:
        """Take rows in, each of the account that it names; return them."""
        for row in found:
            self._rows[name, row["account_id"]].append(row)
        return found

    def put(self, name: str, account_id: UUID, row: Any) -> None:
        """Take one row in as an account's."""
        self._rows[name, account_id].append(row)

    def of(self, name: str, account_id: UUID) -> Sequence[Any]:
        """Return the rows of an account, in the order in which they came."""
        return self._rows.get((name, account_id), ())


def account_of(found: AccountRows, account_id: UUID) -> dict[str, Any]:
    """Return what one of the accounts of `accounts` starts from, as keyword arguments of its AccountHistory."""

    def of(name: str) -> Sequence[Any]:
        return found.of(name, account_id)

    return {
        "live_orders": [rows.order(row) for row in of("orders")],
        "fills": [rows.fill(row) for row in of("fills")],
        "positions": [(rows.position(row), row["trading_day"]) for row in of("positions")],
        "books": [(books.book_of(row), row["trading_day"]) for row in of("books")],
        "broker_ids_today": [row["broker_order_id"] for row in of("ids")],
        "sent_today": sum(row["calls"] for row in of("sent")) + len(of("changes")),
        "attached": [rows.order(row) for row in of("attached")],
        "gtts": [gtts.row_to_gtt(row) for row in of("gtts")],
        "recent_calls": [
            *(at for row in of("sent") for at in row["latest"]),
            *(row["at"] for row in of("changes")),
        ],
        "square_off_ids": frozenset(row["id"] for row in of("square_offs")),
        "earlier": [(row["broker_order_id"], row["tag"]) for row in of("earlier")],
    }


async def _add_calls(connection: Any, found: AccountRows, account_ids: list[UUID], day: date) -> None:
    """Add how many order calls each account has made on the IST *day*, and when the latest were."""
    found.add(
        "sent",
        await connection.fetch(
            "SELECT account_id, sum(greatest(attempt, 1))::bigint AS calls, "
            "(array_agg(submitting_at ORDER BY submitting_at DESC))[1:$3] AS latest FROM orders "
            "WHERE account_id = ANY($1::uuid[]) AND trading_day = $2 AND submitting_at IS NOT NULL GROUP BY account_id",
            account_ids,
            day,
            _LATEST_CALLS,
        ),
    )
    # an order that is changed today may be of an earlier day: it was placed for the next session
    found.add(
        "changes",
        await connection.fetch(
            "SELECT o.account_id, e.at FROM orders o JOIN order_events e ON e.order_id = o.id "
            "WHERE o.account_id = ANY($1::uuid[]) AND o.trading_day > $2::date - 7 AND o.broker_order_id IS NOT NULL "
            "AND e.at >= $3 AND e.detail LIKE ANY($4::text[])",
            account_ids,
            day,
            datetime.combine(day, time(), IST),
            [f"{words}%" for words in CHANGE_NOTES],
        ),
    )


async def user(connection: Any, user_id: UUID, day: date) -> dict[str, Any]:
    """Return what a risk actor starts from, as keyword arguments of its UserHistory."""
    orders = await connection.fetch(
        f"SELECT * FROM orders WHERE user_id = $1 AND status IN {_LIVE_ORDERS}",  # noqa: S608 -- constants
        user_id,
    )
    positions = await connection.fetch(
        "SELECT p.* FROM positions p JOIN kite_accounts a ON a.id = p.account_id WHERE a.user_id = $1", user_id
    )
    counted = await connection.fetch(
        "SELECT account_id, created_at, strategy_id FROM orders WHERE user_id = $1 AND trading_day = $2 "  # noqa: S608
        f"AND {rows.MADE_SINCE.format('$2')} AND origin = 'ENGINE' AND role = 'ENTRY' ORDER BY created_at",
        user_id,
        day,
    )
    latest = await connection.fetch(
        f"SELECT * FROM orders WHERE user_id = $1 AND trading_day = $2 AND {rows.MADE_SINCE.format('$2')} "  # noqa: S608
        "AND origin <> 'EXTERNAL' ORDER BY created_at DESC, id DESC LIMIT $3",
        user_id,
        day,
        _LATEST_ORDERS,
    )
    newest = await connection.fetchval("SELECT max(received_at) FROM trade_intents WHERE user_id = $1", user_id)
    # two questions: of an instant that it does not know the planner expects a third of all that the user ever had
    signals = (
        []
        if newest is None
        else await connection.fetch(
            "SELECT received_at, strategy_id FROM trade_intents WHERE user_id = $1 AND received_at >= $2 "
            "ORDER BY received_at",
            user_id,
            newest - timedelta(minutes=1),
        )
    )
    intents = await connection.fetch(
        f"SELECT * FROM trade_intents WHERE user_id = $1 AND status IN {_LIVE_INTENTS}",  # noqa: S608 -- constants
        user_id,
    )
    theirs = await connection.fetch(
        "SELECT id, intent_id, account_id, status, quantity, filled_quantity, status_message FROM orders "
        "WHERE intent_id = ANY($1::uuid[]) AND role = 'ENTRY'",
        [row["id"] for row in intents],
    )
    of_intent: defaultdict[UUID, list[Any]] = defaultdict(list)
    for row in theirs:
        of_intent[row["intent_id"]].append(
            (
                row["id"],
                rows.ORDER_STATUSES[row["status"]],
                row["quantity"],
                row["filled_quantity"],
                row["status_message"],
            )
        )
    held = [(rows.position(row), row["trading_day"]) for row in positions]
    return {
        "positions": [p if of == day else roll_day(p, p.last_price) for p, of in held],
        "live_orders": [rows.order(row) for row in orders],
        "orders_today": [(row["account_id"], row["created_at"], row["strategy_id"]) for row in counted],
        "live_intents": [(rows.intent(row), of_intent[row["id"]]) for row in intents],
        **await books.of_user(connection, user_id, day),
        "order_accounts": {row["id"]: row["account_id"] for row in theirs},
        "latest_orders": [rows.order(row) for row in reversed(latest)],
        "latest_signals": [(row["received_at"], row["strategy_id"]) for row in signals],
    }


async def delivered_since(connection: Any, now: datetime, window_s: int) -> list[tuple[UUID, str]]:
    """Return source and idempotency key of the deliveries of the last *window_s* seconds."""
    found = await connection.fetch(
        "SELECT DISTINCT source_id, idempotency_key FROM trade_intents WHERE received_at > $1",
        now - timedelta(seconds=window_s),
    )
    return [(row["source_id"], row["idempotency_key"]) for row in found]


async def delivery(connection: Any, source_id: UUID, idempotency_key: str) -> list[Any]:
    """Return id, status, reason, position and body hash of the intents of one delivery."""
    found = await connection.fetch(
        "SELECT id, status, reason, position, body_sha256 FROM trade_intents "
        "WHERE source_id = $1 AND idempotency_key = $2 ORDER BY position",
        source_id,
        idempotency_key,
    )
    return list(found)


async def busy(connection: Any) -> tuple[list[UUID], list[UUID]]:
    """Return the users and the accounts that have something going on, to be woken at start."""
    users = await connection.fetch(
        f"SELECT DISTINCT user_id FROM trade_intents WHERE status IN {_LIVE_INTENTS}"  # noqa: S608 -- constants
    )
    accounts = await connection.fetch(
        f"SELECT DISTINCT account_id FROM orders WHERE status IN {_LIVE_ORDERS} "  # noqa: S608 -- constants
        "UNION SELECT DISTINCT account_id FROM positions WHERE quantity <> 0 "
        f"UNION SELECT DISTINCT account_id FROM gtts WHERE status IN {gtts.LIVE}"
    )
    return [row["user_id"] for row in users], [row["account_id"] for row in accounts]


async def known_orders(connection: Any, ids: list[UUID]) -> set[UUID]:
    """Return which orders of *ids* the ledger holds."""
    return {row["id"] for row in await connection.fetch("SELECT id FROM orders WHERE id = ANY($1::uuid[])", ids)}


async def journal_cursor(connection: Any) -> tuple[UUID, str] | None:
    """Return the journal's epoch and the position that the ledger has reached, None before the first."""
    row = await connection.fetchrow("SELECT epoch, position FROM journal_cursor")
    return None if row is None else (row["epoch"], row["position"])


CURSOR = """
INSERT INTO journal_cursor (epoch, position, updated_at) VALUES ($1, $2, $3)
ON CONFLICT (only_row) DO UPDATE SET epoch = excluded.epoch, position = excluded.position,
    updated_at = excluded.updated_at"""


async def known_deliveries(connection: Any, keys: list[tuple[UUID, str]]) -> set[tuple[UUID, str]]:
    """Return which of *keys* (source, idempotency key) the ledger holds."""
    found = await connection.fetch(
        "SELECT DISTINCT t.source_id, t.idempotency_key FROM trade_intents t "
        "JOIN unnest($1::uuid[], $2::text[]) AS k(source_id, idempotency_key) USING (source_id, idempotency_key)",
        [source for source, _ in keys],
        [key for _, key in keys],
    )
    return {(row["source_id"], row["idempotency_key"]) for row in found}
