"""External orders in PostgreSQL: written, read back at a start, and not counted as orders of ours."""

from datetime import timedelta

import asyncpg
import pytest

from engine.domain.enums import OrderStatus
from engine.domain.options import OrderRole
from engine.domain.order import OrderEvent, OrderOrigin
from engine.runtime.asyncio_bridge import run_aio
from engine.store import history, lease
from engine.store.database import APP_ROLE, prepare_connection
from engine.store.ledger import Batch, LedgerRefused, LedgerStore
from tests.support.ledger_rows import NOW, Trader

S = OrderStatus
EXTERNAL = {"origin": OrderOrigin.EXTERNAL, "strategy_id": None, "attempt": 0}


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


async def test_external_order_comes_back_as_it_was_and_is_no_order_of_ours(schema_url, trader):
    day = NOW.date()
    hand = trader.order(status=S.CANCELLED, broker_order_id="77", tag="EXTERNAL:77", **EXTERNAL)
    done = trader.order(status=S.COMPLETE, broker_order_id="78", tag="EXTERNAL:78", **EXTERNAL)
    ours = trader.order(status=S.OPEN, broker_order_id="79", submitting_at=NOW)
    old = trader.order(status=S.COMPLETE, broker_order_id="70", submitting_at=NOW, trading_day=day - timedelta(days=3))
    ancient = trader.order(status=S.COMPLETE, broker_order_id="60", trading_day=day - timedelta(days=30))
    await write(schema_url, new_orders=[hand, done, ours, old, ancient])
    account = await on_connection(schema_url, lambda c: history.account(c, trader.account_id, day))
    assert {o.id for o in account["live_orders"]} == {hand.id, ours.id}
    assert hand in account["live_orders"]
    assert sorted(account["broker_ids_today"]) == ["77", "78", "79"]
    assert sorted(account["earlier"]) == sorted((o.broker_order_id, o.tag) for o in (hand, done, ours, old))
    assert account["sent_today"] == 1
    user = await on_connection(schema_url, lambda c: history.user(c, trader.user_id, day))
    assert user["orders_today"] == [(trader.account_id, ours.created_at, ours.strategy_id)]
    assert ours.id in {order.id for order in user["latest_orders"]}
    assert hand.id not in {order.id for order in user["latest_orders"]}


async def test_exit_attached_to_an_entry_counts_in_no_rate(schema_url, trader):
    entry = trader.order(status=S.COMPLETE, broker_order_id="79", submitting_at=NOW)
    stop = trader.order(
        status=S.TRIGGER_PENDING, broker_order_id="80", submitting_at=NOW, role=OrderRole.STOP, parent_id=entry.id
    )
    await write(schema_url, new_orders=[entry, stop])
    user = await on_connection(schema_url, lambda c: history.user(c, trader.user_id, NOW.date()))
    assert user["orders_today"] == [(trader.account_id, entry.created_at, entry.strategy_id)]


async def test_every_attempt_cancel_and_change_of_the_day_counts_as_a_call(schema_url, trader):
    day, earlier = NOW.date(), NOW - timedelta(days=1)
    thrice = trader.order(status=S.OPEN, broker_order_id="1", submitting_at=NOW, attempt=3)
    unsent = trader.order(status=S.FAILED, attempt=1)
    amo = trader.order(
        status=S.CANCELLED, broker_order_id="2", submitting_at=earlier, trading_day=day - timedelta(days=1)
    )

    def event(order, detail, at=NOW):
        return OrderEvent(
            order_id=order.id, at=at, from_status=S.OPEN, to_status=S.OPEN, filled_quantity=0, detail=detail
        )

    later = NOW + timedelta(seconds=30)
    events = [
        event(thrice, "cancel requested by me", later),
        event(thrice, "modify requested by me: price 100 -> 101"),
        event(thrice, "another word"),
        event(amo, "cancel requested by me"),
        event(amo, "cancel requested by me", earlier),
    ]
    await write(schema_url, new_orders=[thrice, unsent, amo], order_events=events)
    account = await on_connection(schema_url, lambda c: history.account(c, trader.account_id, day))
    assert account["sent_today"] == 6
    assert sorted(account["recent_calls"]) == [NOW, NOW, NOW, later]


async def test_external_order_with_a_strategy_is_refused(schema_url, trader):
    with pytest.raises(LedgerRefused):
        await write(schema_url, new_orders=[trader.order(origin=OrderOrigin.EXTERNAL)])
