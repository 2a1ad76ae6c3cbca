"""A signal that fills on some accounts and fails on others: what each policy does, and that it does it once."""

from uuid import UUID

import msgspec
import pytest
import trio

from engine.actors.intake import Passage
from engine.broker.base import RefusalCode, Refused, Unknown
from engine.domain.enums import GroupPolicy, IntentStatus, OrderStatus, OrderType, TransactionType
from engine.ids import retry_id, unwind_id
from tests.support.desk import World, a_delivery, answer, crashed, running
from tests.support.trade import ACCOUNT, STRATEGY, USER

S = OrderStatus
I = IntentStatus  # noqa: E741 -- as S
A, B, C = (UUID(int=ACCOUNT.int + number * 1000) for number in range(3))
NO_FUNDS = Refused(code=RefusalCode.FUNDS, message="not enough", status=400)
BAD_TICK = Refused(code=RefusalCode.TICK_SIZE, message="not a multiple", status=400)


def with_policy(world, policy, **settings):
    strategy = world.directory.strategies[STRATEGY]
    world.directory.put_strategy(msgspec.structs.replace(strategy, group_policy=policy, **settings))
    return world


async def world_of(policy, accounts=3, **settings):
    return with_policy(World(accounts=accounts), policy, **settings)


async def signal(world, **fields):
    """Send a signal and return its intent once it is decided about."""
    passage = Passage(a_delivery(world, **fields), world.kill.turn)
    world.crew.decide(passage)
    with trio.fail_after(60):
        await passage.wait_settled()
    (intent,) = passage.intents.values()
    return intent


def orders(world, account, *, intent=None):
    found = [o for o in world.store.orders.values() if o.account_id == account]
    return sorted((o for o in found if intent in (None, o.intent_id)), key=lambda order: order.created_at)


async def fill(world, account, number=0):
    """Fill the account's order in full, once the broker has it."""
    broker = world.brokers[account]
    await world.until(lambda: len(broker.rows) > number)
    broker.fill(list(broker.rows)[number])


def names(world, intent):
    return [e.event for e in world.store.intent_events if e.intent_id == intent.id]


async def test_account_whose_broker_hangs_does_not_delay_the_others(autojump_clock):
    world = await world_of(GroupPolicy.LEAVE)
    world.brokers[B].answers = [answer(Unknown(reason="no answer"), after_s=7)]
    async with running(world):
        started = trio.current_time()
        intent = await signal(world)
        await fill(world, A)
        await fill(world, C)
        await world.until(lambda: orders(world, A)[0].status is S.COMPLETE and orders(world, C)[0].status is S.COMPLETE)
        assert trio.current_time() - started < 7
        assert orders(world, B)[0].status is S.SUBMITTING
        assert world.intent_status(intent.id) is I.EXECUTING


async def test_leave_does_nothing(autojump_clock):
    world = await world_of(GroupPolicy.LEAVE)
    world.brokers[B].answers = [answer(NO_FUNDS)]
    async with running(world):
        intent = await signal(world)
        await fill(world, A)
        await fill(world, C)
        await world.until(lambda: world.intent_status(intent.id) is I.PARTIAL)
        await trio.sleep(60)
        assert len(world.store.orders) == 3


async def test_retry_places_anew_and_the_intent_is_executed(autojump_clock):
    world = await world_of(GroupPolicy.RETRY)
    world.brokers[B].answers = [answer(NO_FUNDS), answer(NO_FUNDS)]
    async with running(world):
        intent = await signal(world)
        await fill(world, A)
        await fill(world, C)
        await fill(world, B)
        await world.until(lambda: world.intent_status(intent.id) is I.EXECUTED)
        first, second, third = orders(world, B)
        assert (second.id, third.id) == (retry_id(first.id), retry_id(second.id))
        assert (second.parent_id, third.status) == (first.id, S.COMPLETE)
        assert third.deadline == first.deadline
        assert names(world, intent).count("RETRY") == 2
        assert world.held(account=B) == 10


@pytest.mark.parametrize(
    ("outcome", "why"), [(BAD_TICK, "another answer will not come"), (Unknown(reason="cut"), "it may be there")]
)
async def test_retry_leaves_alone_what_would_not_help_or_is_not_known(autojump_clock, outcome, why):
    world = await world_of(GroupPolicy.RETRY)
    world.brokers[B].answers = [answer(outcome)]
    async with running(world):
        intent = await signal(world)
        await fill(world, A)
        await fill(world, C)
        await trio.sleep(300)
        assert len(orders(world, B)) == 1, why
        assert world.intent_status(intent.id) is I.PARTIAL


async def test_retry_ends_at_the_deadline_and_before_a_signal_is_too_old(autojump_clock):
    for settings, most_s in (({"group_deadline_s": 10}, 10), ({"group_deadline_s": 600}, 60)):
        world = await world_of(GroupPolicy.RETRY, **settings)
        world.brokers[B].answers = [answer(NO_FUNDS) for _ in range(200)]
        async with running(world):
            intent = await signal(world)
            await fill(world, A)
            await fill(world, C)
            await world.until(lambda w=world, i=intent: w.intent_status(i.id) is I.PARTIAL, timeout_s=most_s + 5)
            await trio.sleep(200)
            last = orders(world, B)[-1]
            assert (last.created_at - intent.received_at).total_seconds() < most_s
            assert len(orders(world, B)) > 2


async def test_group_that_failed_everywhere_is_not_retried(autojump_clock):
    world = await world_of(GroupPolicy.RETRY)
    for broker in world.brokers.values():
        broker.answers = [answer(NO_FUNDS)]
    async with running(world):
        intent = await signal(world)
        await world.until(lambda: world.intent_status(intent.id) is I.FAILED)
        assert len(world.store.orders) == 3


async def test_retry_after_a_crash_goes_on_and_repeats_nothing(autojump_clock):
    world = await world_of(GroupPolicy.RETRY)
    world.brokers[B].answers = [answer(NO_FUNDS), answer(NO_FUNDS)]
    async with running(world):
        intent = await signal(world)
        await fill(world, A)
        await fill(world, C)
        await world.until(lambda: len(orders(world, B)) == 2 and orders(world, B)[1].status is S.REJECTED)
    after = with_policy(await crashed(world), GroupPolicy.RETRY)
    async with running(after):
        after.crew.risk(USER)
        await fill(after, B)
        await after.until(lambda: after.intent_status(intent.id) is I.EXECUTED)
        assert len(orders(after, B)) == 3
        assert [len(after.brokers[account].left) for account in (A, B, C)] == [1, 3, 1]


async def test_killed_account_is_not_retried_even_after_the_release(autojump_clock):
    world = await world_of(GroupPolicy.RETRY)
    world.brokers[B].answers = [answer(NO_FUNDS)]
    async with running(world):
        intent = await signal(world)
        await world.until(lambda: orders(world, B)[0].status is S.REJECTED)
        world.block(f"account:{B}")
        world.release(f"account:{B}")
        await fill(world, A)
        await fill(world, C)
        await world.until(lambda: world.intent_status(intent.id) is I.PARTIAL)
        await trio.sleep(60)
        assert len(orders(world, B)) == 1


async def test_person_who_cancels_stops_the_retries(autojump_clock):
    world = await world_of(GroupPolicy.RETRY)
    world.brokers[B].answers = [answer(NO_FUNDS)]
    async with running(world):
        intent = await signal(world)
        await fill(world, A)
        await fill(world, C)
        await world.until(lambda: orders(world, C)[0].status is S.COMPLETE and orders(world, B)[0].status is S.REJECTED)
        world.crew.risk(USER).cancel_requested(intent.id)
        await world.until(lambda: world.intent_status(intent.id) is I.PARTIAL)
        await trio.sleep(60)
        assert len(orders(world, B)) == 1


async def test_cancel_while_the_state_is_being_rebuilt_stops_the_retries_too(autojump_clock):
    world = await world_of(GroupPolicy.RETRY)
    world.brokers[B].answers = [answer(NO_FUNDS)] * 9
    async with running(world) as run:
        intent = await signal(world)
        await fill(world, A)
        await fill(world, C)
        await world.until(lambda: len(orders(world, B)) > 1)
        world.crew.risk(USER).cancel_requested(intent.id)
        await run.restart_risk()
        count = len(orders(world, B))
        await world.until(lambda: world.intent_status(intent.id) is I.PARTIAL)
        await trio.sleep(60)
        assert len(orders(world, B)) == count


async def unwound(world, intent):
    await world.until(lambda: unwind_id(intent.id) in world.store.intents)
    return world.store.intents[unwind_id(intent.id)]


async def test_unwind_closes_exactly_what_filled(autojump_clock):
    world = await world_of(GroupPolicy.UNWIND)
    world.brokers[B].answers = [answer(BAD_TICK)]
    async with running(world):
        intent = await signal(world)
        await fill(world, A)
        await world.until(lambda: bool(world.brokers[C].rows))
        (broker_id,) = world.brokers[C].rows
        world.brokers[C].fill(broker_id, 4)
        await world.until(lambda: world.held(account=C) == 4)
        assert unwind_id(intent.id) not in world.store.intents  # C may still fill
        world.brokers[C].change(broker_id, S.CANCELLED)
        child = await unwound(world, intent)
        closing = {o.account_id: o for o in world.store.orders.values() if o.intent_id == child.id}
        assert {account: order.quantity for account, order in closing.items()} == {A: 10, C: 4}
        assert {o.transaction_type for o in closing.values()} == {TransactionType.SELL}
        assert {o.order_type for o in closing.values()} == {OrderType.MARKET}
        assert {o.strategy_id for o in closing.values()} == {STRATEGY}
        await fill(world, A, 1)
        await fill(world, C, 1)
        await world.until(lambda: world.intent_status(child.id) is I.EXECUTED)
        assert (world.held(account=A), world.held(account=C)) == (0, 0)
        assert names(world, intent)[-3:] == ["UNWIND", "UNWIND", "PARTIAL"]


async def test_unwind_happens_once_whatever_restarts(autojump_clock):
    world = await world_of(GroupPolicy.UNWIND)
    world.brokers[B].answers = [answer(BAD_TICK)]
    async with running(world) as run:
        intent = await signal(world)
        await fill(world, A)
        await fill(world, C)
        await unwound(world, intent)
        await run.restart_risk()
        await trio.sleep(20)
    after = with_policy(await crashed(world), GroupPolicy.UNWIND)
    async with running(after):
        after.crew.risk(USER)
        await trio.sleep(60)
        assert [len(after.brokers[account].left) for account in (A, B, C)] == [2, 1, 2]


async def test_crash_before_the_unwind_was_recorded_makes_it_after_the_restart(autojump_clock):
    world = await world_of(GroupPolicy.UNWIND)
    world.brokers[B].answers = [answer(BAD_TICK)]
    async with running(world):
        intent = await signal(world)
        await fill(world, A)
        await world.until(lambda: world.held(account=A) == 10)
        await world.until(lambda: bool(world.brokers[C].rows))
    # C filled while no engine ran
    world.brokers[C].fill(next(iter(world.brokers[C].rows)))
    after = with_policy(await crashed(world), GroupPolicy.UNWIND)
    async with running(after):
        for account in (A, B, C):
            after.crew.executor(account)
        after.crew.risk(USER)
        await unwound(after, intent)
        await after.until(lambda: [len(after.brokers[account].left) for account in (A, B, C)] == [2, 1, 2])


async def test_unwind_of_a_killed_account_is_left_to_the_flattening(autojump_clock):
    world = await world_of(GroupPolicy.UNWIND)
    world.brokers[B].answers = [answer(BAD_TICK)]
    async with running(world):
        intent = await signal(world)
        await fill(world, A)
        await world.until(lambda: world.held(account=A) == 10)
        world.block(f"account:{A}")
        await fill(world, C)
        child = await unwound(world, intent)
        assert [o.account_id for o in world.store.orders.values() if o.intent_id == child.id] == [C]
        left = [e.detail for e in world.store.intent_events if e.event == "UNWIND_LEFT_OUT"]
        assert left[0].startswith("A0: 10 stay open: KILL_SWITCH")


async def test_unwind_never_closes_more_than_is_held(autojump_clock):
    world = await world_of(GroupPolicy.UNWIND)
    world.brokers[B].answers = [answer(BAD_TICK)]
    async with running(world):
        intent = await signal(world)
        await fill(world, A)
        await world.until(lambda: world.held(account=A) == 10)
        # somebody closes half of it by hand while C still works
        by_hand = world.brokers[A].by_hand(quantity=5, side="SELL")
        world.brokers[A].fill(by_hand)
        await world.until(lambda: world.held(account=A) == 5)
        await fill(world, C)
        child = await unwound(world, intent)
        assert [o.account_id for o in world.store.orders.values() if o.intent_id == child.id] == [C]
        assert any("NOT_UNWOUND: A0: 10 stay open: NOT_HELD" in text for _, text in world.alerts)


async def test_unwind_cancels_at_the_deadline_what_still_works(autojump_clock):
    world = await world_of(GroupPolicy.UNWIND, group_deadline_s=20)
    world.brokers[B].answers = [answer(BAD_TICK)]
    async with running(world):
        intent = await signal(world)
        await fill(world, A)
        child = await unwound(world, intent)
        assert orders(world, C)[0].status is S.CANCELLED
        assert (child.received_at - intent.received_at).total_seconds() >= 20
        assert [o.account_id for o in world.store.orders.values() if o.intent_id == child.id] == [A]


async def test_one_account_is_no_group(autojump_clock):
    world = await world_of(GroupPolicy.UNWIND, accounts=1)
    async with running(world):
        intent = await signal(world)
        await world.until(lambda: bool(world.broker.rows))
        (broker_id,) = world.broker.rows
        world.broker.fill(broker_id, 4)
        world.broker.change(broker_id, S.REJECTED)
        await world.until(lambda: world.intent_status(intent.id) is I.PARTIAL)
        await trio.sleep(30)
        assert len(world.store.orders) == 1
