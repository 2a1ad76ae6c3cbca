"""429 at the broker: believed only after a look at the order book, then once more within the deadline, by name."""

from datetime import timedelta

import pytest
import trio

from engine.broker.base import NotSent, RefusalCode, Refused
from engine.domain.enums import OrderStatus
from engine.errors import BrokerUnavailable
from tests.support.desk import World, answer, crashed, running

S = OrderStatus
BUSY = Refused(code=RefusalCode.RATE_LIMITED, message="Too many requests", status=429, rate_limited=True)


@pytest.fixture
async def world(autojump_clock):
    return World()


async def test_order_refused_for_the_rate_goes_once_more_after_the_cool_down(world, autojump_clock):
    world.broker.answers = [answer(BUSY)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        row = world.row(order)
        assert (row.attempt, row.tag != order.tag) == (2, True)
        first, second = world.broker.times
        assert 9.9 <= second - first < 13
        assert [event.detail for event in world.store.order_events if "not placed" in event.detail]


async def test_other_instruments_wait_for_the_cool_down_too(world, autojump_clock):
    world.broker.answers = [answer(BUSY)]
    first, other = world.order(), world.order("SBIN")
    async with running(world):
        world.submit(first)
        await world.until(lambda: bool(world.broker.left))
        refused_at = trio.current_time()
        await trio.sleep(1)
        world.submit(other)
        await world.until_status(other, S.OPEN)
        await world.until_status(first, S.OPEN)
        assert all(at - refused_at >= 9.9 for at in world.broker.times[1:])


async def test_refused_order_that_the_book_has_is_the_order(world, autojump_clock):
    world.broker.answers = [answer(BUSY, placed=S.OPEN)]
    order, behind = world.order(), world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        world.submit(behind)
        await world.until_status(behind, S.OPEN)
        assert world.row(order).attempt == 1
        assert [o.id for o in world.broker.left] == [order.id, behind.id]
        assert world.crew.accounts.snapshot().restarts == 0


async def test_refusal_without_a_readable_book_is_doubt(world, autojump_clock):
    world.broker.answers = [answer(BUSY)]
    world.broker.book_down = BrokerUnavailable("502")
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.UNKNOWN, timeout_s=30)
        world.broker.book_down = None
        await world.until_status(order, S.EXPIRED)
        assert world.message(order).startswith("UNPLACED")
        assert len(world.broker.left) == 1


async def test_instrument_is_held_while_the_refused_order_waits(world, autojump_clock):
    world.broker.answers = [answer(BUSY)]
    first, second = world.order(), world.order()
    async with running(world):
        world.submit(first)
        world.submit(second)
        await world.until_status(second, S.OPEN)
        assert [o.id for o in world.broker.left] == [first.id, first.id, second.id]


async def test_refused_order_past_its_deadline_expires_by_name(world, autojump_clock):
    world.broker.answers = [answer(BUSY)] * 9
    order = world.order(deadline=world.clock.now() + timedelta(seconds=5))
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.EXPIRED)
        assert world.message(order).startswith("SIGNAL_TOO_OLD")
        assert "Too many requests" in world.message(order)
        assert len(world.broker.left) == 1


async def test_order_refused_again_and_again_ends_rejected_or_expired(world, autojump_clock):
    world.broker.answers = [answer(BUSY)] * 50
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.REJECTED, S.EXPIRED)
        assert 2 <= len(world.broker.left) <= 6
        assert len({o.tag for o in world.broker.left}) == len(world.broker.left)


@pytest.mark.parametrize("step", ["kill", "drain"])
async def test_refused_order_waiting_for_the_cool_down_ends_at_once_when_nothing_may_go(world, step, autojump_clock):
    world.broker.answers = [answer(BUSY)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until(lambda: bool(world.broker.left))
        await trio.sleep(2)
        if step == "kill":
            world.block()
        else:
            assert await world.crew.drain(timeout_s=2)
        await world.until_status(order, S.CANCELLED if step == "kill" else S.REJECTED, timeout_s=1)
        assert len(world.broker.left) == 1


async def test_crash_while_a_refused_order_waits_is_doubt_and_never_a_second_order(world, autojump_clock):
    world.broker.answers = [answer(BUSY)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until(lambda: bool(world.broker.left))
        await trio.sleep(3)
    after = await crashed(world)
    async with running(after):
        await after.until_status(order, S.EXPIRED)
        assert after.message(order).startswith("UNPLACED")
        assert len(after.broker.left) == 1


async def test_cancel_goes_during_the_cool_down(world, autojump_clock):
    working, refused = world.order("SBIN"), world.order()
    async with running(world):
        world.submit(working)
        await world.until_status(working, S.OPEN)
        world.broker.answers = [answer(BUSY)]
        world.submit(refused)
        await world.until(lambda: len(world.broker.left) == 2)
        await trio.sleep(1)  # the refusal is there
        asked = trio.current_time()
        await world.executor.cancel(working.id, by="test")
        assert world.broker.cancels
        assert trio.current_time() - asked < 1


async def test_cancel_refused_for_the_rate_cools_entries_down(world, autojump_clock):
    working, later = world.order("SBIN"), world.order()
    async with running(world):
        world.submit(working)
        await world.until_status(working, S.OPEN)
        world.broker.cancel_answer = BUSY
        with pytest.raises(Exception, match="Too many requests"):
            await world.executor.cancel(working.id, by="test")
        refused_at = trio.current_time()
        world.submit(later)
        await world.until_status(later, S.OPEN)
        assert world.broker.times[-1] - refused_at > 7


async def test_refusal_of_the_rate_then_no_connection_still_ends_by_name(world, autojump_clock):
    async def closed(broker, order, gate):
        await trio.lowlevel.checkpoint()
        return NotSent(reason="connection refused")

    world.broker.answers = [answer(BUSY), *[closed] * 20]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.FAILED, S.EXPIRED)
        assert len(world.broker.left) == 1


async def test_order_that_shows_up_during_the_cool_down_is_the_order(world, autojump_clock):
    world.broker.answers = [answer(BUSY)]
    order, behind = world.order(), world.order()
    async with running(world):
        world.submit(order)
        await world.until(lambda: bool(world.broker.left))
        await trio.sleep(4)
        world.broker.put(world.broker.left[0])
        await world.until_status(order, S.OPEN, timeout_s=4)
        world.submit(behind)
        await world.until_status(behind, S.OPEN)
        await trio.sleep(60)
        assert [o.id for o in world.broker.left] == [order.id, behind.id]
        assert world.row(order).attempt == 1
