"""What was on its way before a kill switch went on is not sent once it is off again."""

from datetime import timedelta
from typing import Any

import msgspec
import trio

from engine.actors.intake import Passage
from engine.domain.enums import IntentStatus, KillState, OrderStatus, OrderType
from tests.support.desk import World, a_delivery, a_signal, crashed, running

S = OrderStatus


async def test_order_of_before_a_kill_is_not_sent_by_the_next_engine(autojump_clock: Any) -> None:
    world = World(orders_per_second=1)
    async with running(world):
        sent = [world.submit(world.order(symbol)) for symbol in ("INFY", "SBIN", "TCS")]
        waiting = sent[-1]
        await world.until(lambda: waiting.id in world.store.orders)
        assert world.status(waiting) is S.PENDING
    after = await crashed(world)
    after.kill.put(after._record("global", 1, KillState.ARMED))
    async with running(after):
        await trio.sleep(10)
        assert waiting.id not in {order.id for order in after.broker.left}
        assert after.status(waiting) is S.CANCELLED
        assert "KILL_SWITCH" in after.message(waiting)
        fresh = after.submit(after.order("TCS"))
        await after.until_status(fresh, S.OPEN)


async def test_signal_that_waited_through_a_kill_is_not_executed_after_it(autojump_clock: Any) -> None:
    world = World()
    world.prices.clear()
    world.price_delay_s = 2.0
    async with running(world):
        passage = Passage(a_delivery(world, a_signal(order_type=OrderType.MARKET, price=None)), world.kill.turn)
        world.crew.decide(passage)
        await trio.sleep(0.5)
        world.block()
        await trio.sleep(0.5)
        world.release()
        await world.until(lambda: passage.is_settled)
        (intent,) = passage.intents.values()
        assert intent.status is IntentStatus.REJECTED
        assert "KILL_SWITCH" in (intent.reason or "")
        assert world.broker.left == []


async def killed_and_clock_set_back(world: World) -> None:
    """Turn the switch on and off, then set the clock back past both."""
    world.block()
    await trio.sleep(1)
    world.release()
    world.clock.step -= 3600


async def test_order_made_after_a_release_goes_though_the_clock_was_set_back_since(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        await killed_and_clock_set_back(world)
        fresh = world.submit(world.order())
        await world.until_status(fresh, S.OPEN, timeout_s=5)


async def test_order_that_waited_through_a_kill_is_not_sent_though_the_clock_was_set_on_since(
    autojump_clock: Any,
) -> None:
    world = World(orders_per_second=1)
    world.kill.put(world._record("global", 1, KillState.ARMED))
    async with running(world):
        sent = [world.submit(world.order(symbol)) for symbol in ("INFY", "SBIN", "TCS")]
        waiting = sent[-1]
        await world.until(lambda: waiting.id in world.store.orders)
        assert world.status(waiting) is S.PENDING
        # on and off in one instant, by a clock that had been ahead before the order was made
        record = world._record("global", 2, KillState.BLOCKED)
        earlier = record.at - timedelta(seconds=30)
        world.kill.put(msgspec.structs.replace(record, at=earlier))
        world.kill.put(msgspec.structs.replace(record, version=3, state=KillState.ARMED, at=earlier))
        await world.until_status(waiting, S.CANCELLED, timeout_s=10)
        assert "was blocked while it waited" in world.message(waiting)
        assert waiting.id not in {order.id for order in world.broker.left}


async def test_signal_that_comes_after_a_release_is_executed_though_the_clock_was_set_back_since(
    autojump_clock: Any,
) -> None:
    world = World()
    async with running(world):
        await killed_and_clock_set_back(world)
        passage = Passage(a_delivery(world), world.kill.turn)
        world.crew.decide(passage)
        await passage.wait_settled()
        await world.until(lambda: len(world.broker.left) == 1)


async def test_signal_that_waited_through_a_kill_is_not_executed_though_the_clock_was_ahead_when_it_came(
    autojump_clock: Any,
) -> None:
    world = World()
    async with running(world):
        ahead = world.clock.now() + timedelta(seconds=1)
        passage = Passage(a_delivery(world, received_at=ahead), world.kill.turn)
        world.block()
        world.release()
        world.crew.decide(passage)
        await passage.wait_settled()
        (intent,) = passage.intents.values()
        assert world.intent_status(intent.id) is IntentStatus.REJECTED
        assert world.broker.left == []
