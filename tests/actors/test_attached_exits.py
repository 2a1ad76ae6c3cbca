"""Stop loss and target of a signal: placed when the entry fills, sized to it, one cancels the other."""

from decimal import Decimal
from typing import Any

import msgspec
import trio

from engine.actors.intake import Passage
from engine.actors.modifying import Terms
from engine.broker.base import Accepted, RefusalCode, Refused, Unknown
from engine.domain.enums import IntentStatus, OrderStatus, OrderType, ProductType, TransactionType
from engine.domain.options import OrderRole
from engine.domain.order import Order
from engine.errors import BrokerUnavailable
from tests.support.desk import World, a_delivery, a_signal, answer, crashed, running
from tests.support.exits import deliver, entered, of_role, protected
from tests.support.trade import ACCOUNT

SHORT: dict[str, Any] = {"transaction_type": TransactionType.SELL}
OPEN, COMPLETE, CANCELLED = OrderStatus.OPEN, OrderStatus.COMPLETE, OrderStatus.CANCELLED


async def test_fill_places_stop_and_target_of_its_size(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        passage = deliver(world)
        await entered(world)
        stop, target = await protected(world)
        (intent_id,) = passage.intents
        await world.until(lambda: world.intent_status(intent_id) is IntentStatus.EXECUTED)
    assert (stop.transaction_type, stop.quantity, stop.order_type) == (TransactionType.SELL, 10, OrderType.SL_M)
    assert (stop.trigger_price, stop.market_protection) == (Decimal(95), Decimal(-1))
    assert (target.transaction_type, target.quantity, target.price) == (TransactionType.SELL, 10, Decimal(110))
    assert {stop.parent_id, target.parent_id} == {of_role(world, OrderRole.ENTRY)[0].id}
    assert {stop.intent_id, target.intent_id} == {intent_id}


async def test_entry_that_does_not_fill_has_no_exits(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
        await trio.sleep(5)
    assert len(world.broker.left) == 1


async def test_target_that_fills_cancels_the_stop_and_the_position_is_flat(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        stop, target = await protected(world)
        world.broker.fill(target.broker_order_id or "", price="110")
        await world.until_status(stop, CANCELLED)
        await world.until_status(target, COMPLETE)
        assert world.held() == 0
        await trio.sleep(10)
    assert len(world.broker.left) == 3, "nothing is placed again"


async def test_stop_that_triggers_cancels_the_target(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        stop, target = await protected(world)
        world.broker.change(stop.broker_order_id or "", OPEN)
        await world.until_status(target, CANCELLED)
        world.broker.fill(stop.broker_order_id or "", price="94")
        await world.until_status(stop, COMPLETE)
        assert world.held() == 0


async def test_each_part_fill_is_protected_at_once(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        entry = await entered(world, 4)
        await protected(world)
        world.broker.fill(entry, 6)
        await protected(world, units=2)
    assert sorted(o.quantity for o in of_role(world, OrderRole.STOP)) == [4, 6]
    assert sorted(o.quantity for o in of_role(world, OrderRole.TARGET)) == [4, 6]


async def test_target_that_fills_in_part_makes_the_stop_smaller(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        stop, target = await protected(world)
        world.broker.fill(target.broker_order_id or "", 3, price="110")
        await world.until(lambda: world.row(stop).quantity == 7)
    assert world.broker.changes == [(stop.broker_order_id, {"quantity": 7})]
    assert world.row(stop).modifications == 1


async def test_change_that_the_broker_refuses_is_asked_for_again(autojump_clock: Any) -> None:
    world = World()
    busy = Refused(code=RefusalCode.ORDER_BUSY, message="being processed", status=400)
    world.broker.change_answers = [busy, Unknown(reason="lost"), Accepted(broker_order_id="x")]
    async with running(world):
        deliver(world)
        await entered(world)
        stop, target = await protected(world)
        world.broker.fill(target.broker_order_id or "", 3, price="110")
        await world.until(lambda: world.row(stop).quantity == 7)
    assert world.broker.changes[0][1] == {"quantity": 7}


async def test_position_closed_by_another_signal_takes_the_exits_out_of_the_market(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        stop, target = await protected(world)
        closing = world.broker.by_hand(side="SELL")
        world.broker.fill(closing)
        await world.executor.reconcile()
        await world.until_status(stop, CANCELLED)
        await world.until_status(target, CANCELLED)


async def test_exit_signal_is_still_an_exit_beside_the_attached_ones(autojump_clock: Any) -> None:
    world = World(limits={"max_open_positions": 1, "max_position_pct": Decimal("0.11")})
    async with running(world):
        deliver(world)
        await entered(world)
        await protected(world)
        sell = a_signal(transaction_type=TransactionType.SELL, price=Decimal(101))
        passage = Passage(a_delivery(world, sell, key="k2"), world.kill.turn)
        world.crew.decide(passage)
        (intent_id,) = passage.intents
        await world.until(lambda: intent_id in world.store.intents)
    assert world.intent_status(intent_id) is IntentStatus.EXECUTING


async def test_exit_that_could_not_be_sent_is_sent_again_under_another_name(autojump_clock: Any) -> None:
    world = World()
    refusal = Refused(code=RefusalCode.PRICE_RANGE, message="trigger price", status=400)
    async with running(world):
        deliver(world)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
        world.broker.answers = [answer(refusal)]
        await entered(world)
        await protected(world)
    assert [o.status for o in of_role(world, OrderRole.STOP)].count(OrderStatus.REJECTED) == 1
    assert len({o.tag for o in world.broker.left}) == len(world.broker.left)


async def test_stop_refused_three_times_raises_an_alert_and_is_left_to_a_person(autojump_clock: Any) -> None:
    world = World()
    refusal = Refused(code=RefusalCode.PRICE_RANGE, message="no such trigger", status=400)
    async with running(world):
        deliver(world, target=None)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
        world.broker.answers = [answer(refusal) for _ in range(9)]
        await entered(world)
        await world.until(lambda: any("EXIT_NOT_PLACED" in text for _, text in world.alerts))
        await trio.sleep(60)
    assert len(of_role(world, OrderRole.STOP)) == 3
    assert sum("EXIT_NOT_PLACED" in text for _, text in world.alerts) == 1


async def test_exit_of_unknown_outcome_is_not_doubled(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world, target=None)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
        world.broker.answers = [answer(Unknown(reason="lost"), placed=OrderStatus.TRIGGER_PENDING)]
        await entered(world)
        await world.until(lambda: bool(of_role(world, OrderRole.STOP, OrderStatus.TRIGGER_PENDING)))
        await trio.sleep(10)
    assert len(of_role(world, OrderRole.STOP)) == 1


async def test_nothing_is_placed_under_a_kill_switch_and_all_of_it_after(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
        world.block()
        await entered(world)
        await world.until(lambda: any("EXIT_WAITS" in text for _, text in world.alerts))
        assert len(world.broker.left) == 1
        world.release()
        await protected(world)


async def test_exits_outlive_a_crash_of_the_engine_and_are_placed_once(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world, 4)
        await protected(world)
        (entry,) = of_role(world, OrderRole.ENTRY)
        world.broker.fill(entry.broker_order_id or "", 6)
    after = await crashed(world)
    async with running(after):
        await protected(after, units=2)
        stops = of_role(after, OrderRole.STOP)
        after.broker.fill(of_role(after, OrderRole.TARGET)[0].broker_order_id or "", price="110")
        await after.until(lambda: len(of_role(after, OrderRole.STOP, CANCELLED)) == 1)
    assert sorted(o.quantity for o in stops) == [4, 6]


async def test_person_s_cancel_of_an_exit_is_respected(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        stop, _ = await protected(world)
        await world.executor.cancel(stop.id, by="user:1")
        await world.until_status(stop, CANCELLED)
        await trio.sleep(30)
    assert len(of_role(world, OrderRole.STOP)) == 1
    assert len(of_role(world, OrderRole.TARGET, OPEN)) == 1


async def test_account_s_protection_is_on_the_stop(autojump_clock: Any) -> None:
    world = World()
    account = world.directory.accounts[ACCOUNT]
    world.directory.put_account(msgspec.structs.replace(account, market_protection=Decimal(3)))
    async with running(world):
        deliver(world, product_type=ProductType.MIS)
        await entered(world)
        stop, _ = await protected(world)
    assert stop.market_protection == 3


async def test_entry_whose_exits_somebody_took_away_leaves_another_s_alone_after_a_crash(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world, target=None)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
        older = of_role(world, OrderRole.ENTRY)[0]
        world.crew.decide(Passage(a_delivery(world, a_signal(stop_loss=Decimal(94)), key="k2"), world.kill.turn))
        await world.until(lambda: sum(bool(o.broker_order_id) for o in of_role(world, OrderRole.ENTRY)) == 2)
        newer = next(o for o in of_role(world, OrderRole.ENTRY) if o.id != older.id)
        world.broker.fill(newer.broker_order_id or "")
        await world.until(lambda: bool(of_role(world, OrderRole.STOP, OrderStatus.TRIGGER_PENDING)))
        await world.executor.cancel(of_role(world, OrderRole.STOP)[0].id, by="user:1")
        world.broker.fill(world.broker.by_hand(side="SELL"))
        await world.executor.reconcile()
        world.broker.fill(older.broker_order_id or "")
        await world.until(lambda: bool(of_role(world, OrderRole.STOP, OrderStatus.TRIGGER_PENDING)))
    after = await crashed(world)
    async with running(after):
        await trio.sleep(10)
        (stop,) = of_role(after, OrderRole.STOP, OrderStatus.TRIGGER_PENDING)
    assert (stop.parent_id, stop.quantity) == (older.id, 10)


async def test_entry_is_covered_when_an_order_in_doubt_turns_out_filled_on_its_side(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        long = Passage(a_delivery(world, a_signal(), key="k0"), world.kill.turn)
        world.crew.decide(long)
        await entered(world)
        await world.until(lambda: world.held() == 10)
        world.crew.decide(
            Passage(
                a_delivery(world, a_signal(**SHORT, quantity=10, stop_loss=Decimal(105)), key="k1"), world.kill.turn
            )
        )
        await world.until(lambda: sum(bool(o.broker_order_id) for o in of_role(world, OrderRole.ENTRY)) == 2)
        short = next(o for o in of_role(world, OrderRole.ENTRY) if o.stop_loss is not None)
        world.broker.answers = [answer(Unknown(reason="lost"), placed=OPEN)]
        world.broker.book_down = BrokerUnavailable("HTTP 503")
        world.crew.decide(Passage(a_delivery(world, a_signal(**SHORT, quantity=4), key="k2"), world.kill.turn))
        await world.until(lambda: any(o.status is OrderStatus.UNKNOWN for o in of_role(world, OrderRole.ENTRY)))
        doubted = next(row for row in world.broker.rows.values() if row.quantity == 4)
        world.broker.hide = {doubted.broker_order_id}
        world.broker.book_down = None
        world.broker.fill(short.broker_order_id or "")
        await world.until_status(short, COMPLETE)
        assert world.held() == 0
        await trio.sleep(5)
        world.broker.hide = set()
        world.broker.fill(doubted.broker_order_id)
        await world.until(lambda: world.held() == -4)
        await world.until(lambda: bool(of_role(world, OrderRole.STOP, OrderStatus.TRIGGER_PENDING)), timeout_s=20)
        (stop,) = of_role(world, OrderRole.STOP)
    assert (stop.parent_id, stop.quantity) == (short.id, 4)


async def test_entries_of_an_earlier_day_place_nothing_on_what_is_bought_today(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        stop, target = await protected(world)
    for order in (stop, target):
        # the day ended with them at the broker
        world.store.orders[order.id] = msgspec.structs.replace(order, status=OrderStatus.EXPIRED)
    after = await crashed(world)
    after.clock.sleep(86_400)
    async with running(after):
        sent = len(after.broker.left)
        after.crew.decide(Passage(a_delivery(after, a_signal(), key="k2"), after.kill.turn))
        await after.until(lambda: len(after.broker.left) == sent + 1)
        after.broker.fill(next(reversed(after.broker.rows)))
        await trio.sleep(10)
        assert len(after.broker.left) == sent + 1


async def test_exit_that_a_person_changes_once_too_often_is_replaced_and_still_belongs_to_its_unit(
    autojump_clock: Any,
) -> None:
    world = World()
    cap = Refused(
        code=RefusalCode.MODIFICATION_CAP, message="Maximum allowed order modifications exceeded.", status=429
    )
    async with running(world):
        deliver(world)
        await entered(world)
        stop, target = await protected(world)
        world.broker.change_answers = [cap]
        changed = await world.executor.modify(stop.id, Terms(trigger_price=Decimal(96)), by="user:1")
        await world.until_status(changed, OrderStatus.TRIGGER_PENDING)
        await trio.sleep(10)
        live = [o for o in of_role(world, OrderRole.STOP) if not o.status.is_terminal]
        assert [(o.id, o.trigger_price, o.quantity) for o in live] == [(changed.id, Decimal(96), 10)]
        world.broker.fill(target.broker_order_id or "", 3, price="110")
        await world.until(lambda: world.row(changed).quantity == 7)
        world.broker.fill(target.broker_order_id or "", price="110")
        await world.until_status(changed, CANCELLED)
    assert len(of_role(world, OrderRole.STOP)) == 2


async def test_stop_that_must_shrink_and_has_no_changes_left_at_the_broker_is_placed_anew(autojump_clock: Any) -> None:
    world = World()
    cap = Refused(
        code=RefusalCode.MODIFICATION_CAP, message="Maximum allowed order modifications exceeded.", status=429
    )
    async with running(world):
        deliver(world)
        await entered(world)
        stop, target = await protected(world)
        # somebody has changed it 25 times by hand
        world.broker.change_answers = [cap] * 9
        world.broker.fill(target.broker_order_id or "", 3, price="110")
        await world.until_status(stop, CANCELLED, timeout_s=20)
        await world.until(
            lambda: any(o.quantity == 7 for o in of_role(world, OrderRole.STOP, OrderStatus.TRIGGER_PENDING))
        )


async def test_clock_that_is_set_back_does_not_keep_an_exit_waiting(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world, target=None)
        await entered(world)
        stop = await rested(world)
        world.clock.step = -3600.0
        world.broker.change(stop.broker_order_id or "", OrderStatus.REJECTED)
        await world.until_status(stop, OrderStatus.REJECTED)
        world.clock.step = -7200.0
        await world.until(lambda: bool(of_role(world, OrderRole.STOP, OrderStatus.TRIGGER_PENDING)), timeout_s=30)
    assert len(of_role(world, OrderRole.STOP)) == 2


async def rested(world: World) -> Order:
    """Wait until a stop rests at the broker and return it."""
    await world.until(lambda: bool(of_role(world, OrderRole.STOP, OrderStatus.TRIGGER_PENDING)))
    return of_role(world, OrderRole.STOP)[-1]


async def test_position_that_is_left_belongs_to_the_entry_that_filled_last(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world, target=None)
        await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
        resting = of_role(world, OrderRole.ENTRY)[0]
        world.crew.decide(Passage(a_delivery(world, a_signal(stop_loss=Decimal(90)), key="k2"), world.kill.turn))
        await world.until(lambda: sum(bool(o.broker_order_id) for o in of_role(world, OrderRole.ENTRY)) == 2)
        early = next(o for o in of_role(world, OrderRole.ENTRY) if o.id != resting.id)
        world.broker.fill(early.broker_order_id or "")
        await rested(world)
        world.broker.fill(resting.broker_order_id or "")
        await world.until(lambda: len(of_role(world, OrderRole.STOP, OrderStatus.TRIGGER_PENDING)) == 2)
        world.broker.fill(world.broker.by_hand(side="SELL"))
        await world.executor.reconcile()
        await world.until(lambda: len(of_role(world, OrderRole.STOP, CANCELLED)) == 1)
        (stop,) = of_role(world, OrderRole.STOP, OrderStatus.TRIGGER_PENDING)
    assert (stop.parent_id, stop.trigger_price) == (resting.id, Decimal(95))
