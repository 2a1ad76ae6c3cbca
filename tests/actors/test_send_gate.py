"""The send gate: everything that stops an order is asked right before its first byte."""

from datetime import timedelta

import msgspec
import pytest
import trio

from engine.broker.base import BrokerAuthError, RefusalCode, Refused
from engine.domain.enums import AccountStatus, OrderStatus
from tests.support.desk import World, answer, running, slow_gate
from tests.support.trade import ACCOUNT, BUY, SELL, USER, a_position

S = OrderStatus


@pytest.fixture
async def world(autojump_clock):
    return World()


async def holding(world, quantity=10):
    """The executor's books hold units of INFY."""
    position = a_position(quantity=quantity, buy_quantity=quantity, buy_value=quantity * 100)
    world.broker.overnight["INFY", "MIS"] = quantity
    world.executor.desk.holdings.positions[position.key] = position


async def test_session_that_died_under_the_order_stops_it_at_the_gate(world, autojump_clock):
    world.broker.answers = [slow_gate(0.5)]
    order = world.order()
    async with running(world):
        world.broker.book_down = BrokerAuthError("403")
        world.open_error = BrokerAuthError("nobody has logged in")
        world.submit(order)
        await trio.sleep(0.1)
        world.executor._session.died(world.broker, "token")
        await world.until_status(order, S.FAILED)
        assert world.message(order).startswith("LOGIN_REQUIRED")
        assert not world.broker.left


async def test_dead_session_makes_one_failing_request_and_no_storm(world, autojump_clock):
    dead = Refused(code=RefusalCode.TOKEN_DEAD, message="token", status=403, auth_blocked=True)
    world.broker.answers = [answer(dead)] * 50
    orders = [world.order() for _ in range(5)]
    async with running(world):
        world.broker.book_down = BrokerAuthError("403")
        for order in orders:
            world.submit(order)
        for order in orders:
            await world.until_status(order, S.REJECTED, S.FAILED)
        assert len(world.broker.left) == 1
        assert all(world.message(order).startswith("LOGIN_REQUIRED") for order in orders[1:])


async def test_blocked_account_stops_an_order_at_the_gate(world, autojump_clock):
    world.broker.answers = [slow_gate(0.5)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await trio.sleep(0.1)
        world._status(ACCOUNT, AccountStatus.ORDERS_BLOCKED, "address")
        await world.until_status(order, S.FAILED)
        assert world.message(order).startswith("ORDERS_BLOCKED")
        assert not world.broker.left


async def test_order_that_does_not_hold_its_instrument_alone_stops_at_the_gate(world, autojump_clock):
    world.broker.answers = [slow_gate(0.5)]
    order, stranger = world.order(), world.order()
    async with running(world):
        world.submit(order)
        await trio.sleep(0.1)
        world.executor.queue.hold(stranger.key, stranger.id)
        await world.until_status(order, S.FAILED)
        assert world.message(order).startswith("BUSY")
        assert not world.broker.left


async def test_ledger_slow_beyond_the_deadline_expires_the_order_unsent(world, autojump_clock):
    order = world.order(deadline=world.clock.now() + timedelta(seconds=1))
    world.store.delay_s = 2.0
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.EXPIRED)
        assert world.message(order).startswith("SIGNAL_TOO_OLD")
        assert not world.broker.left


async def test_process_that_slept_through_its_window_sends_nothing_of_it(world, autojump_clock):
    world.broker.answers = [slow_gate(0.1)]
    order = world.order(deadline=world.clock.now() + timedelta(seconds=30))
    async with running(world):
        world.submit(order)
        await trio.sleep(0.05)
        world.clock.sleep(60)
        await world.until_status(order, S.EXPIRED)
        assert not world.broker.left


async def test_clock_suspect_at_the_gate_ends_an_entry_by_name(world, autojump_clock):
    world.broker.answers = [slow_gate(0.5)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await trio.sleep(0.1)
        world.suspect = "the wall clock was set by +3600.0 s"
        await world.until_status(order, S.FAILED)
        assert world.message(order) == "CLOCK_SUSPECT: the wall clock was set by +3600.0 s"
        assert not world.broker.left


async def test_clock_suspect_ends_what_waits_within_its_deadline(world, autojump_clock):
    world.broker.answers = [answer(Refused(code=RefusalCode.FUNDS, message="no", status=400), after_s=5)]
    first, second = world.order(), world.order()
    async with running(world):
        world.submit(first)
        world.submit(second)
        await trio.sleep(0.1)
        world.suspect = "set"
        await world.until_status(second, S.FAILED, timeout_s=10)
        assert world.message(second).startswith("CLOCK_SUSPECT")
        assert len(world.broker.left) == 1


async def test_clock_suspect_lets_an_exit_go_and_only_as_much_as_is_held(world, autojump_clock):
    leaves, too_much = world.order(transaction_type=SELL), world.order(transaction_type=SELL)
    async with running(world):
        await holding(world)
        world.suspect = "set"
        world.submit(leaves)
        world.submit(too_much)
        await world.until_status(leaves, S.OPEN)
        await world.until_status(too_much, S.FAILED)
        assert [o.id for o in world.broker.left] == [leaves.id]


@pytest.mark.parametrize(("held", "side"), [(10, BUY), (-10, SELL), (5, SELL), (0, SELL)])
async def test_clock_suspect_stops_what_adds_turns_or_opens_a_position(world, held, side, autojump_clock):
    order = world.order(transaction_type=side)
    async with running(world):
        if held:
            await holding(world, held)
        world.suspect = "set"
        world.submit(order)
        await world.until_status(order, S.FAILED)
        assert not world.broker.left


async def test_clock_suspect_does_not_stop_a_cancel(world, autojump_clock):
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        world.suspect = "set"
        assert (await world.executor.cancel(order.id, by="test")).status is S.CANCELLED


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
async def test_wall_clock_that_steps_while_an_order_waits_changes_nothing_of_its_age(world, step_s, autojump_clock):
    world.broker.answers = [answer(Refused(code=RefusalCode.FUNDS, message="no", status=400), after_s=20)]
    first, waits = world.order(), world.order()
    async with running(world):
        world.submit(first)
        await trio.sleep(0.1)
        expires = world.order(deadline=world.clock.now() + timedelta(seconds=10))
        world.submit(expires)
        world.submit(waits)
        await trio.sleep(1)
        world.clock.step = step_s
        await world.until_status(expires, S.EXPIRED, timeout_s=12)
        await world.until_status(waits, S.OPEN, timeout_s=30)


async def test_clock_suspect_does_not_turn_the_day(world, autojump_clock):
    async with running(world):
        await holding(world)
        day, risk = world.executor.desk.day, world.crew.risk(USER)
        await world.until(lambda: risk.state._day == day)
        world.suspect = "the wall clock was set by +86400.0 s"
        world.clock.step = 86_400.0
        world.executor.wake()
        leaves = world.order(transaction_type=SELL)
        world.submit(leaves)
        await world.until_status(leaves, S.OPEN)
        assert world.row(leaves).trading_day == world.executor.desk.day == day
        assert risk.state._day == day
        world.suspect = None
        world.executor.wake()
        await world.until(lambda: world.executor.desk.day > day)


async def test_session_that_may_vanish_lets_exits_go_and_nothing_else(world, autojump_clock):
    world.context = msgspec.structs.replace(world.context, session_window=lambda _account: "05:00 to 07:30 IST")
    entry = world.order()
    async with running(world):
        world.submit(entry)
        await world.until_status(entry, S.FAILED)
        assert world.message(entry).startswith("SESSION_WINDOW: 05:00 to 07:30 IST")
        await holding(world)
        leaving = world.order(transaction_type=SELL)
        world.submit(leaving)
        await world.until(lambda: [o.id for o in world.broker.left] == [leaving.id])
