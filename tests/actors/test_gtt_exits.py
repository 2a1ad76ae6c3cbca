"""Exits that are triggers (GTT): placed when a delivery entry fills, never twice for a unit, followed to their end."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import trio

from engine.actors.intake import Passage
from engine.broker.base import Accepted, BrokerHolding, NotSent, RefusalCode, Refused, Unknown
from engine.domain.enums import OrderStatus, OrderType, ProductType, TransactionType
from engine.domain.gtt import Gtt, GttStatus
from engine.domain.options import ExitMode, OrderOptions, OrderRole
from engine.domain.order import Order
from engine.errors import BrokerUnavailable, ConflictError, NotFoundError
from tests.support.desk import World, a_delivery, a_signal, crashed, running
from tests.support.memory_broker import gtt_answer
from tests.support.trade import STRATEGY

ACTIVE, TRIGGERED = GttStatus.ACTIVE, GttStatus.TRIGGERED
LOST = Unknown(reason="lost")


def deliver(world: World, key: str = "k1", **fields: Any) -> None:
    """Deliver a signal to buy 10 INFY for delivery with a stop at 95 and a target at 110."""
    terms = {"stop_loss": Decimal(95), "target": Decimal(110), "product_type": ProductType.CNC}
    world.crew.decide(Passage(a_delivery(world, a_signal(**(terms | fields)), key=key), world.kill.turn))


def entries(world: World) -> list[Order]:
    return [o for o in world.store.orders.values() if o.role is OrderRole.ENTRY and not o.is_external]


async def entered(world: World, quantity: int | None = None, *, count: int = 1) -> str:
    """Wait until the newest entry rests at the broker, fill *quantity* of it (all); returns the broker's id."""
    await world.until(lambda: sum(o.broker_order_id is not None for o in entries(world)) == count)
    broker_id = entries(world)[-1].broker_order_id
    assert broker_id is not None
    world.broker.fill(broker_id, quantity)
    return broker_id


def gtts(world: World, *statuses: GttStatus) -> list[Gtt]:
    return [g for g in world.store.gtts.values() if not statuses or g.status in statuses]


async def kept(world: World, count: int = 1) -> Gtt:
    """Wait until *count* triggers of ours stand; returns the newest."""
    await world.until(lambda: len(gtts(world, ACTIVE)) == count)
    return gtts(world, ACTIVE)[-1]


def active(world: World) -> list[str]:
    """The triggers that stand at the broker."""
    return [row.trigger_id for row in world.broker.gtt_rows.values() if row.is_active]


def told(world: World, code: str) -> list[str]:
    return [text for _, text in world.alerts if text.startswith(code)]


async def test_fill_of_a_delivery_entry_places_one_trigger_for_both_sides(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        gtt = await kept(world)
    (sent,) = world.broker.gtts_left
    assert (sent.kind, sent.transaction_type, sent.quantity) == ("two-leg", TransactionType.SELL, 10)
    assert [(leg.role, leg.trigger, leg.price) for leg in sent.legs] == [
        (OrderRole.STOP, Decimal(95), Decimal("93.10")),
        (OrderRole.TARGET, Decimal(110), Decimal(110)),
    ]
    assert gtt.trigger_id == active(world)[0]
    assert len(world.broker.left) == 1, "no exit is an order"
    actions = [record.action for record in world.store.audit if record.subject == f"gtt:{gtt.id}"]
    assert actions[:2] == ["GTT_SUBMITTING", "GTT_ACTIVE"]


async def test_short_entry_has_its_target_below_and_its_stop_above(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        side, product = TransactionType.SELL, ProductType.NRML
        order = world.order(transaction_type=side, product_type=product, stop_loss=Decimal(105), target=Decimal(90))
        world.submit(order)
        await entered(world)
        await kept(world)
    (sent,) = world.broker.gtts_left
    assert [(leg.role, leg.trigger, leg.price) for leg in sent.legs] == [
        (OrderRole.TARGET, Decimal(90), Decimal(90)),
        (OrderRole.STOP, Decimal(105), Decimal("106.05")),
    ]
    assert sent.transaction_type is TransactionType.BUY


async def test_intraday_entry_has_a_trigger_only_when_asked_for(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        wanted = OrderOptions(exits=ExitMode.GTT)
        deliver(world, product_type=ProductType.MIS, options=wanted, target=None)
        await entered(world)
        assert (await kept(world)).kind == "single"
        deliver(world, "k2", options=OrderOptions(exits=ExitMode.ORDERS))
        await entered(world, count=2)
        await world.until(lambda: len(world.broker.left) == 4)
    assert len(gtts(world)) == 1


async def test_growing_fill_is_covered_by_further_triggers(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        broker_id = await entered(world, 4)
        await kept(world)
        world.broker.fill(broker_id, 6)
        await kept(world, 2)
        await trio.sleep(120)
    assert sorted(gtt.quantity for gtt in gtts(world)) == [4, 6]


async def test_fired_stop_closes_the_position_and_is_tied_to_its_entry(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        gtt = await kept(world)
        broker_id = world.broker.fire(gtt.trigger_id or "")
        world.broker.fill(broker_id, price="94")
        await world.until(lambda: world.store.gtts[gtt.id].status is TRIGGERED)
        await world.until(lambda: world.held() == 0)
        await world.until(lambda: any(o.is_external and o.role is OrderRole.STOP for o in world.store.orders.values()))
        await trio.sleep(200)
    held = {book.owner: book.position.quantity for book, _ in world.store.books.values()}
    assert held == {STRATEGY: 0}, "its order is the broker's, its units are the strategy's"
    fired = world.store.gtts[gtt.id]
    assert (fired.fired_role, fired.broker_order_id) == (OrderRole.STOP, broker_id)
    (exit_order,) = [o for o in world.store.orders.values() if o.is_external]
    assert (exit_order.parent_id, exit_order.status) == (entries(world)[0].id, OrderStatus.COMPLETE)
    assert len(gtts(world)) == 1, "nothing is placed again"
    assert not world.broker.gtt_cancels
    assert not world.alerts


async def test_fired_order_that_rests_is_told_after_a_minute(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        gtt = await kept(world)
        world.broker.fire(gtt.trigger_id or "", 1)
        await world.until(lambda: bool(told(world, "EXIT_NOT_FILLED")))
        at = world.clock.now() - world.store.gtts[gtt.id].updated_at
        await trio.sleep(300)
    assert timedelta(seconds=60) < at < timedelta(seconds=90)
    assert len(told(world, "EXIT_NOT_FILLED")) == 1
    assert world.store.gtts[gtt.id].fired_role is OrderRole.TARGET


async def test_fired_order_that_the_broker_refuses_is_told_with_its_reason(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        gtt = await kept(world)
        world.broker.fire(gtt.trigger_id or "", refusal="Insufficient stock holding")
        await world.until(lambda: bool(told(world, "EXIT_NOT_PLACED")))
        await trio.sleep(100)
    assert "Insufficient stock holding" in told(world, "EXIT_NOT_PLACED")[0]
    assert len(gtts(world)) == 1


async def test_fired_order_that_ends_short_is_told(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        gtt = await kept(world)
        broker_id = world.broker.fire(gtt.trigger_id or "")
        await world.until(lambda: any(o.is_external for o in world.store.orders.values()))
        world.broker.change(broker_id, OrderStatus.CANCELLED)
        await world.until(lambda: bool(told(world, "EXIT_NOT_FILLED")))
    assert "0 of 10" in told(world, "EXIT_NOT_FILLED")[0]


# one request, one trigger


@pytest.mark.parametrize("status", ["active", "triggered"])
async def test_trigger_of_unknown_outcome_is_found_in_the_list_and_not_doubled(
    autojump_clock: Any, status: str
) -> None:
    world = World()
    world.broker.gtt_answers = [gtt_answer(LOST, placed=1)]
    async with running(world):
        deliver(world)
        await world.until(lambda: bool(entries(world)))
        await entered(world)
        await world.until(lambda: bool(world.broker.gtt_rows))
        if status == "triggered":
            world.broker.fill(world.broker.fire("101"), price="94")
        expected = ACTIVE if status == "active" else TRIGGERED
        await world.until(lambda: bool(gtts(world, expected)))
        await trio.sleep(300)
    assert len(world.broker.gtts_left) == 1
    assert len(world.broker.gtt_rows) == 1


async def test_trigger_proven_absent_is_placed_anew_after_the_wait(autojump_clock: Any) -> None:
    world = World()
    world.broker.gtt_answers = [gtt_answer(LOST)]
    async with running(world):
        deliver(world)
        await entered(world)
        await world.until(lambda: len(world.broker.gtts_left) == 1)
        since = trio.current_time()
        await kept(world)
        assert trio.current_time() - since >= 30
    assert [gtt.attempt for gtt in world.broker.gtts_left] == [1, 2]
    assert len(active(world)) == 1
    assert gtts(world, GttStatus.FAILED)[0].status_message.startswith("NOT_PLACED")  # type: ignore[union-attr]


async def test_list_that_cannot_be_read_proves_nothing(autojump_clock: Any) -> None:
    world = World()
    world.broker.gtt_answers = [gtt_answer(LOST, placed=1)]
    world.broker.gtts_down = BrokerUnavailable("scripted")
    async with running(world):
        deliver(world)
        await entered(world)
        await trio.sleep(600)
        assert len(world.broker.gtts_left) == 1
        assert told(world, "EXIT_DELAYED")
        world.broker.gtts_down = None
        await kept(world)
    assert len(active(world)) == 1


async def test_trigger_that_shows_up_after_it_was_given_up_is_ended(autojump_clock: Any) -> None:
    world = World()
    world.broker.gtt_answers = [gtt_answer(LOST, placed=1)]
    world.broker.hide_gtts = {"101"}
    async with running(world):
        deliver(world)
        await entered(world)
        await kept(world)
        assert len(active(world)) == 2
        world.broker.hide_gtts.clear()
        await world.until(lambda: len(active(world)) == 1)
    assert world.broker.gtt_cancels == ["101"]
    assert gtts(world, ACTIVE)[0].trigger_id == "102"
    assert len(told(world, "GTT_DOUBLED")) == 1


async def test_request_that_the_broker_took_twice_leaves_one(autojump_clock: Any) -> None:
    world = World()
    world.broker.gtt_answers = [gtt_answer(LOST, placed=2)]
    async with running(world):
        deliver(world)
        await entered(world)
        gtt = await kept(world)
        await world.until(lambda: len(active(world)) == 1)
    assert active(world) == [gtt.trigger_id] == ["101"], "the older stays"
    assert told(world, "GTT_DOUBLED")


async def test_like_trigger_made_by_hand_before_is_not_taken_for_ours(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        gtt = await kept(world)
        by_hand = world.broker.put_gtt(gtt)
        world.broker.set_gtt(by_hand, created_at=world.clock.now() - timedelta(hours=1))
        world.broker.gtt_answers = [gtt_answer(LOST)]
        deliver(world, "k2")
        await entered(world, count=2)
        await kept(world, 2)
    assert len(world.broker.gtts_left) == 3
    assert len(active(world)) == 3
    assert by_hand not in {gtt.trigger_id for gtt in gtts(world)}


async def test_two_like_entries_have_a_trigger_each_whatever_is_lost(autojump_clock: Any) -> None:
    world = World()
    world.broker.gtt_answers = [gtt_answer(LOST, placed=1), gtt_answer(LOST, placed=1)]
    async with running(world):
        deliver(world)
        await entered(world)
        deliver(world, "k2")
        await entered(world, count=2)
        await kept(world, 2)
        await trio.sleep(100)
    assert {gtt.trigger_id for gtt in gtts(world, ACTIVE)} == set(active(world)) == {"101", "102"}


async def test_refusal_is_tried_three_times_and_then_a_person_is_asked(autojump_clock: Any) -> None:
    world = World()
    refused = Refused(code=RefusalCode.OTHER, message="Trigger price was too close to the last price.", status=400)
    world.broker.gtt_answers = [gtt_answer(refused) for _ in range(9)]
    async with running(world):
        deliver(world)
        await entered(world)
        await world.until(lambda: bool(told(world, "EXIT_NOT_PLACED")))
        await trio.sleep(300)
    assert len(world.broker.gtts_left) == 3
    assert len(told(world, "EXIT_NOT_PLACED")) == 1
    assert "too close" in told(world, "EXIT_NOT_PLACED")[0]


async def test_answer_429_is_doubt(autojump_clock: Any) -> None:
    world = World()
    limited = Refused(code=RefusalCode.RATE_LIMITED, message="Too many requests", status=429, rate_limited=True)
    world.broker.gtt_answers = [gtt_answer(limited)]
    async with running(world):
        deliver(world)
        await entered(world)
        await kept(world)
    assert [gtt.attempt for gtt in world.broker.gtts_left] == [1, 2]


async def test_request_of_which_no_byte_left_is_made_again_soon(autojump_clock: Any) -> None:
    async def down(_broker: Any, _gtt: Gtt, _gate: Any) -> Any:
        return NotSent(reason="connection refused")

    world = World()
    world.broker.gtt_answers = [down, down]
    async with running(world):
        deliver(world)
        await entered(world)
        await kept(world)
    assert len(world.broker.gtts_left) == 1


async def test_row_that_the_ledger_took_long_for_does_not_leave(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await world.until(lambda: any(o.broker_order_id for o in entries(world)))

        async def late(broker: Any, gtt: Gtt, gate: Any) -> Any:
            await trio.sleep(2)
            return broker.gtt_passes(gtt, gate) or Accepted(broker_order_id=broker.put_gtt(gtt))

        world.broker.gtt_answers = [late]
        await entered(world)
        gtt = await kept(world)
    assert gtt.attempt == 2
    assert gtts(world, GttStatus.FAILED)[0].status_message.startswith("NOT_SENT: LATE")  # type: ignore[union-attr]


# the engine dies


@pytest.mark.parametrize("reached", [True, False], ids=["broker took it", "request lost"])
async def test_engine_that_dies_between_request_and_answer_has_one_trigger_after(
    autojump_clock: Any, reached: bool
) -> None:
    async def never(broker: Any, gtt: Gtt, gate: Any) -> Any:
        assert broker.gtt_passes(gtt, gate) is None
        if reached:
            broker.put_gtt(gtt)
        await trio.sleep_forever()

    world = World()
    world.broker.gtt_answers = [never]
    async with running(world):
        deliver(world)
        await entered(world)
        await world.until(lambda: len(world.broker.gtts_left) == 1)
    assert [gtt.status for gtt in gtts(world)] == [GttStatus.SUBMITTING]
    after = await crashed(world)
    async with running(after):
        gtt = await kept(after)
        await trio.sleep(300)
    assert len(active(after)) == 1
    assert gtt.trigger_id == active(after)[0]
    assert len(after.broker.gtts_left) == (1 if reached else 2)


async def test_executor_that_restarts_while_the_request_is_under_way_has_one_trigger_after(
    autojump_clock: Any,
) -> None:
    world = World()
    world.broker.gtt_answers = [gtt_answer(Accepted(broker_order_id="101"), after_s=60, placed=1)]
    async with running(world) as run:
        deliver(world)
        await entered(world)
        await world.until(lambda: len(world.broker.gtts_left) == 1)
        await run.restart_executor()
        await kept(world)
        await trio.sleep(300)
    assert len(world.broker.gtts_left) == 1
    assert len(active(world)) == 1


async def test_trigger_that_fires_while_the_engine_is_down_is_found_after(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        gtt = await kept(world)
    world.broker.fill(world.broker.fire(gtt.trigger_id or ""), price="94")
    after = await crashed(world)
    async with running(after):
        await after.until(lambda: after.store.gtts[gtt.id].status is TRIGGERED)
        await after.until(lambda: after.held() == 0)
        await after.until(lambda: any(o.is_external and o.role is OrderRole.STOP for o in after.store.orders.values()))
        await trio.sleep(100)
    assert len(after.broker.gtts_left) == 1


async def test_trigger_of_an_entry_of_earlier_weeks_is_followed(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world, product_type=ProductType.NRML)
        broker_id = await entered(world, 4)
        first = await kept(world)
        world.broker.fill(broker_id, 6)
        await kept(world, 2)
        # the first of them is over long before the second
        world.broker.fill(world.broker.fire(first.trigger_id or ""), price="94")
        await world.until(lambda: world.held() == 6)
        await world.until(lambda: bool(gtts(world, TRIGGERED)))
    world.clock.sleep(30 * 86400)
    world.broker.rows.clear()
    world.broker.shown_trades.clear()
    world.broker.overnight = {("INFY", "NRML"): 6}
    after = await crashed(world)
    async with running(after):
        await trio.sleep(600)
        assert [g.quantity for g in gtts(after, ACTIVE)] == [6]
        assert len(after.broker.gtts_left) == 2, "what fired weeks ago is not placed again"
        (gtt,) = gtts(after, ACTIVE)
        broker_order = after.broker.fire(gtt.trigger_id or "")
        after.broker.rows[broker_order] = msgspec.structs.replace(
            after.broker.rows[broker_order], order_timestamp=after.clock.now()
        )
        await after.until(lambda: after.store.gtts[gtt.id].status is TRIGGERED)


async def test_shares_that_went_to_the_demat_account_keep_their_trigger(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        await kept(world)
        world.clock.sleep(86400)
        world.broker.rows.clear()
        world.broker.shown_trades.clear()
        world.broker.held_shares = [BrokerHolding(exchange="NSE", symbol="INFY", quantity=0, t1_quantity=10)]
        await world.until(lambda: world.held() == 0)
        await trio.sleep(200)
        assert len(active(world)) == 1
        readable = world.broker.holdings

        async def unreadable() -> Any:
            await trio.sleep(0.01)
            raise BrokerUnavailable("scripted")

        world.broker.holdings = unreadable  # type: ignore[method-assign]
        await trio.sleep(200)
        assert len(active(world)) == 1
        world.broker.holdings = readable  # type: ignore[method-assign]
        # sold by hand out of the demat account
        world.broker.held_shares = [BrokerHolding(exchange="NSE", symbol="INFY", quantity=10, used_quantity=10)]
        await world.until(lambda: not active(world))


# what is held


async def test_position_closed_by_hand_ends_the_trigger(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        gtt = await kept(world)
        closing = world.broker.by_hand(side="SELL", product="CNC")
        world.broker.fill(closing)
        await world.until(lambda: not active(world))
        await world.until(lambda: world.store.gtts[gtt.id].status is GttStatus.CANCELLED)
        await trio.sleep(100)
    assert len(gtts(world)) == 1
    assert not told(world, "EXIT_ENDED")


async def test_position_made_smaller_makes_the_trigger_smaller(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        gtt = await kept(world)
        world.broker.fill(world.broker.by_hand(quantity=3, side="SELL", product="CNC"))
        await world.until(lambda: world.store.gtts[gtt.id].quantity == 7)
        await trio.sleep(100)
    assert world.broker.gtt_changes == [(gtt.trigger_id, 7)]


async def test_trigger_of_one_entry_that_fires_leaves_that_of_another_alone(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        older = await kept(world)
        deliver(world, "k2")
        await entered(world, count=2)
        newer = await kept(world, 2)
        # the position is known to be smaller before it is known what made it so
        world.broker.gtts_down = BrokerUnavailable("scripted")
        world.broker.fill(world.broker.fire(newer.trigger_id or ""), price="94")
        await world.until(lambda: world.held() == 10)
        await trio.sleep(60)
        world.broker.gtts_down = None
        await trio.sleep(300)
    assert world.store.gtts[newer.id].status is TRIGGERED
    assert world.store.gtts[older.id].status is ACTIVE
    assert not world.broker.gtt_cancels
    assert not world.broker.gtt_changes


async def test_price_past_the_stop_is_exited_by_an_order_at_once(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await world.until(lambda: any(o.broker_order_id for o in entries(world)))
        world.prices["NSE:INFY"] = Decimal(94)
        await entered(world)
        await world.until(lambda: len(world.broker.left) == 2)
        await trio.sleep(60)
    order = world.broker.left[-1]
    assert (order.role, order.order_type, order.quantity) == (OrderRole.STOP, OrderType.MARKET, 10)
    assert order.market_protection == -1
    assert len(world.broker.left) == 2
    assert not world.broker.gtts_left


# people


async def test_person_s_cancel_of_a_trigger_is_respected(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        gtt = await kept(world)
        after = await world.executor.cancel_gtt(gtt.id, by="user:1")
        assert (after.status, after.status_message) == (GttStatus.CANCELLED, "cancelled by user:1")
        with pytest.raises(ConflictError):
            await world.executor.cancel_gtt(gtt.id, by="user:1")
        with pytest.raises(NotFoundError):
            await world.executor.cancel_gtt(STRATEGY, by="user:1")
        await trio.sleep(100)
    assert not active(world)
    assert len(gtts(world)) == 1


async def test_trigger_deleted_in_the_broker_s_program_is_told_and_not_placed_again(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        await entered(world)
        gtt = await kept(world)
        world.broker.set_gtt(gtt.trigger_id or "", status="deleted")
        await world.until(lambda: world.store.gtts[gtt.id].status is GttStatus.CANCELLED)
        await trio.sleep(100)
    assert len(told(world, "EXIT_ENDED")) == 1
    assert len(gtts(world)) == 1


async def test_cancel_all_ends_those_that_stand_and_those_in_doubt(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world, symbol="SBIN")
        await entered(world)
        await kept(world)
        world.broker.gtt_answers = [gtt_answer(LOST, placed=1)]
        world.broker.hide_gtts = {"102"}
        deliver(world, "k2")
        await entered(world, count=2)
        await world.until(lambda: bool(gtts(world, GttStatus.UNKNOWN)))
        ended = await world.executor.cancel_gtts("user:1")
        assert sorted(gtt.status for gtt in ended) == ["CANCELLED", "UNKNOWN"]
        world.broker.hide_gtts.clear()
        await world.until(lambda: not active(world))
        await trio.sleep(100)
    assert {gtt.status for gtt in gtts(world)} == {GttStatus.CANCELLED}
    assert len(world.broker.gtts_left) == 2


async def test_cancel_that_is_lost_is_asked_for_until_the_list_shows_it(autojump_clock: Any) -> None:
    world = World()
    world.broker.gtt_cancel_answers = [LOST]
    async with running(world):
        deliver(world)
        await entered(world)
        gtt = await kept(world)
        await world.executor.cancel_gtt(gtt.id, by="user:1")
        await world.until(lambda: not active(world))
    assert len(world.broker.gtt_cancels) == 2


async def test_nothing_is_placed_under_a_kill_switch_and_what_stands_stays(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        deliver(world)
        broker_id = await entered(world, 4)
        await kept(world)
        world.block()
        world.broker.fill(broker_id, 6)
        await world.until(lambda: bool(told(world, "EXIT_WAITS")))
        await trio.sleep(60)
        assert len(world.broker.gtts_left) == 1
        assert [gtt.quantity for gtt in world.executor.gtts] == [4]
        world.release()
        await kept(world, 2)
    assert len(told(world, "EXIT_WAITS")) == 1


async def test_kill_switch_that_falls_before_the_first_byte_stops_the_trigger(autojump_clock: Any) -> None:
    async def waits(broker: Any, gtt: Gtt, gate: Any) -> Any:
        world.block()
        return broker.gtt_passes(gtt, gate) or Accepted(broker_order_id=broker.put_gtt(gtt))

    world = World()
    world.broker.gtt_answers = [waits]
    async with running(world):
        deliver(world)
        await entered(world)
        await world.until(lambda: bool(gtts(world, GttStatus.FAILED)))
        await trio.sleep(60)
        assert not world.broker.gtt_rows
        world.release()
        await kept(world)


async def test_idle_account_does_not_read_the_list(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        await trio.sleep(600)
        assert not world.broker.gtt_reads
        deliver(world)
        await entered(world)
        await kept(world)
        before = world.broker.gtt_reads
        await trio.sleep(600)
    assert 18 <= world.broker.gtt_reads - before <= 22, "every thirty seconds"
