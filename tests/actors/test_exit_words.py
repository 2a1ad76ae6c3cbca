"""What somebody says of an exit holds: a cancel ends it for good, a passed trigger closes what it was for."""

from decimal import Decimal
from typing import Any

import pytest
import trio

from engine.broker.base import RefusalCode, Refused, Unknown
from engine.domain.enums import OrderStatus, OrderType
from engine.domain.options import OrderRole
from tests.support.desk import World, answer, crashed, running
from tests.support.exits import at_market, deliver, entered, of_role, protected

OPEN, CANCELLED = OrderStatus.OPEN, OrderStatus.CANCELLED
PASSED = Refused(
    code=RefusalCode.OTHER,
    message="Trigger price for stoploss sell orders should be lower than the last traded price.",
    status=400,
)


async def test_cancel_of_an_exit_while_no_engine_ran_is_respected(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        stop, _ = await protected(world)
    after = await crashed(world)
    after.broker.change(stop.broker_order_id or "", CANCELLED)
    async with running(after):
        await after.until_status(stop, CANCELLED)
        await trio.sleep(60)
    assert len(of_role(after, OrderRole.STOP)) == 1
    assert len(of_role(after, OrderRole.TARGET, OPEN)) == 1


async def test_cancel_of_an_exit_whose_answer_a_crash_took_is_respected(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world, target=None)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
        world.broker.answers = [answer(Unknown(reason="lost"), placed=OrderStatus.TRIGGER_PENDING)]
        await entered(world)
        await world.until(lambda: at_market(world) == 10)
    after = await crashed(world)
    (stop,) = of_role(after, OrderRole.STOP)
    row = next(row for row in after.broker.rows.values() if row.transaction_type == "SELL")
    after.broker.change(row.broker_order_id, CANCELLED)
    async with running(after):
        await after.until_status(stop, CANCELLED)
        await trio.sleep(60)
    assert len(of_role(after, OrderRole.STOP)) == 1


@pytest.mark.parametrize("price", ["94", "100"])
async def test_stop_that_the_price_has_passed_goes_at_market_on_the_refusal_s_word(
    price: str, autojump_clock: Any
) -> None:
    world = World()
    world.prices["NSE:INFY"] = Decimal(price)
    async with running(world):
        deliver(world)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
        world.broker.answers = [answer(PASSED)]
        await entered(world)
        began = trio.current_time()
        await world.until(lambda: any(o.order_type is OrderType.MARKET for o in of_role(world, OrderRole.STOP, OPEN)))
        assert trio.current_time() - began < 2
        stop = of_role(world, OrderRole.STOP)[-1]
        await world.until(lambda: at_market(world) == 10)
        world.broker.fill(stop.broker_order_id or "", price=price)
        await world.until(lambda: world.held() == 0)
        await trio.sleep(30)
    assert (stop.quantity, stop.trigger_price, stop.market_protection) == (10, None, Decimal(-1))
    assert len(of_role(world, OrderRole.STOP)) == 2
    assert not of_role(world, OrderRole.TARGET, OPEN)
    assert not any("EXIT_NOT_PLACED" in text for _, text in world.alerts)


async def test_stop_that_was_passed_while_no_engine_ran_goes_at_market_after_the_next_crash_too(
    autojump_clock: Any,
) -> None:
    world = World()
    async with running(world):
        deliver(world, target=None)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
    after = await crashed(world)
    await entered(after)

    async def refused(broker: Any, order: Any, gate: Any) -> Any:
        said = await answer(PASSED)(broker, order, gate)
        after.block()
        return said

    after.broker.answers = [refused]
    async with running(after):
        await after.until(lambda: bool(of_role(after, OrderRole.STOP, OrderStatus.REJECTED)))
        await trio.sleep(5)
        assert at_market(after) == 0
    last = await crashed(after)
    async with running(last):
        await last.until(lambda: bool(of_role(last, OrderRole.STOP, OPEN)))
        await trio.sleep(30)
    (stop,) = of_role(last, OrderRole.STOP, OPEN)
    assert stop.order_type is OrderType.MARKET
    assert at_market(last) == 10
