"""Exits attached to an entry: what stands against them, how they are priced, what is to be done next."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from engine.domain.attached import (
    MAX_MODIFICATIONS,
    RENEWED,
    Cancel,
    GiveUp,
    Place,
    Shrink,
    check_exits,
    exit_id,
    is_passed,
    plan,
    price_exit,
)
from engine.domain.enums import OrderStatus, OrderType, TransactionType
from engine.domain.instruments import Instrument
from engine.domain.options import OrderOptions, OrderRole
from engine.domain.order import Order
from tests.support.desk import make_instrument
from tests.support.trade import an_order

INFY = make_instrument("INFY", 1)
OPTION = make_instrument("NIFTY26DEC24500CE", 2, instrument_type="CE")
BUY, SELL = TransactionType.BUY, TransactionType.SELL
STOP, TARGET = OrderRole.STOP, OrderRole.TARGET


PASSED = "OTHER: Trigger price for stoploss sell orders should be lower than the last traded price."


def entry(filled: int = 10, **fields: Any) -> Order:
    defaults: dict[str, Any] = {
        "transaction_type": BUY,
        "quantity": 10,
        "status": OrderStatus.COMPLETE,
        "filled_quantity": filled,
        "stop_loss": Decimal(95),
        "target": Decimal(110),
    }
    return an_order(**(defaults | fields))


def an_exit(role: OrderRole, status: OrderStatus, quantity: int = 10, filled: int = 0, **fields: Any) -> Order:
    unit = fields.pop("unit", 1)
    size = fields.pop("size", 10)
    attempt = fields.pop("attempt", 1)
    place = Place(role=role, unit=unit, unit_quantity=size, quantity=quantity, attempt=attempt)
    return an_order(
        id=exit_id(UUID(int=1), place),
        role=role,
        parent_id=UUID(int=1),
        transaction_type=SELL,
        quantity=quantity,
        filled_quantity=filled,
        status=status,
        options=OrderOptions(unit=unit, unit_quantity=size),
        **fields,
    )


def test_entry_that_has_not_filled_needs_no_exit() -> None:
    assert plan(entry(0, status=OrderStatus.OPEN), [], held=0).actions == ()


def test_fill_gets_a_stop_and_a_target_of_its_size() -> None:
    assert plan(entry(4, status=OrderStatus.PARTIALLY_FILLED), [], held=4).actions == (
        Place(role=STOP, unit=1, unit_quantity=4, quantity=4, attempt=1),
        Place(role=TARGET, unit=1, unit_quantity=4, quantity=4, attempt=1),
    )


def test_each_growth_of_the_fill_is_a_unit_of_its_own() -> None:
    exits = [
        an_exit(STOP, OrderStatus.TRIGGER_PENDING, 4, size=4),
        an_exit(TARGET, OrderStatus.OPEN, 4, size=4),
    ]
    assert plan(entry(10), exits, held=10).actions == (
        Place(role=STOP, unit=2, unit_quantity=6, quantity=6, attempt=1),
        Place(role=TARGET, unit=2, unit_quantity=6, quantity=6, attempt=1),
    )


def test_only_what_the_signal_gave_is_placed() -> None:
    actions = plan(entry(target=None), [], held=10).actions
    assert [a.role for a in actions if isinstance(a, Place)] == [STOP]


def test_target_that_filled_cancels_the_stop() -> None:
    stop = an_exit(STOP, OrderStatus.TRIGGER_PENDING)
    (action,) = plan(entry(), [stop, an_exit(TARGET, OrderStatus.COMPLETE, 10, 10)], held=0).actions
    assert isinstance(action, Cancel)
    assert action.order == stop


def test_stop_that_triggered_cancels_the_target_before_it_has_filled() -> None:
    target = an_exit(TARGET, OrderStatus.OPEN)
    (action,) = plan(entry(), [an_exit(STOP, OrderStatus.OPEN), target], held=10).actions
    assert isinstance(action, Cancel)
    assert action.order == target


def test_target_that_fills_in_part_makes_the_stop_smaller() -> None:
    stop = an_exit(STOP, OrderStatus.TRIGGER_PENDING)
    target = an_exit(TARGET, OrderStatus.PARTIALLY_FILLED, 10, 3)
    assert plan(entry(), [stop, target], held=7).actions == (Shrink(order=stop, quantity=7),)


def test_stop_at_the_cap_of_changes_is_cancelled_and_placed_anew() -> None:
    stop = an_exit(STOP, OrderStatus.TRIGGER_PENDING, modifications=MAX_MODIFICATIONS)
    target = an_exit(TARGET, OrderStatus.PARTIALLY_FILLED, 10, 3)
    (action,) = plan(entry(), [stop, target], held=7).actions
    assert isinstance(action, Cancel)
    assert action.renew
    gone = msgspec.structs.replace(stop, status=OrderStatus.CANCELLED, modifications=RENEWED)
    assert plan(entry(), [gone, target], held=7).actions == (
        Place(role=STOP, unit=1, unit_quantity=10, quantity=7, attempt=2),
    )


def test_exit_that_somebody_cancelled_at_the_cap_of_changes_is_not_placed_again() -> None:
    stop = an_exit(STOP, OrderStatus.CANCELLED, modifications=MAX_MODIFICATIONS)
    assert plan(entry(), [stop, an_exit(TARGET, OrderStatus.OPEN)], held=10).actions == ()


def test_exit_after_one_that_was_made_smaller_is_as_small() -> None:
    exits = [an_exit(STOP, OrderStatus.COMPLETE, 3, 3), an_exit(TARGET, OrderStatus.CANCELLED, 3)]
    found = plan(entry(), exits, held=10)
    assert (found.actions, found.needs, found.is_over) == ((), 0, True)


def test_exit_that_somebody_cancelled_is_not_placed_again() -> None:
    exits = [an_exit(STOP, OrderStatus.CANCELLED), an_exit(TARGET, OrderStatus.OPEN)]
    assert plan(entry(), exits, held=10).actions == ()


@pytest.mark.parametrize("status", [OrderStatus.FAILED, OrderStatus.EXPIRED, OrderStatus.REJECTED])
def test_exit_that_was_never_placed_is_tried_again_as_another_order(status: OrderStatus) -> None:
    exits = [an_exit(STOP, status), an_exit(TARGET, OrderStatus.OPEN)]
    assert plan(entry(), exits, held=10).actions == (
        Place(role=STOP, unit=1, unit_quantity=10, quantity=10, attempt=2),
    )


def test_exit_of_unknown_outcome_is_left_alone() -> None:
    exits = [an_exit(STOP, OrderStatus.UNKNOWN), an_exit(TARGET, OrderStatus.OPEN)]
    assert plan(entry(), exits, held=10).actions == ()


def test_exit_refused_three_times_is_a_matter_for_a_person() -> None:
    exits = [an_exit(STOP, OrderStatus.REJECTED, attempt=n, status_message="no") for n in (1, 2, 3)]
    (action, _) = plan(entry(), exits, held=10).actions
    assert action == GiveUp(role=STOP, unit=1, quantity=10, why="no")


def test_position_closed_by_something_else_takes_the_exits_out_of_the_market() -> None:
    exits = [an_exit(STOP, OrderStatus.TRIGGER_PENDING), an_exit(TARGET, OrderStatus.OPEN)]
    actions = plan(entry(), exits, held=0).actions
    assert [a.order for a in actions if isinstance(a, Cancel)] == exits


def test_position_made_smaller_by_something_else_shrinks_the_oldest_unit_first() -> None:
    old = an_exit(STOP, OrderStatus.TRIGGER_PENDING, 4, size=4, unit=1)
    new = an_exit(STOP, OrderStatus.TRIGGER_PENDING, 6, size=6, unit=2)
    assert plan(entry(target=None), [old, new], held=8).actions == (Shrink(order=old, quantity=2),)


def test_later_entries_claim_what_is_held_first() -> None:
    stop = an_exit(STOP, OrderStatus.TRIGGER_PENDING)
    assert plan(entry(target=None), [stop], held=12, others=5).actions == (Shrink(order=stop, quantity=7),)


def test_entry_is_over_once_nothing_can_come_of_it() -> None:
    exits = [an_exit(STOP, OrderStatus.CANCELLED), an_exit(TARGET, OrderStatus.COMPLETE, 10, 10)]
    assert plan(entry(), exits, held=0).is_over
    assert not plan(entry(), [an_exit(STOP, OrderStatus.TRIGGER_PENDING)], held=10).is_over
    assert not plan(entry(0, status=OrderStatus.OPEN), [], held=0).is_over


def test_same_step_names_the_same_order_and_another_step_another() -> None:
    step = Place(role=STOP, unit=1, unit_quantity=10, quantity=10, attempt=1)
    assert exit_id(UUID(int=1), step) == exit_id(UUID(int=1), step)
    others = {
        exit_id(UUID(int=1), msgspec.structs.replace(step, **change))
        for change in ({"role": TARGET}, {"unit": 2}, {"attempt": 2})
    }
    assert len(others | {exit_id(UUID(int=1), step)}) == 4


def test_stop_of_a_share_is_sl_m_with_the_account_s_protection() -> None:
    priced = price_exit(STOP, entry(), INFY, last_price=Decimal(100), protection=Decimal(2))
    assert (priced.order_type, priced.trigger_price, priced.price) == (OrderType.SL_M, Decimal(95), None)
    assert priced.market_protection == 2


@pytest.mark.parametrize(
    ("side", "stop", "protection", "limit"),
    [
        # Zerodha's table for options: 5, 3, 2, 1 percent
        (BUY, "8", "-1", "7.6"),
        (BUY, "50", "-1", "48.5"),
        (BUY, "200", "-1", "196"),
        (BUY, "600", "-1", "594"),
        (SELL, "200", "-1", "204"),
        (BUY, "200", "10", "180"),
        (BUY, "0.05", "-1", "0.05"),
    ],
)
def test_stop_of_an_option_is_sl_with_a_limit_beyond_its_trigger(
    side: TransactionType, stop: str, protection: str, limit: str
) -> None:
    of = entry(transaction_type=side, stop_loss=Decimal(stop))
    priced = price_exit(STOP, of, OPTION, last_price=None, protection=Decimal(protection))
    assert (priced.order_type, priced.trigger_price, priced.price) == (OrderType.SL, Decimal(stop), Decimal(limit))


def kind(last: str | None, *before: Order, instrument: Instrument = INFY) -> OrderType:
    price = None if last is None else Decimal(last)
    return price_exit(STOP, entry(), instrument, last_price=price, protection=Decimal(-1), before=before).order_type


def refused_stop(message: str | None, order_type: OrderType = OrderType.SL_M, trigger: str = "95") -> Order:
    return an_exit(
        STOP,
        OrderStatus.REJECTED,
        order_type=order_type,
        status_message=message,
        trigger_price=None if order_type is OrderType.MARKET else Decimal(trigger),
    )


def test_refused_stop_whose_trigger_the_price_is_past_goes_at_market() -> None:
    refused = refused_stop("PRICE_RANGE: no such trigger")
    assert kind("94", refused) is OrderType.MARKET
    assert kind("94") is OrderType.SL_M
    assert kind("94", an_exit(STOP, OrderStatus.EXPIRED)) is OrderType.SL_M
    assert kind("96", refused) is OrderType.SL_M
    assert kind(None, refused) is OrderType.SL_M


@pytest.mark.parametrize(
    "said",
    [
        PASSED,
        "OTHER: Trigger price for stoploss buy orders should be higher than the last traded price.",
        "trigger price should be less than\nLTP (101.5)",
    ],
)
@pytest.mark.parametrize("last", ["94", "96", None])
def test_stop_refused_because_its_trigger_was_passed_goes_at_market_on_that_word(said: str, last: str | None) -> None:
    assert kind(last, refused_stop(said)) is OrderType.MARKET
    assert kind(last, refused_stop(said, OrderType.SL), instrument=OPTION) is OrderType.MARKET
    later = an_exit(STOP, OrderStatus.EXPIRED, order_type=OrderType.MARKET, attempt=2)
    assert kind(last, refused_stop(said), later) is OrderType.MARKET
    priced = price_exit(STOP, entry(), INFY, last_price=None, protection=Decimal(2), before=[refused_stop(said)])
    assert (priced.price, priced.trigger_price, priced.market_protection) == (None, None, 2)


@pytest.mark.parametrize(
    "said",
    [
        None,
        "Trigger price for stoploss sell orders cannot be below the lower circuit price. "
        "Please try placing the order with trigger price above 144.05.",
        "LIMIT orders that are far away from the LTP are restricted as per exchange guidelines.",
        "Tick size for this script is 0.10. Kindly enter trigger price in the multiple of tick size for this script",
        "Insufficient funds. Required margin is 95417.84 but available margin is 74251.80.",
    ],
)
def test_stop_refused_for_another_cause_is_not_taken_for_passed(said: str | None) -> None:
    assert kind("96", refused_stop(said)) is OrderType.SL_M


@pytest.mark.parametrize(
    ("side", "trigger", "kinds"),
    [
        (BUY, "94", OrderType.MARKET),
        (BUY, "96", OrderType.SL_M),
        (SELL, "96", OrderType.MARKET),
        (SELL, "94", OrderType.SL_M),
    ],
)
def test_trigger_that_a_person_moved_towards_the_price_says_nothing_of_the_stop_loss(
    side: TransactionType, trigger: str, kinds: OrderType
) -> None:
    moved = msgspec.structs.replace(refused_stop(PASSED, trigger=trigger), transaction_type=side.opposite)
    of = entry(transaction_type=side)
    priced = price_exit(STOP, of, INFY, last_price=None, protection=Decimal(-1), before=[moved])
    assert priced.order_type is kinds


def test_stop_that_the_price_has_passed_takes_the_target_out_of_the_market() -> None:
    passed = refused_stop(PASSED)
    assert plan(entry(), [passed], held=10).actions == (
        Place(role=STOP, unit=1, unit_quantity=10, quantity=10, attempt=2),
    )
    target = an_exit(TARGET, OrderStatus.OPEN)
    _, cancel = plan(entry(), [passed, target], held=10).actions
    assert cancel == Cancel(order=target, why="the stop is triggered")


def test_both_exits_of_a_unit_that_filled_leave_less_to_the_others_of_the_entry() -> None:
    both = [
        an_exit(STOP, OrderStatus.COMPLETE, quantity=4, filled=4, size=4),
        an_exit(TARGET, OrderStatus.COMPLETE, quantity=4, filled=4, size=4),
    ]
    stop, target = (
        an_exit(role, status, quantity=6, size=6, unit=2)
        for role, status in ((STOP, OrderStatus.TRIGGER_PENDING), (TARGET, OrderStatus.OPEN))
    )
    found = plan(entry(), [*both, stop, target], held=50)
    assert found.actions == (Shrink(order=stop, quantity=2), Shrink(order=target, quantity=2))
    assert found.needs == 2, "the rest of what is held is of other entries"


def test_only_a_stop_that_was_refused_can_have_been_passed() -> None:
    assert is_passed(refused_stop(PASSED), entry())
    assert not is_passed(refused_stop(PASSED), entry(stop_loss=None))
    assert not is_passed(refused_stop(PASSED, OrderType.MARKET), entry()), "it had no trigger"
    cancelled = msgspec.structs.replace(refused_stop(PASSED), status=OrderStatus.CANCELLED)
    assert not is_passed(cancelled, entry())


def test_target_is_a_limit_order() -> None:
    priced = price_exit(TARGET, entry(), INFY, last_price=Decimal(100), protection=Decimal(-1))
    assert (priced.order_type, priced.price, priced.trigger_price) == (OrderType.LIMIT, Decimal(110), None)


@pytest.mark.parametrize(
    ("side", "stop", "target", "price", "codes"),
    [
        (BUY, "95", "110", "100", []),
        (SELL, "105", "90", "100", []),
        (BUY, "100", None, "100", ["STOP_LOSS_SIDE"]),
        (BUY, "101", "99", "100", ["STOP_LOSS_SIDE", "TARGET_SIDE"]),
        (SELL, "99", "101", "100", ["STOP_LOSS_SIDE", "TARGET_SIDE"]),
        (BUY, "95.03", None, "100", ["TICK_SIZE"]),
        (BUY, "95", None, None, ["PRICE_UNAVAILABLE"]),
        (BUY, None, None, None, []),
    ],
)
def test_exits_on_the_wrong_side_of_the_price_are_refused(
    side: TransactionType, stop: str | None, target: str | None, price: str | None, codes: list[str]
) -> None:
    def amount(text: str | None) -> Decimal | None:
        return None if text is None else Decimal(text)

    found = check_exits(INFY, side, stop_loss=amount(stop), target=amount(target), price=amount(price))
    assert [denial.code for denial in found] == codes
