from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from engine.domain.enums import Exchange, OrderStatus
from engine.domain.risk_state import RiskState
from tests.support.trade import (
    ACCOUNT,
    BUY,
    NOW,
    ORDER,
    OTHER_ACCOUNT,
    SELL,
    TODAY,
    a_fill,
    a_position,
    a_request,
    an_order,
)

KEY = a_position().key
LIVE = [status for status in OrderStatus if not status.is_terminal]


def test_reserve_counts_units_until_terminal_exactly_once() -> None:
    state = RiskState()
    state.reserve(a_request(), ORDER)
    state.reserve(a_request(), ORDER)
    assert (state.reserved_quantity(), state.orders_in_day(TODAY)) == (10, 1)
    for _ in range(2):
        state.track(an_order(OrderStatus.CANCELLED))
        assert state.reserved_quantity() == 0
    assert state.occupied_positions() == 0


@pytest.mark.parametrize("status", LIVE)
def test_track_live_order_counts_for_what_remains(status: OrderStatus) -> None:
    state = RiskState()
    state.track(an_order(status, filled_quantity=4))
    assert (state.reserved_quantity(), state.reserved_quantity(KEY, BUY), state.reserved_quantity(KEY, SELL)) == (
        6,
        6,
        0,
    )


def test_track_stale_state_after_release_does_not_reserve_again() -> None:
    state = RiskState()
    state.reserve(a_request(), ORDER)
    state.track(an_order(OrderStatus.COMPLETE, filled_quantity=10))
    state.track(an_order(OrderStatus.OPEN))
    state.reserve(a_request(), ORDER)
    assert state.reserved_quantity() == 0


def test_release_of_order_that_was_never_made_frees_it() -> None:
    state = RiskState()
    state.reserve(a_request(), ORDER)
    state.release(ORDER)
    assert (state.reserved_quantity(), state.is_occupied(KEY)) == (0, False)


def test_withdraw_frees_an_order_that_may_then_be_reserved_again() -> None:
    state = RiskState()
    state.reserve(a_request(), ORDER)
    state.withdraw(ORDER)
    assert state.reserved_quantity() == 0
    state.reserve(a_request(), ORDER)
    assert state.reserved_quantity() == a_request().quantity


def test_apply_fill_opens_marks_and_closes() -> None:
    state = RiskState()
    state.set_price(Exchange.NSE, "INFY", Decimal(101))
    assert state.apply_fill(a_fill(BUY, 10, "100")).quantity == 10
    assert (state.open_positions(), state.open_positions(ACCOUNT), state.open_positions(OTHER_ACCOUNT)) == (1, 1, 0)
    assert state.day_pnl() == Decimal(10)
    state.apply_fill(a_fill(SELL, 10, "98"))
    assert (state.open_positions(), state.day_pnl(ACCOUNT)) == (0, Decimal(-20))


def test_set_price_marks_every_position_in_the_instrument() -> None:
    state = RiskState()
    state.apply_fill(a_fill(BUY, 10, "100"))
    state.apply_fill(a_fill(SELL, 4, "100", account_id=OTHER_ACCOUNT))
    state.apply_fill(a_fill(BUY, 10, "100", symbol="SBIN"))
    state.set_price(Exchange.NSE, "INFY", Decimal(99))
    assert (state.day_pnl(), state.day_pnl(ACCOUNT), state.day_pnl(OTHER_ACCOUNT)) == (-6, -10, 4)


def test_set_position_replaces_whole() -> None:
    state = RiskState()
    state.apply_fill(a_fill(BUY, 10, "100"))
    state.set_position(a_position())
    assert (state.open_positions(), state.occupied_positions(), state.day_pnl()) == (0, 0, 0)


def test_set_position_without_price_is_marked_at_the_known_one() -> None:
    state = RiskState()
    state.set_price(Exchange.NSE, "INFY", Decimal(90))
    bought = Decimal(1000)
    state.set_position(a_position(quantity=10, buy_quantity=10, buy_value=bought))
    assert state.day_pnl() == Decimal(-100)


def test_exposure_is_the_worst_case_without_netting() -> None:
    state = RiskState()
    state.apply_fill(a_fill(BUY, 10, "100"))
    state.apply_fill(a_fill(SELL, 10, "100", account_id=OTHER_ACCOUNT))
    assert state.exposure_after(a_request(BUY, 5)) == 25
    assert state.exposure_after(a_request(SELL, 5)) == 20
    assert state.exposure_after(a_request(SELL, 25)) == 25
    assert state.exposure_after(a_request(BUY, 5), ACCOUNT) == 15


def test_orders_in_minute_clock_stepping_back_makes_no_room() -> None:
    state = RiskState()
    state.count_order(ACCOUNT, NOW)
    state.count_order(ACCOUNT, NOW - timedelta(seconds=30))
    assert state.orders_in_minute(NOW + timedelta(seconds=59)) == 2


def test_orders_in_minute_forgets_in_bounded_memory() -> None:
    state = RiskState()
    for second in range(5000):
        state.count_order(ACCOUNT, NOW + timedelta(seconds=second))
    assert state.orders_in_minute(NOW + timedelta(seconds=4999)) == 60
    assert len(state._counts[None].instants) < 200


def test_roll_day_starts_counts_and_profit_anew() -> None:
    state = RiskState(TODAY)
    state.reserve(a_request(), ORDER)
    state.apply_fill(a_fill(BUY, 10, "100"))
    state.apply_fill(a_fill(BUY, 1, "100", symbol="SBIN"))
    state.apply_fill(a_fill(SELL, 1, "50", symbol="SBIN"))
    state.set_price(Exchange.NSE, "INFY", Decimal(90))
    assert state.day_pnl() == Decimal(-150)
    tomorrow = TODAY + timedelta(days=1)
    state.roll_day(tomorrow)
    assert (state.day_pnl(), state.orders_in_day(tomorrow), state.open_positions()) == (0, 0, 1)
    assert [position.symbol for position in state.positions()] == ["INFY"]
    state.set_price(Exchange.NSE, "INFY", Decimal(85))
    assert state.day_pnl() == Decimal(-50)


def test_roll_day_repeated_or_backwards_does_nothing() -> None:
    state = RiskState(TODAY)
    state.apply_fill(a_fill(BUY, 10, "100"))
    state.set_price(Exchange.NSE, "INFY", Decimal(90))
    for day in (TODAY, TODAY - timedelta(days=1)):
        state.roll_day(day)
        assert state.day_pnl() == Decimal(-100)


def test_roll_day_after_an_order_of_the_new_day_still_rolls_positions() -> None:
    state = RiskState(TODAY)
    state.apply_fill(a_fill(BUY, 10, "100"))
    state.set_price(Exchange.NSE, "INFY", Decimal(90))
    tomorrow = TODAY + timedelta(days=1)
    state.count_order(ACCOUNT, NOW + timedelta(days=1))
    state.roll_day(tomorrow)
    assert (state.day_pnl(), state.orders_in_day(tomorrow)) == (0, 1)


def test_last_like_remembers_the_intent() -> None:
    state = RiskState()
    request = a_request()
    assert state.last_like(request) is None
    state.reserve(request, UUID(int=100))
    assert state.last_like(request) == (NOW, request.intent_id)


def test_only_accounts_whose_mark_a_price_moved_are_looked_at() -> None:
    state, price = RiskState(), Decimal(101)
    for account in (ACCOUNT, OTHER_ACCOUNT):
        state.set_position(a_position(account_id=account, last_price=Decimal(100)))
    state.set_price(Exchange.NSE, "INFY", price)
    assert state.take_moved() == {ACCOUNT, OTHER_ACCOUNT}
    state.set_price(Exchange.NSE, "INFY", price)
    assert state.take_moved() == set()
    state.set_position(a_position(account_id=OTHER_ACCOUNT, last_price=Decimal(99)))
    state.set_price(Exchange.NSE, "INFY", price)
    assert state.take_moved() == {OTHER_ACCOUNT}
    assert {position.last_price for position in state.positions()} == {price}
