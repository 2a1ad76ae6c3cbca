"""Intents that wait for a person: each is executed at most once, and never after it was killed, rejected or too old."""

import contextlib
import random
from datetime import datetime, time, timedelta
from decimal import Decimal

import msgspec
import pytest
import trio

from engine.actors.approvals import Approvals
from engine.actors.intake import Passage
from engine.clock import IST
from engine.domain.audit import AuditDraft
from engine.domain.directory import Strategy
from engine.domain.enums import Exchange, IntentStatus, OrderStatus, TransactionType
from engine.errors import UnavailableError
from tests.support.desk import World, a_delivery, a_signal, crashed, running
from tests.support.trade import ACCOUNT, STRATEGY, USER, a_position

I = IntentStatus  # noqa: E741 -- short
BY = "user:somebody"


def by_hand(world, **settings):
    """Let the world's strategy wait for a person."""
    strategy: Strategy = world.directory.strategies[STRATEGY]
    world.directory.put_strategy(msgspec.structs.replace(strategy, approval="manual", **settings))
    world.asked = []
    world.risk_context = msgspec.structs.replace(world.risk_context, ask_person=world.asked.append)
    return world


@pytest.fixture
async def world(autojump_clock):
    return by_hand(World())


async def waiting(world, *signals, **fields):
    """Send a signal and return its intent once it waits."""
    passage = Passage(a_delivery(world, *signals, **fields), world.kill.turn)
    world.crew.decide(passage)
    with trio.fail_after(60):
        await passage.wait_settled()
    (intent,) = passage.intents.values()
    return intent


def approvals(world):
    return world.crew.risk(USER).approvals


def sent(world):
    return sum(len(broker.left) for broker in world.brokers.values())


def events(world, intent):
    return [e.event for e in world.store.intent_events if e.intent_id == intent.id]


async def test_nothing_is_sent_before_a_person_approves(world, autojump_clock):
    async with running(world):
        intent = await waiting(world)
        assert intent.status is I.PENDING_APPROVAL
        await trio.sleep(100)
        assert (sent(world), world.intent_status(intent.id)) == (0, I.PENDING_APPROVAL)
        assert [each.id for each in world.asked] == [intent.id]
        # older than a signal may be: the approval is what its age counts from
        decided = await approvals(world).approve(intent.id, by=BY)
        assert decided.status is I.EXECUTING
        await world.until(lambda: sent(world) == 1)
        assert events(world, intent) == ["RECEIVED", "PENDING_APPROVAL", "APPROVED", "EXECUTING"]
        granted = [record for record in world.store.audit if record.action == "APPROVAL_GRANTED"]
        assert [record.actor for record in granted] == [BY]


async def test_two_approvals_at_once_place_once_and_hear_the_same(world, autojump_clock):
    async with running(world):
        intent = await waiting(world)
        world.store.delay_s = 0.5
        answers = []

        async def approve():
            answers.append(await approvals(world).approve(intent.id, by=BY))

        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(approve)
        assert [answer.status for answer in answers] == [I.EXECUTING] * 5
        assert await approvals(world).approve(intent.id, by=BY) is None
        await world.until(lambda: sent(world) == 1)
        await trio.sleep(30)
        assert sent(world) == 1


async def test_reject_after_approve_changes_nothing(world, autojump_clock):
    async with running(world):
        intent = await waiting(world)
        await approvals(world).approve(intent.id, by=BY)
        assert await approvals(world).reject(intent.id, by=BY, reason="late") is None
        assert world.intent_status(intent.id) is I.EXECUTING


@pytest.mark.parametrize(
    ("act", "status", "reason"),
    [
        (lambda a, i: a.reject(i, by=BY, reason="no"), I.REJECTED, "REJECTED_BY_HAND: no"),
        (lambda a, i: a.cancel(i, by=BY), I.CANCELLED, "CANCELLED_BY_HAND"),
    ],
)
async def test_what_a_person_ends_stays_ended(world, autojump_clock, act, status, reason):
    async with running(world) as run:
        intent = await waiting(world)
        await act(approvals(world), intent.id)
        await run.restart_risk()
        await trio.sleep(1)
        assert await approvals(world).approve(intent.id, by=BY) is None
        row = world.store.intents[intent.id]
        assert (row.status, row.reason.startswith(reason), sent(world)) == (status, True, 0)
        assert events(world, intent)[-1] == status.value


async def test_what_nobody_approves_expires_by_itself(autojump_clock):
    world = by_hand(World(), approval_ttl_s=120)
    async with running(world):
        intent = await waiting(world)
        await trio.sleep(125)
        row = world.store.intents[intent.id]
        assert row.status is I.EXPIRED
        assert row.reason.startswith("APPROVAL_EXPIRED: nobody approved it within 120 s (1")
        assert await approvals(world).approve(intent.id, by=BY) is None


async def test_it_waits_on_after_a_crash_and_can_be_approved(world, autojump_clock):
    async with running(world):
        intent = await waiting(world)
    after = by_hand(await crashed(world))
    async with running(after):
        after.crew.risk(USER)
        await after.until(lambda: intent.id in approvals(after))
        await trio.sleep(1)
        assert (await approvals(after).approve(intent.id, by=BY)).status is I.EXECUTING
        await after.until(lambda: sent(after) == 1)


async def test_restart_while_the_approval_is_recorded_places_once(world, autojump_clock):
    async with running(world) as run:
        intent = await waiting(world)
        world.store.delay_s = 0.5
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: approvals(world).approve(intent.id, by=BY))
            await trio.sleep(0.1)
            await run.restart_risk()
        await trio.sleep(30)
        assert world.intent_status(intent.id) is I.EXECUTING
        assert sent(world) == 1


async def test_approval_that_cannot_be_recorded_leaves_it_waiting(world, autojump_clock):
    async with running(world):
        intent = await waiting(world)
        world.store.refuse = lambda batch: bool(batch.new_orders)
        with pytest.raises(UnavailableError):
            await approvals(world).approve(intent.id, by=BY)
        world.store.refuse = lambda _batch: False
        assert world.intent_status(intent.id) is I.PENDING_APPROVAL
        assert world.crew.risk(USER).state.reserved_quantity() == 0
        assert (await approvals(world).approve(intent.id, by=BY)).status is I.EXECUTING
        await world.until(lambda: sent(world) == 1)


async def test_price_that_moved_too_far_is_rejected(world, autojump_clock):
    async with running(world):
        near, far = await waiting(world, key="near"), await waiting(world, key="far")
        world.prices["NSE:INFY"] = Decimal("100.9")
        assert (await approvals(world).approve(near.id, by=BY)).status is I.EXECUTING
        world.prices["NSE:INFY"] = Decimal("101.1")
        decided = await approvals(world).approve(far.id, by=BY)
        assert decided.status is I.REJECTED
        assert decided.reason == "PRICE_MOVED: 101.1 is 1.10% from 100 when the signal came, allowed 1%"


async def test_limits_are_judged_at_approval(autojump_clock):
    world = by_hand(World(limits={"max_orders_per_day": 1}))
    async with running(world):
        first, second = await waiting(world, key="1"), await waiting(world, key="2")
        assert (await approvals(world).approve(first.id, by=BY)).status is I.EXECUTING
        decided = await approvals(world).approve(second.id, by=BY)
        assert decided.status is I.REJECTED
        assert decided.reason.startswith("MAX_ORDERS_PER_DAY")


async def test_what_waits_until_after_the_square_off_is_refused_and_an_exit_is_not(autojump_clock):
    world = by_hand(World(), approval_ttl_s=600)
    day = world.clock.now().astimezone(IST).date()
    world.clock._start = datetime.combine(day, time(15, 18), IST)
    rules = msgspec.structs.replace(world.risk_context.rules, square_off_times={Exchange.NSE: time(15, 20)})
    world.risk_context = msgspec.structs.replace(world.risk_context, rules=rules)
    held = a_position(account_id=ACCOUNT, symbol="SBIN", quantity=10, buy_quantity=10, buy_value=Decimal(1000))
    world.broker.overnight["SBIN", "MIS"] = 10
    world.store.positions[held.key] = (held, day)
    async with running(world):
        entry = await waiting(world)
        out = await waiting(world, a_signal("SBIN", transaction_type=TransactionType.SELL), key="k2", body=b"2" * 32)
        await trio.sleep(150)
        decided = await approvals(world).approve(entry.id, by=BY)
        assert decided.status is I.REJECTED
        assert decided.reason.startswith("AFTER_SQUARE_OFF: ")
        allowed = await approvals(world).approve(out.id, by=BY)
        assert (allowed.status, allowed.reason) == (I.EXECUTING, None)
        await world.until(lambda: [order.symbol for order in world.broker.left] == ["SBIN"])


async def test_kill_rejects_what_waits_and_it_is_not_executed_afterwards(world, autojump_clock):
    async with running(world):
        intent = await waiting(world)
        world.block(f"strategy:{STRATEGY}")
        world.release(f"strategy:{STRATEGY}")
        await trio.sleep(1)
        row = world.store.intents[intent.id]
        assert row.status is I.REJECTED
        assert row.reason.startswith(f"KILL_SWITCH: strategy:{STRATEGY} is blocked")
        assert await approvals(world).approve(intent.id, by=BY) is None


async def test_kill_while_the_engine_was_down_counts(world, autojump_clock):
    async with running(world):
        intent = await waiting(world)
        await trio.sleep(5)
    after = by_hand(await crashed(world))
    after.block()
    after.release()
    async with running(after):
        after.crew.risk(USER)
        await after.until(lambda: after.intent_status(intent.id) is I.REJECTED)
        assert "was blocked while it waited" in after.store.intents[intent.id].reason


async def test_account_that_was_killed_is_left_out_of_the_approval(autojump_clock):
    world = by_hand(World(accounts=2))
    async with running(world):
        intent = await waiting(world)
        world.block(f"account:{ACCOUNT}")
        world.release(f"account:{ACCOUNT}")
        assert (await approvals(world).approve(intent.id, by=BY)).status is I.EXECUTING
        await world.until(lambda: sent(world) == 1)
        (order,) = (o for o in world.store.orders.values())
        assert order.account_id != ACCOUNT


async def test_approval_word_that_is_not_known_waits(world, autojump_clock):
    strategy = world.directory.strategies[STRATEGY]
    world.directory.put_strategy(msgspec.structs.replace(strategy, approval="semi"))
    async with running(world):
        assert (await waiting(world)).status is I.PENDING_APPROVAL


async def test_signal_that_risk_refuses_asks_nobody(autojump_clock):
    world = by_hand(World(limits={"max_order_quantity": 5}))
    async with running(world):
        assert (await waiting(world)).status is I.REJECTED
        assert not world.asked


async def test_same_delivery_again_waits_once(world, autojump_clock):
    async with running(world):
        first = await waiting(world)
        passage = Passage(a_delivery(world), world.kill.turn)
        world.crew.decide(passage)
        with trio.fail_after(60):
            await passage.wait_settled()
        assert len(world.asked) == 1
        assert (await approvals(world).approve(first.id, by=BY)).status is I.EXECUTING
        await world.until(lambda: sent(world) == 1)


async def test_exit_that_nobody_approves_is_told(autojump_clock):
    world = by_hand(World(), approval_ttl_s=30)
    held = a_position(quantity=10, buy_quantity=10, buy_value=Decimal(1000))
    world.store.positions[held.key] = (held, world.clock.now().date())
    world.broker.overnight["INFY", "MIS"] = 10
    async with running(world):
        world.executor.desk.holdings.positions[held.key] = held
        world.crew.risk(USER).state.set_position(held)
        await waiting(world, a_signal(transaction_type=TransactionType.SELL))
        await trio.sleep(40)
        assert any("EXIT_NOT_DONE" in text for _, text in world.alerts)


@pytest.mark.parametrize("seed", range(12))
async def test_any_interleaving_places_at_most_once_and_only_what_was_approved(autojump_clock, seed):
    rng = random.Random(seed)
    world = by_hand(World(), approval_ttl_s=20)
    async with running(world) as run:
        intents = [await waiting(world, key=f"k{n}", received_at=world.clock.now()) for n in range(4)]
        approved, killed_at = set(), None

        async def act(intent):
            await trio.sleep(rng.random() * 25)
            who = approvals(world)
            choice = rng.choice(["approve", "approve", "reject", "cancel", "twice"])
            try:
                if choice in ("approve", "twice"):
                    decided = await who.approve(intent.id, by=BY)
                    if decided is not None and decided.status is I.EXECUTING:
                        approved.add(intent.id)
                    if choice == "twice":
                        await approvals(world).approve(intent.id, by=BY)
                elif choice == "reject":
                    await who.reject(intent.id, by=BY, reason="")
                else:
                    await who.cancel(intent.id, by=BY)
            except UnavailableError:
                pass  # it is being rebuilt

        async def disturb():
            nonlocal killed_at
            await trio.sleep(rng.random() * 20)
            if rng.random() < 0.6:
                await run.restart_risk()
            if rng.random() < 0.5:
                await trio.sleep(rng.random() * 3)
                world.block()
                killed_at = world.clock.now()
                world.release()

        world.store.delay_s = rng.choice([0.001, 0.3])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(disturb)
            for intent in intents:
                for _ in range(2):
                    nursery.start_soon(act, intent)
        await trio.sleep(40)
        for intent in intents:
            orders = [o for o in world.store.orders.values() if o.intent_id == intent.id]
            row = world.store.intents[intent.id]
            assert len(orders) == (1 if row.approved_at else 0)
            assert row.status is not I.PENDING_APPROVAL
            if row.approved_at is not None:
                assert row.approved_at <= intent.received_at + timedelta(seconds=20)
                assert killed_at is None or row.approved_at <= killed_at
        assert sent(world) <= len([o for o in world.store.orders.values() if o.status is not OrderStatus.CANCELLED])
        assert approved <= {intent.id for intent in intents if world.store.intents[intent.id].approved_at}


@pytest.mark.parametrize("where", ["_carry_out", "_entry"])
async def test_fault_while_it_is_approved_leaves_nothing_reserved(world, autojump_clock, monkeypatch, where):
    def fault(*_args, **_fields):
        raise RuntimeError("scripted")

    async with running(world):
        intent = await waiting(world)
        with monkeypatch.context() as patched:
            patched.setattr(Approvals, where, fault)
            with pytest.raises(RuntimeError):
                await approvals(world).approve(intent.id, by=BY)
        state = world.crew.risk(USER).state
        assert (state.reserved_quantity(), state.orders_in_minute(world.clock.now())) == (0, 0)
        decided = await approvals(world).approve(intent.id, by=BY)
        assert decided.status is I.EXECUTING
        await world.until(lambda: sent(world) == 1)


async def test_what_could_not_be_decided_for_want_of_the_ledger_still_expires(world, autojump_clock):
    by_hand(world, approval_ttl_s=120)
    async with running(world):
        intent = await waiting(world)
        world.store.delay_s = 40.0
        world.store.refuse = lambda batch: bool(batch.new_orders)
        async with trio.open_nursery() as nursery:

            async def approve():
                with contextlib.suppress(UnavailableError):
                    await approvals(world).approve(intent.id, by=BY)

            nursery.start_soon(approve)
        await trio.sleep(300)
        world.store.delay_s = 0.0
        await trio.sleep(100)
        assert world.intent_status(intent.id) is not I.PENDING_APPROVAL


async def test_nothing_is_approved_while_the_state_is_being_rebuilt(world, autojump_clock):
    async with running(world) as run:
        intent = await waiting(world)
        world.prices.clear()
        world.price_delay_s = 2.0
        answers = []

        async def approve():
            try:
                answers.append(await approvals(world).approve(intent.id, by=BY))
            except UnavailableError as error:
                answers.append(error)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(approve)
            await trio.sleep(0.5)
            world.store.is_down = True
            world.ledger.record(AuditDraft(at=world.clock.now(), actor="t", action="T", subject="t", content={}))
            nursery.start_soon(run.restart_risk)
            await trio.sleep(5)
            assert [type(answer) for answer in answers] == [UnavailableError]
            world.store.is_down = False
        await world.until(lambda: world.crew.risk(USER).is_ready)
        assert sent(world) == 0
        assert world.intent_status(intent.id) is I.PENDING_APPROVAL


@pytest.mark.parametrize("step_s", [-3600, 0])
async def test_approval_counts_kills_by_their_order_and_not_by_the_clock(world, autojump_clock, step_s):
    async with running(world):
        before = await waiting(world)
        world.block()
        world.release()
        world.clock.step += step_s
        after = await waiting(world, key="k2")
        await trio.sleep(1)
        assert await approvals(world).approve(after.id, by=BY) is not None
        assert world.intent_status(before.id) is I.REJECTED
        await world.until(lambda: sent(world) == 1)


async def test_approval_is_granted_after_a_restart_of_the_actor_though_a_kill_was_on_before_it_came(
    world, autojump_clock
):
    async with running(world) as run:
        world.block()
        world.release()
        world.clock.step -= 60
        intent = await waiting(world)
        await run.restart_risk()
        await world.until(lambda: world.crew.risk(USER).is_ready)
        assert await approvals(world).approve(intent.id, by=BY) is not None
        await world.until(lambda: sent(world) == 1)


async def test_approval_is_refused_after_a_restart_of_the_engine_when_a_kill_was_on_meanwhile(world, autojump_clock):
    async with running(world):
        # by a clock that is ahead, as far as is let pass, which the next start finds corrected
        world.clock.step += 1.8
        intent = await waiting(world)
    after = by_hand(await crashed(world))
    after.clock.step -= 1.8
    async with running(after):
        await after.until(lambda: after.crew.risk(USER).is_ready)
        assert after.clock.now() < intent.received_at
        after.block()
        after.release()
        assert await approvals(after).approve(intent.id, by=BY) is not None
        await trio.sleep(1)
        assert "KILL_SWITCH" in after.store.intents[intent.id].reason
        assert sent(after) == 0
