"""Orders of unknown outcome: found by tag, proven absent, parked; never sent again."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import trio

from engine.broker.base import Accepted, NotSent, RefusalCode, Refused, Unknown
from engine.domain.enums import OrderStatus, TransactionType
from engine.errors import BrokerUnavailable
from tests.support.desk import World, answer, running

S = OrderStatus
LOST = Unknown(reason="the connection was reset")


@pytest.fixture
async def world(autojump_clock):
    return World()


async def test_order_that_arrived_is_adopted_by_its_tag(world, autojump_clock):
    world.broker.answers = [answer(LOST, placed=S.OPEN)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN, timeout_s=2)
        assert world.row(order).broker_order_id in world.broker.rows
        assert len(world.broker.left) == 1


@pytest.mark.parametrize("change", [{"tag": None, "tags": ("x",)}, {}])
async def test_tag_is_found_in_either_place_and_any_case(world, autojump_clock, change):
    world.broker.answers = [answer(LOST)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.UNKNOWN)
        fields = {"tag": order.tag.lower()} if not change else {"tag": None, "tags": ("zz", order.tag)}
        world.broker.put(order, S.OPEN, **fields)
        await world.until_status(order, S.OPEN, timeout_s=20)


async def test_order_that_never_arrived_expires_as_unplaced_within_240_s(world, autojump_clock):
    world.broker.answers = [answer(LOST)]
    order = world.order()
    async with running(world):
        world.submit(order)
        sent = trio.current_time()
        await world.until_status(order, S.EXPIRED)
        assert world.message(order).startswith("UNPLACED: absent from clean order books")
        assert 180 <= trio.current_time() - sent <= 240
        assert len(world.broker.left) == 1


async def test_unknown_holds_its_symbol_until_it_is_settled_while_others_go_on(world, autojump_clock):
    world.broker.answers = [answer(LOST)]
    first = world.order()
    async with running(world):
        world.submit(first)
        await world.until_status(first, S.UNKNOWN)
        behind = world.order(deadline=world.clock.now() + timedelta(seconds=1000))
        other = world.order("SBIN")
        world.submit(behind)
        world.submit(other)
        await world.until_status(other, S.OPEN, timeout_s=2)
        await trio.sleep(60)
        assert world.status(behind) is S.PENDING
        await world.until_status(first, S.EXPIRED)
        await world.until_status(behind, S.OPEN, timeout_s=2)


async def test_busy_trading_of_other_symbols_does_not_spoil_the_proof(world, autojump_clock):
    """Ids that the broker confirms while the book is being read cannot be in it."""
    world.broker.read_latency_s = 0.3
    world.broker.answers = [answer(LOST)]
    lost = world.order("INFY")
    async with running(world):
        world.submit(lost)
        await world.until_status(lost, S.UNKNOWN)
        sent = trio.current_time()
        while world.status(lost) is S.UNKNOWN and trio.current_time() - sent < 300:
            world.submit(world.order(f"X{int(trio.current_time() * 10)}"))
            await trio.sleep(0.4)
        assert world.status(lost) is S.EXPIRED
        assert trio.current_time() - sent <= 240


async def test_unreadable_book_parks_the_order_and_raises_an_alert(world, autojump_clock):
    world.broker.answers = [answer(LOST)]
    order = world.order()
    async with running(world):
        world.broker.book_down = BrokerUnavailable("500")
        world.submit(order)
        await world.until(lambda: order.id in world.store.orders and world.message(order).startswith("PARKED"))
        assert world.status(order) is S.UNKNOWN
        assert [subject for subject, _ in world.alerts] == [f"order:{order.id}"]
        await trio.sleep(300)
        assert len(world.alerts) == 1, "one alert for one order"
        world.broker.book_down = None
        world.broker.put(order, S.OPEN)
        await world.until_status(order, S.OPEN)
        assert len(world.broker.left) == 1


async def test_parked_order_expires_once_the_book_is_clean_again(world, autojump_clock):
    world.broker.answers = [answer(LOST)]
    order = world.order()
    async with running(world):
        world.broker.book_down = BrokerUnavailable("500")
        world.submit(order)
        await trio.sleep(250)
        world.broker.book_down = None
        await world.until_status(order, S.EXPIRED, timeout_s=60)


async def test_book_that_lacks_a_known_order_is_no_evidence(world, autojump_clock):
    known, lost = world.order("SBIN"), world.order("INFY")
    async with running(world):
        world.submit(known)
        await world.until_status(known, S.OPEN)
        world.broker.hide = {world.row(known).broker_order_id}
        world.broker.answers = [answer(LOST)]
        world.submit(lost)
        await trio.sleep(400)
        assert world.status(lost) is S.UNKNOWN
        world.broker.hide = set()
        await world.until_status(lost, S.EXPIRED, timeout_s=60)


async def test_yesterdays_rows_leaving_the_book_do_not_spoil_todays_proof(world, autojump_clock):
    stranger = world.order("OLD")
    yesterday = world.clock.now() - timedelta(days=1)
    broker_id = world.broker.put(stranger, S.COMPLETE, tag=None, order_timestamp=yesterday)
    first, lost = world.order("SBIN"), world.order("INFY")
    async with running(world):
        world.submit(first)
        await world.until_status(first, S.OPEN)
        world.broker.hide = {broker_id}
        world.broker.answers = [answer(LOST)]
        world.submit(lost)
        await world.until_status(lost, S.EXPIRED, timeout_s=240)


async def test_late_acceptance_within_the_wait_is_adopted(world, autojump_clock):
    world.broker.answers = [answer(LOST)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await trio.sleep(83)
        world.broker.put(order, S.OPEN)
        await world.until_status(order, S.OPEN, timeout_s=10)
        assert not world.broker.cancels


async def test_late_acceptance_after_the_wait_is_cancelled_and_told(world, autojump_clock):
    world.broker.answers = [answer(LOST)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.EXPIRED)
        await trio.sleep(300)
        broker_id = world.broker.put(order, S.OPEN)
        await world.until(lambda: world.broker.rows[broker_id].status is S.CANCELLED, timeout_s=60)
        assert world.broker.cancels == [broker_id]
        assert world.status(order) is S.EXPIRED
        assert any(text.startswith("LATE_FOUND") for _, text in world.alerts)
        events = [event for event in world.store.order_events if event.order_id == order.id]
        assert any(event.anomaly and event.detail.startswith("LATE_FOUND") for event in events)


async def test_late_found_order_is_cancelled_again_until_it_is_gone(world, autojump_clock):
    world.broker.answers = [answer(LOST)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.EXPIRED)
        world.broker.cancel_answer = NotSent(reason="refused")
        broker_id = world.broker.put(order, S.OPEN)
        world.submit(world.order("SBIN"))
        await world.until(lambda: len(world.broker.cancels) >= 2, timeout_s=60)
        world.broker.cancel_answer = None
        await world.until(lambda: world.broker.rows[broker_id].status is S.CANCELLED, timeout_s=60)


async def test_late_found_order_that_filled_is_booked(world, autojump_clock):
    world.broker.answers = [answer(LOST)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.EXPIRED)
        broker_id = world.broker.put(order, S.OPEN)
        world.broker.fill(broker_id)
        await world.until_status(order, S.COMPLETE, timeout_s=60)
        assert world.held() == 10


async def test_refused_order_that_works_all_the_same_is_cancelled(world, autojump_clock):
    refused = Refused(code=RefusalCode.OTHER, message="no", status=400)
    world.broker.answers = [answer(refused, placed=S.OPEN, after_s=0.0)]
    world.broker.read_latency_s = 0.0
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.REJECTED)
        world.submit(world.order("SBIN"))
        await world.until(lambda: len(world.broker.cancels) == 1, timeout_s=10)


async def test_book_overtaking_the_answer_settles_it_once(world, autojump_clock):
    async def slow_answer(broker, order, gate):
        broker.passes(order, gate)
        broker_id = broker.put(order, S.OPEN)
        await trio.sleep(3)
        return Accepted(broker_order_id=broker_id)

    world.broker.answers = [slow_answer]
    order, other = world.order(), world.order("SBIN")
    async with running(world):
        world.submit(order)
        world.submit(other)
        await world.until_status(order, S.OPEN, timeout_s=2)
        await trio.sleep(5)
        assert world.status(order) is S.OPEN


@pytest.mark.parametrize(
    "late", [LOST, Refused(code=RefusalCode.OTHER, message="no", status=400), NotSent(reason="closed")]
)
async def test_answer_against_an_order_that_the_book_has_changes_nothing(world, autojump_clock, late):
    world.broker.answers = [answer(late, placed=S.OPEN, after_s=3)]
    order, other, behind = world.order(), world.order("SBIN"), world.order()
    async with running(world):
        for each in (order, other, behind):
            world.submit(each)
        await world.until_status(order, S.OPEN, timeout_s=2)
        await world.until_status(behind, S.OPEN, timeout_s=10)
        assert world.status(order) is S.OPEN
        assert [o.id for o in world.broker.left].count(order.id) == 1


async def test_answer_after_the_order_has_filled_and_was_closed_changes_nothing(world, autojump_clock):
    """The books have dropped it: the late answer must not bring it back, nor its fills a second time."""

    async def filled_first(broker, order, gate):
        broker.passes(order, gate)
        broker_id = broker.put(order, S.OPEN)
        broker.fill(broker_id)
        await trio.sleep(3)
        return Accepted(broker_order_id=broker_id)

    world.broker.answers = [filled_first]
    order, other, behind = world.order(), world.order("SBIN"), world.order()
    async with running(world):
        for each in (order, other, behind):
            world.submit(each)
        await world.until_status(order, S.COMPLETE, timeout_s=2)
        await world.until_status(behind, S.OPEN, timeout_s=10)
        await trio.sleep(5)
        assert world.status(order) is S.COMPLETE
        assert world.held() == 10


async def test_unknown_answer_after_the_order_was_closed_raises_no_doubt(world, autojump_clock):
    async def filled_then_lost(broker, order, gate):
        broker.passes(order, gate)
        broker.fill(broker.put(order, S.OPEN))
        await trio.sleep(3)
        return LOST

    world.broker.answers = [filled_then_lost]
    order, other = world.order(), world.order("SBIN")
    async with running(world):
        world.submit(order)
        world.submit(other)
        await trio.sleep(10)
        assert world.status(order) is S.COMPLETE
        assert world.held() == 10


async def test_row_in_words_that_nobody_knows_counts_as_found(world, autojump_clock):
    world.broker.answers = [answer(LOST)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.UNKNOWN)
        world.broker.put(order, S.UNKNOWN, raw_status="NEWFANGLED")
        await world.until_status(order, S.SUBMITTED, timeout_s=20)
        await trio.sleep(400)
        assert world.status(order) is S.SUBMITTED


async def test_second_row_of_one_tag_is_cancelled_and_does_not_stop_the_account(world, autojump_clock):
    order, other = world.order(), world.order("SBIN")
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        twin = world.broker.put(order, S.OPEN)
        await world.until(lambda: world.broker.rows[twin].status is S.CANCELLED, timeout_s=20)
        assert world.broker.rows[world.row(order).broker_order_id].status is S.OPEN
        world.submit(other)
        await world.until_status(other, S.OPEN)
        assert not world.trips


async def test_slices_of_one_order_are_left_alone(world, autojump_clock):
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        world.broker.put(order, S.OPEN, quantity=4)
        await trio.sleep(20)
        assert not world.broker.cancels


async def test_unknown_order_is_not_proven_absent_across_midnight(world, autojump_clock):
    world.clock._start = datetime(2026, 11, 18, 18, 28, tzinfo=UTC)  # 23:58 IST
    world.broker.answers = [answer(LOST)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await trio.sleep(600)
        assert world.status(order) is S.UNKNOWN
        assert world.message(order).startswith("PARKED")


async def test_working_order_of_yesterday_that_the_new_book_lacks_expires(world, autojump_clock):
    world.clock._start = datetime(2026, 11, 18, 18, 28, tzinfo=UTC)
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        await trio.sleep(180)
        world.crew.wake()
        assert world.status(order) is S.OPEN, "as long as the broker shows it"
        world.broker.hide = {world.row(order).broker_order_id}
        await world.until_status(order, S.EXPIRED, timeout_s=60)
        assert world.message(order).startswith("DAY_ENDED")


async def test_working_order_of_today_that_one_book_lacks_stays(world, autojump_clock):
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        world.broker.hide = {world.row(order).broker_order_id}
        await trio.sleep(60)
        assert world.status(order) is S.OPEN


async def test_idle_account_reads_the_order_book_for_reconciliation_only(world, autojump_clock):
    order, sale = world.order(), world.order(transaction_type=TransactionType.SELL)
    async with running(world):
        for each in (order, sale):
            world.submit(each)
            await world.until_status(each, S.OPEN)
            world.broker.fill(world.row(each).broker_order_id)
            await world.until_status(each, S.COMPLETE)
        await trio.sleep(10)
        reads = world.broker.reads
        await trio.sleep(100)
        assert 8 <= world.broker.reads - reads <= 11
        assert not world.executor.desk.orders


async def test_orders_that_never_left_are_not_kept(world, autojump_clock):
    async with running(world):
        world.broker.answers = [answer(LOST)]
        world.submit(world.order())
        for _ in range(200):
            world.submit(world.order(deadline=world.clock.now() + timedelta(seconds=1)))
        await trio.sleep(5)
        assert len(world.executor.desk.orders) == 1
        assert len(world.executor.queue) == 0


async def test_answer_with_another_id_than_the_book_keeps_the_books_and_tells(world, autojump_clock):
    async def odd(broker, order, gate):
        broker.passes(order, gate)
        broker.put(order, S.OPEN)
        await trio.sleep(3)
        return Accepted(broker_order_id="999999999")

    world.broker.answers = [odd]
    order, other = world.order(), world.order("SBIN")
    async with running(world):
        world.submit(order)
        world.submit(other)
        await trio.sleep(6)
        assert world.status(order) is S.OPEN
        assert world.row(order).broker_order_id in world.broker.rows
        assert any("SECOND_AT_BROKER" in text for _, text in world.alerts)
        assert not world.trips


async def test_lost_lease_stops_looking_too(world, autojump_clock):
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        world.lease = False
        await trio.sleep(1)
        reads = world.broker.reads
        await trio.sleep(20)
        assert world.broker.reads == reads
        world.context = msgspec.structs.replace(world.context)
        world.lease = True
        world.broker.fill(world.row(order).broker_order_id)
        await world.until_status(order, S.COMPLETE, timeout_s=10)
