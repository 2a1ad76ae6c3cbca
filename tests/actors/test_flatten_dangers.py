"""What books that lag must not lead flattening to: closing what is another's, twice, or calling flat what is not."""

from typing import Any

import pytest
import trio

from engine.broker.base import Unknown
from engine.domain.enums import OrderStatus, TransactionType
from engine.domain.flatten import Stage
from tests.actors.test_flatten import demand, exits, fill_exits, hold, until_done
from tests.support.desk import World, answer, running
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
