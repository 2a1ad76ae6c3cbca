"""The API's reads on a real PostgreSQL: filters, order, pages, and what belongs to whom."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.audit import AuditDraft
from engine.domain.enums import (
    Exchange,
    IntentStatus,
    OrderStatus,
    OrderType,
    ProductType,
    TransactionType,
)
from engine.domain.fill import Fill
from engine.domain.intent import Intent, IntentEvent
from engine.domain.order import Order, OrderEvent
from engine.domain.position import Position, apply_fill, with_last_price
from engine.domain.signal import Signal
from engine.http.routes.audit import check_chain
from engine.ids import uuid7
from engine.runtime.asyncio_bridge import open_aio
from engine.store import lease
from engine.store.audit_append import append
from engine.store.database import Database
from engine.store.ledger import Batch, LedgerStore
from engine.store.queries import audit_log, dead_letters, holdings, intents, orders

AT = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
DAY = date(2026, 11, 23)
ALICE, BOB = uuid7(), uuid7()
ACCOUNTS = {ALICE: uuid7(), BOB: uuid7()}
STRATEGIES = {ALICE: uuid7(), BOB: uuid7()}
SOURCES = {ALICE: uuid7(), BOB: uuid7()}


def make_intent(
    owner: UUID, number: int, *, symbol: str = "INFY", status: IntentStatus = IntentStatus.EXECUTED
) -> Intent:
    at = AT + timedelta(seconds=number)
    return Intent(
        id=uuid7(),
        source_id=SOURCES[owner],
        strategy_id=STRATEGIES[owner],
        user_id=owner,
        signal=Signal(
            symbol=symbol,
            exchange=Exchange.NSE,
            transaction_type=TransactionType.BUY,
            quantity=10,
            order_type=OrderType.LIMIT,
            product_type=ProductType.MIS,
            price=Decimal("1450.5"),
        ),
        status=status,
        received_at=at,
        updated_at=at,
        idempotency_key=f"key:{number}",
        body_sha256=b"h",
    )


def make_order(intent: Intent) -> Order:
    signal = intent.signal
    return Order(
        id=uuid7(),
        intent_id=intent.id,
        account_id=ACCOUNTS[intent.user_id],
        user_id=intent.user_id,
        strategy_id=intent.strategy_id,
        exchange=signal.exchange,
        symbol=signal.symbol,
        transaction_type=signal.transaction_type,
        quantity=signal.quantity,
        order_type=signal.order_type,
        product_type=signal.product_type,
        price=signal.price,
        status=OrderStatus.COMPLETE,
        tag=f"T{intent.idempotency_key}{intent.user_id.hex[-4:]}",
        attempt=1,
        epoch=1,
        trading_day=DAY,
        deadline=AT,
        created_at=intent.received_at,
        updated_at=intent.received_at,
    )


def make_fill(order: Order) -> Fill:
    return Fill(
        trade_id=f"trade-{order.tag}",
        order_id=order.id,
        account_id=order.account_id,
        broker_order_id="1",
        exchange=order.exchange,
        symbol=order.symbol,
        product_type=order.product_type,
        transaction_type=order.transaction_type,
        quantity=order.quantity,
        price=Decimal(1450),
        filled_at=order.created_at,
    )


async def _people(connection: Any) -> None:
    for owner in (ALICE, BOB):
        await connection.execute(
            "INSERT INTO users (id, email, role, password_hash, created_at, updated_at)"
            " VALUES ($1, $2, 'TRADER', '', $3, $3)",
            owner,
            f"{owner}@example.com",
            AT,
        )
        await connection.execute(
            "INSERT INTO kite_accounts (id, user_id, label, broker, capital, status, api_key, created_at, updated_at)"
            " VALUES ($1, $2, 'a', 'paper', 1, 'ACTIVE', $3, $4, $4)",
            ACCOUNTS[owner],
            owner,
            str(owner),
            AT,
        )
        await connection.execute(
            "INSERT INTO strategies (id, user_id, name, created_at, updated_at) VALUES ($1, $2, 's', $3, $3)",
            STRATEGIES[owner],
            owner,
            AT,
        )
        await connection.execute(
            "INSERT INTO signal_sources (id, user_id, strategy_id, type, name, created_at, updated_at)"
            " VALUES ($1, $2, $3, 'sheets', 's', $4, $4)",
            SOURCES[owner],
            owner,
            STRATEGIES[owner],
            AT,
        )


@asynccontextmanager
async def stored(url: str, batch: Batch | None = None) -> AsyncIterator[Database]:
    """A migrated database with two traders, and *batch* written as the ledger writes it."""
    strays: list[Mapping[str, Any]] = []
    async with open_aio(strays.append):
        database = Database(url)
        await database.open()
        ledger = LedgerStore(url, role=None)
        try:
            await database.run(_people)
            epoch = await database.run(lambda c: lease.take(c, holder="test", seen=None))
            assert epoch is not None
            if batch is not None:
                await ledger.commit(batch, epoch=epoch, timeout_s=5)
            yield database
        finally:
            await ledger.close()
            await database.close()
    assert not strays


def history() -> tuple[Batch, list[Intent], list[Order]]:
    made = [make_intent(ALICE, number) for number in range(5)]
    made.append(make_intent(ALICE, 5, symbol="SBIN", status=IntentStatus.REJECTED))
    made.append(make_intent(BOB, 6))
    sent = [make_order(intent) for intent in made if intent.status is IntentStatus.EXECUTED]
    batch = Batch(
        new_intents=made,
        intent_events=[
            IntentEvent(intent_id=intent.id, at=intent.received_at, event=event)
            for intent in made
            for event in ("RECEIVED", intent.status.value)
        ],
        new_orders=sent,
        order_events=[
            OrderEvent(
                order_id=order.id,
                at=order.created_at,
                from_status=OrderStatus.PENDING,
                to_status=order.status,
                filled_quantity=0,
            )
            for order in sent
        ],
        fills=[make_fill(order) for order in sent],
    )
    return batch, made, sent


async def test_intents_come_newest_first_with_orders_and_timeline_and_only_of_their_owner(schema_url: str) -> None:
    batch, made, sent = history()
    async with stored(schema_url, batch) as database:

        async def read(**wanted: Any) -> list[intents.IntentStory]:
            filters = intents.IntentFilter(**{"limit": 100, **wanted})
            return await database.run(lambda c: intents.list_intents(c, filters))

        everything = await read()
        assert [story.intent for story in everything] == made[::-1]
        assert [len(story.orders) for story in everything] == [1, 0, 1, 1, 1, 1, 1]
        assert [event.event for event in everything[1].timeline] == ["RECEIVED", "REJECTED"]
        assert everything[0].orders[0].fills == [make_fill(sent[-1])]
        assert [story.intent.user_id for story in await read(user_id=BOB)] == [BOB]
        assert [story.intent.signal.symbol for story in await read(symbol="SBIN")] == ["SBIN"]
        assert len(await read(status=IntentStatus.EXECUTED, strategy_id=STRATEGIES[ALICE])) == 5
        window = await read(start=AT + timedelta(seconds=1), end=AT + timedelta(seconds=3))
        assert [story.intent for story in window] == [made[2], made[1]]
        found = await database.run(lambda c: intents.find_intent(c, made[0].id))
        assert found == everything[-1]
        assert await database.run(lambda c: intents.find_intent(c, uuid7())) is None


async def test_pages_by_cursor_give_every_order_once_even_of_the_same_instant(schema_url: str) -> None:
    batch, _, sent = history()
    same = [msgspec.structs.replace(order, created_at=AT) for order in sent]
    async with stored(schema_url, msgspec.structs.replace(batch, new_orders=same)) as database:
        seen: list[UUID] = []
        after = None
        while True:
            wanted = orders.OrderFilter(limit=2, after=after)
            page = await database.run(lambda c, wanted=wanted: orders.list_orders(c, wanted))  # type: ignore[misc]
            seen += [story.order.id for story in page]
            if len(page) < 2:
                break
            after = (page[-1].order.created_at, page[-1].order.id)
        assert seen == sorted((order.id for order in sent), reverse=True)


async def test_orders_are_found_by_each_filter(schema_url: str) -> None:
    batch, made, sent = history()
    async with stored(schema_url, batch) as database:
        for wanted, count in (
            ({"intent_id": made[2].id}, 1),
            ({"account_id": ACCOUNTS[BOB]}, 1),
            ({"user_id": ALICE}, 5),
            ({"strategy_id": STRATEGIES[BOB], "symbol": "INFY"}, 1),
            ({"status": OrderStatus.OPEN}, 0),
            ({"end": AT}, 0),
        ):
            filters = orders.OrderFilter(limit=100, **wanted)
            found = await database.run(lambda c, f=filters: orders.list_orders(c, f))  # type: ignore[misc]
            assert len(found) == count, wanted
        story = await database.run(lambda c: orders.find_order(c, sent[0].id))
        assert story is not None
        assert (story.order, len(story.events), story.fills) == (sent[0], 1, [make_fill(sent[0])])


async def test_trades_page_through_the_same_instant_and_belong_to_their_owner(schema_url: str) -> None:
    batch, _, sent = history()
    async with stored(schema_url, batch) as database:
        theirs = await database.run(lambda c: holdings.list_trades(c, holdings.TradeFilter(limit=9, user_id=BOB)))
        assert [(trade.fill.order_id, trade.strategy_id) for trade in theirs] == [(sent[-1].id, STRATEGIES[BOB])]
        first = await database.run(lambda c: holdings.list_trades(c, holdings.TradeFilter(limit=4)))
        rest_of = holdings.TradeFilter(limit=4, after=first[-1].place)
        rest = await database.run(lambda c: holdings.list_trades(c, rest_of))
        assert [t.fill.order_id for t in (*first, *rest)] == [order.id for order in sent[::-1]]


async def test_positions_of_an_earlier_day_are_rolled_and_those_it_closed_are_gone(schema_url: str) -> None:
    batch, _, sent = history()
    bought, closed = sent[0], sent[1]
    held = with_last_price(
        apply_fill(
            Position(account_id=bought.account_id, exchange=Exchange.NSE, symbol="INFY", product_type=ProductType.MIS),
            make_fill(bought),
        ),
        Decimal(1460),
    )
    flat = Position(account_id=closed.account_id, exchange=Exchange.NSE, symbol="SBIN", product_type=ProductType.MIS)
    positions = [(held, DAY, AT), (flat, DAY, AT + timedelta(seconds=1))]
    async with stored(schema_url, msgspec.structs.replace(batch, positions=positions)) as database:

        async def read(**wanted: Any) -> list[holdings.HeldPosition]:
            filters = holdings.PositionFilter(**{"limit": 9, "day": DAY, **wanted})
            return await database.run(lambda c: holdings.list_positions(c, filters))

        today = await read()
        assert [h.position.symbol for h in today] == ["SBIN", "INFY"]
        assert [h.position.symbol for h in await read(after=today[0].place)] == ["INFY"]
        assert await read(user_id=BOB) == []
        [tomorrow] = await read(day=DAY + timedelta(days=1))
        assert (tomorrow.position.overnight_quantity, tomorrow.position.close_price) == (10, Decimal(1460))


async def test_audit_records_are_filtered_and_the_chain_is_checked_over_several_pages(schema_url: str) -> None:
    async with stored(schema_url) as database:
        drafts = [AuditDraft(at=AT, actor=f"user:{n % 2}", action="A", subject=f"x:{n}") for n in range(7)]
        await database.run(lambda c: append(c, *drafts))
        filters = audit_log.AuditFilter(limit=2, actor="user:0", before_seq=7)
        found = await database.run(lambda c: audit_log.list_records(c, filters))
        assert [record.seq for record in found] == [5, 3]
        chain = await check_chain(database, page_rows=3)
        assert (chain.ok, chain.records, chain.first_broken) == (True, 7, None)
        await database.run(_tamper)
        chain = await check_chain(database, page_rows=3)
        assert (chain.ok, chain.records, chain.first_broken) == (False, 4, 5)


async def _tamper(connection: Any) -> None:
    await connection.execute("ALTER TABLE audit_logs DISABLE TRIGGER audit_logs_no_change")
    await connection.execute("UPDATE audit_logs SET subject = 'x:other' WHERE seq = 5")


async def test_dead_letters_that_wait_are_counted_by_queue(schema_url: str) -> None:
    async def bury(connection: Any) -> None:
        for queue, status in (("signal", "WAITING"), ("signal", "WAITING"), ("audit", "DISCARDED")):
            await connection.execute(
                "INSERT INTO dead_letters VALUES ($1, $2, $3, '', 'e', 1, $4, $4)", uuid7(), queue, status, AT
            )

    async with stored(schema_url) as database:
        await database.run(bury)
        assert await database.run(dead_letters.waiting_by_queue) == {"signal": 2}
