"""An actor that keeps failing: nothing it was told waits for ever, the others go on, and it lives again."""

from decimal import Decimal
from uuid import UUID

import pytest
import trio

from engine.actors.caretaker import Rests
from engine.actors.intake import Passage
from engine.broker.base import Unknown
from engine.domain.enums import IntentStatus, KillState, OrderStatus, OrderType
from engine.domain.killswitch import KillRecord
from tests.support.desk import World, a_delivery, a_signal, answer, running
from tests.support.trade import ACCOUNT, USER

S = OrderStatus
I = IntentStatus  # noqa: E741 -- as S
OTHER = UUID(int=ACCOUNT.int + 1000)


@pytest.fixture
async def world(autojump_clock):
    world = World(accounts=2)

    def trip(scope, why):
        world.trips.append((scope, why))
        world.kill.put(
            KillRecord(
                scope=scope,
                version=len(world.trips) * 10,
                state=KillState.BLOCKED,
                reason=f"ACTOR_FAILED: {why}",
                actor="system",
                at=world.clock.now(),
            )
        )
        world.crew.wake()

    world.crew._trip = trip
    return world


def sabotage(executor):
    """Every look at the order book is a fault; returns what ends that."""
    real = executor._watch.run_looks
    broken = [True]

    async def run_looks():
        if broken:
            raise RuntimeError("bug")
        await real()

    executor._watch.run_looks = run_looks
    return broken.clear


async def tripped(world, run, account=ACCOUNT):
    mend = sabotage(world.crew.executor(account))
    await run.restart_executor(account)
    await world.until(lambda: bool(world.trips))
    return mend


def decide(world, *signals, **fields):
    passage = Passage(a_delivery(world, *signals, **fields), world.kill.turn)
    world.crew.decide(passage)
    return passage


async def settled(passage):
    with trio.fail_after(300):
        await passage.wait_settled()
    return list(passage.intents.values())


async def test_queue_of_a_tripped_executor_ends_by_name_and_its_intents_conclude(world, autojump_clock):
    async with running(world) as run:
        world.broker.answers = [answer(Unknown(reason="reset"))]
        first, *waiting = [(await settled(decide(world, a_signal(account="A0"), key=f"k{n}")))[0] for n in range(4)]
        await tripped(world, run)
        await world.until(lambda: all(world.intent_status(i.id) is I.FAILED for i in waiting), timeout_s=60)
        for intent in waiting:
            assert world.store.intents[intent.id].reason.startswith("ACTOR_FAILED")
        assert world.intent_status(first.id) is I.EXECUTING
        assert len(world.broker.left) == 1
        assert any(subject == f"account:{ACCOUNT}" for subject, _ in world.alerts)


async def test_other_accounts_trade_on_and_only_the_failed_one_is_blocked(world, autojump_clock):
    async with running(world) as run:
        await tripped(world, run)
        assert [scope for scope, _ in world.trips] == [f"account:{ACCOUNT}"]
        (intent,) = await settled(decide(world))
        assert intent.status is I.EXECUTING
        await world.until(lambda: len(world.brokers[OTHER].left) == 1)
        await trio.sleep(5)
        assert not world.broker.left


async def test_order_on_the_wire_of_a_tripped_executor_is_settled_by_its_next_life(world, autojump_clock):
    async with running(world) as run:
        world.broker.answers = [answer(Unknown(reason="reset"), placed=S.OPEN)]
        world.broker.hide = {"100000001"}
        order = world.order()
        world.submit(order)
        await world.until_status(order, S.UNKNOWN)
        mend = await tripped(world, run)
        world.broker.hide = set()
        await trio.sleep(30)
        assert world.status(order) is S.UNKNOWN
        mend()
        await world.until_status(order, S.OPEN, timeout_s=100)
        assert len(world.broker.left) == 1


async def test_next_life_of_a_tripped_executor_sends_nothing_while_it_is_blocked(world, autojump_clock):
    async with running(world) as run:
        mend = await tripped(world, run)
        mend()
        await world.until(lambda: world.executor.is_ready, timeout_s=100)
        order = world.order()
        world.submit(order)
        await world.until_status(order, S.CANCELLED)
        assert not world.broker.left


async def test_lifting_the_block_brings_the_executor_back_at_once(world, autojump_clock):
    async with running(world) as run:
        mend = await tripped(world, run)
        mend()
        await trio.sleep(5)
        assert not world.executor.is_ready
        world.release(f"account:{ACCOUNT}")
        await world.until(lambda: world.executor.is_ready, timeout_s=5)
        order = world.order()
        world.submit(order)
        await world.until_status(order, S.OPEN)


async def test_executor_that_fails_for_good_is_tried_ever_more_rarely(world, autojump_clock):
    async with running(world) as run:
        await tripped(world, run)
        await trio.sleep(3600)
        assert 4 <= len(world.trips) <= 12


async def test_queue_of_an_executor_that_trips_with_the_ledger_away_ends_when_it_is_back(world, autojump_clock):
    async with running(world) as run:
        world.broker.answers = [answer(Unknown(reason="reset"))]
        first, second = world.order(), world.order()
        world.submit(first)
        await world.until_status(first, S.UNKNOWN)
        world.submit(second)
        await world.until_status(second, S.PENDING)
        await tripped(world, run)
        world.store.is_stuck = True
        await trio.sleep(40)
        world.store.is_stuck = False
        await world.until_status(second, S.FAILED, S.CANCELLED, timeout_s=100)
        assert len(world.broker.left) == 1


def break_decisions(world):
    risk = world.crew.risk(USER)
    real, broken = risk._take_messages, [True]

    async def take():
        if broken:
            raise RuntimeError("bug")
        await real()

    risk._take_messages = take
    return broken.clear


async def test_signals_of_a_tripped_risk_actor_end_by_name_as_they_come(world, autojump_clock):
    async with running(world):
        break_decisions(world)
        await world.until(lambda: f"risk:{USER}" in world.crew.users)
        await world.until(lambda: bool(world.trips))
        (intent,) = await settled(decide(world, key="k1"))
        assert intent.status is I.FAILED
        assert intent.reason.startswith("ACTOR_FAILED")
        assert world.store.intents[intent.id].status is I.FAILED
        await trio.sleep(10)
        (intent,) = await settled(decide(world, key="k2"))
        assert intent.reason.startswith("ACTOR_FAILED")
        assert not world.broker.left
        assert any(subject == f"user:{USER}" for subject, _ in world.alerts)


async def test_tripped_risk_actor_concludes_in_its_next_life_what_ended_meanwhile(world, autojump_clock):
    async with running(world) as run:
        (intent,) = await settled(decide(world, a_signal(account="A0")))
        await world.until(lambda: bool(world.broker.rows))
        mend = break_decisions(world)
        await run.restart_risk()
        await world.until(lambda: bool(world.trips))
        world.broker.fill(next(iter(world.broker.rows)))
        await world.until(lambda: world.held() == 10)
        mend()
        await world.until(lambda: world.intent_status(intent.id) is I.EXECUTED, timeout_s=100)


async def test_delivery_in_hand_when_its_risk_actor_died_is_decided_by_the_next_life(world, autojump_clock):
    async with running(world) as run:
        world.crew.risk(USER)
        world.price_delay_s = 2.0
        world.prices.pop("NSE:TCS")
        passage = decide(world, a_signal("TCS", order_type=OrderType.MARKET, price=None, account="A0"))
        await trio.sleep(1)
        world.prices["NSE:TCS"] = Decimal(100)
        await run.restart_risk()
        (intent,) = await settled(passage)
        assert intent.status is I.EXECUTING


def test_rests_grow_until_a_life_has_lasted() -> None:
    rests = Rests()
    assert rests.next_s("a", 0) == 60
    rests.woken("a", 60)
    assert rests.next_s("a", 61) == 120
    rests.woken("a", 181)
    assert rests.next_s("a", 200) == 240
    rests.woken("a", 440)
    assert rests.next_s("a", 440 + 700) == 60
    assert rests.next_s("b", 1140) == 60
