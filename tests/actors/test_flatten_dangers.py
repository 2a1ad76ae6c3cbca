"""What books that lag must not lead flattening to: closing what is another's, twice, or calling flat what is not."""

from typing import Any
from uuid import UUID

import pytest
import trio

from engine.actors.modifying import Terms
from engine.broker.base import Unknown
from engine.domain.enums import OrderStatus, TransactionType
from engine.domain.flatten import Stage
from engine.errors import ConflictError
from tests.actors.test_flatten import demand, exits, fill_exits, hold, until_done
from tests.support.desk import World, answer, running
from tests.support.exits import at_market, deliver, entered, protected
from tests.support.trade import STRATEGY

S = OrderStatus


@pytest.fixture
def clock(autojump_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    return autojump_clock


def hide_trades_of_exits(world: World) -> None:
    """The trade book shows nothing of what flattens; the order book and the positions do."""
    shown = world.broker.trades

    async def trades() -> Any:
        ours = {order.tag for order in world.broker.left if order.is_square_off}
        hidden = {broker_id for broker_id, row in world.broker.rows.items() if row.tag in ours}
        return [trade for trade in await shown() if trade.broker_order_id not in hidden]

    world.broker.trades = trades  # type: ignore[method-assign]


async def test_share_of_a_strategy_is_not_closed_twice_while_its_trades_are_missing(clock: object) -> None:
    world = World()
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_exits, world)
        await hold(world, 10, strategy_id=None)
        mine = world.submit(world.order(quantity=4))
        await world.until_status(mine, S.OPEN)
        world.broker.fill(world.row(mine).broker_order_id)
        await world.until(lambda: world.held() == 14)
        hide_trades_of_exits(world)
        wanted = demand(world, f"strategy:{STRATEGY}", strategy_id=STRATEGY)
        world.block(f"strategy:{STRATEGY}")
        world.executor.square_off.want(wanted)
        await until_done(world, wanted)
        assert sum(order.quantity for order in exits(world)) == 4
        nursery.cancel_scope.cancel()


async def test_exit_of_unknown_outcome_is_waited_for_before_its_position_is_closed(clock: object) -> None:
    world = World()
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_exits, world)
        await hold(world)
        late = world.order(transaction_type=TransactionType.SELL)
        world.broker.answers = [answer(Unknown(reason="timed out"))]
        world.submit(late)
        await world.until_status(late, S.UNKNOWN)
        wanted = demand(world)
        world.block()
        world.executor.square_off.want(wanted)
        await trio.sleep(6)
        broker_id = world.broker.put(world.row(late))
        world.broker.fill(broker_id)
        await until_done(world, wanted)
        assert world.held() == 0
        assert exits(world) == []
        nursery.cancel_scope.cancel()
        assert world.executor.square_off.standing(wanted).stage is Stage.DONE


@pytest.mark.parametrize("lags", [False, True])
async def test_exits_of_a_position_that_was_squared_off_do_not_come_back(clock: object, lags: bool) -> None:
    world = World()
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_exits, world)
        deliver(world)
        await entered(world)
        await protected(world)
        if lags:
            hide_trades_of_exits(world)
        left = len(world.broker.left)
        wanted = demand(world, "request:1", symbol="INFY", stays=False, once=True)
        world.executor.square_off.want(wanted)
        await until_done(world, wanted)
        await trio.sleep(120)
        assert [order.is_square_off for order in world.broker.left[left:]] == [True]
        assert (world.held(), at_market(world), at_market(world, "BUY")) == (0, 0, 0)
        nursery.cancel_scope.cancel()


async def test_two_strategies_that_are_closed_at_once_in_one_place_lose_their_own_alone(clock: object) -> None:
    world = World()
    other = UUID(int=4711)
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_exits, world)
        await hold(world, 7, strategy_id=None)
        for units, owner in ((4, STRATEGY), (5, other)):
            order = world.submit(world.order(quantity=units, strategy_id=owner))
            await world.until_status(order, S.OPEN)
            world.broker.fill(world.row(order).broker_order_id)
            await world.until(lambda order=order: world.status(order) is S.COMPLETE)
        hide_trades_of_exits(world)
        both = [demand(world, f"strategy:{owner}", strategy_id=owner) for owner in (STRATEGY, other)]
        for wanted in both:
            world.block(wanted.name)
            world.executor.square_off.want(wanted)
        for wanted in both:
            await until_done(world, wanted)
        await trio.sleep(30)
        assert sorted((order.quantity, order.strategy_id) for order in exits(world)) == [(4, STRATEGY), (5, other)]
        assert world.held() == 7
        nursery.cancel_scope.cancel()


async def test_order_that_flattens_is_changed_by_nobody(clock: object) -> None:
    world = World()
    async with running(world):
        await hold(world)
        world.executor.square_off.want(demand(world, "request:1", symbol="INFY", stays=False))
        await world.until(lambda: bool(exits(world)))
        closing = exits(world)[0]
        await world.until(lambda: world.status(closing) is S.OPEN)
        with pytest.raises(ConflictError, match="closes a position"):
            await world.executor.modify(closing.id, Terms(quantity=20), by="user:1")
        assert world.broker.changes == []
