"""The risk actor: one verdict for each signal, on disk or taken back whole, and books that a restart rebuilds."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
import trio

from engine.actors.audit_writer import DuplicateIntent
from engine.actors.intake import Passage
from engine.actors.risk import OrderChanged, PositionsChanged
from engine.broker.base import RefusalCode, Refused, Unknown
from engine.domain.enums import AccountStatus, IntentStatus, OrderStatus, OrderType
from engine.domain.intent import Intent
from engine.domain.verdict import decode
from engine.errors import MailboxFull, UnavailableError
from engine.store.ledger import LedgerRefused
from tests.support.desk import World, a_delivery, a_signal, answer, crashed, running
from tests.support.trade import ACCOUNT, USER, a_position

S = OrderStatus
I = IntentStatus  # noqa: E741 -- as S


@pytest.fixture
async def world(autojump_clock):
    return World()


def decide(world, *signals, **fields):
    passage = Passage(a_delivery(world, *signals, **fields), world.kill.turn)
    world.crew.decide(passage)
    return passage


async def settled(passage):
    with trio.fail_after(300):
        await passage.wait_settled()
    return list(passage.intents.values())


async def test_signal_becomes_an_order_and_an_executed_intent(world, autojump_clock):
    async with running(world):
        (intent,) = await settled(decide(world))
        assert intent.status is I.EXECUTING
        (order,) = world.store.orders.values()
        await world.until(lambda: bool(world.broker.rows))
        world.broker.fill(next(iter(world.broker.rows)))
        await world.until(lambda: world.intent_status(intent.id) is I.EXECUTED)
        assert order.intent_id == intent.id
        events = [e.event for e in world.store.intent_events if e.intent_id == intent.id]
        assert events == ["RECEIVED", "APPROVED", "EXECUTING", "EXECUTED"]


async def test_two_hundred_signals_at_once_cannot_pass_a_limit_together(autojump_clock):
    world = World(limits={"max_position_pct": Decimal(1)})  # of 1,000,000: a hundred units at 100
    async with running(world):
        passages = [decide(world, key=f"k{n}") for n in range(200)]
        for passage in passages:
            await settled(passage)
        verdicts = [intent.status for p in passages for intent in p.intents.values()]
        assert verdicts.count(I.EXECUTING) == 10
        assert verdicts.count(I.REJECTED) == 190


async def test_rejected_intent_names_its_limit(autojump_clock):
    world = World(limits={"max_order_value": Decimal(500)})
    async with running(world):
        (intent,) = await settled(decide(world))
        assert intent.status is I.REJECTED
        assert intent.reason.startswith("MAX_ORDER_VALUE: ")
        assert world.store.intents[intent.id].status is I.REJECTED
        assert not world.store.orders


async def test_signal_too_old_when_its_turn_comes_expires(world, autojump_clock):
    async with running(world):
        (intent,) = await settled(decide(world, received_at=world.clock.now() - timedelta(seconds=61)))
        assert intent.status is I.EXPIRED
        assert intent.reason.startswith("SIGNAL_TOO_OLD: 61.0 s")
        assert not world.store.orders
        (row,) = world.store.verdicts
        found = decode(row.body)
        assert (row.intent_id, found.accounts) == (intent.id, ())
        assert [str(denial) for denial in found.against] == ["SIGNAL_TOO_OLD: 61.0 s old, the limit is 60 s"]


async def test_order_refused_by_the_broker_fails_the_intent(world, autojump_clock):
    world.broker.answers = [answer(Refused(code=RefusalCode.FUNDS, message="no money", status=400))]
    async with running(world):
        (intent,) = await settled(decide(world))
        await world.until(lambda: world.intent_status(intent.id) is I.FAILED)
        assert world.store.intents[intent.id].reason == "FUNDS: no money"


async def test_unplaced_order_expires_the_intent_with_its_age(world, autojump_clock):
    world.broker.answers = [answer(Unknown(reason="reset"))]
    async with running(world):
        (intent,) = await settled(decide(world))
        await trio.sleep(60)
        assert world.intent_status(intent.id) is I.EXECUTING
        await world.until(lambda: world.intent_status(intent.id) is I.EXPIRED)
        assert world.store.intents[intent.id].reason.startswith("UNPLACED:")
        last = [e for e in world.store.intent_events if e.intent_id == intent.id][-1]
        assert last.event == "EXPIRED"
        assert " s old)" in last.detail


async def test_accounts_left_out_are_named_and_the_others_go(autojump_clock):
    world = World(accounts=2)
    other = UUID(int=ACCOUNT.int + 1000)
    account = world.directory.accounts[other]
    world.directory.put_account(msgspec.structs.replace(account, status=AccountStatus.LOGIN_REQUIRED))
    async with running(world):
        (intent,) = await settled(decide(world))
        assert intent.status is I.EXECUTING
        assert [o.account_id for o in world.store.orders.values()] == [ACCOUNT]
        assert any(e.event == "ACCOUNT_LEFT_OUT" and "LOGIN_REQUIRED" in e.detail for e in world.store.intent_events)


async def test_account_of_another_user_is_never_traded(autojump_clock):
    world = World(accounts=2)
    other = UUID(int=ACCOUNT.int + 1000)
    foreign = msgspec.structs.replace(world.directory.accounts[other], user_id=UUID(int=99))
    world.directory.put_account(foreign)
    async with running(world):
        await settled(decide(world))
        assert [o.account_id for o in world.store.orders.values()] == [ACCOUNT]


async def test_account_named_twice_in_a_strategy_gets_one_order(world, autojump_clock):
    (strategy,) = world.directory.strategies.values()
    world.directory.put_strategy(msgspec.structs.replace(strategy, targets=strategy.targets * 2))
    async with running(world):
        (intent,) = await settled(decide(world))
        assert intent.status is I.EXECUTING
        assert len(world.store.orders) == 1


async def test_kill_switch_between_acceptance_and_decision_rejects(world, autojump_clock):
    world.block()
    async with running(world):
        (intent,) = await settled(decide(world))
        assert intent.status is I.REJECTED
        assert intent.reason.startswith("KILL_SWITCH")


async def test_orders_of_one_delivery_bear_instants_in_accepted_order(world, autojump_clock):
    async with running(world):
        passage = decide(world, *(a_signal(quantity=n + 1) for n in range(20)))
        await settled(passage)
        by_time = sorted(world.store.orders.values(), key=lambda o: o.created_at)
        assert [o.quantity for o in by_time] == list(range(1, 21))
        assert len({o.created_at for o in by_time}) == 20


async def test_instants_grow_even_when_the_clock_steps_back(world, autojump_clock):
    async with running(world):
        await settled(decide(world, a_signal(quantity=1), key="a"))
        world.clock.step = -5.0
        await settled(decide(world, a_signal(quantity=2), key="b"))
        by_time = sorted(world.store.orders.values(), key=lambda o: o.created_at)
        assert [o.quantity for o in by_time] == [1, 2]


async def test_repeat_of_a_live_intent_touches_neither_its_order_nor_its_reservation(world, autojump_clock):
    async with running(world):
        (intent,) = await settled(decide(world))
        await world.until(lambda: bool(world.broker.rows))
        state = world.crew.risk(USER).state
        assert state.reserved_quantity() == 10
        again = decide(world)
        await settled(again)
        assert isinstance(again.error, DuplicateIntent)
        assert state.reserved_quantity() == 10
        assert len(world.broker.left) == 1
        world.broker.fill(next(iter(world.broker.rows)))
        await world.until(lambda: world.intent_status(intent.id) is I.EXECUTED)
        assert world.held() == 10


async def test_repeat_after_a_restart_changes_nothing(world, autojump_clock):
    async with running(world):
        (intent,) = await settled(decide(world))
        await world.until(lambda: bool(world.broker.rows))
    after = await crashed(world)
    async with running(after):
        again = Passage(a_delivery(world), world.kill.turn)
        after.crew.decide(again)
        await settled(again)
        assert isinstance(again.error, DuplicateIntent)
        assert len(after.broker.left) == 1
        after.broker.fill(next(iter(after.broker.rows)))
        await after.until(lambda: after.intent_status(intent.id) is I.EXECUTED)


async def test_repeat_of_a_finished_intent_after_a_restart_sends_nothing(world, autojump_clock):
    async with running(world):
        (intent,) = await settled(decide(world))
        await world.until(lambda: bool(world.broker.rows))
        world.broker.fill(next(iter(world.broker.rows)))
        await world.until(lambda: world.intent_status(intent.id) is I.EXECUTED)
    after = await crashed(world)
    async with running(after):
        again = Passage(a_delivery(world), world.kill.turn)
        after.crew.decide(again)
        await settled(again)
        await trio.sleep(5)
        assert isinstance(again.error, DuplicateIntent)
        assert len(after.broker.left) == 1
        assert after.crew.risk(USER).state.reserved_quantity() == 0


async def test_decision_that_the_ledger_refuses_ends_failed_and_sends_nothing(world, autojump_clock):
    world.store.refuse = lambda batch: bool(batch.new_orders)
    async with running(world):
        (intent,) = await settled(decide(world))
        assert intent.status is I.FAILED
        assert intent.reason.startswith("INTERNAL_ERROR: ")
        assert world.intent_status(intent.id) is I.FAILED
        assert not world.broker.left
        assert world.crew.risk(USER).state.reserved_quantity() == 0
        world.store.refuse = lambda _batch: False
        (after,) = await settled(decide(world, key="k2"))
        await world.until(lambda: len(world.broker.left) == 1)
        assert after.status is I.EXECUTING


async def test_decision_that_can_not_be_recorded_at_all_tells_so(world, autojump_clock):
    world.store.refuse = lambda batch: bool(batch.new_intents)
    async with running(world):
        passage = decide(world)
        await settled(passage)
        assert isinstance(passage.error, LedgerRefused)
        assert not world.broker.left


async def test_delivery_taken_back_by_its_sender_is_not_decided(world, autojump_clock):
    async with running(world):
        passage = Passage(a_delivery(world), world.kill.turn)
        passage.give_up(UnavailableError("gave up"))
        world.crew.decide(passage)
        await trio.sleep(5)
        assert not world.store.intents
        assert not world.broker.left


async def test_delivery_taken_back_before_the_ledger_had_it_can_be_sent_again(world, autojump_clock):
    async with running(world):
        world.crew.risk(USER)
        await trio.sleep(1)
        world.store.is_down = True
        decide(world, a_signal("SBIN"), key="other")
        await trio.sleep(1)
        passage = decide(world)
        await trio.sleep(1)
        passage.give_up(UnavailableError("gave up"))
        world.store.is_down = False
        await settled(passage)
        assert passage.error is not None
        state = world.crew.risk(USER).state
        assert state.reserved_quantity() == 10, "of the other signal alone"
        again = decide(world)
        await settled(again)
        assert again.error is None
        assert state.reserved_quantity() == 20
        await world.until(lambda: len(world.broker.left) == 2)


async def test_fault_while_deciding_ends_that_intent_alone(world, autojump_clock):
    real = world.risk_context.instruments()

    class Book:
        def get(self, exchange, symbol):
            if symbol == "SBIN":
                raise RuntimeError("bug")
            return real.get(exchange, symbol)

        def __len__(self):
            return len(real)

    world.risk_context = msgspec.structs.replace(world.risk_context, instruments=Book)
    async with running(world):
        good, bad = await settled(decide(world, a_signal("INFY"), a_signal("SBIN")))
        assert good.status is I.EXECUTING
        assert bad.status is I.FAILED
        assert bad.reason.startswith("INTERNAL_ERROR: RuntimeError")
        await world.until(lambda: len(world.broker.left) == 1)


async def test_fault_halfway_through_the_accounts_frees_the_first(autojump_clock):
    world = World(accounts=2)
    real, calls = world.crew.admit, []

    def admit(order):
        calls.append(order)
        if len(calls) == 2:
            raise MailboxFull("full")
        return real(order)

    world.crew.admit = admit
    async with running(world):
        (intent,) = await settled(decide(world))
        assert intent.status is I.FAILED
        assert not world.store.orders
        assert world.crew.risk(USER).state.reserved_quantity() == 0
        after = world.order()
        world.crew.admit = real
        world.submit(after)
        await world.until_status(after, S.OPEN)


async def test_full_ledger_fails_the_delivery_and_frees_everything(world, autojump_clock):
    async with running(world):
        await settled(decide(world, key="first"))
        append, world.ledger.append = world.ledger.append, _full
        passage = decide(world, a_signal("SBIN"))
        await settled(passage)
        world.ledger.append = append
        assert isinstance(passage.error, UnavailableError)
        (again,) = await settled(decide(world, a_signal("SBIN")))
        assert again.status is I.EXECUTING


def _full(_entry):
    raise MailboxFull("the ledger is full")


async def test_restart_waits_for_the_ledger_and_loses_no_message(world, autojump_clock):
    async with running(world) as run:
        await settled(decide(world, key="a"))
        world.store.is_down = True
        waiting = decide(world, a_signal("SBIN"), key="b")
        await run.restart_risk()
        behind = decide(world, a_signal("TCS"), key="c")
        await trio.sleep(20)
        assert not world.trips
        world.store.is_down = False
        for passage in (waiting, behind):
            (intent,) = await settled(passage)
            assert intent.status is I.EXECUTING
        await world.until(lambda: len(world.broker.left) == 3)
        await world.until(lambda: world.crew.risk(USER).state.reserved_quantity() == 30)


async def test_first_signal_while_the_ledger_is_away_does_not_block_the_user(world, autojump_clock):
    async with running(world):
        world.store.is_down = True
        passage = decide(world)
        await trio.sleep(30)
        assert not world.trips
        world.store.is_down = False
        (intent,) = await settled(passage)
        assert intent.status is I.EXECUTING


async def test_restart_rebuilds_what_limits_are_held_against(autojump_clock):
    limits = {"max_orders_per_day": 3}
    world = World(limits=limits)
    async with running(world) as run:
        for n in range(3):
            await settled(decide(world, key=f"k{n}"))
        await run.restart_risk()
        (intent,) = await settled(decide(world, key="last"))
        assert intent.status is I.REJECTED
        assert intent.reason.startswith("MAX_ORDERS_PER_DAY")
        assert world.crew.risk(USER).state.reserved_quantity() == 30


async def test_restart_concludes_intents_whose_orders_ended_meanwhile(world, autojump_clock):
    async with running(world):
        (intent,) = await settled(decide(world))
        (order,) = world.store.orders.values()
    world.store.orders[order.id] = msgspec.structs.replace(order, status=S.EXPIRED, status_message="UNPLACED: x")
    after = await crashed(world)
    async with running(after):
        after.crew.risk(USER)
        await after.until(lambda: after.intent_status(intent.id) is I.EXPIRED)


@pytest.mark.parametrize(("status", "expected"), [(I.PENDING_APPROVAL, I.PENDING_APPROVAL), (I.EXECUTING, I.FAILED)])
async def test_restart_leaves_intents_without_orders_as_they_should_be(world, autojump_clock, status, expected):
    (made,) = a_delivery(world).intents()
    intent: Intent = msgspec.structs.replace(made, status=status, expires_at=made.received_at + timedelta(seconds=60))
    world.store.intents[intent.id] = intent
    async with running(world):
        world.crew.risk(USER)
        await trio.sleep(5)
        assert world.intent_status(intent.id) is expected


async def test_prices_that_nobody_knows_hold_up_the_first_delivery_only(world, autojump_clock):
    world.price_delay_s = 30
    async with running(world):
        started = trio.current_time()
        await settled(decide(world, a_signal("NOPRICE", order_type=OrderType.MARKET, price=None), key="a"))
        assert trio.current_time() - started < 3.5
        started = trio.current_time()
        await settled(decide(world, a_signal("NOPRICE", order_type=OrderType.MARKET, price=None), key="b"))
        assert trio.current_time() - started < 0.5


async def test_fault_in_prices_does_not_lose_the_delivery(world, autojump_clock):
    async def ensure(_key):
        raise RuntimeError("bug")

    world.ensure = ensure
    async with running(world):
        (intent,) = await settled(decide(world, a_signal("NOPRICE")))
        assert intent.status in (I.EXECUTING, I.REJECTED)
        assert not world.trips


async def test_day_turned_by_the_accounts_is_not_turned_again_by_the_next_signal(world, autojump_clock):
    """Rolling positions twice would value the night's move at the price of the second time: a loss forgotten."""
    world.clock._start = datetime(2026, 11, 18, 18, 29, tzinfo=UTC)  # 23:59 IST
    async with running(world):
        risk = world.crew.risk(USER)
        held = a_position(
            quantity=10,
            buy_quantity=10,
            buy_value=Decimal(1000),
            day_buy_quantity=10,
            day_buy_value=Decimal(1000),
            last_price=Decimal(100),
        )
        risk.tell(PositionsChanged(positions=(held,)))
        await trio.sleep(1)
        await trio.sleep(100)
        rolled = a_position(
            quantity=10,
            overnight_quantity=10,
            buy_quantity=10,
            buy_value=Decimal(1000),
            close_price=Decimal(100),
            last_price=Decimal(80),
        )
        risk.tell(PositionsChanged(positions=(rolled,)))
        await trio.sleep(1)
        world.prices["NSE:INFY"] = Decimal(80)
        await settled(decide(world, a_signal("SBIN")))
        assert risk.state.day_pnl() == Decimal(-200)


async def test_crashing_risk_actor_blocks_its_user_only_after_several_tries(world, autojump_clock):
    async with running(world):
        risk = world.crew.risk(USER)
        for _ in range(20):
            risk.tell(OrderChanged(order=None))
        await world.until(lambda: world.trips)
        assert world.trips[0][0] == f"user:{USER}"


async def test_day_that_turned_is_seen_by_the_next_signal(world, autojump_clock):
    world.clock._start = datetime(2026, 11, 18, 18, 29, tzinfo=UTC)  # 23:59 IST
    async with running(world):
        risk = world.crew.risk(USER)
        held = a_position(
            quantity=10,
            buy_quantity=10,
            buy_value=Decimal(1000),
            day_buy_quantity=10,
            day_buy_value=Decimal(1000),
            last_price=Decimal(80),
        )
        risk.tell(PositionsChanged(positions=(held,)))
        await trio.sleep(1)
        assert risk.state.day_pnl() == Decimal(-200)
        await trio.sleep(100)
        await settled(decide(world, a_signal("SBIN")))
        assert risk.state.day_pnl() == 0, "yesterday's loss is not today's"


async def test_restart_does_not_read_the_ledger_before_it_has_caught_up(world, autojump_clock):
    async with running(world) as run:
        await settled(decide(world, key="warm"))
        world.store.is_stuck = True
        passage = decide(world, a_signal("SBIN"))
        await trio.sleep(1)
        await run.restart_risk()
        await trio.sleep(45)
        world.store.is_stuck = False
        (intent,) = await settled(passage)
        await world.until(lambda: len(world.broker.rows) == 2)
        world.broker.fill(max(world.broker.rows))
        await world.until(lambda: world.intent_status(intent.id) is I.EXECUTED)
