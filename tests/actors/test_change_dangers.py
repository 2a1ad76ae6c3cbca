"""Changes and slices where they could do harm: what risk holds meanwhile, and whose turn it is."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import trio

from engine.actors.intake import Passage
from engine.actors.modifying import Terms, with_terms
from engine.actors.risk import RiskActor
from engine.broker.base import RefusalCode, Refused, Unknown
from engine.domain.enums import IntentStatus, OrderStatus, TransactionType
from engine.domain.intent import RESLICED, outcome
from engine.domain.order import Order
from engine.errors import ConflictError, UnavailableError
from tests.support.desk import World, a_delivery, a_signal, answer, crashed, running
from tests.support.trade import USER

OPEN = OrderStatus.OPEN
TEXT = "The order quantity 10 (10 lots) is higher than the maximum quantity of 4 (4 lots) allowed by the exchanges."
TOO_LARGE = Refused(code=RefusalCode.FREEZE_QUANTITY, message=TEXT, status=400)


async def decided(world: World) -> tuple[Order, RiskActor]:
    """Have a signal's order rest at the broker; return it and the actor that approved it."""
    world.crew.decide(Passage(a_delivery(world), world.kill.turn))
    await world.until(lambda: any(o.status is OPEN for o in world.store.orders.values()))
    (order,) = world.store.orders.values()
    return order, world.crew.risk(USER)


async def test_larger_quantity_is_held_until_the_book_shows_what_became_of_it(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order, risk = await decided(world)
        terms = Terms(quantity=15)
        assert not risk.judge_change(order, with_terms(order, terms))
        world.broker.change_answers = [Unknown(reason="lost")]
        await world.executor.modify(order.id, terms, by="user:1")
        await trio.sleep(1)
        assert risk.state.reserved_quantity() == 15, "it may be as large as that at the broker"


async def test_part_fill_in_between_does_not_shrink_what_is_held(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order, risk = await decided(world)
        terms = Terms(quantity=15)
        assert not risk.judge_change(order, with_terms(order, terms))
        world.broker.cancel_latency_s = 5
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: world.executor.modify(order.id, terms, by="user:1"))
            await world.until(lambda: bool(world.broker.changes))
            world.broker.fill(order.broker_order_id or "", 4)
            await world.until(lambda: world.row(order).filled_quantity == 4)
            await trio.sleep(0.5)
            assert risk.state.reserved_quantity() == 11
        await world.until(lambda: world.row(order).quantity == 15)
        assert risk.state.reserved_quantity() == 11


async def test_change_that_was_never_asked_for_holds_nothing(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order, risk = await decided(world)
        world.broker.change_answers = [Unknown(reason="lost")]
        await world.executor.modify(order.id, Terms(price=Decimal(101)), by="user:1")
        assert not risk.judge_change(order, with_terms(order, Terms(quantity=15)))
        with pytest.raises(ConflictError):
            await world.executor.modify(order.id, Terms(quantity=15), by="user:1")
        await world.until(lambda: risk.state.reserved_quantity() == 10)


async def test_change_without_a_session_holds_nothing(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order, risk = await decided(world)
        assert not risk.judge_change(order, with_terms(order, Terms(quantity=15)))
        world.executor.reset_session()
        world.open_error = UnavailableError("scripted", retry_after_s=1)
        with pytest.raises(UnavailableError):
            await world.executor.modify(order.id, Terms(quantity=15), by="user:1")
        await world.until(lambda: risk.state.reserved_quantity() == 10)


async def test_slices_live_no_longer_than_their_signal(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        taken = answer(Unknown(reason="lost"), after_s=10, placed=OPEN)
        world.broker.answers = [answer(TOO_LARGE, after_s=25), taken]
        received = world.clock.now() - timedelta(seconds=30)
        passage = Passage(a_delivery(world, received_at=received), world.kill.turn)
        world.crew.decide(passage)
        (intent_id,) = passage.intents
        await world.until(lambda: intent_id in world.store.intents)
        left: list[float] = []
        world.broker.on_left = lambda _: left.append((world.clock.now() - received).total_seconds())
        await trio.sleep(120)
    assert len(left) == 1, "the second one's turn came too late"
    assert max(left) <= 60


async def test_slices_come_before_what_was_accepted_after_their_order(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        world.broker.answers = [answer(TOO_LARGE, after_s=2)]
        first = Passage(a_delivery(world), world.kill.turn)
        world.crew.decide(first)
        await world.until(lambda: len(world.broker.left) == 1)
        closing = a_signal(transaction_type=TransactionType.SELL, quantity=3)
        world.crew.decide(Passage(a_delivery(world, closing, key="k2"), world.kill.turn))
        await world.until(lambda: len(world.broker.left) == 5)
        await world.until(lambda: all(o.status is not OrderStatus.SUBMITTING for o in world.store.orders.values()))
        assert [order.quantity for order in world.broker.left] == [10, 4, 4, 2, 3]
        (intent_id,) = first.intents
        assert world.intent_status(intent_id) is IntentStatus.EXECUTING


async def test_cancel_by_a_person_ends_a_replacement_under_way(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order, _ = await decided(world)
        world.executor.desk.change(world.row(order), "test", modifications=25)
        world.broker.cancel_latency_s = 2
        async with trio.open_nursery() as nursery:

            async def change() -> None:
                with pytest.raises(ConflictError):
                    await world.executor.modify(order.id, Terms(quantity=15), by="user:1")

            nursery.start_soon(change)
            await world.until(lambda: bool(world.broker.cancels))
            await world.executor.start_cancel_all(by="user:2").wait()
        await trio.sleep(30)
    assert len(world.broker.left) == 1


async def test_slice_of_an_exit_that_cannot_be_sent_is_told_to_a_person(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order, _ = await decided(world)
        world.broker.fill(order.broker_order_id or "")
        await world.until(lambda: world.held() == 10)
        no = answer(Refused(code=RefusalCode.OTHER, message="not today", status=400))
        world.broker.answers = [answer(TOO_LARGE), no]
        closing = a_signal(transaction_type=TransactionType.SELL)
        world.crew.decide(Passage(a_delivery(world, closing, key="k2"), world.kill.turn))
        await world.until(lambda: len(world.broker.left) == 5)
        await world.until(lambda: any("EXIT_NOT_DONE" in text for _, text in world.alerts))
    (told,) = [text for _, text in world.alerts if "EXIT_NOT_DONE" in text]
    assert "not today" in told


def test_order_in_slices_that_nobody_has_is_not_executed() -> None:
    alone = [(OrderStatus.REJECTED, 10, 0, f"{RESLICED}: placed as 3 orders")]
    assert outcome(alone)[0] is IntentStatus.FAILED
    assert outcome([*alone, (OrderStatus.COMPLETE, 10, 10, None)])[0] is IntentStatus.EXECUTED


async def test_word_about_an_order_that_has_filled_meanwhile_does_not_bring_it_back(autojump_clock: Any) -> None:
    world = World()
    cap = Refused(code=RefusalCode.MODIFICATION_CAP, message="Maximum allowed order modifications", status=400)
    async with running(world):
        order, _ = await decided(world)
        world.broker.change_answers = [cap]
        world.broker.cancel_latency_s = 5
        async with trio.open_nursery() as nursery:

            async def change() -> None:
                with pytest.raises(ConflictError):
                    await world.executor.modify(order.id, Terms(price=Decimal(101)), by="user:1")

            nursery.start_soon(change)
            await world.until(lambda: bool(world.broker.changes))
            world.broker.fill(order.broker_order_id or "")
            await world.until_status(order, OrderStatus.COMPLETE)
        await trio.sleep(1)
        assert world.status(order) is OrderStatus.COMPLETE
        assert world.held() == 10, "its trades are booked once"
    assert not world.broker.cancels


def shows(world: World, order: Order, quantity: int) -> None:
    """Have the broker's row of an order come to *quantity*."""
    broker_id = order.broker_order_id or ""
    world.broker.rows[broker_id] = msgspec.structs.replace(world.broker.rows[broker_id], quantity=quantity)


async def test_order_that_a_change_made_smaller_before_a_crash_is_known_to_be(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order, _ = await decided(world)
    after = await crashed(world)
    shows(after, order, 6)
    async with running(after):
        await after.until(lambda: after.row(order).quantity == 6)
        after.broker.fill(order.broker_order_id or "")
        await after.until_status(order, OrderStatus.COMPLETE)
    assert after.held() == 6


async def test_order_that_a_cached_book_showed_as_it_was_is_smaller_again(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order, _ = await decided(world)
        await world.executor.modify(order.id, Terms(quantity=6), by="user:1")
        await world.until(lambda: world.row(order).quantity == 6)
        shows(world, order, 10)
        await world.until(lambda: world.row(order).quantity == 10)
        shows(world, order, 6)
        await world.until(lambda: world.row(order).quantity == 6)


async def test_slices_that_the_broker_made_of_an_order_do_not_make_it_smaller(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        order, _ = await decided(world)
        world.broker.put(order, OPEN, quantity=6)
        shows(world, order, 4)
        await trio.sleep(20)
        assert world.row(order).quantity == 10
        assert not world.broker.cancels
