"""Reads of positions and trades, for the API (asyncio-flavoured units)."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.fill import Fill
from engine.domain.position import Position, roll_day
from engine.store import books, rows
from engine.store.queries.filters import Filters, Visible

PositionPlace = tuple[datetime, UUID, str, str, str]
BookPlace = tuple[datetime, UUID, str, str, str, UUID]
TradePlace = tuple[datetime, UUID, str]


class PositionFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which positions: of the IST *day*, so without those that an earlier day closed.

    ``strategy_id`` is of books, not of positions.
    """

    limit: int
    day: date
    user_id: UUID | None = None
    visible: Visible | None = None
    account_id: UUID | None = None
    symbol: str | None = None
    strategy_id: UUID | None = None
    start: datetime | None = None
    end: datetime | None = None
    after: PositionPlace | BookPlace | None = None


class HeldPosition(msgspec.Struct, frozen=True, kw_only=True):
    """A position as of the day asked for; ``updated_at`` is when it last changed, ``book`` whose, None if net."""

    position: Position
    updated_at: datetime
    book: UUID | None = None

    @property
    def place(self) -> PositionPlace | BookPlace:
        """Its place in the list."""
        held = self.position
        place = (self.updated_at, held.account_id, held.exchange.value, held.symbol, held.product_type.value)
        return place if self.book is None else (*place, self.book)


class TradeFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which trades: ``start`` inclusive, ``end`` exclusive, ``after`` the last one seen, newest first."""

    limit: int
    user_id: UUID | None = None
    visible: Visible | None = None
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
        .add_visible(wanted.visible, user="a.user_id", account="a.id")
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


async def list_books(connection: Any, wanted: PositionFilter) -> list[HeldPosition]:
    """Return up to ``limit`` strategy books, the hand's among them, the one that changed last first."""
    filters = (
        Filters()
        .add("(s.quantity <> 0 OR s.trading_day >= {})", wanted.day)
        .add("a.user_id = {}", wanted.user_id)
        .add_visible(wanted.visible, user="a.user_id", account="a.id")
        .add("s.account_id = {}", wanted.account_id)
        .add("s.book = {}", wanted.strategy_id)
        .add("s.symbol = {}", wanted.symbol)
        .add("s.updated_at >= {}", wanted.start)
        .add("s.updated_at < {}", wanted.end)
        .add_tuple(
            "(s.updated_at, s.account_id, s.exchange, s.symbol, s.product_type, s.book) < ({}, {}, {}, {}, {}, {})",
            wanted.after,
        )
    )
    sql = (
        f"{books.BOOK_ROWS} JOIN kite_accounts a ON a.id = s.account_id"
        f"{filters.where()} ORDER BY s.updated_at DESC, s.account_id DESC, s.exchange DESC, s.symbol DESC,"
        f" s.product_type DESC, s.book DESC LIMIT {filters.parameter(wanted.limit)}"
    )
    return [
        HeldPosition(
            position=_held_book(row, wanted.day),
            updated_at=row["updated_at"],
            book=row["book"],
        )
        for row in await connection.fetch(sql, *filters.args)
    ]


def _held_book(row: Any, day: date) -> Position:
    position = books.book_of(row).position
    return position if row["trading_day"] >= day else roll_day(position, position.last_price)


async def list_trades(connection: Any, wanted: TradeFilter) -> list[Trade]:
    """Return up to ``limit`` trades, newest first."""
    filters = (
        Filters()
        .add("o.user_id = {}", wanted.user_id)
        .add_visible(wanted.visible, user="o.user_id", account="f.account_id")
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
