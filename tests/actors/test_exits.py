"""Exits that will not be sent: a person hears of every one, and what came too late waits for that person."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest
import trio

from engine.actors.intake import Passage
from engine.broker.base import BrokerAuthError, RefusalCode, Refused, Unknown
from engine.domain.enums import AccountStatus, IntentStatus, OrderStatus, TransactionType
from engine.errors import BrokerUnavailable
from tests.support.desk import World, a_delivery, a_signal, answer, crashed, not_sent, running
from tests.support.trade import ACCOUNT, USER, a_position

S = OrderStatus
I = IntentStatus  # noqa: E741 -- as S
SELL = TransactionType.SELL
OTHER = UUID(int=ACCOUNT.int + 1000)


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


def hold(world, quantity=10, account=ACCOUNT):
    """The account holds INFY, as risk and the ledger know it."""
    position = a_position(
        account_id=account, quantity=quantity, buy_quantity=quantity, buy_value=Decimal(quantity * 100)
    )
    world.store.positions[position.key] = (position, world.clock.now().date())
    world.brokers[account].overnight["INFY", "MIS"] = quantity
    world.crew.executor(account).desk.holdings.positions[position.key] = position
    world.crew.risk(USER).state.set_position(position)


def an_exit(quantity=10, **fields):
    return a_signal(transaction_type=SELL, quantity=quantity, **fields)


def alerts(world, intent):
    return [text for subject, text in world.alerts if subject == f"intent:{intent.id}"]


async def too_old(world, *signals):
    return (await settled(decide(world, *signals, received_at=world.clock.now() - timedelta(seconds=61))))[0]


async def test_exit_too_old_at_its_turn_is_parked_and_told(world, autojump_clock):
    async with running(world):
        hold(world)
        intent = await too_old(world, an_exit())
        assert intent.status is I.EXPIRED
        assert intent.reason.startswith("PARKED: SIGNAL_TOO_OLD: 61.0 s")
        assert [(p.intent.id, p.account) for p in world.parked] == [(intent.id, None)]
        (text,) = alerts(world, intent)
        assert "SELL 10 NSE:INFY MIS on A0" in text
        assert world.store.writes[-1].args == (intent.id, None)


async def test_exit_too_old_on_one_of_two_accounts_is_parked_for_that_one_alone(autojump_clock):
    world = World(accounts=2)
    async with running(world):
        hold(world)
        intent = await too_old(world, an_exit())
        # sent again for the other one too, it would open a short there
        assert [(p.intent.id, p.account) for p in world.parked] == [(intent.id, "A0")]


@pytest.mark.parametrize("signal", [a_signal(), an_exit(11), an_exit(symbol="SBIN")], ids=["buy", "more", "other"])
async def test_signal_too_old_that_is_no_exit_is_not_parked(world, signal, autojump_clock):
    async with running(world):
        hold(world)
        intent = await too_old(world, signal)
        assert intent.reason.startswith("SIGNAL_TOO_OLD")
        assert not world.parked
        assert not alerts(world, intent)


async def test_parked_letter_of_a_decision_that_never_came_on_disk_is_not_kept(world, autojump_clock):
    async with running(world):
        hold(world)
        world.store.refuse = lambda batch: any(i.status is I.EXPIRED for i in batch.new_intents)
        (intent,) = await settled(decide(world, an_exit(), received_at=world.clock.now() - timedelta(seconds=61)))
        assert world.store.intents[intent.id].status is I.FAILED
        assert not world.store.writes
        assert alerts(world, intent) == [intent.reason]


async def test_exit_that_expires_behind_a_doubt_is_parked_once_for_its_account(world, autojump_clock):
    async with running(world):
        hold(world)
        world.broker.answers = [answer(Unknown(reason="reset"))]
        (entry,) = await settled(decide(world, a_signal(), key="k0"))
        (intent,) = await settled(decide(world, an_exit(), key="k1"))
        await world.until(lambda: world.intent_status(intent.id) is I.EXPIRED, timeout_s=70)
        assert world.store.intents[intent.id].reason.startswith("PARKED: SIGNAL_TOO_OLD")
        assert [(p.intent.id, p.account) for p in world.parked] == [(intent.id, "A0")]
        assert len(alerts(world, intent)) == 1
        last = [e for e in world.store.intent_events if e.intent_id == intent.id][-1]
        assert last.event == "EXPIRED"
        assert " s old" in last.detail
        assert world.intent_status(entry.id) is I.EXECUTING


async def test_exit_of_what_an_order_in_doubt_may_have_bought_is_parked(world, autojump_clock):
    async with running(world):
        world.broker.answers = [answer(Unknown(reason="reset"))]
        await settled(decide(world, a_signal(), key="k0"))
        (intent,) = await settled(decide(world, an_exit(), key="k1"))
        await world.until(lambda: world.intent_status(intent.id) is I.EXPIRED, timeout_s=70)
        assert world.store.intents[intent.id].reason.startswith("PARKED")


async def test_two_exits_that_expire_together_are_both_parked(world, autojump_clock):
    async with running(world):
        hold(world)
        world.broker.answers = [answer(Unknown(reason="reset"))]
        await settled(decide(world, a_signal(), key="k0"))
        pair = [(await settled(decide(world, an_exit(), key=f"k{n}")))[0] for n in (1, 2)]
        await world.until(lambda: all(world.intent_status(i.id) is I.EXPIRED for i in pair), timeout_s=70)
        assert {p.intent.id for p in world.parked} == {i.id for i in pair}


async def test_restart_between_an_orders_end_and_its_intents_parks_the_exit(world, autojump_clock):
    async with running(world):
        hold(world)
        world.broker.answers = [answer(Unknown(reason="reset"))]
        await settled(decide(world, a_signal(), key="k0"))
        (intent,) = await settled(decide(world, an_exit(), key="k1"))
        # the risk actor's part of the end never comes on disk
        world.store.refuse = lambda batch: bool(batch.intent_updates) or bool(batch.writes)
        await world.until(
            lambda: any(o.status is S.EXPIRED for o in world.store.orders.values() if o.intent_id == intent.id),
            timeout_s=70,
        )
        await trio.sleep(0.1)
        assert world.intent_status(intent.id) is I.EXECUTING
    after = await crashed(world)
    after.store.refuse = lambda _batch: False
    async with running(after):
        after.crew.risk(USER)
        await after.until(lambda: after.intent_status(intent.id) is I.EXPIRED)
        assert after.store.intents[intent.id].reason.startswith("PARKED")
        assert [(p.intent.id, p.account) for p in after.parked] == [(intent.id, "A0")]
        assert after.store.writes


async def test_exit_stopped_by_a_kill_switch_is_neither_parked_nor_told(world, autojump_clock):
    async with running(world):
        hold(world)
        world.broker.answers = [answer(Unknown(reason="reset"))]
        await settled(decide(world, a_signal(), key="k0"))
        (waits,) = await settled(decide(world, an_exit(), key="k1"))
        world.block()
        await world.until(lambda: world.intent_status(waits.id) is I.CANCELLED)
        (late,) = await settled(decide(world, an_exit(), key="k2"))
        assert late.status is I.REJECTED
        assert not world.parked
        assert not alerts(world, waits) + alerts(world, late)


async def test_exit_parked_on_one_account_leaves_the_others_and_names_the_one(autojump_clock):
    world = World(accounts=2)
    async with running(world):
        hold(world)
        hold(world, account=OTHER)
        world.broker.answers = [answer(Unknown(reason="reset"))]
        world.submit(world.order())
        (intent,) = await settled(decide(world, an_exit()))
        await world.until(lambda: bool(world.brokers[OTHER].rows))
        world.brokers[OTHER].fill(next(iter(world.brokers[OTHER].rows)))
        await world.until(lambda: world.intent_status(intent.id) is I.PARTIAL, timeout_s=90)
        assert world.store.intents[intent.id].reason.startswith("PARKED")
        assert [p.account for p in world.parked] == ["A0"]


@pytest.mark.parametrize("case", ["no_session", "no_connection", "refused", "day_used_up"])
async def test_exit_that_ends_unsent_for_a_passing_reason_is_told(case, autojump_clock):
    world = World(orders_per_day=1, orders_per_second=3) if case == "day_used_up" else World()
    async with running(world):
        hold(world)
        match case:
            case "no_session":
                world.broker.book_down = BrokerAuthError("403")
                world.executor._session.died(world.broker, "token")
                world.open_error = BrokerAuthError("nobody has logged in")
                account = world.directory.accounts[ACCOUNT]
                world.directory.put_account(msgspec.structs.replace(account, status=AccountStatus.ACTIVE))
            case "no_connection":
                world.broker.answers = [not_sent()] * 50
            case "refused":
                world.broker.answers = [answer(Refused(code=RefusalCode.FUNDS, message="no money", status=400))]
            case "day_used_up":
                await world.until(lambda: world.executor.is_ready)
                assert world.executor._turns.take_slot(urgent=True)
        (intent,) = await settled(decide(world, an_exit()))
        await world.until(lambda: world.intent_status(intent.id) is I.FAILED)
        (text,) = alerts(world, intent)
        assert text.startswith("EXIT_NOT_DONE: SELL 10 NSE:INFY MIS on A0: ")
        assert not world.parked


async def test_exit_that_was_never_placed_is_told(world, autojump_clock):
    async with running(world):
        hold(world)
        world.broker.answers = [answer(Unknown(reason="reset"))]
        (intent,) = await settled(decide(world, an_exit()))
        await world.until(lambda: world.intent_status(intent.id) is I.EXPIRED)
        assert world.store.intents[intent.id].reason.startswith("UNPLACED")
        assert len(alerts(world, intent)) == 1
        assert not world.parked


async def test_exit_refused_at_the_decision_is_told(world, autojump_clock):
    async with running(world):
        hold(world)
        account = world.directory.accounts[ACCOUNT]
        world.directory.put_account(msgspec.structs.replace(account, status=AccountStatus.LOGIN_REQUIRED))
        (intent,) = await settled(decide(world, an_exit()))
        assert intent.status is I.REJECTED
        assert "LOGIN_REQUIRED" in alerts(world, intent)[0]


async def test_exit_left_out_on_one_account_is_told_though_the_others_go(autojump_clock):
    world = World(accounts=2)
    async with running(world):
        hold(world)
        hold(world, account=OTHER)
        account = world.directory.accounts[OTHER]
        world.directory.put_account(msgspec.structs.replace(account, status=AccountStatus.ORDERS_BLOCKED))
        (intent,) = await settled(decide(world, an_exit()))
        assert intent.status is I.EXECUTING
        (text,) = alerts(world, intent)
        assert "on A1" in text


async def test_entry_refused_at_the_decision_tells_nobody(autojump_clock):
    world = World(limits={"max_order_value": Decimal(500)})
    async with running(world):
        (intent,) = await settled(decide(world))
        assert intent.status is I.REJECTED
        assert not world.alerts


async def test_clock_suspect_rejects_entries_and_lets_exits_go(world, autojump_clock):
    async with running(world):
        hold(world)
        world.suspect = "set by +3600.0 s"
        (entry,) = await settled(decide(world, a_signal("SBIN"), key="k1"))
        assert entry.status is I.REJECTED
        assert entry.reason.startswith("CLOCK_SUSPECT: set by +3600.0 s")
        (leave,) = await settled(decide(world, an_exit(), key="k2"))
        assert leave.status is I.EXECUTING
        await world.until(lambda: len(world.broker.left) == 1)


async def test_signal_from_ahead_of_a_clock_set_back_is_not_executed(world, autojump_clock):
    async with running(world):
        (intent,) = await settled(decide(world, received_at=world.clock.now() + timedelta(seconds=3600)))
        assert intent.status is I.EXPIRED
        assert "its age cannot be told" in intent.reason


async def test_book_that_cannot_be_read_does_not_make_an_exit_wait_for_ever(world, autojump_clock):
    async with running(world):
        hold(world)
        world.broker.book_down = BrokerUnavailable("502")
        (intent,) = await settled(decide(world, an_exit()))
        await world.until(lambda: len(world.broker.left) == 1)
        assert world.intent_status(intent.id) is I.EXECUTING
