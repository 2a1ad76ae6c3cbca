"""Changing and cancelling orders that work at the broker; orders that become several at the broker."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
import trio

from engine.actors.intake import Passage
from engine.actors.modifying import Terms, with_terms
from engine.broker.base import NotSent, RefusalCode, Refused, Unknown
from engine.domain.enums import IntentStatus, OrderStatus, OrderType, Variety
from engine.domain.order import Order
from engine.errors import ConflictError, OrderExecutionError, UnavailableError
from tests.support.desk import World, a_delivery, a_signal, answer, running
from tests.support.trade import USER, an_order

OPEN, CANCELLED, COMPLETE = OrderStatus.OPEN, OrderStatus.CANCELLED, OrderStatus.COMPLETE


async def resting(world: World, **fields: Any) -> Order:
    """Send an order and wait until it rests at the broker."""
    order = world.order(**fields)
    world.submit(order)
    await world.until_status(order, OPEN)
    return world.row(order)


async def test_change_reaches_the_broker_and_the_books_follow_its_book(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order = await resting(world)
        changed = await world.executor.modify(order.id, Terms(price=Decimal(101), quantity=12), by="user:1")
        assert world.broker.changes == [(order.broker_order_id, {"price": Decimal(101), "quantity": 12})]
        assert (changed.price, changed.quantity, changed.modifications) == (Decimal(101), 12, 1)
        await world.until(lambda: world.row(order).price == Decimal(101))


async def test_refused_change_leaves_the_order_as_it_was(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order = await resting(world)
        world.broker.change_answers = [Refused(code=RefusalCode.ORDER_BUSY, message="being processed", status=400)]
        with pytest.raises(OrderExecutionError, match="being processed"):
            await world.executor.modify(order.id, Terms(price=Decimal(101)), by="user:1")
        assert world.row(order).price == Decimal(100)
        assert world.row(order).modifications == 0


async def test_change_of_unknown_outcome_is_what_the_book_shows(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order = await resting(world)
        world.broker.change_answers = [Unknown(reason="lost")]
        changed = await world.executor.modify(order.id, Terms(price=Decimal(101)), by="user:1")
        assert changed.price == Decimal(100)
        assert changed.modifications == 1, "it may have counted at the broker"


async def test_twenty_sixth_change_cancels_and_places_the_rest_anew(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order = await resting(world)
        world.broker.fill(order.broker_order_id or "", 4)
        await world.until(lambda: world.row(order).filled_quantity == 4)
        world.executor.desk.change(world.row(order), "test", modifications=25)
        anew = await world.executor.modify(order.id, Terms(price=Decimal(102)), by="user:1")
        await world.until_status(anew, OPEN)
    assert world.status(order) is CANCELLED
    assert (anew.parent_id, anew.quantity, anew.price) == (order.id, 6, Decimal(102))
    assert not world.broker.changes


async def test_cap_told_by_the_broker_does_the_same(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order = await resting(world)
        cap = Refused(code=RefusalCode.MODIFICATION_CAP, message="Maximum allowed order modifications", status=400)
        world.broker.change_answers = [cap]
        anew = await world.executor.modify(order.id, Terms(quantity=7), by="user:1")
        await world.until_status(anew, OPEN)
    assert (anew.parent_id, anew.quantity) == (order.id, 7)


async def test_order_is_not_placed_anew_unless_it_is_cancelled_for_sure(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order = await resting(world)
        world.executor.desk.change(world.row(order), "test", modifications=25)
        world.broker.cancel_answer = Unknown(reason="lost")
        with pytest.raises(UnavailableError):
            await world.executor.modify(order.id, Terms(quantity=7), by="user:1")
        await trio.sleep(60)
    assert len(world.broker.left) == 1


async def test_change_stops_at_a_kill_switch_that_comes_in_between(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order = await resting(world)
        world.block()
        with pytest.raises(OrderExecutionError, match="KILL_SWITCH"):
            await world.executor.modify(order.id, Terms(quantity=20), by="user:1")
    assert not world.broker.changes


async def test_order_that_is_not_open_can_not_be_changed(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        world.broker.answers = [answer(Unknown(reason="lost"))]
        order = world.order()
        world.submit(order)
        await world.until_status(order, OrderStatus.UNKNOWN)
        with pytest.raises(ConflictError):
            await world.executor.modify(order.id, Terms(quantity=20), by="user:1")


async def test_larger_order_is_held_against_the_limits_and_reserved(autojump_clock: Any) -> None:
    world = World(limits={"max_order_quantity": 15})
    async with running(world):
        passage = Passage(a_delivery(world), world.kill.turn)
        world.crew.decide(passage)
        await world.until(lambda: any(o.status is OPEN for o in world.store.orders.values()))
        (order,) = world.store.orders.values()
        risk = world.crew.risk(USER)
        denials = risk.judge_change(order, with_terms(order, Terms(quantity=16)))
        assert [denial.code for denial in denials] == ["MAX_ORDER_QUANTITY"]
        assert not risk.judge_change(order, with_terms(order, Terms(quantity=15)))
        assert risk.state.reserved_quantity() == 15
        world.broker.change_answers = [NotSent(reason="refused")]
        with pytest.raises(OrderExecutionError):
            await world.executor.modify(order.id, Terms(quantity=15), by="user:1")
        await world.until(lambda: risk.state.reserved_quantity() == 10)


async def test_cancel_all_ends_what_waits_and_what_rests(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        orders = [await resting(world, symbol=symbol) for symbol in ("INFY", "SBIN", "TCS")]
        world.broker.latency_s = 30
        busy, behind = world.order("INFY"), world.order("INFY")
        world.submit(busy)
        world.submit(behind)
        await world.until_status(behind, OrderStatus.PENDING)
        ends = (await world.executor.start_cancel_all(by="user:1").wait()).orders
        problems = {end.order.id: end.problem for end in ends if end.problem is not None}
        assert set(problems) == {busy.id}, "the broker has not confirmed that one yet"
        for order in (*orders, behind):
            await world.until_status(order, CANCELLED)


async def test_cancel_all_of_one_symbol_leaves_the_others(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        infy, sbin = await resting(world, symbol="INFY"), await resting(world, symbol="SBIN")
        await world.executor.start_cancel_all(by="user:1", symbol="SBIN").wait()
        await world.until_status(sbin, CANCELLED)
        assert world.status(infy) is OPEN


async def test_quantity_over_the_freeze_quantity_goes_in_slices(autojump_clock: Any) -> None:
    world = World()
    world.freeze(4)
    async with running(world):
        passage = Passage(a_delivery(world), world.kill.turn)
        world.crew.decide(passage)
        await world.until(lambda: len(world.broker.left) == 3)
        for order in list(world.store.orders.values()):
            await world.until_status(order, OPEN)
        assert world.crew.risk(USER).state.reserved_quantity() == 10
        for order in list(world.store.orders.values()):
            world.broker.fill(order.broker_order_id or "")
        (intent_id,) = passage.intents
        await world.until(lambda: world.intent_status(intent_id) is IntentStatus.EXECUTED)
    assert [order.quantity for order in world.broker.left] == [4, 4, 2]


async def test_order_refused_for_its_size_is_placed_in_slices_and_the_size_is_learned(autojump_clock: Any) -> None:
    world = World()
    text = "The order quantity 10 (10 lots) is higher than the maximum quantity of 4 (4 lots) allowed by the exchanges."
    async with running(world):
        world.broker.answers = [answer(Refused(code=RefusalCode.FREEZE_QUANTITY, message=text, status=400))]
        passage = Passage(a_delivery(world), world.kill.turn)
        world.crew.decide(passage)
        await world.until(lambda: len(world.broker.left) == 4)
        await world.until(lambda: sum(o.status is OPEN for o in world.store.orders.values()) == 3)
        for order in list(world.store.orders.values()):
            if order.broker_order_id is not None:
                world.broker.fill(order.broker_order_id)
        (intent_id,) = passage.intents
        await world.until(lambda: world.intent_status(intent_id) is IntentStatus.EXECUTED)
        assert world.held() == 10
    assert [order.quantity for order in world.broker.left] == [10, 4, 4, 2]
    assert world.learned == [("NSE:INFY", 4)]


async def test_absurd_quantity_is_rejected_rather_than_sliced(autojump_clock: Any) -> None:
    world = World()
    world.freeze(1)
    async with running(world):
        passage = Passage(a_delivery(world, a_signal(quantity=51)), world.kill.turn)
        world.crew.decide(passage)
        (intent_id,) = passage.intents
        await world.until(lambda: intent_id in world.store.intents)
    assert world.intent_status(intent_id) is IntentStatus.REJECTED
    assert "TOO_MANY_SLICES" in world.store.intents[intent_id].reason


async def test_legs_of_an_iceberg_are_one_order(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order = world.order(quantity=30, variety=Variety.ICEBERG)
        world.submit(order)
        await world.until(lambda: order.id in world.store.orders and world.row(order).broker_order_id is not None)
        first = world.row(order).broker_order_id or ""
        leg = {"quantity": 10, "variety": "iceberg"}
        world.broker.rows[first] = msgspec.structs.replace(world.broker.rows[first], **leg)
        world.broker.fill(first)
        await world.until(lambda: world.row(order).filled_quantity == 10)
        assert world.status(order) is OrderStatus.PARTIALLY_FILLED
        second = world.broker.put(order, **leg)
        await world.executor.reconcile()
        await world.executor.cancel(order.id, by="user:1")
        await world.until_status(order, CANCELLED)
        assert world.held() == 10
    assert world.broker.cancels == [second], "the leg that works is cancelled, once"
    assert not world.alerts


@pytest.mark.parametrize(
    ("terms", "price", "trigger"),
    [
        (Terms(order_type=OrderType.MARKET), None, None),
        (Terms(order_type=OrderType.LIMIT, price=Decimal(9)), Decimal(9), None),
        (Terms(trigger_price=Decimal(8)), Decimal(100), Decimal(8)),
    ],
)
def test_terms_drop_what_the_new_type_does_not_take(
    terms: Terms, price: Decimal | None, trigger: Decimal | None
) -> None:
    before = an_order(order_type=OrderType.SL, trigger_price=Decimal(99))
    after = with_terms(before, terms)
    assert (after.price, after.trigger_price) == (price, trigger)


async def test_stop_of_a_cover_order_is_adopted_and_never_cancelled_as_one_too_many(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order = world.order(variety=Variety.CO, trigger_price=Decimal(95))
        world.submit(order)
        await world.until_status(order, OPEN)
        parent = world.row(order).broker_order_id or ""
        world.broker.fill(parent)
        leg = world.broker.put(
            order, OrderStatus.TRIGGER_PENDING, transaction_type="SELL", parent_order_id=parent, product="CO"
        )
        await world.until(lambda: any(o.is_external for o in world.store.orders.values()))
        (stop,) = [o for o in world.store.orders.values() if o.is_external]
        await trio.sleep(10)
        assert world.broker.cancels == []
        await world.executor.cancel(stop.id, by="user:1")
    assert world.broker.cancels == [leg]
    assert world.broker.parents == [parent]
