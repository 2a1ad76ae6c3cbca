"""Fills that come to light after the intent has ended: the intent follows, once, also across lives."""

import msgspec
import pytest
import trio

from engine.actors.intake import Passage
from engine.actors.late_found import late_entry
from engine.broker.base import RefusalCode, Refused, Unknown
from engine.domain.enums import IntentStatus, OrderStatus
from tests.support.desk import World, a_delivery, answer, crashed, running
from tests.support.trade import USER

S = OrderStatus
I = IntentStatus  # noqa: E741 -- as S


@pytest.fixture
async def world(autojump_clock):
    return World()


async def executing(world):
    passage = Passage(a_delivery(world), world.kill.turn)
    world.crew.decide(passage)
    await passage.wait_settled()
    (intent,) = passage.intents.values()
    return intent


async def unplaced(world):
    """An intent that ended EXPIRED because its order is not at the broker; and the order."""
    world.broker.answers = [answer(Unknown(reason="reset"))]
    intent = await executing(world)
    await world.until(lambda: world.intent_status(intent.id) is I.EXPIRED)
    (order,) = [o for o in world.store.orders.values() if o.intent_id == intent.id]
    return intent, order


def events(world, intent):
    return [e.event for e in world.store.intent_events if e.intent_id == intent.id]


async def test_intent_of_an_unplaced_order_that_filled_is_executed_after_all(world, autojump_clock):
    async with running(world):
        intent, order = await unplaced(world)
        world.broker.fill(world.broker.put(order))
        await world.until(lambda: world.intent_status(intent.id) is I.EXECUTED)
        assert events(world, intent)[-3:] == ["EXPIRED", "LATE_FOUND", "EXECUTED"]
        assert world.held() == 10
        assert [t for s, t in world.alerts if s == f"intent:{intent.id}"] == ["LATE_FOUND: filled after it was EXPIRED"]
        assert [r.action for r in world.store.audit].count("INTENT_LATE_FOUND") == 1


async def test_part_of_an_order_that_filled_late_makes_its_intent_partial(world, autojump_clock):
    async with running(world):
        intent, order = await unplaced(world)
        broker_id = world.broker.put(order)
        world.broker.fill(broker_id, 4)
        world.broker.change(broker_id, S.CANCELLED)
        await world.until(lambda: world.intent_status(intent.id) is I.PARTIAL)
        assert events(world, intent)[-2:] == ["LATE_FOUND", "PARTIAL"]


async def test_late_fill_is_followed_by_a_life_that_never_knew_the_intent(world, autojump_clock):
    async with running(world):
        intent, order = await unplaced(world)
    after = await crashed(world)
    async with running(after):
        after.broker.fill(after.broker.put(order))
        await after.until(lambda: after.intent_status(intent.id) is I.EXECUTED)


async def test_crash_between_the_late_fill_and_its_intent_is_made_good_at_the_next_start(world, autojump_clock):
    async with running(world):
        intent, order = await unplaced(world)
        world.store.refuse = lambda batch: bool(batch.intent_updates)
        world.broker.fill(world.broker.put(order))
        await world.until(lambda: world.status(order) is S.COMPLETE)
        await trio.sleep(1)
        assert world.intent_status(intent.id) is I.EXPIRED
    after = await crashed(world)
    after.store.refuse = lambda _batch: False
    async with running(after):
        after.crew.risk(USER)
        await after.until(lambda: after.intent_status(intent.id) is I.EXECUTED)


async def test_late_fill_is_told_once_however_often_lives_begin(world, autojump_clock):
    async with running(world) as run:
        intent, order = await unplaced(world)
        world.broker.fill(world.broker.put(order))
        await world.until(lambda: world.intent_status(intent.id) is I.EXECUTED)
        for _ in range(3):
            await run.restart_risk()
            await run.restart_executor()
            await trio.sleep(5)
        assert events(world, intent).count("LATE_FOUND") == 1


async def test_store_away_when_a_late_fill_shows_only_delays_it(world, autojump_clock):
    async with running(world):
        intent, order = await unplaced(world)
        world.broker.fill(world.broker.put(order))
        await world.until(lambda: bool(world.executor.desk.holdings.positions))
        world.store.is_down = True
        await trio.sleep(100)
        world.store.is_down = False
        await world.until(lambda: world.intent_status(intent.id) is I.EXECUTED)


async def test_refused_order_that_filled_makes_its_failed_intent_executed(world, autojump_clock):
    world.broker.answers = [
        answer(Refused(code=RefusalCode.FUNDS, message="no money", status=400), placed=S.OPEN, after_s=0.05)
    ]
    async with running(world):
        intent = await executing(world)
        await world.until(lambda: bool(world.broker.rows))
        world.broker.hide = set(world.broker.rows)
        await world.until(lambda: world.intent_status(intent.id) is I.FAILED)
        world.broker.fill(next(iter(world.broker.rows)))
        world.broker.hide = set()
        world.executor._watch.look_soon()
        await world.until(lambda: world.intent_status(intent.id) is I.EXECUTED)


async def test_intent_that_is_right_needs_nothing(world, autojump_clock):
    async with running(world):
        intent, order = await unplaced(world)
        ended = world.store.intents[intent.id]
        now = world.clock.now()
        assert late_entry(ended, [(order.id, S.EXPIRED, 10, 0, "UNPLACED: x")], now) is None
        partial = msgspec.structs.replace(ended, status=I.PARTIAL)
        assert late_entry(partial, [(order.id, S.CANCELLED, 10, 4, "x")], now) is None
        assert late_entry(ended, [(order.id, S.OPEN, 10, 4, "x")], now) is None
