"""Reads of orders, their events and their fills, for the API (asyncio-flavoured units)."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.enums import OrderStatus
from engine.domain.fill import Fill
from engine.domain.order import Order, OrderEvent
from engine.store import rows
from engine.store.queries.filters import Filters, Visible, parts_since


class OrderFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which orders: ``start`` inclusive, ``end`` exclusive, ``after`` the last one seen, newest first."""

    limit: int
    user_id: UUID | None = None
    visible: Visible | None = None
    status: OrderStatus | None = None
    symbol: str | None = None
    account_id: UUID | None = None
    strategy_id: UUID | None = None
    intent_id: UUID | None = None
    broker_order_id: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    after: tuple[datetime, UUID] | None = None


class OrderStory(msgspec.Struct, frozen=True, kw_only=True):
    """An order with everything that happened to it, oldest first."""

    order: Order
    events: Sequence[OrderEvent] = ()
    fills: Sequence[Fill] = ()


async def list_orders(connection: Any, wanted: OrderFilter) -> list[OrderStory]:
    """Return up to ``limit`` orders, newest first."""
    filters = (
        Filters()
        .add("user_id = {}", wanted.user_id)
        .add_visible(wanted.visible, user="user_id", account="account_id")
        .add("status = {}", wanted.status)
        .add("symbol = {}", wanted.symbol)
        .add("account_id = {}", wanted.account_id)
        .add("strategy_id = {}", wanted.strategy_id)
        .add("intent_id = {}", wanted.intent_id)
        .add("broker_order_id = {}", wanted.broker_order_id)
        .add("created_at >= {}", wanted.start)
        .add("created_at < {}", wanted.end)
        .add_tuple("(created_at, id) < ({}, {})", wanted.after)
    )
    sql = f"SELECT * FROM orders{filters.where()} ORDER BY created_at DESC, id DESC LIMIT "  # noqa: S608 -- constants
    sql += filters.parameter(wanted.limit)
    return await _stories(connection, await connection.fetch(sql, *filters.args))


async def find_order(connection: Any, order_id: UUID) -> OrderStory | None:
    """Return one order, or None."""
    found = await _stories(connection, await connection.fetch("SELECT * FROM orders WHERE id = $1", order_id))
    return found[0] if found else None


async def orders_of_intents(connection: Any, intent_ids: Sequence[UUID]) -> dict[UUID, list[OrderStory]]:
    """Return the orders of each of the intents, oldest first."""
    found = await connection.fetch(
        "SELECT * FROM orders WHERE intent_id = ANY($1::uuid[]) ORDER BY created_at, id", list(intent_ids)
    )
    of_intent: defaultdict[UUID, list[OrderStory]] = defaultdict(list)
    for story in await _stories(connection, found):
        if story.order.intent_id is not None:
            of_intent[story.order.intent_id].append(story)
    return dict(of_intent)


async def _stories(connection: Any, found: Sequence[Any]) -> list[OrderStory]:
    ids = [row["id"] for row in found]
    events: defaultdict[UUID, list[OrderEvent]] = defaultdict(list)
    fills: defaultdict[UUID, list[Fill]] = defaultdict(list)
    if ids:
        for row in await connection.fetch(
            "SELECT order_id, at, from_status, to_status, filled_quantity, detail, anomaly FROM order_events "
            "WHERE order_id = ANY($1::uuid[]) AND at >= $2 ORDER BY id",
            ids,
            parts_since(row["created_at"] for row in found),
        ):
            events[row["order_id"]].append(_event(row))
        for row in await connection.fetch(
            "SELECT * FROM fills WHERE order_id = ANY($1::uuid[]) ORDER BY filled_at, trade_id", ids
        ):
            fills[row["order_id"]].append(rows.fill(row))
    return [OrderStory(order=rows.order(row), events=events[row["id"]], fills=fills[row["id"]]) for row in found]


def _event(row: Any) -> OrderEvent:
    return OrderEvent(
        order_id=row["order_id"],
        at=row["at"],
        from_status=OrderStatus(row["from_status"]),
        to_status=OrderStatus(row["to_status"]),
        filled_quantity=row["filled_quantity"],
        detail=row["detail"],
        anomaly=row["anomaly"],
    )
