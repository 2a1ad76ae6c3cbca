"""The call budget of a Zerodha account: nothing over its limits, exits before cancels before entries, no dead end."""

import contextlib
from datetime import timedelta
from decimal import Decimal
from itertools import count
from uuid import UUID

import msgspec
import pytest
import trio

from engine.actors.flatten_file import FlattenFile
from engine.actors.intake import Passage
from engine.actors.ledger_entry import LedgerEntry
from engine.broker.base import NotSent, RefusalCode, Refused
from engine.domain.enums import OrderStatus, TransactionType
from engine.domain.flatten import Demand, Stage
from engine.errors import EngineError, MailboxFull, OrderExecutionError, UnavailableError
from engine.runtime.mailbox import Mailbox, Overflow
from tests.support.desk import World, a_delivery, accept, answer, crashed, running
from tests.support.trade import ACCOUNT, a_position

S = OrderStatus
SELL = TransactionType.SELL
OTHER = UUID(int=ACCOUNT.int + 1000)
BUSY = Refused(code=RefusalCode.RATE_LIMITED, message="Too many requests", status=429, rate_limited=True)
CAPPED = Refused(
    code=RefusalCode.ORDER_CAP, message="Maximum allowed order requests exceeded.", status=429, rate_limited=True
)


@pytest.fixture
async def world(autojump_clock):
    return World()


def most_within(times, span=1.0):
    return max(sum(start <= at < start + span for at in times) for start in times)


def calls(*brokers):
    return sorted(at for broker in brokers for at in [*broker.times, *broker.cancel_times])


def hold(world, symbol="INFY", quantity=10, account=ACCOUNT):
    """The account holds *quantity* of *symbol*."""
    position = a_position(
        account_id=account,
        symbol=symbol,
        quantity=quantity,
        buy_quantity=quantity,
        buy_value=Decimal(quantity * 100),
    )
    world.store.positions[position.key] = (position, world.clock.now().date())
    world.brokers[account].overnight[symbol, "MIS"] = quantity
    desk = world.crew.executor(account).desk
    desk.holdings.positions[position.key] = position
    desk._stir((position.exchange, position.symbol))


def symbols(world):
    return [order.symbol for order in world.broker.left]


async def test_exit_goes_before_entries_that_wait_for_the_budget(world, autojump_clock):
    async with running(world):
        hold(world, "SBIN")
        entries = [world.order(f"E{n:02}") for n in range(40)]
        for order in entries:
            world.submit(order)
        await world.until(lambda: len(world.broker.left) >= 16)
        out = world.order("SBIN", transaction_type=SELL)
        world.submit(out)
        await world.until_status(out, S.OPEN)
        assert len(world.broker.left) < 20, "it did not wait for its turn among the entries"
        for order in entries:
            await world.until_status(order, S.OPEN)
        assert most_within(calls(world.broker)) <= 10


async def test_orders_that_become_exits_while_they_wait_go_first(world, autojump_clock):
    world.broker.latency_s = 0.3
    async with running(world):
        entries = [world.order(f"E{n:02}") for n in range(30)]
        outs = [world.order(f"X{n:02}", transaction_type=SELL) for n in range(12)]
        for order in [*entries, *outs]:
            world.submit(order)
        await world.until(lambda: len(world.broker.left) >= 8)
        for order in outs:
            hold(world, order.symbol)
        for order in outs:
            await world.until_status(order, S.OPEN)
        assert all(world.status(order) is S.PENDING for order in entries[-8:])
        assert all(symbol.startswith("X") for symbol in symbols(world)[8:20])
        for order in entries:
            await world.until_status(order, S.OPEN)


async def test_exit_never_overtakes_an_order_of_its_own_instrument(world, autojump_clock):
    async with running(world):
        hold(world, "LAST", quantity=10)
        entries = [world.order(f"E{n:02}") for n in range(20)]
        more = world.order("LAST")
        out = world.order("LAST", transaction_type=SELL)
        for order in [*entries, more, out]:
            world.submit(order)
        await world.until_status(out, S.OPEN)
        assert [o.id for o in world.broker.left if o.symbol == "LAST"] == [more.id, out.id]


async def test_cancels_keep_within_the_limits_and_go_before_entries(world, autojump_clock):
    async with running(world):
        working = [world.order(f"W{n:02}") for n in range(40)]
        for order in working:
            world.submit(order)
        for order in working:
            await world.until_status(order, S.OPEN)
        entries = [world.order(f"E{n:02}") for n in range(20)]
        async with trio.open_nursery() as nursery:
            for order in working:
                nursery.start_soon(lambda o=order: world.executor.cancel(o.id, by="me"))
            for order in entries:
                world.submit(order)
            await world.until(lambda: len(world.broker.cancels) == 40)
            went = len(world.broker.left) - 40
            # in the seconds that the cancels take, one entry every 3 s so that they do not starve
            assert 1 <= went <= 3
        for order in entries:
            await world.until_status(order, S.OPEN)
        assert all(world.status(order) is S.CANCELLED for order in working)
        assert most_within(calls(world.broker)) <= 10


async def test_cancel_without_a_call_in_time_is_not_sent(autojump_clock):
    world = World(orders_per_second=1, orders_per_minute=1)
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        with pytest.raises(OrderExecutionError, match="ORDER_BUDGET"):
            await world.executor.cancel(order.id, by="me")
        assert not world.broker.cancels


async def test_orders_held_up_by_the_ledger_do_not_leave_in_one_burst(world, autojump_clock):
    async with running(world):
        world.store.delay_s = 3.0
        orders = [world.order(f"E{n:02}") for n in range(40)]
        for order in orders:
            world.submit(order)
            await trio.sleep(0.1)
        world.store.delay_s = 0.001
        for order in orders:
            await world.until_status(order, S.OPEN)
        assert most_within(calls(world.broker)) <= 10


async def test_orders_without_a_connection_do_not_leave_in_one_burst_when_it_is_back(world, autojump_clock):
    back_at = trio.current_time() + 6

    async def no_way(broker, order, gate):
        await trio.lowlevel.checkpoint()
        if trio.current_time() < back_at:
            return NotSent(reason="connection refused")
        return await accept(broker, order, gate)

    world.broker.place = lambda order, gate: no_way(world.broker, order, gate)
    async with running(world):
        orders = [world.order(f"E{number:02}") for number in range(30)]
        for order in orders:
            world.submit(order)
            await trio.sleep(0.05)
        await world.until(lambda: all(world.status(order) in (S.OPEN, S.FAILED) for order in orders))
        assert len(world.broker.left) > 20
        assert most_within(calls(world.broker)) <= 10


async def test_two_accounts_of_one_login_share_a_budget(autojump_clock):
    world = World(accounts=2)
    world.context = msgspec.structs.replace(world.context, pacer_key=lambda _account: "kite:AB1234")
    first, second = world.brokers.values()
    async with running(world):
        for number in range(20):
            world.submit(world.order(f"E{number:02}"))
            world.submit(world.order(f"E{number:02}", account_id=OTHER))
        await world.until(lambda: len(first.left) == len(second.left) == 20)
        assert most_within(calls(first, second)) <= 10
        view = world.executor.budget()
        assert set(view.accounts) == {ACCOUNT, OTHER}
        assert view.usage.day == 40
        assert view.needed_to_flatten == 40


async def test_exit_of_one_account_goes_before_entries_of_another_on_the_same_login(autojump_clock):
    world = World(accounts=2)
    world.context = msgspec.structs.replace(world.context, pacer_key=lambda _account: "kite:AB1234")
    async with running(world):
        await world.until(lambda: world.crew.executor(OTHER).is_ready)
        for number in range(12):
            hold(world, f"X{number:02}", account=OTHER)
        entries = [world.order(f"E{number:02}") for number in range(40)]
        for order in entries:
            world.submit(order)
        await world.until(lambda: len(world.broker.left) >= 8)
        outs = [world.order(f"X{n:02}", transaction_type=SELL, account_id=OTHER) for n in range(12)]
        for order in outs:
            world.submit(order)
        for order in outs:
            await world.until_status(order, S.OPEN)
        assert len(world.broker.left) <= 16
        for order in entries:
            await world.until_status(order, S.OPEN)
        assert most_within(calls(*world.brokers.values())) <= 10


async def test_login_that_becomes_known_late_takes_what_was_used_with_it(autojump_clock):
    world = World(accounts=2)
    keys = {}
    world.context = msgspec.structs.replace(world.context, pacer_key=lambda account: keys.get(account, str(account)))
    first, second = world.brokers.values()
    async with running(world):
        for number in range(8):
            world.submit(world.order(f"E{number:02}"))
            world.submit(world.order(f"E{number:02}", account_id=OTHER))
        await world.until(lambda: len(first.left) == len(second.left) == 8)
        keys |= dict.fromkeys((ACCOUNT, OTHER), "kite:AB1234")
        assert world.executor.budget().usage.day == 8
        assert world.crew.executor(OTHER).budget().usage.day == 16
        assert world.executor.budget().usage.day == 16


async def test_after_a_429_an_exit_goes_at_once_and_entries_wait(world, autojump_clock):
    world.broker.answers = [answer(BUSY)]
    async with running(world):
        for number in range(8):
            hold(world, f"X{number}")
        refused, entry = world.order(), world.order("SBIN")
        world.submit(refused)
        await world.until(lambda: bool(world.broker.left))
        await trio.sleep(1)
        asked = trio.current_time()
        world.submit(entry)
        outs = [world.order(f"X{number}", transaction_type=SELL) for number in range(8)]
        for order in outs:
            world.submit(order)
        for order in outs:
            await world.until_status(order, S.OPEN)
        assert trio.current_time() - asked < 3
        exits = [at for at, order in zip(world.broker.times, world.broker.left, strict=True) if order.symbol[0] == "X"]
        assert most_within(exits) <= 5, "at half the rate"
        assert world.status(entry) is S.PENDING
        await world.until_status(entry, S.OPEN)
        assert trio.current_time() - asked > 8


async def test_exit_refused_for_its_rate_is_tried_within_the_cool_down_after_a_look(world, autojump_clock):
    world.broker.answers = [answer(BUSY), answer(BUSY)]
    async with running(world):
        hold(world)
        out = world.order(transaction_type=SELL)
        world.submit(out)
        await world.until_status(out, S.OPEN)
        first, second, third = world.broker.times
        assert 3 <= second - first < 4
        assert 8 <= third - second < 9
        for before, after in ((first, second), (second, third)):
            assert any(before < at < after for at in world.broker.read_times)
        assert world.row(out).attempt == 3


async def test_exit_refused_for_its_rate_that_the_book_has_is_not_sent_again(world, autojump_clock):
    world.broker.answers = [answer(BUSY)]
    async with running(world):
        hold(world)
        out = world.order(transaction_type=SELL)
        world.submit(out)
        await world.until(lambda: bool(world.broker.left))
        await trio.sleep(2)
        world.broker.put(world.broker.left[0])
        await world.until_status(out, S.OPEN)
        await trio.sleep(60)
        assert len(world.broker.left) == 1


async def test_cap_of_the_minute_holds_entries_until_it_turns_and_tells_a_person(world, autojump_clock):
    world.clock.sleep(20)  # 40 s are left of the minute
    world.broker.answers = [answer(CAPPED)]
    async with running(world):
        hold(world, "SBIN")
        refused, later = world.order(), world.order("TCS")
        out = world.order("SBIN", transaction_type=SELL)
        world.submit(refused)
        await world.until(lambda: bool(world.broker.left))
        await trio.sleep(1)
        began = trio.current_time()
        for order in (later, out):
            world.submit(order)
        await world.until_status(out, S.OPEN)
        assert trio.current_time() - began < 1
        await world.until_status(later, S.OPEN)
        assert 39 <= trio.current_time() - began <= 42
        await world.until_status(refused, S.OPEN)
        (text,) = [text for subject, text in world.alerts if subject == f"account:{ACCOUNT}"]
        assert text.startswith("ORDER_CAP:")
        assert "until the minute turns" in text


async def test_cap_that_comes_again_ends_the_days_entries_by_name(world, autojump_clock):
    world.broker.answers = [answer(CAPPED)] * 9
    async with running(world):
        hold(world, "SBIN")
        world.clock.sleep(30)
        refused = world.order()
        world.submit(refused)
        await world.until_status(refused, S.FAILED)
        assert world.message(refused).startswith("ORDER_BUDGET: the broker takes no more order calls")
        later, out = world.order("TCS"), world.order("SBIN", transaction_type=SELL)
        for order in (later, out):
            world.submit(order)
        await world.until_status(later, S.FAILED)
        await world.until_status(out, S.OPEN)
        assert [text.split("; ")[1] for _, text in world.alerts] == [
            "entries wait until the minute turns",
            "entries wait until tomorrow",
        ]


async def test_entry_is_refused_when_flattening_would_not_be_paid_for_and_an_exit_goes(autojump_clock):
    world = World(orders_per_day=20)
    freeze = {"BIG": 4}
    world.context = msgspec.structs.replace(world.context, freeze_quantity=lambda _exchange, symbol: freeze.get(symbol))
    async with running(world):
        hold(world, "SBIN")
        hold(world, "BIG", quantity=50)
        first = [world.order(f"E{n}") for n in range(4)]
        for order in first:
            world.submit(order)
        # 20 calls; 14 close what is held, in slices of 4: the fourth entry's own way out is one too many
        await world.until_status(first[3], S.FAILED)
        for order in first[:3]:
            await world.until_status(order, S.OPEN)
        assert world.message(first[3]).startswith("ORDER_BUDGET: 17 of the account's 20 order calls of today are left")
        out = world.order("SBIN", transaction_type=SELL)
        world.submit(out)
        await world.until_status(out, S.OPEN)


async def test_calls_of_the_last_minute_are_counted_after_a_crash_cancels_too(autojump_clock):
    world = World(orders_per_minute=9, orders_per_second=9)
    orders = [world.order(f"E{n}") for n in range(4)]
    async with running(world):
        for order in orders:
            world.submit(order)
            await world.until_status(order, S.OPEN)
        for order in orders[:3]:
            await world.executor.cancel(order.id, by="me")
    began = calls(world.broker)[0]
    after = await crashed(world, orders_per_minute=9, orders_per_second=9)
    more = [after.order(f"F{n}", deadline=after.clock.now() + timedelta(seconds=300)) for n in range(4)]
    after.context = msgspec.structs.replace(after.context, max_age_s=600.0)
    async with running(after):
        assert after.executor.budget().usage.minute == 7
        assert after.executor.budget().usage.day == 7
        for order in more:
            after.submit(order)
        for order in more:
            await after.until_status(order, S.OPEN)
        assert calls(after.broker)[9] - began >= 60
        assert most_within(calls(after.broker), 60) <= 9


async def fill_square_offs(world):
    """The market takes every order that flattens, in a moment."""
    while True:
        await trio.sleep(0.05)
        tags = {order.tag for order in world.broker.left if order.is_square_off}
        for broker_id, row in list(world.broker.rows.items()):
            if row.tag in tags and row.status is S.OPEN:
                world.broker.fill(broker_id)


async def buy(world, symbol):
    """Buy ten, and have them in the books here and at the broker."""
    order = world.submit(world.order(symbol))
    await world.until_status(order, S.OPEN)
    world.broker.fill(world.row(order).broker_order_id)
    await world.until(lambda: world.held(symbol) == 10)


def to_close(world, symbol):
    return Demand(name="request:1", version=1, since=world.clock.now(), by="test", symbol=symbol, delivery=True)


def is_closed(world, demand):
    standing = world.executor.square_off.standing(demand)
    return standing is not None and standing.stage is Stage.DONE


async def test_storm_of_entries_keeps_no_exit_cancel_or_square_off_waiting(autojump_clock):
    world = World(orders_per_second=5)
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_square_offs, world)
        for symbol in ("HELD", "OUT"):
            await buy(world, symbol)
        works = world.submit(world.order("WORKS"))
        await world.until_status(works, S.OPEN)

        async def storm():
            number = count()
            while True:
                for _ in range(20):
                    world.submit(world.order(f"E{next(number)}"))
                await trio.sleep(0.1)

        nursery.start_soon(storm)
        await world.until(lambda: len(world.executor.queue) > 200)
        before = len(world.broker.left)
        demand = to_close(world, "HELD")
        world.executor.square_off.want(demand)
        out = world.submit(world.order("OUT", transaction_type=SELL))
        assert (await world.executor.cancel(works.id, by="me")).status is S.CANCELLED
        await world.until_status(out, S.OPEN)
        await world.until(lambda: any(order.is_square_off for order in world.broker.left))
        gone = [order.symbol for order in world.broker.left[before:]]
        # calls that entries had taken already, and one in a while so that they do not starve either
        assert sum(symbol.startswith("E") for symbol in gone) <= 6, f"exits waited behind entries: {gone}"
        assert {"OUT", "HELD"} <= set(gone)
        await world.until(lambda: is_closed(world, demand))
        assert len([order for order in world.broker.left if order.is_square_off]) == 1
        assert most_within(calls(world.broker)) <= 5
        nursery.cancel_scope.cancel()


class Unattended(Mailbox):
    """A mailbox whose actor is always busy when something is told."""

    is_waited_on = False


async def test_entries_that_fill_the_mailbox_leave_exits_a_lane(autojump_clock):
    world = World()
    world.executor.mailbox = Unattended("execution", capacity=1, overflow=Overflow.REFUSE)
    async with running(world):
        hold(world, "OUT")
        # one commit: all of them are told at the same instant
        entries = [world.submit(world.order(f"E{number}")) for number in range(3)]
        out = world.submit(world.order("OUT", transaction_type=SELL))
        await world.until_status(out, S.OPEN)
        await world.until_status(entries[0], S.OPEN)
        for order in entries[1:]:
            await world.until_status(order, S.FAILED)
            assert world.message(order).startswith("NOT_SENT: ")


async def test_entries_that_wait_for_the_store_leave_room_for_cancels_and_square_offs(
    autojump_clock, tmp_path, monkeypatch
):
    async def at_once(function, *args, **_options):
        await trio.lowlevel.checkpoint()
        return function(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    world = World()
    file = FlattenFile(tmp_path / "state" / "flatten.wal")
    world.context = msgspec.structs.replace(world.context, flatten_file=file)
    world.ledger._mailbox = Mailbox("audit", capacity=200, overflow=Overflow.REFUSE)
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_square_offs, world)
        await buy(world, "SBIN")
        works = world.submit(world.order("TCS"))
        await world.until_status(works, S.OPEN)
        await trio.sleep(5)
        world.store.is_stuck = True
        passages = [
            Passage(a_delivery(world, key=f"k{number}", body=bytes([number % 256]) * 32), world.kill.turn)
            for number in range(450)
        ]
        for passage in passages:
            world.crew.decide(passage)
        await trio.sleep(1)
        assert not world.ledger.has_room_for_entries
        assert world.ledger.mailbox.has_room
        demand = to_close(world, "SBIN")
        world.executor.square_off.want(demand)
        assert (await world.executor.cancel(works.id, by="me")).status is S.CANCELLED
        await world.until(lambda: is_closed(world, demand))
        (closing,) = [order for order in world.broker.left if order.is_square_off]
        assert [order.id for order in file.read()] == [closing.id]
        world.broker.unproven.clear()  # its row was on disk in the file
        assert not any(order.symbol == "INFY" for order in world.broker.left)
        nursery.cancel_scope.cancel()


async def test_cancel_is_asked_for_though_the_ledger_takes_no_note_of_it(world, autojump_clock):
    async with running(world):
        works = world.submit(world.order())
        await world.until_status(works, S.OPEN)

        def full(_entry):
            raise MailboxFull("scripted")

        append, world.ledger.append = world.ledger.append, full
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_quietly, world, works)
            await world.until(lambda: world.row(works).broker_order_id in world.broker.cancels)
            world.ledger.append = append
        await world.until_status(works, S.CANCELLED)


async def test_cancel_of_what_waits_is_refused_while_the_ledger_is_full_and_works_afterwards(world, autojump_clock):
    async with running(world):
        first, waits = world.submit(world.order()), world.order()
        world.broker.latency_s = 3
        world.submit(waits)
        await world.until(lambda: len(world.executor.queue) == 1)
        mailbox, world.ledger._mailbox = world.ledger._mailbox, Mailbox("full", capacity=1, overflow=Overflow.REFUSE)
        world.ledger._mailbox.tell_nowait(LedgerEntry())
        with pytest.raises(UnavailableError, match="the ledger takes no more"):
            await world.executor.cancel(waits.id, by="me")
        world.ledger._mailbox = mailbox
        assert (await world.executor.cancel(waits.id, by="me")).status is S.CANCELLED
        await world.until_status(first, S.OPEN)
        await trio.sleep(30)
        assert [order.id for order in world.broker.left] == [first.id]


async def cancel_quietly(world, order):
    with contextlib.suppress(EngineError):
        await world.executor.cancel(order.id, by="me")


async def test_cancel_all_and_square_off_work_under_a_kill_switch(autojump_clock):
    world = World()
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_square_offs, world)
        await buy(world, "HELD")
        works = world.submit(world.order("WORKS"))
        await world.until_status(works, S.OPEN)
        world.block()
        (ended,) = (await world.executor.start_cancel_all(by="me").wait()).orders
        assert (ended.problem, ended.order.id, ended.order.status) == (None, works.id, S.CANCELLED)
        demand = to_close(world, "HELD")
        world.executor.square_off.want(demand)
        await world.until(lambda: is_closed(world, demand))
        assert [order.symbol for order in world.broker.left] == ["HELD", "WORKS", "HELD"]
        assert world.broker.left[2].transaction_type is SELL
        nursery.cancel_scope.cancel()
