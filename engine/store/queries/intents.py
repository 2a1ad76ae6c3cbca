"""Reads of intents with their orders and timeline, for the API (asyncio-flavoured units)."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.enums import IntentStatus
from engine.domain.intent import Intent, IntentEvent
from engine.store import rows
from engine.store.queries.filters import Filters, Visible, parts_since
from engine.store.queries.orders import OrderStory, orders_of_intents


class IntentFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which intents: ``start`` inclusive, ``end`` exclusive, ``after`` the last one seen, newest first."""

    limit: int
    user_id: UUID | None = None
    visible: Visible | None = None
    status: IntentStatus | None = None
    strategy_id: UUID | None = None
    symbol: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    after: tuple[datetime, UUID] | None = None


class IntentStory(msgspec.Struct, frozen=True, kw_only=True):
    """An intent with its orders and its timeline, oldest first."""

    intent: Intent
    orders: Sequence[OrderStory] = ()
    timeline: Sequence[IntentEvent] = ()


async def list_intents(connection: Any, wanted: IntentFilter) -> list[IntentStory]:
    """Return up to ``limit`` intents, newest first."""
    filters = (
        Filters()
        .add("user_id = {}", wanted.user_id)
        .add_visible(wanted.visible, user="user_id")
        .add("status = {}", wanted.status)
        .add("strategy_id = {}", wanted.strategy_id)
        .add("{} IN (symbol, written_symbol)", wanted.symbol)
        .add("received_at >= {}", wanted.start)
        .add("received_at < {}", wanted.end)
        .add_tuple("(received_at, id) < ({}, {})", wanted.after)
    )
    sql = f"SELECT * FROM trade_intents{filters.where()} ORDER BY received_at DESC, id DESC LIMIT "  # noqa: S608
    sql += filters.parameter(wanted.limit)
    return await _stories(connection, await connection.fetch(sql, *filters.args))


async def find_intent(connection: Any, intent_id: UUID) -> IntentStory | None:
    """Return one intent, or None."""
    found = await connection.fetch("SELECT * FROM trade_intents WHERE id = $1", intent_id)
    stories = await _stories(connection, found)
    return stories[0] if stories else None


async def _stories(connection: Any, found: Sequence[Any]) -> list[IntentStory]:
    ids = [row["id"] for row in found]
    if not ids:
        return []
    orders = await orders_of_intents(connection, ids)
    timelines: defaultdict[UUID, list[IntentEvent]] = defaultdict(list)
    for row in await connection.fetch(
        "SELECT intent_id, at, event, detail FROM intent_events WHERE intent_id = ANY($1::uuid[]) AND at >= $2"
        " ORDER BY id",
        ids,
        parts_since(row["received_at"] for row in found),
    ):
        timelines[row["intent_id"]].append(IntentEvent(**dict(row)))
    return [
        IntentStory(intent=rows.intent(row), orders=orders.get(row["id"], ()), timeline=timelines[row["id"]])
        for row in found
    ]
