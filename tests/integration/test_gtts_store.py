"""Triggers (GTT) in PostgreSQL: written ahead once, changed, tied to the order they placed, found weeks later."""

from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import asyncpg
import msgspec
import pytest

from engine.domain.enums import OrderStatus
from engine.domain.gtt import GttStatus
from engine.domain.options import OrderRole
from engine.domain.order import OrderOrigin
from engine.runtime.asyncio_bridge import run_aio
from engine.store import history, lease
from engine.store.database import APP_ROLE, prepare_connection
from engine.store.gtts import insert, link, save
from engine.store.ledger import Batch, LedgerRefused, LedgerStore
from engine.store.queries.gtts import GttFilter, find_gtt, list_gtts
from tests.support.gtts import a_gtt
from tests.support.ledger_rows import NOW, Trader, sql

S = GttStatus
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


@pytest.fixture
async def trader(schema_url, aio):
    await on_connection(schema_url, lambda c: lease.take(c, holder="test", seen=None))
    return await Trader().seed(schema_url)


async def write(url, **rows):
    store = LedgerStore(url, role=APP_ROLE)
    try:
        await store.commit(Batch(**rows), epoch=1, timeout_s=10)
    finally:
        await store.close()


def an_entry(trader, *, days_ago=0, **fields):
    terms = {"status": OrderStatus.COMPLETE, "stop_loss": Decimal(95), "target": Decimal(110), "filled_quantity": 10}
    return trader.order(**(terms | {"trading_day": DAY - timedelta(days=days_ago), "tag": uuid4().hex[:18]} | fields))


def of(trader, entry, status=S.SUBMITTING, **fields):
    owner = {"account_id": trader.account_id, "user_id": trader.user_id, "strategy_id": trader.strategy_id}
    times = {"submitting_at": NOW, "created_at": NOW, "updated_at": NOW}
    return a_gtt(status, id=uuid4(), entry_id=entry.id, **(owner | times | fields))


async def test_row_comes_back_as_it_was_and_is_never_written_ahead_twice(schema_url, trader):
    entry = an_entry(trader)
    gtt = of(trader, entry)
    await write(schema_url, new_orders=[entry], writes=[insert(gtt)])
    assert await on_connection(schema_url, lambda c: find_gtt(c, gtt.id)) == gtt
    with pytest.raises(LedgerRefused):
        await write(schema_url, writes=[insert(gtt)])
    active = msgspec.structs.replace(gtt, status=S.ACTIVE, trigger_id="7", expires_at=NOW, status_message="taken")
    for _ in range(2):
        await write(schema_url, writes=[save(active)])
    assert await on_connection(schema_url, lambda c: find_gtt(c, gtt.id)) == active
    # one trigger of the broker is no two rows of ours
    with pytest.raises(LedgerRefused):
        await write(schema_url, writes=[insert(of(trader, entry, S.ACTIVE, trigger_id="7", unit=2))])
    assert await on_connection(schema_url, lambda c: find_gtt(c, uuid4())) is None


async def test_history_has_triggers_of_live_entries_and_every_live_one_with_its_unit_s_past(schema_url, trader):
    fresh, ancient, over = an_entry(trader), an_entry(trader, days_ago=40), an_entry(trader, days_ago=40)
    rows = [
        of(trader, fresh, S.CANCELLED),
        of(trader, ancient, S.TRIGGERED, trigger_id="1", broker_order_id="11"),
        of(trader, ancient, S.ACTIVE, trigger_id="2", unit=2),
        of(trader, over, S.EXPIRED, trigger_id="3"),
    ]
    await write(schema_url, new_orders=[fresh, ancient, over], writes=[insert(row) for row in rows])
    found = await on_connection(schema_url, lambda c: history.account(c, trader.account_id, DAY))
    assert {gtt.id for gtt in found["gtts"]} == {row.id for row in rows[:3]}
    assert {order.id for order in found["attached"]} == {fresh.id, ancient.id}
    _, accounts = await on_connection(schema_url, history.busy)
    assert accounts == [trader.account_id], "a trigger alone wakes its account"
    await sql(schema_url, "UPDATE gtts SET status = 'CANCELLED'")
    _, accounts = await on_connection(schema_url, history.busy)
    assert accounts == []


async def test_order_that_a_trigger_placed_is_tied_to_its_entry(schema_url, trader):
    entry = an_entry(trader)
    fields = {"origin": OrderOrigin.EXTERNAL, "strategy_id": None, "attempt": 0}
    theirs = trader.order(status=OrderStatus.OPEN, broker_order_id="77", tag="EXTERNAL:77", **fields)
    other = trader.order(status=OrderStatus.OPEN, broker_order_id="78", tag="EXTERNAL:78", **fields)
    gtt = of(trader, entry, S.TRIGGERED, trigger_id="7", fired_role=OrderRole.STOP, broker_order_id="77")
    await write(schema_url, new_orders=[entry, theirs, other], writes=[insert(gtt), link(gtt, DAY - timedelta(days=1))])
    found = await sql(schema_url, "SELECT id, role, parent_id FROM orders WHERE origin = 'EXTERNAL' ORDER BY tag")
    assert found == [(theirs.id, "STOP", entry.id), (other.id, "ENTRY", None)]
    account = await on_connection(schema_url, lambda c: history.account(c, trader.account_id, DAY))
    assert theirs.id in {order.id for order in account["live_orders"]}
    assert link(of(trader, entry), DAY) is None


async def test_list_is_filtered_and_newest_first(schema_url, trader):
    entry = an_entry(trader)
    rows = [
        of(
            trader,
            entry,
            S.ACTIVE if i else S.CANCELLED,
            unit=i + 1,
            created_at=NOW + timedelta(seconds=i),
            trigger_id=f"{i}1",
        )
        for i in range(3)
    ]
    await write(schema_url, new_orders=[entry], writes=[insert(row) for row in rows])

    async def listed(**fields):
        wanted = GttFilter(**({"limit": 10} | fields))
        return [gtt.unit for gtt in await on_connection(schema_url, lambda c: list_gtts(c, wanted))]

    assert await listed() == [3, 2, 1]
    assert await listed(limit=1, after=(rows[2].created_at, rows[2].id)) == [2]
    assert await listed(status=S.ACTIVE, symbol="INFY", account_id=trader.account_id) == [3, 2]
    assert await listed(user_id=uuid4()) == []
    assert await listed(start=rows[1].created_at, end=rows[2].created_at) == [2]
