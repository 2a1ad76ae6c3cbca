"""Reads for programs that know an order by the broker's id, and that wait for it (asyncio-flavoured units)."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.enums import IntentStatus
from engine.domain.intent import Intent
from engine.domain.order import Order
from engine.store import rows


class Placed(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of an intent so far: its state, why, and its orders, oldest first, without attached exits.

    ``left_out`` says of each account that was denied why it was.
    """

    intent_id: UUID
    status: IntentStatus
    reason: str | None
    orders: tuple[Order, ...] = ()
    left_out: tuple[str, ...] = ()


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """What an id names: an intent with its orders, or one order (``intent`` None); both empty when it names nothing."""

    intent: Intent | None = None
    orders: tuple[Order, ...] = ()


async def placed(connection: Any, intent_ids: Sequence[UUID]) -> dict[UUID, Placed]:
    """Return what has become of the intents; those that the store does not have yet are left out."""
    ids = list(intent_ids)
    orders: defaultdict[UUID, list[Order]] = defaultdict(list)
    for row in await connection.fetch(
        "SELECT * FROM orders WHERE intent_id = ANY($1::uuid[]) ORDER BY created_at, id", ids
    ):
        order = rows.order(row)
        if order.intent_id is not None and not order.is_attached:
            orders[order.intent_id].append(order)
    left_out: defaultdict[UUID, list[str]] = defaultdict(list)
    for row in await connection.fetch(
        "SELECT intent_id, detail FROM intent_events WHERE intent_id = ANY($1::uuid[]) AND event = 'ACCOUNT_LEFT_OUT'"
        " ORDER BY id",
        ids,
    ):
        left_out[row["intent_id"]].append(row["detail"])
    found = await connection.fetch("SELECT id, status, reason FROM trade_intents WHERE id = ANY($1::uuid[])", ids)
    return {
        row["id"]: Placed(
            intent_id=row["id"],
            status=IntentStatus(row["status"]),
            reason=row["reason"],
            orders=tuple(orders[row["id"]]),
            left_out=tuple(left_out[row["id"]]),
        )
        for row in found
    }


async def named(
    connection: Any, user_id: UUID, text: str, as_uuid: UUID | None, *, account_ids: Sequence[UUID], since: date
) -> Named:
    """Return what *text* names among the intents and orders of a user: our ids (*as_uuid*) or the broker's.

    The broker's ids are looked up in the books of *account_ids* from the IST day *since* on; of two orders with the
    same one, which two days may have given, the newer.
    """
    if as_uuid is not None:
        intent = await connection.fetchrow(
            "SELECT * FROM trade_intents WHERE id = $1 AND user_id = $2", as_uuid, user_id
        )
        if intent is not None:
            found = await connection.fetch("SELECT * FROM orders WHERE intent_id = $1 ORDER BY created_at, id", as_uuid)
            orders = (rows.order(row) for row in found)
            return Named(intent=rows.intent(intent), orders=tuple(o for o in orders if not o.is_attached))
        found = await connection.fetch("SELECT * FROM orders WHERE id = $1 AND user_id = $2", as_uuid, user_id)
    else:
        found = await connection.fetch(
            "SELECT * FROM orders WHERE account_id = ANY($1::uuid[]) AND trading_day >= $2 AND broker_order_id = $3"
            " AND user_id = $4 ORDER BY created_at DESC, id DESC LIMIT 1",
            list(account_ids),
            since,
            text,
            user_id,
        )
    return Named(orders=tuple(rows.order(row) for row in found))


async def intent_quantity(connection: Any, intent_id: UUID) -> int | None:
    """Return the units that the signal of an intent asked for, None when there is no such intent."""
    found = await connection.fetchval("SELECT quantity FROM trade_intents WHERE id = $1", intent_id)
    return None if found is None else int(found)


async def orders_of_day(
    connection: Any, user_id: UUID, account_ids: Sequence[UUID], day: date, *, since: datetime, limit: int
) -> list[Order]:
    """Return up to *limit* orders of a user's accounts in the book of an IST *day*, newest first.

    *since* is before the earliest of them was made: an after-market order may stand for the next trading day.
    """
    found = await connection.fetch(
        "SELECT * FROM orders WHERE user_id = $1 AND created_at >= $2 AND trading_day = $3"
        " AND account_id = ANY($4::uuid[]) ORDER BY created_at DESC, id DESC LIMIT $5",
        user_id,
        since,
        day,
        list(account_ids),
        limit,
    )
    return [rows.order(row) for row in found]


class DayTrade(msgspec.Struct, frozen=True, kw_only=True):
    """A trade: ``quantity`` units at ``price`` rupees, ``filled_at`` in UTC."""

    account_id: UUID
    broker_order_id: str
    exchange: str
    symbol: str
    product_type: str
    transaction_type: str
    quantity: int
    price: Any
    filled_at: datetime


async def trades_since(connection: Any, account_ids: Sequence[UUID], start: datetime, limit: int) -> list[DayTrade]:
    """Return up to *limit* trades of accounts from *start* on, newest first."""
    found = await connection.fetch(
        "SELECT account_id, broker_order_id, exchange, symbol, product_type, transaction_type, quantity, price,"
        " filled_at FROM fills WHERE account_id = ANY($1::uuid[]) AND filled_at >= $2"
        " ORDER BY filled_at DESC, order_id DESC, trade_id DESC LIMIT $3",
        list(account_ids),
        start,
        limit,
    )
    return [DayTrade(**dict(row)) for row in found]
