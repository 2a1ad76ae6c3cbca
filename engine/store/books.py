"""Strategy books, round trips and the results of days in the store (asyncio-flavoured units, and writes)."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.book_changes import roll_books
from engine.domain.books import HAND, Book, RoundTrip
from engine.domain.day_figures import DayFigures
from engine.domain.day_pnl import Part
from engine.domain.enums import Exchange, ProductType
from engine.store import rows
from engine.store.ledger import Write
from engine.store.tables import BOOKS, RESULTS, TRIPS, standing_of

PUT_BOOKS = BOOKS.sql()
ADD_TRIPS = TRIPS.sql()
PUT_RESULTS = RESULTS.sql()


def _columns(values: Sequence[tuple[Any, ...]]) -> tuple[Any, ...]:
    return tuple(list(column) for column in zip(*values, strict=True))


def write_books(books: Sequence[Book], *, day: date, at: datetime) -> Write:
    """Return the statement that keeps *books* (each owner's once) as they stand on the IST *day*."""
    values = []
    for book in books:
        p = book.position
        values.append(
            (
                p.account_id,
                p.exchange,
                p.symbol,
                p.product_type,
                book.owner,
                day,
                *standing_of(p),
                book.charges,
                book.trip_value,
                book.trip_charges,
                at,
            )
        )
    return Write(sql=PUT_BOOKS, args=_columns(values))


def write_trips(trips: Sequence[RoundTrip], *, day: date) -> Write:
    """Return the statement that adds round trips, which ended on the IST *day*."""
    values = [
        (
            trip.account_id,
            trip.strategy_id or HAND,
            trip.exchange,
            trip.symbol,
            trip.product_type,
            day,
            trip.result,
            trip.charges,
            trip.ended_at,
        )
        for trip in trips
    ]
    return Write(sql=ADD_TRIPS, args=_columns(values))


def write_results(
    user_id: UUID,
    day: date,
    figures: Mapping[Part, DayFigures],
    capital: Mapping[Part, Decimal],
    *,
    at: datetime,
) -> Write:
    """Return the statement that keeps what a user's *day* (IST) has come to; *capital* is rupees by scope."""
    values = [
        (
            user_id,
            day,
            scope_name(part),
            of.realised,
            of.unrealised,
            of.charges,
            of.peak,
            of.trades,
            capital.get(part),
            at,
        )
        for part, of in figures.items()
    ]
    return Write(sql=PUT_RESULTS, args=_columns(values))


def scope_name(part: Part) -> str:
    """Return a scope in words: ``user``, ``account:ID``, ``strategy:ID``, ``hand``, or two of them joined by /."""
    account, owner = part
    words = [] if account is None else [f"account:{account}"]
    if owner is not None:
        words.append("hand" if owner == HAND else f"strategy:{owner}")
    return "/".join(words) or "user"


def scope_of(name: str) -> Part:
    """Return the scope that `scope_name` named."""
    account: UUID | None = None
    owner: UUID | None = None
    for word in name.split("/"):
        kind, _, number = word.partition(":")
        if kind == "account":
            account = UUID(number)
        elif kind == "strategy":
            owner = UUID(number)
        elif kind == "hand":
            owner = HAND
    return (account, owner)


def book_of(row: Any) -> Book:
    """Return the book of a row of ``strategy_positions``."""
    owner = row["book"]
    position = msgspec.structs.replace(rows.position(row), strategy_id=None if owner == HAND else owner)
    return Book(
        position=position,
        charges=row["charges"],
        trip_value=row["trip_value"],
        trip_charges=row["trip_charges"],
    )


def rows_of(write: Write) -> list[dict[str, Any]]:
    """Return the rows that a write of this module keeps, as the store would give them back."""
    columns = {PUT_BOOKS: BOOKS, ADD_TRIPS: TRIPS, PUT_RESULTS: RESULTS}[write.sql].columns
    return [dict(zip((name for name, _ in columns), row, strict=True)) for row in zip(*write.args, strict=True)]


# the net position's price is kept up to date, a book's only with its trades
BOOK_ROWS = (
    "SELECT s.account_id, s.exchange, s.symbol, s.product_type, s.book, s.trading_day, s.quantity, "
    "s.overnight_quantity, s.buy_quantity, s.buy_value, s.sell_quantity, s.sell_value, s.day_buy_quantity, "
    "s.day_buy_value, s.day_sell_quantity, s.day_sell_value, s.close_price, s.multiplier, s.charges, s.trip_value, "
    "s.trip_charges, s.updated_at, coalesce(nullif(p.last_price, 0), s.last_price) AS last_price "
    "FROM strategy_positions s LEFT JOIN positions p ON (p.account_id, p.exchange, p.symbol, p.product_type) "
    "= (s.account_id, s.exchange, s.symbol, s.product_type)"
)
"""What reads books, `book_of` their rows; conditions on ``s`` follow."""


async def rows_of_accounts(connection: Any, account_ids: Sequence[UUID], day: date) -> Sequence[Any]:
    """Return the rows of the books of accounts that hold something or traded on the IST *day*."""
    found: Sequence[Any] = await connection.fetch(
        f"{BOOK_ROWS} WHERE s.account_id = ANY($1::uuid[]) AND (s.quantity <> 0 OR s.trading_day >= $2)",
        list(account_ids),
        day,
    )
    return found


async def of_user(connection: Any, user_id: UUID, day: date) -> dict[str, Any]:
    """Return the books of a user as of the IST *day*, its round trips, and its peaks by scope, for a UserHistory."""
    found = await connection.fetch(
        f"{BOOK_ROWS} JOIN kite_accounts a ON a.id = s.account_id "
        "WHERE a.user_id = $1 AND (s.quantity <> 0 OR s.trading_day >= $2)",
        user_id,
        day,
    )
    ended = await connection.fetch(
        "SELECT t.* FROM round_trips t JOIN kite_accounts a ON a.id = t.account_id "
        "WHERE a.user_id = $1 AND t.trading_day = $2 ORDER BY t.id",
        user_id,
        day,
    )
    peaks = await connection.fetch(
        "SELECT scope, peak FROM day_results WHERE user_id = $1 AND trading_day = $2 AND peak > 0", user_id, day
    )
    return {
        "books": as_of([(book_of(row), row["trading_day"]) for row in found], day),
        "trips": [trip_of(row) for row in ended],
        "peaks": [(scope_of(row["scope"]), row["peak"]) for row in peaks],
    }


def as_of(books: Sequence[tuple[Book, date]], day: date) -> list[Book]:
    """Return books, each kept on the day that it comes with, as they are on *day*; those of a position are of one."""
    return [*(book for book, of in books if of >= day), *roll_books(book for book, of in books if of < day)]


def trip_of(row: Any) -> RoundTrip:
    """Return the round trip of a row of ``round_trips``."""
    return RoundTrip(
        account_id=row["account_id"],
        strategy_id=None if row["book"] == HAND else row["book"],
        exchange=Exchange(row["exchange"]),
        symbol=row["symbol"],
        product_type=ProductType(row["product_type"]),
        result=row["result"],
        charges=row["charges"],
        ended_at=row["ended_at"],
    )


async def results(connection: Any, user_id: UUID, day: date) -> dict[Part, tuple[DayFigures, Decimal | None, datetime]]:
    """Return what a user's *day* (IST) came to by scope: its figures, the capital then, and as of when (UTC)."""
    found = await connection.fetch("SELECT * FROM day_results WHERE user_id = $1 AND trading_day = $2", user_id, day)
    return {
        scope_of(row["scope"]): (
            DayFigures(
                realised=row["realised"],
                unrealised=row["unrealised"],
                charges=row["charges"],
                peak=row["peak"],
                trades=row["trades"],
            ),
            row["capital"],
            row["updated_at"],
        )
        for row in found
    }
