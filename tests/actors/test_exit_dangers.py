"""Attached exits where they could do harm: too many of them, of another day, of what is not held, or none at all."""

from decimal import Decimal
from typing import Any

import pytest
import trio

from engine.actors.modifying import Terms
from engine.broker.base import RefusalCode, Refused, Unknown
from engine.domain.enums import OrderStatus
from engine.domain.options import OrderRole
from engine.errors import BrokerUnavailable, ConflictError
from tests.support.desk import World, answer, crashed, running
from tests.support.exits import at_market, deliver, entered, of_role, protected

CANCELLED, COMPLETE, TRIGGER_PENDING = OrderStatus.CANCELLED, OrderStatus.COMPLETE, OrderStatus.TRIGGER_PENDING
DAY_S = 86_400.0
CAP = Refused(code=RefusalCode.MODIFICATION_CAP, message="Maximum allowed order modifications exceeded", status=400)


def next_day(world: World) -> None:
    """A night goes by: the broker has squared off and its books begin empty."""
    world.clock.sleep(DAY_S)
    world.broker.rows.clear()
    world.broker.shown_trades.clear()


async def test_exits_of_yesterday_are_not_placed_for_a_position_that_the_night_has_closed(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        await protected(world)
    after = await crashed(world)
    next_day(after)
    before = len(after.broker.left)
    async with running(after):
        await trio.sleep(60)
    assert len(after.broker.left) == before


async def test_entry_of_yesterday_that_never_got_its_exits_gets_none_today(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
        world.block()
        await entered(world)
        await world.until(lambda: world.held() == 10)
    after = await crashed(world)
    next_day(after)
    async with running(after):
        await trio.sleep(60)
    assert len(after.broker.left) == 1


async def test_position_closed_by_hand_while_the_engine_was_away_gets_no_exits(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
    after = await crashed(world)
    await entered(after)
    after.broker.fill(after.broker.by_hand(side="SELL"))
    async with running(after):
        await trio.sleep(60)
        assert after.held() == 0
    assert len(after.broker.left) == 1


async def test_entry_that_filled_while_the_engine_was_away_is_protected_at_the_start(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
    after = await crashed(world)
    await entered(after)
    began = trio.current_time()
    async with running(after):
        await protected(after)
        assert trio.current_time() - began < 10


async def test_positions_that_cannot_be_read_delay_the_exits_at_the_start_but_not_for_ever(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
    after = await crashed(world)
    await entered(after)
    after.broker.positions_down = BrokerUnavailable("scripted")
    async with running(after):
        await protected(after)


async def test_stop_whose_changes_are_used_up_is_replaced_by_one(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        stop, target = await protected(world)
        world.executor.desk.change(world.row(stop), "test", modifications=25)
        anew = await world.executor.modify(stop.id, Terms(trigger_price=Decimal(97)), by="user:1")
        await world.until_status(anew, TRIGGER_PENDING)
        await trio.sleep(30)
        assert [o.trigger_price for o in of_role(world, OrderRole.STOP, TRIGGER_PENDING)] == [Decimal(97)]
        assert at_market(world) == 20, "one stop and one target"
        world.broker.fill(target.broker_order_id or "", price="110")
        await world.until_status(anew, CANCELLED)
        assert at_market(world) == 0


async def test_cap_that_the_broker_counts_first_leaves_one_stop(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        stop, target = await protected(world)
        world.broker.change_answers = [CAP]
        anew = await world.executor.modify(stop.id, Terms(trigger_price=Decimal(97)), by="user:1")
        await world.until_status(anew, TRIGGER_PENDING)
        await trio.sleep(30)
        assert at_market(world) == 20, "one stop and one target"
        world.broker.fill(target.broker_order_id or "", price="110")
        await world.until_status(anew, CANCELLED)


async def test_stop_that_may_not_be_changed_any_more_is_still_made_smaller(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        stop, target = await protected(world)
        world.broker.change_answers = [CAP] * 100
        world.broker.fill(target.broker_order_id or "", 3, price="110")
        await world.until_status(stop, CANCELLED)
        await world.until(lambda: len(of_role(world, OrderRole.STOP, TRIGGER_PENDING)) == 1)
    assert of_role(world, OrderRole.STOP, TRIGGER_PENDING)[0].quantity == 7


async def test_exit_that_stays_too_large_is_told_to_a_person(autojump_clock: Any) -> None:
    world = World()
    no = Refused(code=RefusalCode.OTHER, message="no", status=400)
    async with running(world):
        deliver(world)
        await entered(world)
        _, target = await protected(world)
        world.broker.change_answers = [no] * 100
        world.broker.fill(target.broker_order_id or "", 3, price="110")
        await world.until(lambda: any("EXIT_TOO_LARGE" in text for _, text in world.alerts))
        await trio.sleep(30)
    assert sum("EXIT_TOO_LARGE" in text for _, text in world.alerts) == 1


async def test_exit_that_a_kill_switch_kept_from_leaving_is_placed_after_it(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
        world.broker.latency_s = 3
        await entered(world)
        await world.until(lambda: bool(of_role(world, OrderRole.TARGET, OrderStatus.PENDING)))
        world.block()
        await world.until(lambda: bool(of_role(world, OrderRole.TARGET, CANCELLED)))
        await trio.sleep(30)
        assert at_market(world) == 10, "the stop alone left before the switch"
        world.release()
        await protected(world)


async def test_fill_that_comes_after_all_was_closed_is_protected_once(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        entry = await entered(world, 4)
        stop, target = await protected(world)
        world.broker.change(entry, CANCELLED)
        world.broker.fill(target.broker_order_id or "", price="110")
        await world.until_status(stop, CANCELLED)
        await world.until(lambda: world.held() == 0)
        await trio.sleep(5)
        world.broker.trade(entry, 6)
        world.broker.change(entry, COMPLETE, filled=10)
        await world.executor.reconcile()
        await world.until(lambda: world.held() == 6)
        await world.until(lambda: at_market(world) == 12)
        await protected(world)
    assert [o.quantity for o in of_role(world, OrderRole.STOP, TRIGGER_PENDING)] == [6]
    after = await crashed(world)
    before = len(after.broker.left)
    async with running(after):
        await trio.sleep(30)
        assert at_market(after) == 12
    assert (len(after.broker.left), after.broker.cancels) == (before, world.broker.cancels)


async def test_entry_found_filled_after_it_was_given_up_is_protected(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        world.broker.answers = [answer(Unknown(reason="lost"), placed=OrderStatus.OPEN)]
        world.broker.hide.add("100000001")
        deliver(world)
        await world.until(lambda: bool(of_role(world, OrderRole.ENTRY, OrderStatus.EXPIRED)))
        await trio.sleep(5)
        world.broker.fill("100000001")
        world.broker.hide.clear()
        await protected(world)


async def test_clock_that_is_set_back_does_not_keep_a_refused_stop_waiting(autojump_clock: Any) -> None:
    world = World()
    refusal = Refused(code=RefusalCode.PRICE_RANGE, message="trigger price", status=400)
    async with running(world):
        deliver(world, target=None)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
        world.broker.answers = [answer(refusal)]
        await entered(world)
        await world.until(lambda: bool(of_role(world, OrderRole.STOP, OrderStatus.REJECTED)))
        world.clock.step, world.suspect = -3600.0, "the wall clock was set back"
        began = trio.current_time()
        await world.until(lambda: bool(of_role(world, OrderRole.STOP, TRIGGER_PENDING)), timeout_s=7200)
        assert trio.current_time() - began < 60


async def test_exit_is_not_placed_anew_when_what_it_was_for_is_closed_meanwhile(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        stop, target = await protected(world)
        world.executor.desk.change(world.row(stop), "test", modifications=25)
        world.broker.cancel_latency_s = 3
        async with trio.open_nursery() as nursery:

            async def change() -> None:
                with pytest.raises(ConflictError):
                    await world.executor.modify(stop.id, Terms(trigger_price=Decimal(97)), by="user:1")

            nursery.start_soon(change)
            await world.until(lambda: bool(world.broker.cancels))
            world.broker.fill(target.broker_order_id or "", price="110")
        await trio.sleep(30)
    assert len(world.broker.left) == 3


async def test_entry_that_filled_last_is_covered_when_one_look_shows_several(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        for key in ("k1", "k2"):
            deliver(world, key=key)
        await world.until(lambda: sum(bool(o.broker_order_id) for o in of_role(world, OrderRole.ENTRY)) == 2)
        older, newer = sorted(of_role(world, OrderRole.ENTRY), key=lambda order: (order.created_at, order.id))
        world.broker.book_down = BrokerUnavailable("scripted")
        for entry in (newer, older):
            world.broker.fill(entry.broker_order_id or "")
            await trio.sleep(2)
        world.broker.fill(world.broker.by_hand(side="SELL"))
        world.broker.book_down = None
        await trio.sleep(60)
    live = [*of_role(world, OrderRole.STOP, TRIGGER_PENDING), *of_role(world, OrderRole.TARGET, OrderStatus.OPEN)]
    assert [order.parent_id for order in live] == [older.id, older.id]
