"""Reads of triggers (GTT), for the API (asyncio-flavoured units)."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.gtt import Gtt, GttStatus
from engine.store.gtts import row_to_gtt
from engine.store.queries.filters import Filters, Visible


class GttFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which triggers: ``start`` inclusive, ``end`` exclusive, ``after`` the last one seen, newest first."""

    limit: int
    user_id: UUID | None = None
    visible: Visible | None = None
    status: GttStatus | None = None
    symbol: str | None = None
    account_id: UUID | None = None
    start: datetime | None = None
    end: datetime | None = None
    after: tuple[datetime, UUID] | None = None


async def list_gtts(connection: Any, wanted: GttFilter) -> list[Gtt]:
    """Return up to ``limit`` triggers, newest first."""
    filters = (
        Filters()
        .add("user_id = {}", wanted.user_id)
        .add_visible(wanted.visible, user="user_id", account="account_id")
        .add("status = {}", wanted.status)
        .add("symbol = {}", wanted.symbol)
        .add("account_id = {}", wanted.account_id)
        .add("created_at >= {}", wanted.start)
        .add("created_at < {}", wanted.end)
        .add_tuple("(created_at, id) < ({}, {})", wanted.after)
    )
    sql = f"SELECT * FROM gtts{filters.where()} ORDER BY created_at DESC, id DESC LIMIT "  # noqa: S608 -- constants
    sql += filters.parameter(wanted.limit)
    return [row_to_gtt(row) for row in await connection.fetch(sql, *filters.args)]


async def find_gtt(connection: Any, gtt_id: UUID) -> Gtt | None:
    """Return one trigger, or None."""
    row = await connection.fetchrow("SELECT * FROM gtts WHERE id = $1", gtt_id)
    return None if row is None else row_to_gtt(row)
