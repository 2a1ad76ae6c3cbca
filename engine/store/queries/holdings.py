"""Reads of positions and trades, for the API (asyncio-flavoured units)."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.fill import Fill
from engine.domain.position import Position, roll_day
from engine.store import rows
from engine.store.queries.filters import Filters

PositionPlace = tuple[datetime, UUID, str, str, str]
TradePlace = tuple[datetime, UUID, str]


class PositionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which positions: of the IST *day*, so without those that an earlier day closed."""

    limit: int
    day: date
    user_id: UUID | None = None
    account_id: UUID | None = None
    symbol: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    after: PositionPlace | None = None


class HeldPosition(msgspec.Struct, frozen=True, kw_only=True):
    """A position as of the day asked for; ``updated_at`` is when it last changed."""

    position: Position
    updated_at: datetime

    @property
    def place(self) -> PositionPlace:
        """Its place in the list."""
        held = self.position
        return (self.updated_at, held.account_id, held.exchange.value, held.symbol, held.product_type.value)


class TradeFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which trades: ``start`` inclusive, ``end`` exclusive, ``after`` the last one seen, newest first."""

    limit: int
    user_id: UUID | None = None
    account_id: UUID | None = None
    strategy_id: UUID | None = None
    symbol: str | None = None
    order_id: UUID | None = None
    start: datetime | None = None
    end: datetime | None = None
    after: TradePlace | None = None


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """A fill with what its order knows of it."""

    fill: Fill
    intent_id: UUID | None
    strategy_id: UUID | None

    @property
    def place(self) -> TradePlace:
        """Its place in the list."""
        return (self.fill.filled_at, self.fill.order_id, self.fill.trade_id)


async def list_positions(connection: Any, wanted: PositionFilter) -> list[HeldPosition]:
    """Return up to ``limit`` positions, the one that changed last first."""
    filters = (
        Filters()
        .add("(p.quantity <> 0 OR p.trading_day >= {})", wanted.day)
        .add("a.user_id = {}", wanted.user_id)
        .add("p.account_id = {}", wanted.account_id)
        .add("p.symbol = {}", wanted.symbol)
        .add("p.updated_at >= {}", wanted.start)
        .add("p.updated_at < {}", wanted.end)
        .add_tuple(
            "(p.updated_at, p.account_id, p.exchange, p.symbol, p.product_type) < ({}, {}, {}, {}, {})", wanted.after
        )
    )
    sql = (
        "SELECT p.* FROM positions p JOIN kite_accounts a ON a.id = p.account_id"  # noqa: S608 -- constants
        f"{filters.where()} ORDER BY p.updated_at DESC, p.account_id DESC, p.exchange DESC, p.symbol DESC,"
        f" p.product_type DESC LIMIT {filters.parameter(wanted.limit)}"
    )
    return [_held(row, wanted.day) for row in await connection.fetch(sql, *filters.args)]


def _held(row: Any, day: date) -> HeldPosition:
    position = rows.position(row)
    if row["trading_day"] < day:
        position = roll_day(position, position.last_price)
    return HeldPosition(position=position, updated_at=row["updated_at"])


async def list_trades(connection: Any, wanted: TradeFilter) -> list[Trade]:
    """Return up to ``limit`` trades, newest first."""
    filters = (
        Filters()
        .add("o.user_id = {}", wanted.user_id)
        .add("f.account_id = {}", wanted.account_id)
        .add("o.strategy_id = {}", wanted.strategy_id)
        .add("f.symbol = {}", wanted.symbol)
        .add("f.order_id = {}", wanted.order_id)
        .add("f.filled_at >= {}", wanted.start)
        .add("f.filled_at < {}", wanted.end)
        .add_tuple("(f.filled_at, f.order_id, f.trade_id) < ({}, {}, {})", wanted.after)
    )
    sql = (
        "SELECT f.*, o.intent_id, o.strategy_id FROM fills f JOIN orders o ON o.id = f.order_id"  # noqa: S608
        f"{filters.where()} ORDER BY f.filled_at DESC, f.order_id DESC, f.trade_id DESC"
        f" LIMIT {filters.parameter(wanted.limit)}"
    )
    return [
        Trade(fill=rows.fill(row), intent_id=row["intent_id"], strategy_id=row["strategy_id"])
        for row in await connection.fetch(sql, *filters.args)
    ]
