"""Positions: the order of fills does not matter, and a flat position is worth its cash."""

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.enums import TransactionType
from engine.domain.fill import Fill
from engine.domain.position import Position, apply_fill, average_price, m2m, pnl, realised, roll_day, unrealised, value
from tests.support.trade import a_fill, a_position

PRICES = st.integers(5, 500_000).map(lambda paise: Decimal(paise) / 100)
FILLS = st.lists(
    st.builds(a_fill, st.sampled_from(TransactionType), st.integers(1, 500), PRICES.map(str)), min_size=1, max_size=12
)
MULTIPLIERS = st.sampled_from([Decimal(1), Decimal(100), Decimal("0.5")])
NOISE = Decimal("1e-12")


def book(fills: list[Fill], multiplier: Decimal = Decimal(1)) -> Position:
    position = a_position(multiplier=multiplier)
    for fill in fills:
        position = apply_fill(position, fill)
    return position


@given(fills=FILLS, multiplier=MULTIPLIERS, chance=st.randoms(use_true_random=False))
@settings(max_examples=80, deadline=None)
def test_fills_in_any_order_same_position(fills: list[Fill], multiplier: Decimal, chance: object) -> None:
    shuffled = fills.copy()
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert book(shuffled, multiplier) == book(fills, multiplier)


@given(fills=FILLS, multiplier=MULTIPLIERS, last=PRICES)
@settings(max_examples=80, deadline=None)
def test_profit_is_its_two_parts(fills: list[Fill], multiplier: Decimal, last: Decimal) -> None:
    position = book(fills, multiplier)
    cash = sum(-fill.transaction_type.sign * fill.quantity * fill.price * multiplier for fill in fills)
    held = sum(fill.transaction_type.sign * fill.quantity for fill in fills)
    assert (value(position), position.quantity) == (cash, held)
    assert pnl(position, last) == cash + held * last * multiplier
    assert m2m(position, last) == pnl(position, last)
    assert abs(realised(position) + unrealised(position, last) - pnl(position, last)) < NOISE
    expected = held * (last - average_price(position)) * multiplier
    assert abs(unrealised(position, last) - expected) < Decimal("1e-9")


@given(fills=FILLS, price=PRICES, last=PRICES)
@settings(max_examples=80, deadline=None)
def test_flat_position_profit_is_its_cash(fills: list[Fill], price: Decimal, last: Decimal) -> None:
    open_position = book(fills)
    side = TransactionType.SELL if open_position.quantity > 0 else TransactionType.BUY
    if open_position.quantity:
        fills = [*fills, a_fill(side, abs(open_position.quantity), str(price))]
    flat = book(fills)
    assert flat.quantity == 0
    assert realised(flat) == pnl(flat, last) == value(flat)
    assert unrealised(flat, last) == average_price(flat) == 0


@given(fills=FILLS, close=PRICES, last=PRICES)
@settings(max_examples=80, deadline=None)
def test_roll_day_keeps_what_is_held_and_day_profit_is_from_the_close(
    fills: list[Fill], close: Decimal, last: Decimal
) -> None:
    before = book(fills)
    after = roll_day(before, close)
    assert after.quantity == after.overnight_quantity == before.quantity
    assert abs(average_price(after) - average_price(before)) < NOISE
    assert abs(unrealised(after, last) - unrealised(before, last)) < NOISE
    assert m2m(after, last) == after.quantity * (last - close)
    assert roll_day(after, close) == after


@given(first=FILLS, second=FILLS, close=PRICES, last=PRICES)
@settings(max_examples=60, deadline=None)
def test_day_profits_add_up_over_two_days(first: list[Fill], second: list[Fill], close: Decimal, last: Decimal) -> None:
    day_one = book(first)
    day_two = roll_day(day_one, close)
    for fill in second:
        day_two = apply_fill(day_two, fill)
    whole = book(first + second)
    assert abs(m2m(day_one, close) + m2m(day_two, last) - pnl(whole, last)) < NOISE
