"""What the ledger tells of intents that ended before a fill of theirs, on a real PostgreSQL."""

from datetime import timedelta

import pytest

from engine.actors.late_found import late_entry
from engine.actors.ledger_entry import pack
from engine.actors.ledger_reader import LedgerReader
from engine.clock import SystemClock, trading_day
from engine.domain.audit import GENESIS
from engine.domain.enums import IntentStatus, OrderStatus
from engine.store import lease
from engine.store.database import APP_ROLE, Database
from engine.store.ledger import Batch, Head, LedgerStore
from tests.support.ledger_rows import NOW, Trader, sql

S = OrderStatus
I = IntentStatus  # noqa: E741 -- as S


@pytest.fixture
async def database(schema_url, aio):
    opened = Database(schema_url, max_connections=3)
    await opened.open()
    seen = await opened.run(lease.read)
    await opened.run(lambda c: lease.take(c, holder="test", seen=seen))
    yield opened
    await opened.close()


@pytest.fixture
async def trader(schema_url, database):
    return await Trader().seed(schema_url)


async def write(url, intents, orders):
    store = LedgerStore(url, role=APP_ROLE)
    await store.commit(Batch(new_intents=intents, new_orders=orders), epoch=1, timeout_s=10)
    await store.close()


async def test_intents_that_ended_short_though_something_filled_are_found_with_their_orders(
    schema_url, database, trader
):
    other = await Trader().seed(schema_url)
    late, right, whole, live = (trader.intent(status=s) for s in (I.EXPIRED, I.EXPIRED, I.EXECUTED, I.EXECUTING))
    theirs = other.intent(status=I.FAILED)
    filled = {"status": S.COMPLETE, "filled_quantity": 10}
    orders = [
        trader.order(late, **filled),
        trader.order(late, status=S.EXPIRED, created_at=NOW + timedelta(seconds=1), status_message="UNPLACED: x"),
        trader.order(right, status=S.EXPIRED),
        trader.order(whole, **filled),
        trader.order(live, **filled),
        other.order(theirs, **filled),
    ]
    await write(schema_url, [late, right, whole, live, theirs], orders)
    reader = LedgerReader(database)
    ((intent, ends),) = await reader.ended_short(trader.user_id, NOW.date())
    assert intent == late
    assert ends == [
        (orders[0].id, S.COMPLETE, 10, 10, None),
        (orders[1].id, S.EXPIRED, 10, 0, "UNPLACED: x"),
    ]
    assert await reader.ended_short(trader.user_id, NOW.date() + timedelta(days=1)) == []


async def test_late_entry_sets_the_intent_right_once(schema_url, database, trader):
    intent = trader.intent(status=I.EXPIRED)
    order = trader.order(intent, status=S.COMPLETE, filled_quantity=10)
    await write(schema_url, [intent], [order])
    reader = LedgerReader(database)
    ((found, ends),) = await reader.ended_short(trader.user_id, NOW.date())
    batch, _ = pack([late_entry(found, ends, NOW)], Head(seq=0, hash=GENESIS))
    store = LedgerStore(schema_url, role=APP_ROLE)
    await store.commit(batch, epoch=1, timeout_s=10)
    await store.close()
    assert await sql(schema_url, "SELECT status, reason FROM trade_intents") == [("EXECUTED", None)]
    assert await sql(schema_url, "SELECT event FROM intent_events ORDER BY id") == [("LATE_FOUND",), ("EXECUTED",)]
    assert await reader.ended_short(trader.user_id, NOW.date()) == []


async def test_user_with_a_late_fill_of_today_is_woken_at_start(schema_url, database, trader):
    today = trading_day(SystemClock().now())
    intent = trader.intent(status=I.EXPIRED)
    order = trader.order(intent, status=S.COMPLETE, filled_quantity=10, trading_day=today)
    yesterdays = await Trader().seed(schema_url)
    old = yesterdays.intent(status=I.EXPIRED)
    before = yesterdays.order(old, status=S.COMPLETE, filled_quantity=10, trading_day=today - timedelta(days=1))
    await write(schema_url, [intent, old], [order, before])
    users, _ = await LedgerReader(database).busy()
    assert users == [trader.user_id]
