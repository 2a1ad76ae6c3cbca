"""Reconciliation against a broker whose witnesses lag behind each other, and against rows that make no sense."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import trio

from engine.broker.base import RefusalCode, Refused, Unknown
from engine.domain.enums import Exchange, OrderStatus, ProductType, Variety
from engine.domain.order import Order
from engine.domain.position import Position
from engine.errors import MailboxFull, UnavailableError
from tests.support.desk import World, answer, running
from tests.support.trade import ACCOUNT, TODAY

S = OrderStatus
BUSY = Refused(code=RefusalCode.RATE_LIMITED, message="Too many requests", status=429, rate_limited=True)


@pytest.fixture
async def world(autojump_clock):
    return World()


def adopted(world: World) -> list[Any]:
    return [record for record in world.store.audit if record.action == "POSITION_ADOPTED"]


async def filled(world: World, symbol: str = "INFY", quantity: int = 10) -> Order:
    order = world.order(symbol, quantity=quantity)
    world.submit(order)
    await world.until_status(order, S.OPEN)
    world.broker.fill(world.row(order).broker_order_id)
    return order


async def test_positions_behind_the_trade_book_take_nothing_back(world, autojump_clock):
    async with running(world):
        first = await filled(world)
        await world.until_status(first, S.COMPLETE)
        world.broker.position_rows = tuple(world.broker._positions())
        second = await filled(world)
        await world.until_status(second, S.COMPLETE)
        await trio.sleep(30)
        assert world.held() == 20
        world.broker.position_rows = None
        await trio.sleep(30)
        assert world.held() == 20
        assert not adopted(world)


async def test_positions_ahead_of_cached_books_do_not_count_a_fill_of_ours_twice(world, autojump_clock):
    async with running(world):
        order = world.order()
        world.submit(order)
        await world.until_status(order, S.OPEN)
        broker_id = world.row(order).broker_order_id
        working = world.broker.rows[broker_id]
        world.broker.fill(broker_id)
        world.broker.position_rows = tuple(world.broker._positions())
        done, trades = world.broker.rows[broker_id], world.broker.shown_trades
        world.broker.rows[broker_id], world.broker.shown_trades = working, []
        await trio.sleep(30)
        assert world.held() == 0, "the fill is on its way"
        world.broker.rows[broker_id], world.broker.shown_trades = done, trades
        await world.until_status(order, S.COMPLETE)
        assert world.held() == 10
        await trio.sleep(30)
        assert world.held() == 10
        assert not adopted(world)


async def test_witnesses_that_are_all_as_old_take_nothing_back(world, autojump_clock):
    async with running(world):
        order = world.order()
        world.submit(order)
        await world.until_status(order, S.OPEN)
        broker_id = world.row(order).broker_order_id
        world.broker.fill(broker_id, 4)
        await world.until(lambda: world.held() == 4)
        old = world.broker.rows[broker_id], list(world.broker.shown_trades), tuple(world.broker._positions())
        world.broker.fill(broker_id)
        await world.until_status(order, S.COMPLETE)
        new = world.broker.rows[broker_id], list(world.broker.shown_trades), None
        for row, trades, positions in (old, new):
            world.broker.rows[broker_id] = row
            world.broker.shown_trades, world.broker.position_rows = trades, positions
            await trio.sleep(30)
            assert world.held() == 10
        assert not adopted(world)


async def test_difference_that_stands_although_trades_disagree_is_believed_in_the_end(world, autojump_clock):
    async with running(world):
        order = await filled(world)
        await world.until_status(order, S.COMPLETE)
        (row,) = world.broker._positions()
        world.broker.position_rows = (msgspec.structs.replace(row, quantity=3, day_buy_quantity=3),)
        await world.until(lambda: world.held() == 3, timeout_s=120)
        assert len(adopted(world)) == 1


async def test_empty_answer_makes_nothing_flat_for_a_minute(world, autojump_clock):
    held = Position(
        account_id=ACCOUNT,
        exchange=Exchange.NSE,
        symbol="INFY",
        product_type=ProductType.NRML,
        quantity=10,
        buy_quantity=10,
        buy_value=Decimal(1000),
        day_buy_quantity=10,
    )
    world.store.positions[held.key] = (held, TODAY - timedelta(days=1))
    world.broker.overnight[("INFY", "NRML")] = 10
    world.broker.position_rows = ()
    async with running(world):
        await trio.sleep(40)
        assert world.held() == 10
        world.broker.position_rows = None
        await trio.sleep(60)
        assert world.held() == 10
        assert not adopted(world)


async def test_many_positions_taken_over_at_once_are_one_alert(world, autojump_clock):
    async with running(world):
        for number in range(50):
            world.broker.overnight[(f"S{number}", "NRML")] = 5
        await world.until(lambda: len(adopted(world)) == 50, timeout_s=120)
        assert len(world.alerts) == 1
        assert "50 positions" in world.alerts[0][1]


@pytest.mark.parametrize("garbage", [{"quantity": 0}, {"quantity": -5}, {"trade_id": "\x00"}, {"trade_id": ""}])
async def test_trade_that_makes_no_sense_spoils_no_other(world, autojump_clock, garbage):
    async with running(world):
        order = world.order()
        world.submit(order)
        await world.until_status(order, S.OPEN)
        broker_id = world.row(order).broker_order_id
        world.broker.trade(broker_id, 10, trade_id="bad")
        bad = msgspec.structs.replace(world.broker.shown_trades[0], **garbage)
        world.broker.fill(broker_id)
        world.broker.shown_trades[0] = bad
        await world.until_status(order, S.COMPLETE)
        await trio.sleep(1)
        assert [fill.quantity for fill in world.store.fills.values()] == [10]
        assert world.held() == 10


async def test_ledger_that_takes_no_more_leaves_the_fills_to_the_next_look(world, autojump_clock):
    async with running(world):
        order = world.order()
        world.submit(order)
        await world.until_status(order, S.OPEN)
        desk, append = world.executor.desk, world.ledger.append
        world.broker.fill(world.row(order).broker_order_id)

        def full(_entry: object) -> None:
            raise MailboxFull("audit")

        world.ledger.append = full  # type: ignore[method-assign]
        with pytest.raises(MailboxFull):
            desk.take_trades(world.broker.shown_trades)
        world.ledger.append = append  # type: ignore[method-assign]
        assert desk.holdings.booked(world.row(order).broker_order_id)[0] == 0
        assert not any(p.quantity for p in desk.holdings.positions.values())
        await world.until_status(order, S.COMPLETE)
        assert world.held() == 10
        assert len(world.store.fills) == 1


async def test_many_who_ask_for_a_comparison_at_once_share_it(world, autojump_clock):
    async with running(world):
        await trio.sleep(30)
        before = world.broker.reads
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(world.executor.reconcile)
        assert world.broker.reads - before <= 4


async def test_comparison_asked_for_while_the_executor_restarts_is_refused_or_answered(world, autojump_clock):
    async with running(world) as run:
        await trio.sleep(30)
        world.broker.read_latency_s = 3
        ended: list[str] = []

        async def ask() -> None:
            try:
                with trio.fail_after(60):
                    await world.executor.reconcile()
            except UnavailableError:
                ended.append("refused")
            else:
                ended.append("answered")

        async with trio.open_nursery() as nursery:
            async with world.executor._reconciler.turn:
                nursery.start_soon(ask)
                await trio.sleep(0.1)
                await run.restart_executor()
            nursery.start_soon(ask)
        assert sorted(ended) == ["answered", "refused"]


async def test_attempt_that_a_429_placed_late_is_the_order_and_not_a_stranger(world, autojump_clock):
    world.broker.answers = [answer(BUSY)]
    order = world.order()
    async with running(world):
        world.submit(order)
        await world.until(lambda: bool(world.broker.left))
        await world.until(lambda: world.row(order).attempt == 2)
        world.broker.put(order)
        await trio.sleep(30)
        assert not [o for o in world.store.orders.values() if o.is_external]
        working = [row for row in world.broker.rows.values() if row.status.is_working]
        assert len(working) == 1, "one of the two is cancelled"
        assert [text for _, text in world.alerts if "LATE_FOUND" in text]


async def test_second_order_that_has_filled_is_told(world, autojump_clock):
    async with running(world):
        order = world.order()
        world.submit(order)
        await world.until_status(order, S.OPEN)
        world.broker.fill(world.broker.put(order))
        await world.until(lambda: world.held() == 10)
        await trio.sleep(20)
        assert len([text for _, text in world.alerts if "SECOND_AT_BROKER" in text]) == 1


async def test_position_taken_over_before_the_brokers_turn_of_the_day_has_no_units_of_today(world, autojump_clock):
    """Between midnight and that turn the broker's rows call yesterday's trades those of the day."""
    world.broker.fill(world.broker.by_hand(quantity=10), price="90")
    world.clock.sleep(24 * 3600)
    async with running(world):
        await world.until(lambda: world.held() == 10, timeout_s=120)
        ((held, _),) = world.store.positions.values()
        assert (held.overnight_quantity, held.day_buy_quantity, held.day_buy_value) == (10, 0, 0)


@pytest.mark.parametrize("garbage", [{"price": Decimal(10) ** 15}, {"market_protection": Decimal(10) ** 6}])
async def test_stranger_that_no_store_takes_is_told_and_not_adopted(world, autojump_clock, garbage):
    async with running(world):
        world.broker.by_hand(**garbage)
        await trio.sleep(30)
        report = await world.executor.reconcile()
        assert len(report.unreadable) == 1
        assert not [o for o in world.store.orders.values() if o.is_external]


async def test_order_placed_after_market_outlives_a_book_that_is_made_up_anew(world, autojump_clock):
    order = world.order(variety=Variety.AMO)
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.OPEN)
        world.clock.sleep(24 * 3600)
        world.crew.wake()
        await trio.sleep(5)
        world.broker.hide = {world.row(order).broker_order_id or ""}
        await trio.sleep(120)
        world.broker.hide = set()
        await trio.sleep(30)
        assert world.status(order) is S.OPEN
        assert not world.broker.cancels
        world.broker.hide = {world.row(order).broker_order_id or ""}
        await world.until_status(order, S.EXPIRED, timeout_s=3600)


async def test_order_given_up_yesterday_that_works_today_is_told_and_counted(world, autojump_clock):
    world.context = msgspec.structs.replace(world.context, is_ours=lambda _tag: True)
    world.broker.answers = [answer(Unknown(reason="reset"))]
    order = world.order(variety=Variety.AMO)
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.EXPIRED)
        world.clock.sleep(24 * 3600)
        world.crew.wake()
        await trio.sleep(60)
        broker_id = world.broker.put(order)
        await trio.sleep(120)
        assert [text for _, text in world.alerts if "ORPHAN" in text and broker_id in text]
        world.broker.fill(broker_id)
        await trio.sleep(30)
        assert world.held() == 10


async def test_rows_without_an_id_are_taken_for_no_order_and_prove_nothing(world, autojump_clock):
    world.broker.answers = [answer(Unknown(reason="reset"))]
    lost, other = world.order(), world.order("SBIN")
    async with running(world):
        world.submit(lost)
        world.submit(other)
        await world.until_status(lost, S.UNKNOWN)
        await world.until_status(other, S.OPEN)
        for order in (lost, other):
            world.broker.rows[f"nameless {order.tag}"] = msgspec.structs.replace(
                world.broker.rows[world.row(other).broker_order_id or ""], broker_order_id="", tag=order.tag
            )
        await trio.sleep(300)
        assert world.status(lost) is S.UNKNOWN, "it may be the nameless one"
        assert "PARKED" in world.message(lost)
        assert all(order.broker_order_id != "" for order in world.store.orders.values())
        world.broker.fill(world.row(other).broker_order_id or "")
        await world.until_status(other, S.COMPLETE)
        assert (world.held(), world.held("SBIN")) == (0, 10)
