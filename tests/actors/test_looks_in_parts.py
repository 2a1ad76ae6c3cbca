"""A look whose news are taken in part by part: nobody acts on a half of it, and a restart or a new day undoes none."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import trio

from engine.actors.executor_context import Send
from engine.actors.rush import MANY
from engine.domain.enums import OrderStatus, TransactionType
from tests.support.desk import World, running
from tests.support.trade import USER

BUY, SELL = TransactionType.BUY, TransactionType.SELL


async def placed(world: World, symbol: str, side: TransactionType = BUY, quantity: int = 10, price: int = 100) -> str:
    """Have an order at the broker; return its id there."""
    order = world.submit(world.order(symbol, transaction_type=side, quantity=quantity, price=Decimal(price)))
    await world.until_status(order, OrderStatus.OPEN)
    return world.row(order).broker_order_id or ""


async def hedged(loss_first: bool) -> World:
    """Close both legs of a hedge in one look, the one with a loss of 2,000 rupees, the other with a larger gain."""
    world = World(limits={"max_daily_loss_amount": Decimal(1000), "max_drawdown_amount": Decimal(1000)})
    world.risk_context = msgspec.structs.replace(world.risk_context, trip=lambda *tripped: world.trips.append(tripped))
    async with running(world):
        world.crew.risk(USER)
        await trio.sleep(1)
        for symbol, side in (("AAA", BUY), ("BBB", SELL)):
            world.broker.fill(await placed(world, symbol, side, quantity=100))
        await trio.sleep(20)
        legs = [("AAA", SELL, 80), ("BBB", BUY, 78)]
        closing = []
        for symbol, side, price in legs if loss_first else reversed(legs):
            closing.append((await placed(world, symbol, side, quantity=100, price=price), str(price)))
            closing += [(await placed(world, f"F{symbol}{n}", quantity=1), "100") for n in range(4)]
        await trio.sleep(5)
        for broker_id, price in closing:
            world.broker.fill(broker_id, price=price)
        await trio.sleep(5)
        assert world.held("AAA") == world.held("BBB") == 0
    return world


async def test_hedge_that_one_look_shows_closed_trips_nothing_by_its_half(autojump_clock: Any) -> None:
    assert (await hedged(loss_first=True)).trips == []


async def test_hedge_that_one_look_shows_closed_has_no_peak_of_its_half(autojump_clock: Any) -> None:
    assert (await hedged(loss_first=False)).trips == []


async def test_executor_that_restarts_amid_a_look_books_each_fill_once(autojump_clock: Any) -> None:
    world = World(orders_per_second=1000)
    async with running(world) as run:
        ids = [await placed(world, f"S{number}") for number in range(40)]
        for broker_id in ids:
            world.broker.fill(broker_id)
        held = world.executor.desk.holdings
        await world.until(lambda: held.has_open)
        assert sum(bool(position.quantity) for position in held.positions.values()) < 40, "the look is not over"
        await run.restart_executor()
        await world.until(lambda: all(order.status is OrderStatus.COMPLETE for order in world.store.orders.values()))
        assert len(world.store.fills) == 40
        assert {world.held(f"S{number}") for number in range(40)} == {10}


async def test_midnight_amid_a_look_makes_no_order_of_yesterday_one_of_today(autojump_clock: Any) -> None:
    world = World(orders_per_second=1000)
    async with running(world):
        ids = [await placed(world, f"S{number}") for number in range(40)]
        await trio.sleep(5)
        for broker_id in ids:
            world.broker.change(broker_id, OrderStatus.CANCELLED)
        desk = world.executor.desk
        while not any(order.status is OrderStatus.CANCELLED for order in desk.orders.values()):
            await trio.sleep(0.001)
        assert any(order.status is OrderStatus.OPEN for order in desk.orders.values()), "the look is not over"
        world.clock.step += 86_400
        assert desk.day is not None
        desk.roll_day(desk.day + timedelta(days=1))
        await trio.sleep(2)
        assert not [broker_id for broker_id in ids if broker_id in desk.known_broker_ids]


async def test_order_whose_acceptance_stands_back_is_not_sent_once_more(autojump_clock: Any, monkeypatch: Any) -> None:
    world = World()
    async with running(world) as run:
        await world.until(lambda: world.executor.is_ready)
        sender, handed = world.executor._sender, list[Send]()
        send = sender.send

        async def noted(message: Send) -> Any:
            handed.append(message)
            return await send(message)

        monkeypatch.setattr(sender, "send", noted)
        others = [world.context.rush.departure() for _ in range(MANY + 8)]
        for departure in others:
            departure.begins()
        order = world.submit(world.order())
        await world.until(lambda: bool(world.broker.left))
        await trio.sleep(0.05)
        assert world.status(order) is OrderStatus.SUBMITTING
        run._nursery.start_soon(send, handed[0])
        await world.until_status(order, OrderStatus.OPEN, timeout_s=2)
        for departure in others:
            departure.ends()
        assert len(world.broker.left) == 1
