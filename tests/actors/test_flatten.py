"""Flattening within an executor: what rests ends, what is held is closed once, and no kill switch lets more pass."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
import trio

from engine.actors.flatten_file import FlattenFile
from engine.broker.base import RefusalCode, Refused, Unknown
from engine.domain.enums import OrderStatus
from engine.domain.flatten import Demand, Stage
from engine.domain.order import OrderOrigin
from tests.support.desk import World, answer, running
from tests.support.trade import ACCOUNT, STRATEGY

S = OrderStatus


@pytest.fixture
def clock(autojump_clock: trio.testing.MockClock) -> trio.testing.MockClock:
    return autojump_clock


def demand(world: World, name: str = "global", **fields: Any) -> Demand:
    defaults: dict[str, Any] = {"version": 1, "since": world.clock.now(), "by": "test", "stays": True}
    return Demand(name=name, **(defaults | fields))


async def fill_exits(world: World) -> None:
    """The market takes every order that flattens, in a moment."""
    while True:
        await trio.sleep(0.05)
        for order in list(world.broker.left):
            if order.is_square_off:
                for broker_id, row in list(world.broker.rows.items()):
                    if row.tag == order.tag and row.status is S.OPEN:
                        world.broker.fill(broker_id)


async def hold(world: World, units: int = 10, symbol: str = "INFY", **fields: Any) -> Any:
    """Buy *units*, and have them in the books."""
    order = world.submit(world.order(symbol, quantity=units, **fields))
    await world.until_status(order, S.OPEN)
    world.broker.fill(world.row(order).broker_order_id)
    await world.until(lambda: world.held(symbol) == units)
    return order


async def until_done(world: World, wanted: Demand, *, within_s: float = 300) -> Any:
    square_off = world.executor.square_off

    def is_done() -> bool:
        standing = square_off.standing(wanted)
        return standing is not None and standing.stage is Stage.DONE

    await world.until(is_done, timeout_s=within_s)
    return square_off.standing(wanted)


def exits(world: World) -> list[Any]:
    return [order for order in world.broker.left if order.is_square_off]


async def test_kill_cancels_what_rests_and_closes_what_is_held(clock: object) -> None:
    world = World()
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_exits, world)
        await hold(world)
        resting = world.submit(world.order("SBIN"))
        await world.until_status(resting, S.OPEN)
        by_hand = world.broker.by_hand("TCS", 5)
        world.block()
        wanted = demand(world)
        world.executor.square_off.want(wanted)
        standing = await until_done(world, wanted)
        (closing,) = exits(world)
        assert (closing.symbol, closing.quantity, closing.transaction_type) == ("INFY", 10, "SELL")
        row = world.store.orders[closing.id]
        assert (row.origin, row.status, row.intent_id) == (OrderOrigin.SQUARE_OFF, S.COMPLETE, None)
        assert world.status(resting) is S.CANCELLED
        assert by_hand in world.broker.cancels
        assert world.held() == 0
        first, second = standing.proofs
        assert second.positions_at - first.positions_at >= timedelta(seconds=2)
        nursery.cancel_scope.cancel()


async def test_nothing_but_what_flattens_passes_the_kill(clock: object) -> None:
    world = World()
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_exits, world)
        await hold(world)
        world.block()
        wanted = demand(world)
        world.executor.square_off.want(wanted)
        entry = world.submit(world.order("SBIN"))
        await world.until_status(entry, S.CANCELLED)
        await until_done(world, wanted)
        assert [order.symbol for order in world.broker.left[1:]] == ["INFY"]
        nursery.cancel_scope.cancel()


async def test_taken_back_before_it_is_sent_sends_nothing(clock: object) -> None:
    world = World()
    async with running(world):
        await hold(world)
        world.block()
        world.store.delay_s = 0.5
        world.executor.square_off.want(demand(world))
        await world.until(lambda: any(order.is_square_off for order in world.executor.desk.orders.values()))
        world.executor.square_off.drop("global")
        await trio.sleep(5)
        assert not exits(world)
        assert [order.status for order in world.store.orders.values() if order.is_square_off] == [S.FAILED]


async def test_position_goes_while_the_ledger_is_away(
    clock: object, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def at_once(function: Any, *args: Any, **_options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*args)

    # virtual time does not wait for a thread
    monkeypatch.setattr(trio.to_thread, "run_sync", at_once)
    world = World()
    file = FlattenFile(tmp_path / "state" / "flatten.wal")
    world.context = world.context.__class__(**{**_fields(world.context), "flatten_file": file})
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_exits, world)
        await hold(world)
        world.store.is_stuck = True
        world.block()
        wanted = demand(world)
        world.executor.square_off.want(wanted)
        await world.until(lambda: bool(exits(world)), timeout_s=20)
        (closing,) = exits(world)
        assert [order.id for order in file.read()] == [closing.id]
        world.broker.unproven.clear()  # its row was on disk in the file
        await until_done(world, wanted)
        world.store.is_stuck = False
        await world.until(lambda: closing.id in world.store.orders and world.status(closing) is S.COMPLETE)
        nursery.cancel_scope.cancel()


def _fields(context: Any) -> dict[str, Any]:
    return {name: getattr(context, name) for name in context.__struct_fields__}


async def test_order_without_an_answer_is_not_sent_again_while_it_may_be_there(clock: object) -> None:
    world = World()
    async with running(world), trio.open_nursery() as nursery:
        await hold(world)
        world.block()

        async def silent(broker: Any, order: Any, gate: Any) -> Any:
            assert broker.passes(order, gate) is None
            nursery.start_soon(late, broker, order)
            return Unknown(reason="no answer")

        async def late(broker: Any, order: Any) -> None:
            await trio.sleep(12)
            broker.fill(broker.put(order))

        world.broker.answers = [silent]
        wanted = demand(world)
        world.executor.square_off.want(wanted)
        await until_done(world, wanted)
        assert len(exits(world)) == 1
        assert world.held() == 0
        nursery.cancel_scope.cancel()


async def test_life_after_a_restart_looks_for_what_the_one_before_sent(clock: object) -> None:
    world = World()
    async with running(world) as run, trio.open_nursery() as nursery:
        await hold(world)
        world.block()

        async def hung(broker: Any, order: Any, gate: Any) -> Any:
            assert broker.passes(order, gate) is None
            broker.fill(broker.put(order))
            await trio.sleep_forever()

        world.broker.answers = [hung]
        wanted = demand(world)
        world.executor.square_off.want(wanted)
        await world.until(lambda: bool(exits(world)))
        await run.restart_executor()
        await until_done(world, wanted)
        assert len(exits(world)) == 1
        nursery.cancel_scope.cancel()


async def test_order_written_ahead_by_a_life_that_died_is_given_up_only_when_it_cannot_come(clock: object) -> None:
    world = World()
    async with running(world) as run, trio.open_nursery() as nursery:
        nursery.start_soon(fill_exits, world)
        await hold(world)
        world.block()

        async def never(_broker: Any, _order: Any, _gate: Any) -> Any:
            await trio.sleep_forever()

        world.broker.answers = [never]
        wanted = demand(world)
        world.executor.square_off.want(wanted)
        await world.until(lambda: not world.broker.answers)
        begun = trio.current_time()
        await trio.sleep(10)
        await run.restart_executor()
        await world.until(lambda: world.held() == 0)
        assert 20 <= trio.current_time() - begun < 60
        standing = world.executor.square_off.standing(wanted)
        assert standing is not None
        assert "unknown outcome" in standing.not_flat[0].why
        await until_done(world, wanted)
        assert trio.current_time() - begun >= 180
        assert [order.quantity for order in exits(world)] == [10]
        # flat is said of the books too: what is still in doubt there would stand against letting go
        assert not [order for order in world.executor.desk.orders.values() if order.status.is_unresolved]
        nursery.cancel_scope.cancel()


async def test_many_cancels_go_before_what_closes(clock: object) -> None:
    world = World(orders_per_second=10)
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_exits, world)
        await hold(world)
        for _ in range(120):
            world.broker.by_hand("TCS", 5)
        world.block()
        wanted = demand(world)
        world.executor.square_off.want(wanted)
        await world.until(lambda: bool(exits(world)))
        assert len(world.broker.cancels) == 120
        await until_done(world, wanted)
        assert world.held() == 0
        nursery.cancel_scope.cancel()


async def test_many_positions_are_closed_at_the_pace_of_the_budget_and_no_wider_for_waiting(clock: object) -> None:
    world = World(orders_per_second=10)
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_exits, world)
        for number in range(40):
            world.broker.fill(world.broker.by_hand(f"S{number}", 5))
        world.block()
        wanted = demand(world)
        begun = trio.current_time()
        world.executor.square_off.want(wanted)
        await until_done(world, wanted)
        assert trio.current_time() - begun < 40 / 8 + 10
        assert [order.quantity for order in exits(world)] == [5] * 40
        assert {order.market_protection for order in exits(world)} == {Decimal(-1)}
        nursery.cancel_scope.cancel()


async def test_refused_position_is_told_and_tried_again(clock: object) -> None:
    world = World()
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_exits, world)
        await hold(world)
        world.block()
        refusal = answer(Refused(code=RefusalCode.PRICE_RANGE, message="outside the circuit"))
        world.broker.answers = [refusal] * 3
        wanted = demand(world)
        world.executor.square_off.want(wanted)
        await world.until(lambda: len(exits(world)) == 2)
        await trio.sleep(0.9)
        standing = world.executor.square_off.standing(wanted)
        assert standing is not None
        assert "outside the circuit" in standing.not_flat[0].why
        await until_done(world, wanted)
        assert [order.market_protection for order in exits(world)] == [-1, 5, 10, 10]
        nursery.cancel_scope.cancel()


async def test_positions_of_one_strategy_leave_those_of_others(clock: object) -> None:
    world = World()
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_exits, world)
        await hold(world, 10, strategy_id=None)
        mine = world.submit(world.order(quantity=4))
        await world.until_status(mine, S.OPEN)
        world.broker.fill(world.row(mine).broker_order_id)
        await world.until(lambda: world.held() == 14)
        theirs = world.submit(world.order(strategy_id=None, price=Decimal(90)))
        await world.until_status(theirs, S.OPEN)
        wanted = demand(world, f"strategy:{STRATEGY}", strategy_id=STRATEGY)
        world.block(f"strategy:{STRATEGY}")
        world.executor.square_off.want(wanted)
        await until_done(world, wanted)
        (closing,) = exits(world)
        assert (closing.quantity, closing.strategy_id) == (4, STRATEGY)
        assert world.status(theirs) is S.OPEN
        assert world.held() == 10
        nursery.cancel_scope.cancel()


async def test_squaring_off_lets_no_entry_of_the_position_pass_and_no_other_wait(clock: object) -> None:
    world = World()
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_exits, world)
        await hold(world)
        wanted = demand(world, "request:1", symbol="INFY", stays=False)
        world.executor.square_off.want(wanted)
        entry, other = world.submit(world.order()), world.submit(world.order("SBIN"))
        await world.until_status(entry, S.CANCELLED)
        await world.until_status(other, S.OPEN)
        await until_done(world, wanted)
        world.executor.square_off.drop("request:1")
        after = world.submit(world.order())
        await world.until_status(after, S.OPEN)
        assert world.held() == 0
        nursery.cancel_scope.cancel()


async def test_entries_in_storm_leave_what_flattening_needs(clock: object) -> None:
    world = World(orders_per_second=5)
    async with running(world), trio.open_nursery() as nursery:
        nursery.start_soon(fill_exits, world)
        await hold(world)

        async def storm() -> None:
            while True:
                for symbol in ("SBIN", "TCS"):
                    world.submit(world.order(symbol))
                await trio.sleep(0.02)

        nursery.start_soon(storm)
        await trio.sleep(2)
        wanted = demand(world, "request:1", symbol="INFY", stays=False)
        begun = trio.current_time()
        world.executor.square_off.want(wanted)
        await until_done(world, wanted)
        assert trio.current_time() - begun < 20
        assert [order.quantity for order in exits(world)] == [10]
        assert world.executor.account_id == ACCOUNT
        nursery.cancel_scope.cancel()
