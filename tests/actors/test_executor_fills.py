"""Fills and positions: each trade once, none lost, none invented; and cancels that race them."""

from decimal import Decimal
from uuid import uuid4

import msgspec
import pytest
import trio

from engine.broker.base import BrokerAuthError, BrokerPositions, NotSent, RefusalCode, Refused, Unknown
from engine.broker.values import BrokerPosition
from engine.domain.enums import OrderStatus, TransactionType
from engine.domain.position import average_price
from engine.errors import BrokerUnavailable, ConflictError, NotFoundError, OrderExecutionError, UnavailableError
from tests.support.desk import World, answer, running

S = OrderStatus


@pytest.fixture
async def world(autojump_clock):
    return World()


async def open_order(world, **fields):
    order = world.order(**fields)
    world.submit(order)
    await world.until_status(order, S.OPEN)
    return order, world.row(order).broker_order_id


def position(world, symbol="INFY"):
    return next(p for p, _ in world.store.positions.values() if p.symbol == symbol)


async def test_partial_fills_add_up_each_trade_once(world, autojump_clock):
    async with running(world):
        order, broker_id = await open_order(world)
        world.broker.fill(broker_id, 3, "100")
        await world.until_status(order, S.PARTIALLY_FILLED)
        world.broker.fill(broker_id, 7, "110")
        await world.until_status(order, S.COMPLETE)
        assert world.held() == 10
        assert len(world.store.fills) == 2
        assert average_price(position(world)) == Decimal(107)


async def test_position_is_in_the_ledger_before_the_order_counts_as_filled(world, autojump_clock):
    async with running(world):
        order, broker_id = await open_order(world)
        world.broker.change(broker_id, S.COMPLETE, filled=10)
        await trio.sleep(0.5)
        assert world.status(order) is S.OPEN, "no trade shows it yet"
        assert world.held() == 0
        world.broker.trade(broker_id, 10)
        await world.until_status(order, S.COMPLETE)
        assert world.held() == 10


async def test_look_with_much_news_takes_it_instrument_by_instrument_and_lets_others_work_between(
    world, autojump_clock
):
    async with running(world):
        placed = [await open_order(world, symbol=symbol) for _ in range(3) for symbol in ("INFY", "SBIN", "TCS")]
        for _, broker_id in placed:
            world.broker.fill(broker_id, 10, "100")
        await world.until(lambda: all(world.status(order) is S.COMPLETE for order, _ in placed))
        assert [world.held(symbol) for symbol in ("INFY", "SBIN", "TCS")] == [30, 30, 30]
        done = {(world.row(order).symbol, world.row(order).updated_at) for order, _ in placed}
        assert len(done) == 3, "one instrument's orders change in one instant"
        assert len({at for _, at in done}) > 1, "others work between two instruments"


async def test_fill_that_no_trade_ever_shows_is_booked_at_the_average(world, autojump_clock):
    async with running(world):
        order, broker_id = await open_order(world)
        world.broker.change(broker_id, S.COMPLETE, filled=10, avg="101.5")
        await world.until_status(order, S.COMPLETE, timeout_s=30)
        assert world.held() == 10
        (fill,) = world.store.fills.values()
        assert fill.synthetic
        assert fill.price == Decimal("101.5")


async def test_stand_in_after_a_real_part_is_priced_so_that_the_cash_adds_up(world, autojump_clock):
    async with running(world):
        order, broker_id = await open_order(world)
        world.broker.fill(broker_id, 4, "100")
        await world.until_status(order, S.PARTIALLY_FILLED)
        world.broker.change(broker_id, S.COMPLETE, filled=10, avg="103")
        await world.until_status(order, S.COMPLETE, timeout_s=30)
        assert position(world).buy_value == Decimal(1030)


async def test_trade_that_comes_later_takes_the_place_of_its_stand_in(world, autojump_clock):
    async with running(world):
        order, broker_id = await open_order(world, quantity=20)
        world.broker.change(broker_id, S.OPEN, filled=10, avg="101")
        await world.until_status(order, S.PARTIALLY_FILLED, timeout_s=30)
        assert world.held() == 10
        world.broker.trade(broker_id, 10, "101.2", trade_id="late")
        world.broker.trade(broker_id, 10, "102", trade_id="next")
        world.broker.change(broker_id, S.COMPLETE, filled=20, avg="101.6")
        await world.until_status(order, S.COMPLETE)
        assert world.held() == 20
        assert position(world).buy_value == Decimal("2032.0")
        assert sorted(f.trade_id for f in world.store.fills.values()) == ["late", "next"]


async def test_trade_that_covers_part_of_a_stand_in_leaves_the_rest_standing(world, autojump_clock):
    async with running(world):
        order, broker_id = await open_order(world, quantity=20)
        world.broker.change(broker_id, S.OPEN, filled=10, avg="100")
        await world.until_status(order, S.PARTIALLY_FILLED, timeout_s=30)
        world.broker.trade(broker_id, 4, "103", trade_id="a")
        world.broker.change(broker_id, S.OPEN, filled=11, avg="100")
        await trio.sleep(0.5)
        world.broker.trade(broker_id, 1, "100", trade_id="b")
        await trio.sleep(8)
        assert world.held() == sum(f.quantity for f in world.store.fills.values())
        assert world.held() >= 10
        assert position(world).buy_value == sum(f.quantity * f.price for f in world.store.fills.values())
        assert order.id in world.executor.desk.orders


async def test_trades_that_cannot_be_read_do_not_stop_the_book(world, autojump_clock):
    world.broker.trades_down = BrokerUnavailable("500")
    async with running(world):
        order, broker_id = await open_order(world)
        world.broker.change(broker_id, S.COMPLETE, filled=10)
        other = world.order("SBIN")
        world.submit(other)
        await world.until_status(other, S.OPEN, timeout_s=5)
        await world.until_status(order, S.COMPLETE, timeout_s=30)
        assert world.held() == 10


async def test_fill_without_a_price_waits_for_one(world, autojump_clock):
    async with running(world):
        order, broker_id = await open_order(world)
        world.broker.change(broker_id, S.COMPLETE, filled=10, avg="0")
        await trio.sleep(8)
        assert world.held() == 0
        world.broker.change(broker_id, S.COMPLETE, filled=10, avg="99")
        await world.until_status(order, S.COMPLETE, timeout_s=30)
        assert position(world).buy_value == Decimal(990)


async def test_fill_of_an_order_in_doubt_finds_it_and_frees_its_symbol(world, autojump_clock):
    world.broker.answers = [answer(Unknown(reason="reset"))]
    order, behind = world.order(), world.order()
    async with running(world):
        world.submit(order)
        world.submit(behind)
        await world.until_status(order, S.UNKNOWN)
        broker_id = world.broker.put(order, S.OPEN)
        world.broker.change(broker_id, S.COMPLETE, filled=10)
        await world.until_status(behind, S.OPEN, timeout_s=20)
        await world.until_status(order, S.COMPLETE, timeout_s=30)
        assert world.held() == 10


async def test_trade_in_words_that_nobody_knows_is_stood_in_for(world, autojump_clock):
    async with running(world):
        order, broker_id = await open_order(world)
        world.broker.trade(broker_id, 10)
        world.broker.shown_trades[0] = msgspec.structs.replace(world.broker.shown_trades[0], product="ODD")
        world.broker.change(broker_id, S.COMPLETE, filled=10)
        await world.until_status(order, S.COMPLETE, timeout_s=30)
        assert world.held() == 10


async def test_sale_makes_the_position_flat(world, autojump_clock):
    async with running(world):
        order, broker_id = await open_order(world)
        world.broker.fill(broker_id)
        await world.until_status(order, S.COMPLETE)
        sale, sale_id = await open_order(world, transaction_type=TransactionType.SELL)
        world.broker.fill(sale_id, price="110")
        await world.until_status(sale, S.COMPLETE)
        assert world.held() == 0


async def test_positions_are_marked_at_the_brokers_prices(world, autojump_clock):
    async with running(world):
        order, broker_id = await open_order(world)
        world.broker.fill(broker_id)
        await world.until_status(order, S.COMPLETE)
        row = BrokerPosition(exchange="NSE", symbol="INFY", product="MIS", quantity=999, last_price=Decimal(123))
        world.broker.position_rows = (row,)
        await world.until(lambda: position(world).last_price == Decimal(123), timeout_s=10)
        assert world.held() == 10, "quantities are not believed"
        assert BrokerPositions(net=(row,)).net


async def test_cancel_of_an_open_order_returns_it_cancelled(world, autojump_clock):
    async with running(world):
        order, broker_id = await open_order(world)
        after = await world.executor.cancel(order.id, by="user:1")
        assert after.status is S.CANCELLED
        assert world.broker.cancels == [broker_id]
        await world.until_status(order, S.CANCELLED)
        assert any("cancel requested by user:1" in e.detail for e in world.store.order_events)


async def test_cancel_of_a_waiting_order_never_reaches_the_broker(world, autojump_clock):
    world.broker.answers = [answer(Unknown(reason="reset"))]
    first, second, third = (world.order() for _ in range(3))
    async with running(world):
        for order in (first, second, third):
            world.submit(order)
        await world.until_status(second, S.PENDING)
        after = await world.executor.cancel(second.id, by="me")
        assert after.status is S.CANCELLED
        await world.until_status(second, S.CANCELLED)
        world.broker.put(first, S.OPEN)
        await world.until_status(third, S.OPEN)
        assert second.id not in [o.id for o in world.broker.left]


async def test_cancel_that_loses_the_race_returns_the_filled_order(world, autojump_clock):
    async with running(world):
        order, broker_id = await open_order(world)
        world.broker.cancel_answer = Refused(code=RefusalCode.OTHER, message="already complete", status=400)
        world.broker.fill(broker_id)
        assert (await world.executor.cancel(order.id, by="me")).status is S.COMPLETE
        await world.until_status(order, S.COMPLETE)
        assert world.held() == 10


async def test_cancel_that_the_broker_refuses_while_the_order_works_is_told(world, autojump_clock):
    async with running(world):
        order, _broker_id = await open_order(world)
        world.broker.cancel_answer = Refused(code=RefusalCode.OTHER, message="not now", status=400)
        with pytest.raises(OrderExecutionError, match="not now"):
            await world.executor.cancel(order.id, by="me")
        assert world.status(order) is S.OPEN


async def test_cancel_by_an_engine_that_leads_no_more_is_not_sent(world, autojump_clock):
    async with running(world):
        order, _broker_id = await open_order(world)
        world.leads = False
        with pytest.raises(OrderExecutionError, match="another engine leads"):
            await world.executor.cancel(order.id, by="me")
        assert not world.broker.cancels


async def test_cancel_after_a_part_fill_keeps_the_part(world, autojump_clock):
    async with running(world):
        order, broker_id = await open_order(world)
        world.broker.fill(broker_id, 4)
        await world.executor.cancel(order.id, by="me")
        await world.until_status(order, S.CANCELLED)
        assert world.row(order).filled_quantity == 4
        assert world.held() == 4


async def test_fill_that_comes_after_the_cancel_is_booked(world, autojump_clock):
    async with running(world):
        order, broker_id = await open_order(world)
        await world.executor.cancel(order.id, by="me")
        await world.until_status(order, S.CANCELLED)
        world.broker.trade(broker_id, 10)
        world.broker.change(broker_id, S.COMPLETE, filled=10)
        world.submit(world.order("SBIN"))
        await world.until_status(order, S.COMPLETE, timeout_s=10)
        assert world.held() == 10


@pytest.mark.parametrize("state", ["sending", "unknown"])
async def test_cancel_of_an_order_without_the_brokers_id_is_a_conflict(world, autojump_clock, state):
    world.broker.answers = [answer(Unknown(reason="reset"), after_s=1)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.SUBMITTING if state == "sending" else S.UNKNOWN)
        with pytest.raises(ConflictError):
            await world.executor.cancel(order.id, by="me")


async def test_cancel_of_an_unknown_id_is_not_found(world, autojump_clock):
    async with running(world):
        with pytest.raises(NotFoundError):
            await world.executor.cancel(uuid4(), by="me")


async def test_cancel_twice_is_a_conflict(world, autojump_clock):
    async with running(world):
        order, _ = await open_order(world)
        await world.executor.cancel(order.id, by="me")
        with pytest.raises(ConflictError, match="already"):
            await world.executor.cancel(order.id, by="me")


async def test_cancel_request_is_finished_when_its_asker_goes_away(world, autojump_clock):
    world.broker.cancel_latency_s = 1.0
    async with running(world):
        order, broker_id = await open_order(world)
        with trio.move_on_after(0.2):
            await world.executor.cancel(order.id, by="me")
        await world.until_status(order, S.CANCELLED)
        assert world.broker.cancels == [broker_id]


async def test_cancel_that_was_not_sent_says_so(world, autojump_clock):
    world.broker.cancel_answer = NotSent(reason="connection refused")
    async with running(world):
        order, _ = await open_order(world)
        with pytest.raises(OrderExecutionError, match="connection refused"):
            await world.executor.cancel(order.id, by="me")


@pytest.mark.parametrize(
    ("error", "expected"),
    [(BrokerAuthError("log in"), OrderExecutionError), (BrokerUnavailable("down"), UnavailableError)],
)
async def test_cancel_without_a_session_says_so(world, autojump_clock, error, expected):
    async with running(world):
        order, _ = await open_order(world)
        world.executor.reset_session()
        world.open_error = error
        with pytest.raises(expected):
            await world.executor.cancel(order.id, by="me")


async def test_cancel_without_an_answer_returns_what_is_known(world, autojump_clock):
    world.broker.cancel_answer = Unknown(reason="reset")
    async with running(world):
        order, _ = await open_order(world)
        after = await world.executor.cancel(order.id, by="me")
        assert after.status is S.OPEN


async def test_kill_switch_does_not_stop_a_cancel(world, autojump_clock):
    async with running(world):
        order, _ = await open_order(world)
        world.block()
        assert (await world.executor.cancel(order.id, by="guardian")).status is S.CANCELLED


async def test_reads_stay_below_ten_in_any_second_while_orders_stream_and_fill(world, autojump_clock):
    world.broker.read_latency_s = 0.002
    async with running(world):
        for number in range(60):
            order = world.order(f"S{number}")
            world.submit(order)
            await trio.sleep(0.15)
            for broker_id, row in list(world.broker.rows.items()):
                if row.status is S.OPEN:
                    world.broker.fill(broker_id)
        times = world.broker.read_times
        assert len(times) > 20
        assert all(later - earlier > 1.0 for earlier, later in zip(times, times[9:], strict=False))


async def test_broker_in_trouble_is_asked_less_often(world, autojump_clock):
    async with running(world):
        for number in range(30):
            world.broker.book_down = BrokerUnavailable("429")
            world.submit(world.order(f"S{number}"))
            await trio.sleep(0.1)
        assert len(world.broker.read_times) <= 6
