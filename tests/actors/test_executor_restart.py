"""Restarts of an executor, and of the whole engine on the same store: nothing twice, nothing lost."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import msgspec
import pytest
import trio

from engine.broker.base import Accepted, Unknown
from engine.domain.enums import OrderStatus
from engine.errors import UnavailableError
from engine.runtime.child import Status
from tests.support.desk import World, answer, crashed, running
from tests.support.trade import ACCOUNT

S = OrderStatus


@pytest.fixture
async def world(autojump_clock):
    return World()


async def test_order_on_the_wire_at_a_crash_is_adopted_not_sent_again(world, autojump_clock):
    world.broker.answers = [answer(Accepted(broker_order_id="0"), placed=S.OPEN, after_s=30)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until(lambda: world.broker.left)
    after = await crashed(world)
    async with running(after):
        await after.until_status(order, S.OPEN, timeout_s=5)
        assert len(after.broker.left) == 1


async def test_order_written_ahead_but_not_sent_at_a_crash_is_never_sent(world, autojump_clock):
    world.broker.answers = [answer(Unknown(reason="x"), after_s=0)]
    world.store.delay_s = 0.2
    order = world.order()
    async with running(world):
        world.submit(order)
        await trio.sleep(0.15)
        world.store.orders[order.id] = world.executor.desk.orders[order.id]  # on disk, and then the power went
    after = await crashed(world)
    async with running(after):
        await after.until_status(order, S.EXPIRED)
        assert after.message(order).startswith("UNPLACED")
        assert not after.broker.left


async def test_waiting_orders_go_after_a_crash_in_accepted_order(world, autojump_clock):
    world.broker.answers = [answer(Unknown(reason="reset"))]
    orders = [world.order() for _ in range(6)]
    async with running(world):
        for order in orders:
            world.submit(order)
        await world.until(lambda: len(world.store.orders) == 6)
        await world.until_status(orders[0], S.UNKNOWN)
    world.broker.put(orders[0], S.OPEN)
    after = await crashed(world)
    async with running(after):
        await after.until(lambda: len(after.broker.left) == 6)
        assert [o.id for o in after.broker.left] == [o.id for o in orders]


async def test_waiting_order_goes_after_a_restart_under_a_tag_of_the_new_epoch(world, autojump_clock):
    order = world.order()
    async with running(world):
        await world.crew.drain(timeout_s=1)
        world.submit(order)
        await world.until_status(order, S.PENDING)
    after = await crashed(world)
    after.context = msgspec.structs.replace(after.context, epoch=2, tag=lambda oid, n: f"E2{oid.hex[:12]}A{n}".upper())
    async with running(after):
        await after.until_status(order, S.OPEN)
        assert after.row(order).epoch == 2
        assert after.row(order).tag.startswith("E2")
        assert after.row(order).attempt == 1


async def test_waiting_orders_too_old_after_a_crash_expire(world, autojump_clock):
    order = world.order()
    async with running(world):
        await world.crew.drain(timeout_s=1)
        world.submit(order)
        await world.until_status(order, S.PENDING)
    await trio.sleep(100)
    after = await crashed(world)
    async with running(after):
        await after.until_status(order, S.EXPIRED)
        assert not after.broker.left


async def test_kill_switch_on_at_start_cancels_what_waits(world, autojump_clock):
    order = world.order()
    async with running(world):
        await world.crew.drain(timeout_s=1)
        world.submit(order)
        await world.until_status(order, S.PENDING)
    after = await crashed(world)
    after.block()
    async with running(after):
        await after.until_status(order, S.CANCELLED)


async def test_fill_while_the_engine_was_down_is_booked_once(world, autojump_clock):
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        world.broker.fill(world.row(order).broker_order_id, 4)
        await world.until_status(order, S.PARTIALLY_FILLED)
    world.broker.fill(world.row(order).broker_order_id)
    after = await crashed(world)
    async with running(after):
        await after.until_status(order, S.COMPLETE, timeout_s=5)
        assert after.held() == 10


async def test_order_given_up_before_a_crash_is_still_watched(world, autojump_clock):
    world.broker.answers = [answer(Unknown(reason="reset"))]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.EXPIRED)
    after = await crashed(world)
    async with running(after):
        broker_id = after.broker.put(order, S.OPEN)
        await after.until(lambda: after.broker.rows[broker_id].status is S.CANCELLED, timeout_s=60)


async def test_order_in_doubt_before_a_crash_is_still_in_doubt(world, autojump_clock):
    world.broker.answers = [answer(Unknown(reason="reset"))]
    order, behind = world.order(), world.order(deadline=world.clock.now() + timedelta(seconds=900))
    async with running(world):
        world.submit(order)
        world.submit(behind)
        await world.until_status(order, S.UNKNOWN)
        await world.until_status(behind, S.PENDING)
        sent = trio.current_time()
    await trio.sleep(60)
    after = await crashed(world)
    async with running(after):
        await trio.sleep(5)
        assert after.status(behind) is S.PENDING
        await after.until_status(order, S.EXPIRED)
        assert 180 <= trio.current_time() - sent <= 240
        await after.until_status(behind, S.OPEN)


async def test_executor_restart_with_an_order_on_the_wire_does_not_send_it_again(world, autojump_clock):
    world.broker.answers = [answer(Accepted(broker_order_id="0"), placed=S.OPEN, after_s=3)]
    order, behind = world.order(), world.order()
    async with running(world) as run:
        world.submit(order)
        world.submit(behind)
        await world.until(lambda: world.broker.left)
        await run.restart_executor()
        await world.until_status(order, S.OPEN, timeout_s=10)
        await world.until_status(behind, S.OPEN)
        assert len(world.broker.left) == 2


async def test_executor_restart_while_the_ledger_commits_sends_nothing_of_the_old_life(world, autojump_clock):
    """The row comes on disk after the restart: what was written ahead by an earlier life may not go."""
    order = world.order()
    async with running(world) as run:
        world.store.delay_s = 3
        world.submit(order)
        await trio.sleep(0.5)
        await run.restart_executor()
        world.store.delay_s = 0.01
        await world.until_status(order, S.UNKNOWN)
        await world.until_status(order, S.EXPIRED)
        assert not world.broker.left


async def test_executor_restart_waits_for_a_ledger_that_is_behind(world, autojump_clock):
    """What is read before the ledger has caught up is an older world: sending by it sends twice."""
    first, second = world.order(), world.order()
    async with running(world) as run:
        world.submit(first)
        await world.until_status(first, S.OPEN)
        world.store.is_down = True
        world.submit(second)
        await run.restart_executor()
        await trio.sleep(120)
        assert not world.executor.is_ready
        assert not world.trips, "a store that is away blocks no account"
        world.store.is_down = False
        await world.until(lambda: world.executor.is_ready)
        await trio.sleep(300)
        assert [o.id for o in world.broker.left] == [first.id]
        assert world.status(second).is_terminal


async def test_order_admitted_while_the_executor_restarts_waits_and_goes_once(world, autojump_clock):
    orders = [world.order() for _ in range(3)]
    async with running(world) as run:
        world.submit(orders[0])
        await world.until_status(orders[0], S.OPEN)
        world.store.delay_s = 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run.restart_executor)
            await trio.sleep(0.1)
            assert world.submit(orders[1]).status is S.PENDING
            await trio.sleep(1.5)
            world.submit(orders[2])
        world.store.delay_s = 0.01
        await world.until_status(orders[2], S.OPEN)
        assert [o.id for o in world.broker.left] == [o.id for o in orders]


async def test_executor_that_is_not_ready_refuses_cancels(world, autojump_clock):
    order = world.order()
    async with running(world) as run:
        world.submit(order)
        await world.until_status(order, S.OPEN)
        world.store.delay_s = 1
        await run.restart_executor()
        with pytest.raises(UnavailableError):
            await world.executor.cancel(order.id, by="me")


async def test_restart_does_not_give_the_seconds_budget_back(autojump_clock):
    world = World(orders_per_second=4, orders_per_minute=8)
    async with running(world) as run:
        for number in range(8):
            world.submit(world.order(f"S{number}"))
        await world.until(lambda: len(world.broker.left) == 8)
        await run.restart_executor()
        last = world.order("LAST")
        world.submit(last)
        await trio.sleep(20)
        assert len(world.broker.left) == 8, "the minute's calls are used up"


async def test_day_budget_counts_what_was_sent_before_a_crash(autojump_clock):
    world = World(orders_per_day=4, orders_per_second=2)
    async with running(world):
        for number in range(2):
            world.submit(world.order(f"S{number}"))
        await world.until(lambda: len(world.broker.left) == 2)
        await trio.sleep(1)
    after = await crashed(world, orders_per_day=4, orders_per_second=2)
    order = after.order("SBIN")
    async with running(after):
        after.submit(order)
        await after.until_status(order, S.FAILED)
        assert after.message(order).startswith("ORDER_BUDGET: 2 of the account's 4 order calls")


async def test_crashing_executor_is_restarted_and_follows_its_orders(world, autojump_clock):
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        world.broker.book_down = RuntimeError("bug in the adapter")
        await trio.sleep(1.5)
        world.broker.book_down = None
        world.broker.fill(world.row(order).broker_order_id)
        await world.until_status(order, S.COMPLETE, timeout_s=60)
        assert world.held() == 10


async def test_executor_that_keeps_crashing_trips_its_account_alone(autojump_clock):
    world = World(accounts=2)
    other = UUID(int=ACCOUNT.int + 1000)
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        world.broker.book_down = RuntimeError("bug in the adapter")
        await world.until(lambda: world.trips)
        assert world.trips[0][0] == f"account:{ACCOUNT}"
        unharmed = world.order(account_id=other)
        world.submit(unharmed)
        await world.until_status(unharmed, S.OPEN)


async def test_turn_of_the_day_begins_a_new_book(world, autojump_clock):
    world.clock._start = datetime(2026, 11, 18, 18, 29, tzinfo=UTC)  # 23:59 IST
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        world.broker.fill(world.row(order).broker_order_id)
        await world.until_status(order, S.COMPLETE)
        await trio.sleep(70)
        world.crew.wake()
        await trio.sleep(1)
        ((position, day),) = world.store.positions.values()
        assert day.isoformat() == "2026-11-19"
        assert position.overnight_quantity == 10
        assert not world.executor.desk.known_broker_ids


async def test_orders_made_at_one_instant_keep_their_order_after_a_crash(world, autojump_clock):
    now = world.clock.now()
    orders = [world.order(created_at=now + timedelta(microseconds=i)) for i in range(10)]
    async with running(world):
        await world.crew.drain(timeout_s=1)
        for order in orders:
            world.submit(order)
        await world.until(lambda: len(world.store.orders) == 10)
    after = await crashed(world)
    async with running(after):
        await after.until(lambda: len(after.broker.left) == 10)
        assert [o.id for o in after.broker.left] == [o.id for o in orders]


async def test_approval_withdrawn_after_a_restart_leaves_no_trace(world, autojump_clock):
    order = world.order()
    async with running(world) as run:
        world.store.delay_s = 1
        world.store.refuse = lambda batch: bool(batch.new_orders)
        world.submit(order)
        await trio.sleep(0.1)
        await run.restart_executor()
        world.store.delay_s = 0.01
        await world.until(lambda: world.executor.is_ready)
        world.store.refuse = lambda _batch: False
        again = world.order()
        world.submit(again)
        await world.until_status(again, S.OPEN)
        assert order.id not in world.executor.desk.orders
        assert [o.id for o in world.broker.left] == [again.id]


async def test_restart_does_not_forget_the_calls_of_cancels(autojump_clock):
    world = World(orders_per_day=4, orders_per_second=3)
    orders = [world.order(f"S{n}") for n in range(2)]
    async with running(world) as run:
        for order in orders:
            world.submit(order)
            await world.until_status(order, S.OPEN)
            await world.executor.cancel(order.id, by="me")
        await run.restart_executor()
        last = world.order("LAST")
        world.submit(last)
        await world.until_status(last, S.FAILED)
        assert world.message(last).startswith("ORDER_BUDGET: 0 of the account's 4 order calls")


async def test_order_admitted_between_a_crash_and_the_restart_waits_and_goes(world, autojump_clock):
    first, between = world.order(), world.order("SBIN")
    async with running(world):
        world.submit(first)
        await world.until_status(first, S.OPEN)
        world.broker.book_down = RuntimeError("bug in the adapter")
        await world.until(lambda: any(c.state is Status.BACKOFF for c in world.crew.accounts.snapshot().children))
        world.broker.book_down = None
        assert world.submit(between).status is S.PENDING
        await world.until_status(between, S.OPEN, timeout_s=30)
        assert len(world.broker.left) == 2


async def test_restart_does_not_read_the_ledger_before_it_has_caught_up(world, autojump_clock):
    """It can be read, but nothing is committed: what is read lacks what is on its way."""
    first, second = world.order(), world.order()
    async with running(world) as run:
        world.submit(first)
        await world.until_status(first, S.OPEN)
        world.store.is_stuck = True
        world.submit(second)
        await run.restart_executor()
        await trio.sleep(50)
        assert not world.executor.is_ready
        world.store.is_stuck = False
        await world.until(lambda: world.executor.is_ready)
        await world.until(lambda: world.status(second).is_terminal)
        assert [o.id for o in world.broker.left] == [first.id]
