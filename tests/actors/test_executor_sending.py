"""The executor on its way to the wire: row first, gate last, once, and a named end for what does not go."""

from datetime import timedelta
from uuid import UUID

import msgspec
import pytest
import trio

from engine.actors.kill_gate import KillFileLook
from engine.actors.killswitch_file import KillFile
from engine.broker.base import Accepted, BrokerAuthError, NotSent, RefusalCode, Refused, Unknown
from engine.domain.enums import AccountStatus, KillState, OrderStatus
from engine.domain.killswitch import KillRecord
from engine.errors import BrokerUnavailable, MailboxFull
from tests.support.desk import World, accept, answer, not_sent, running, slow_gate
from tests.support.trade import ACCOUNT

S = OrderStatus


@pytest.fixture
async def world(autojump_clock):
    return World()


async def test_order_approved_is_sent_after_its_row_and_followed(world, autojump_clock):
    order = world.order()
    async with running(world):
        assert world.submit(order).status is S.SUBMITTING
        await world.until_status(order, S.OPEN)
        broker_id = world.row(order).broker_order_id
        world.broker.fill(broker_id)
        await world.until_status(order, S.COMPLETE)
        assert world.held() == 10
        assert next(status for oid, status, _ in world.store.log if oid == order.id) is S.SUBMITTING


async def test_order_refused_is_rejected_with_the_brokers_words(world, autojump_clock):
    world.broker.answers = [answer(Refused(code=RefusalCode.FUNDS, message="Insufficient funds", status=400))]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.REJECTED)
        assert world.message(order) == "FUNDS: Insufficient funds"


async def test_orders_of_one_symbol_go_one_by_one_in_accepted_order(world, autojump_clock):
    orders = [world.order() for _ in range(5)]
    async with running(world):
        for order in orders:
            world.submit(order)
        await world.until(lambda: len(world.broker.left) == 5, timeout_s=0.8)
        assert [o.id for o in world.broker.left] == [o.id for o in orders]


async def test_orders_of_other_symbols_overtake_a_busy_one(world, autojump_clock):
    world.broker.answers = [answer(Unknown(reason="reset"))]
    slow, behind, other = world.order("INFY"), world.order("INFY"), world.order("SBIN")
    async with running(world):
        for order in (slow, behind, other):
            world.submit(order)
        await world.until_status(other, S.SUBMITTED, S.OPEN)
        assert world.status(slow) is S.UNKNOWN
        assert world.status(behind) is S.PENDING


async def test_kill_switch_between_commit_and_gate_cancels(world, autojump_clock):
    world.broker.answers = [slow_gate(0.5)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await trio.sleep(0.2)
        world.block()
        await world.until_status(order, S.CANCELLED)
        assert world.message(order).startswith("KILL_SWITCH")
        assert not world.broker.left


async def test_kill_switch_that_a_command_has_just_written_to_the_file_cancels(world, tmp_path, autojump_clock):
    file = KillFile(tmp_path / "state" / "kill.wal")
    world.look_at_kill_file = KillFileLook(file, lambda records: [world.kill.put(each) for each in records]).look
    first, order = world.order("INFY"), world.order("SBIN")
    async with running(world):
        world.submit(first)
        await world.until_status(first, S.OPEN)
        world.store.delay_s = 0.5
        world.submit(order)
        await trio.sleep(0.2)
        # nobody but the gate looks at the file here: what a command has answered holds from then on
        file.append(
            KillRecord(
                scope="global", version=1, state=KillState.BLOCKED, reason="r", actor="cli", at=world.clock.now()
            )
        )
        await world.until_status(order, S.CANCELLED)
        assert world.message(order).startswith("KILL_SWITCH")
        assert [sent.id for sent in world.broker.left] == [first.id]


@pytest.mark.parametrize("scope", ["account", "user", "strategy"])
async def test_kill_switch_of_a_narrower_scope_stops_a_waiting_order(world, scope, autojump_clock):
    order = world.order()
    ids = {"account": order.account_id, "user": order.user_id, "strategy": order.strategy_id}
    world.store.delay_s = 0.5
    async with running(world):
        world.submit(order)
        world.block(f"{scope}:{ids[scope]}")
        await world.until_status(order, S.CANCELLED)
        assert not world.broker.left


async def test_kill_switch_cancels_what_waits_behind_a_busy_symbol_at_once(world, autojump_clock):
    world.broker.answers = [answer(Unknown(reason="reset"))]
    first, second, third = (world.order() for _ in range(3))
    async with running(world):
        for order in (first, second, third):
            world.submit(order)
        await world.until_status(first, S.UNKNOWN)
        world.block()
        await world.until_status(second, S.CANCELLED, timeout_s=2)
        await world.until_status(third, S.CANCELLED, timeout_s=2)


async def test_kill_switch_cancels_an_order_recorded_after_it_was_put_on(world, autojump_clock):
    world.broker.answers = [answer(Unknown(reason="reset"))]
    first, second = world.order(), world.order()
    async with running(world):
        world.submit(first)
        await world.until_status(first, S.UNKNOWN)
        world.store.delay_s = 1.0
        world.submit(second)
        world.block()
        await world.until_status(second, S.CANCELLED, timeout_s=5)


async def test_order_past_its_deadline_at_the_gate_expires(world, autojump_clock):
    order = world.order(deadline=world.clock.now() + timedelta(seconds=0.3))
    world.broker.answers = [slow_gate(0.6)]
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.EXPIRED)
        assert world.message(order).startswith("SIGNAL_TOO_OLD")


async def test_order_behind_a_busy_symbol_expires_at_its_deadline(world, autojump_clock):
    world.broker.answers = [answer(Unknown(reason="reset"))]
    first = world.order()
    async with running(world):
        world.submit(first)
        second = world.order(deadline=world.clock.now() + timedelta(seconds=5))
        world.submit(second)
        await world.until_status(second, S.EXPIRED, timeout_s=8)
        assert world.status(first) is S.UNKNOWN


async def test_row_committed_too_long_before_the_gate_goes_as_a_new_attempt(world, autojump_clock):
    world.broker.answers = [slow_gate(1.5), accept]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        assert world.row(order).attempt == 2
        assert world.row(order).tag != order.tag
        assert [reason for _, reason in world.broker.gated] == ["LATE: more than 1 s since the write-ahead"]


async def test_row_that_took_the_ledger_long_goes_as_a_new_attempt(world, autojump_clock):
    order = world.order()
    async with running(world):
        world.store.is_down = True
        world.submit(order)
        await trio.sleep(8)
        world.store.is_down = False
        await world.until_status(order, S.OPEN)
        assert world.row(order).attempt == 2
        assert len(world.broker.left) == 1


async def test_refused_connections_are_tried_again_under_new_tags(world, autojump_clock):
    world.broker.answers = [not_sent(), not_sent()]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        assert world.row(order).attempt == 3
        assert [o.attempt for o in world.broker.left] == [3]


async def test_connections_refused_for_good_fail_the_order(world, autojump_clock):
    world.broker.answers = [not_sent()] * 50
    order, after = world.order(), world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.FAILED)
        assert world.message(order) == "NOT_SENT: connection refused"
        world.broker.answers.clear()
        world.submit(after)
        await world.until_status(after, S.OPEN)


async def test_kill_switch_during_a_retry_cancels(world, autojump_clock):
    world.broker.answers = [not_sent()] * 50
    order = world.order()
    async with running(world):
        world.submit(order)
        await trio.sleep(0.1)
        world.block()
        await world.until_status(order, S.CANCELLED)


async def test_a_fault_while_sending_is_doubt_not_failure(world, autojump_clock):
    async def explode(broker, order, gate):
        broker.passes(order, gate)
        broker.put(order)
        raise RuntimeError("bug")

    world.broker.answers = [explode]
    order, other = world.order(), world.order("SBIN")
    async with running(world):
        world.submit(order)
        world.submit(other)
        await world.until_status(order, S.UNKNOWN, S.OPEN)
        await world.until_status(order, S.OPEN)
        await world.until_status(other, S.OPEN)
        assert not world.trips


async def test_a_broker_that_never_answers_is_doubt(world, autojump_clock):
    async def hang(broker, order, gate):
        broker.passes(order, gate)
        await trio.sleep_forever()

    world.broker.answers = [hang]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.UNKNOWN, timeout_s=60)


async def test_lease_lost_sends_nothing_and_loses_nothing(world, autojump_clock):
    first, second = world.order(), world.order()
    world.broker.answers = [answer(Accepted(broker_order_id="1"), after_s=1)]
    async with running(world):
        world.submit(first)
        await trio.sleep(0.1)
        world.submit(second)
        world.lease = False
        await trio.sleep(20)
        assert len(world.broker.left) == 1
        assert world.status(second) is S.PENDING
        world.lease = True
        await world.until_status(second, S.OPEN)


async def test_lease_lost_at_the_gate_ends_in_a_named_state_or_goes_when_it_is_back(world, autojump_clock):
    order = world.order()
    world.store.delay_s = 0.2
    async with running(world):
        world.submit(order)
        world.lease = False
        await trio.sleep(1)
        assert not world.broker.left
        world.lease = True
        await world.until_status(order, S.OPEN)
        assert world.row(order).attempt > 1


async def test_lease_lost_for_good_at_the_gate_fails_the_order(world, autojump_clock):
    order = world.order()
    world.store.delay_s = 0.2
    async with running(world):
        world.submit(order)
        world.lease = False
        await world.until_status(order, S.FAILED)
        assert world.message(order).startswith("FENCED")


async def test_account_without_a_session_fails_the_order_and_says_so(world, autojump_clock):
    world.open_error = BrokerAuthError("nobody has logged in")
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.FAILED)
        assert world.message(order).startswith("LOGIN_REQUIRED")
        assert (ACCOUNT, AccountStatus.LOGIN_REQUIRED) in world.statuses


async def test_session_is_opened_once_for_all_who_wait(world, autojump_clock):
    world.open_delay_s = 0.5
    orders = [world.order(f"S{i}") for i in range(6)]
    async with running(world):
        for order in orders:
            world.submit(order)
        await world.until(lambda: len(world.broker.left) == 6)
        assert world.opened == [ACCOUNT]


async def test_dead_session_is_opened_anew_and_the_account_comes_back(world, autojump_clock):
    dead = Refused(code=RefusalCode.TOKEN_DEAD, message="token", status=403, auth_blocked=True)
    world.broker.answers = [answer(dead)]
    order, after = world.order(), world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.REJECTED)
        assert world.statuses[-1] == (ACCOUNT, AccountStatus.LOGIN_REQUIRED)
        await world.until(lambda: world.statuses[-1] == (ACCOUNT, AccountStatus.ACTIVE), timeout_s=10)
        assert len(world.opened) == 2
        assert world.forgotten == [ACCOUNT]
        world.submit(after)
        await world.until_status(after, S.OPEN)


async def test_new_credentials_are_used_from_the_next_order_on(world, autojump_clock):
    order = world.order()
    async with running(world):
        await world.until(lambda: world.opened == [ACCOUNT])
        world.executor.reset_session()
        world.submit(order)
        await world.until_status(order, S.OPEN)
        assert len(world.opened) == 2
        assert world.broker.closed


async def test_refusal_of_the_address_blocks_the_account(world, autojump_clock):
    world.broker.answers = [answer(Refused(code=RefusalCode.STATIC_IP, message="IP not allowed", status=403))]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.REJECTED)
        assert world.statuses[-1] == (ACCOUNT, AccountStatus.ORDERS_BLOCKED)


async def test_ledger_refusing_the_approval_sends_nothing_and_frees_the_symbol(world, autojump_clock):
    bad, good = world.order(), world.order()
    world.store.refuse = lambda batch: any(o.id == bad.id for o in batch.new_orders)
    async with running(world):
        world.submit(bad)
        world.submit(good)
        await world.until_status(good, S.OPEN)
        assert [o.id for o in world.broker.left] == [good.id]
        assert bad.id not in world.executor.desk.orders


async def test_ledger_refusing_the_write_ahead_fails_the_order_and_frees_the_symbol(world, autojump_clock):
    first, bad, good = world.order(), world.order(), world.order()
    world.store.refuse = lambda batch: any(
        o.id == bad.id and o.status is S.SUBMITTING for o in [*batch.order_updates, *batch.new_orders]
    )
    async with running(world):
        for order in (first, bad, good):
            world.submit(order)
        await world.until_status(good, S.OPEN)
        assert world.status(bad) is S.FAILED
        assert world.message(bad).startswith("NOT_RECORDED")
        assert bad.id not in [o.id for o in world.broker.left]


async def test_ledger_refusing_a_new_attempt_fails_the_order(world, autojump_clock):
    world.broker.answers = [not_sent()]
    order = world.order()
    world.store.refuse = lambda batch: any(o.attempt == 2 and o.status is S.SUBMITTING for o in batch.order_updates)
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.FAILED)
        assert not world.broker.left


async def test_waiting_order_goes_only_once_the_ledger_has_it(world, autojump_clock):
    first, second = world.order(), world.order()
    async with running(world):
        world.submit(first)
        await world.until_status(first, S.OPEN)
        world.store.delay_s = 3.0
        held = world.crew.admit(second)
        assert held.status is S.SUBMITTING
        await trio.sleep(1)
        assert len(world.broker.left) == 1


async def test_order_taken_back_behind_another_never_goes(world, autojump_clock):
    first, second = world.order(), world.order()
    world.broker.answers = [answer(Accepted(broker_order_id="1"), after_s=1)]
    async with running(world):
        world.submit(first)
        waiting = world.crew.admit(second)
        assert waiting.status is S.PENDING
        await trio.sleep(3)
        assert len(world.broker.left) == 1, "not in the ledger, so not sent"
        world.crew.withdraw([waiting])
        third = world.order()
        world.submit(third)
        await world.until_status(third, S.OPEN)
        assert second.id not in [o.id for o in world.broker.left]


async def test_order_admitted_twice_is_one_order(world, autojump_clock):
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        live = world.executor.desk.orders[order.id]
        world.submit(order)  # a repeat that only the ledger knows as one
        await trio.sleep(2)
        assert world.executor.desk.orders[order.id] == live
        assert len(world.broker.left) == 1
        world.broker.fill(live.broker_order_id)
        await world.until_status(order, S.COMPLETE)


async def test_ambiguous_commit_sends_once(world, autojump_clock):
    world.store.lose_answers = 1
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        assert len(world.broker.left) == 1


async def test_ledger_down_sends_nothing_and_expires_what_waited_too_long(world, autojump_clock):
    order = world.order()
    async with running(world):
        world.store.is_down = True
        world.submit(order)
        await trio.sleep(90)
        assert not world.broker.left
        world.store.is_down = False
        await world.until_status(order, S.EXPIRED)


async def test_entries_leave_room_in_the_budget_for_a_cancel(world, autojump_clock):
    first = world.order()
    orders = [world.order(f"S{i}") for i in range(30)]
    async with running(world):
        world.submit(first)
        await world.until_status(first, S.OPEN)
        for order in orders:
            world.submit(order)
        asked = trio.current_time()
        await world.executor.cancel(first.id, by="test")
        assert world.broker.cancels == [world.row(first).broker_order_id]
        assert trio.current_time() - asked < 0.5


async def test_calls_stay_below_ten_in_any_second(world, autojump_clock):
    orders = [world.order(f"S{i}") for i in range(40)]
    async with running(world):
        for order in orders:
            world.submit(order)
        await world.until(lambda: len(world.broker.left) == 40)
        times = world.broker.times
        assert all(later - earlier > 1.0 for earlier, later in zip(times, times[10:], strict=False))


async def test_what_waits_for_the_budget_goes_before_what_comes_later(world, autojump_clock):
    orders = [world.order(f"S{i}") for i in range(20)]
    late = world.order("LATE")
    async with running(world):
        for order in orders:
            world.submit(order)
        await trio.sleep(1.15)
        world.submit(late)
        await world.until(lambda: len(world.broker.left) == 21)
        assert world.row(late).submitting_at == max(world.row(o).submitting_at for o in [*orders, late])


async def test_the_days_budget_used_up_fails_orders_at_once(autojump_clock):
    world = World(orders_per_day=6, orders_per_second=6)
    orders = [world.order(f"S{i}") for i in range(5)]
    async with running(world):
        for order in orders:
            world.submit(order)
        await world.until_status(orders[-1], S.FAILED)
        assert world.message(orders[-1]).startswith("ORDER_BUDGET: 3 of the account's 6 order calls of today are left")
        assert len(world.broker.left) == 3


async def test_draining_executor_leaves_new_orders_pending(world, autojump_clock):
    order = world.order()
    async with running(world):
        await world.crew.drain(timeout_s=5)
        world.submit(order)
        await trio.sleep(5)
        assert world.status(order) is S.PENDING
        assert not world.broker.left


async def test_drain_waits_for_orders_that_are_written_ahead(world, autojump_clock):
    world.store.delay_s = 0.5
    order = world.order()
    async with running(world):
        world.submit(order)
        assert await world.crew.drain(timeout_s=5)
        assert len(world.broker.left) == 1
        assert world.executor.desk.orders[order.id].status.is_working


async def test_drain_reaches_executors_that_come_later(world, autojump_clock):
    other = UUID(int=ACCOUNT.int + 1000)
    late = World(accounts=2)
    async with running(late):
        await late.crew.drain(timeout_s=1)
        order = late.order(account_id=other)
        late.submit(order)
        await trio.sleep(5)
        assert late.status(order) is S.PENDING


async def test_full_mailbox_of_the_risk_actor_does_not_stop_an_order(world, autojump_clock):
    def deaf(_user, _message):
        raise MailboxFull("full")

    world.context = msgspec.structs.replace(world.context, tell_risk=deaf)
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        assert not world.trips


async def test_book_that_cannot_be_read_does_not_stop_sending(world, autojump_clock):
    world.broker.book_down = BrokerUnavailable("down")
    first, second = world.order(), world.order()
    async with running(world):
        world.submit(first)
        world.submit(second)
        await world.until_status(second, S.SUBMITTED)
        assert len(world.broker.left) == 2


async def test_gate_closed_answer_of_an_unknown_kind_fails_the_order(world, autojump_clock):
    async def odd(broker, order, gate):
        await trio.lowlevel.checkpoint()
        return NotSent(reason="ODD: something else", gated=True)

    world.broker.answers = [odd]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.FAILED)
        assert world.message(order) == "ODD: something else"


async def test_row_told_twice_is_sent_once(world, autojump_clock):
    order = world.order()
    async with running(world):
        world.broker.answers = [slow_gate(0.2)]
        world.submit(order)
        await trio.sleep(0.05)
        row = world.executor.desk.orders[order.id]
        world.executor._send_soon(row, world.executor._incarnation, world.clock.boottime_ns())
        await trio.sleep(5)
        assert len(world.broker.left) == 1


async def test_row_of_an_earlier_life_is_not_sent_though_the_order_is_being_sent_anew(world, autojump_clock):
    order = world.order()
    async with running(world):
        world.store.delay_s = 1.0
        world.submit(order)
        row = world.executor.desk.orders[order.id]
        world.executor._send_soon(row, world.executor._incarnation - 1, world.clock.boottime_ns())
        await trio.sleep(0.5)
        assert not world.broker.left
        await world.until_status(order, S.OPEN)


async def test_new_order_does_not_overtake_what_waits_for_the_budget(world, autojump_clock):
    waiting, late = world.order("SBIN"), world.order("TCS")
    async with running(world):
        world.executor.queue.push(waiting.key, waiting.id, world.clock.boottime_ns() + 60_000_000_000)
        assert world.submit(late).status is S.PENDING
