from decimal import Decimal
from uuid import UUID

import pytest

from engine.domain.fill import incremental_price, new_fills
from tests.support.trade import BUY, a_fill


def test_incremental_price_first_fill_is_its_average() -> None:
    assert incremental_price(0, Decimal(0), 4, Decimal("156.733333333333")) == Decimal("156.733333333333")


def test_incremental_price_difference_of_cash() -> None:
    assert incremental_price(4, Decimal(100), 10, Decimal(103)) == Decimal(105)


def test_incremental_price_division_noise_is_cut() -> None:
    price = incremental_price(3, Decimal("100.333333"), 10, Decimal("101.1"))
    assert price == Decimal("101.42857157")


@pytest.mark.parametrize(("before", "after"), [(5, 5), (5, 4), (-1, 4)])
def test_incremental_price_without_growth_refused(before: int, after: int) -> None:
    with pytest.raises(ValueError, match="grow"):
        incremental_price(before, Decimal(1), after, Decimal(1))


def test_new_fills_known_and_repeated_left_out_in_order() -> None:
    first, second, third = (a_fill(BUY, 1, "100", trade_id=trade_id) for trade_id in ("a", "b", "c"))
    assert new_fills({"b"}, [third, second, first, third]) == (third, first)


def test_new_fills_of_two_orders_refused() -> None:
    # A trade with oneself: one trade id, two orders, two fills.
    with pytest.raises(ValueError, match="2 orders"):
        new_fills(set(), [a_fill(BUY, 1, "100"), a_fill(BUY, 1, "100", order_id=UUID(int=9))])
