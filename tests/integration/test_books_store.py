"""Strategy books, round trips and results of days in PostgreSQL: written with the fills, read back as they were."""

from datetime import timedelta
from decimal import Decimal

import asyncpg
import msgspec

from engine.domain.book_changes import roll_books
from engine.domain.books import HAND, Book, RoundTrip
from engine.domain.day_figures import DayFigures
from engine.domain.enums import Exchange, ProductType
from engine.runtime.asyncio_bridge import run_aio
from engine.store import books, history, lease, pnl_points
from engine.store.database import APP_ROLE, prepare_connection
from engine.store.ledger import Batch, LedgerStore
from engine.store.queries import holdings
from tests.support.ledger_rows import NOW, Trader
from tests.support.trade import a_position

DAY = NOW.date()


async def on_connection(url, work):
    async def unit():
        connection = await asyncpg.connect(url)
        try:
            await prepare_connection(connection)
            return await work(connection)
        finally:
            await connection.close()

    return await run_aio(unit, timeout_s=20)


async def test_books_and_days_come_back_as_they_were_written(schema_url, aio):
    await on_connection(schema_url, lambda c: lease.take(c, holder="test", seen=None))
    trader = await Trader().seed(schema_url)
    key = {"account_id": trader.account_id, "last_price": Decimal("101.5"), "close_price": Decimal(99)}
    mine = Book(
        position=a_position(
            **key, strategy_id=trader.strategy_id, quantity=10, buy_quantity=10, buy_value=Decimal("1000.123456789")
        ),
        charges=Decimal("34.2109"),
        trip_value=Decimal("-1000.123456789"),
        trip_charges=Decimal("34.2109"),
    )
    hand = Book(position=a_position(**key, quantity=-4, sell_quantity=4, sell_value=Decimal(400)))
    net = a_position(**key | {"last_price": Decimal(102)}, quantity=6)
    won, lost = (
        RoundTrip(
            account_id=trader.account_id,
            strategy_id=owner,
            exchange=Exchange.NSE,
            symbol="SBIN",
            product_type=ProductType.MIS,
            result=Decimal(result),
            charges=Decimal("1.5"),
            ended_at=NOW,
        )
        for owner, result in ((trader.strategy_id, "12.25"), (None, "-3"))
    )
    figures = {
        (None, None): DayFigures(realised=Decimal("9.25"), charges=Decimal("34.2109"), peak=Decimal(12), trades=2),
        (trader.account_id, HAND): DayFigures(realised=Decimal(-3), trades=1),
        (None, trader.strategy_id): DayFigures(unrealised=Decimal("-0.5"), peak=Decimal("0.25")),
    }
    store = LedgerStore(schema_url, role=APP_ROLE)
    writes = [
        books.write_books([mine, hand], day=DAY, at=NOW),
        books.write_trips([won, lost], day=DAY),
        books.write_results(trader.user_id, DAY, figures, {(None, None): Decimal(5)}, at=NOW),
        *(pnl_points.write_point(trader.user_id, NOW + timedelta(seconds=s), Decimal(s)) for s in (-60, 0, 1, 90)),
        pnl_points.forget_points(trader.user_id, NOW.replace(second=0, microsecond=0)),
    ]
    # the same twice, as after an answer that was lost: trips go with an audit record that prevents it
    await store.commit(Batch(positions=[(net, DAY, NOW)], writes=writes), epoch=1, timeout_s=10)
    await store.commit(Batch(writes=[writes[0], writes[2]]), epoch=1, timeout_s=10)
    await store.close()

    def marked(book):
        return msgspec.structs.replace(book, position=msgspec.structs.replace(book.position, last_price=net.last_price))

    account = await on_connection(schema_url, lambda c: history.account(c, trader.account_id, DAY))
    assert {b.owner: (b, of) for b, of in account["books"]} == {
        trader.strategy_id: (marked(mine), DAY),
        HAND: (marked(hand), DAY),
    }
    user = await on_connection(schema_url, lambda c: history.user(c, trader.user_id, DAY))
    assert list(user["trips"]) == [won, lost]
    assert dict(user["peaks"]) == {(None, None): 12, (None, trader.strategy_id): Decimal("0.25")}
    tomorrow = DAY + timedelta(days=1)
    user = await on_connection(schema_url, lambda c: history.user(c, trader.user_id, tomorrow))
    assert user["books"] == roll_books([b for b, _ in account["books"]])
    assert sum(b.position.quantity for b in user["books"]) == 6
    assert {b.owner for b in user["books"] if b.position.quantity} == {trader.strategy_id}, "the hand closed 4 of them"
    assert not user["trips"]
    assert not user["peaks"]
    kept = await on_connection(schema_url, lambda c: books.results(c, trader.user_id, DAY))
    assert {part: (of, capital) for part, (of, capital, _) in kept.items()} == {
        part: (of, 5 if part == (None, None) else None) for part, of in figures.items()
    }
    minute = NOW.replace(second=0, microsecond=0)
    end = NOW + timedelta(hours=1)
    points = await on_connection(schema_url, lambda c: pnl_points.points(c, trader.user_id, minute, end))
    assert [pnl for _, pnl in points] == [1, 90], "one point a minute, the last figure of it; older ones are forgotten"
    wanted = holdings.PositionFilter(limit=1, day=DAY, user_id=trader.user_id)
    (first,) = await on_connection(schema_url, lambda c: holdings.list_books(c, wanted))
    rest = msgspec.structs.replace(wanted, limit=5, after=first.place)
    (second,) = await on_connection(schema_url, lambda c: holdings.list_books(c, rest))
    assert {first.book, second.book} == {trader.strategy_id, HAND}
    one = msgspec.structs.replace(wanted, strategy_id=trader.strategy_id, limit=5)
    (found,) = await on_connection(schema_url, lambda c: holdings.list_books(c, one))
    assert found.position.strategy_id == trader.strategy_id
