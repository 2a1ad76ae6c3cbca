from decimal import Decimal
from typing import Any

import pytest

from engine.domain.enums import Exchange, ProductType
from engine.domain.position import (
    Position,
    apply_fill,
    average_price,
    m2m,
    pnl,
    realised,
    roll_day,
    unrealised,
    value,
    with_last_price,
)
from tests.support.trade import BUY, OTHER_ACCOUNT, SELL, a_fill, a_position

GOLD: dict[str, Any] = {"exchange": Exchange.MCX, "symbol": "GOLDGUINEA", "product_type": ProductType.NRML}
# The broker's documented rows: three units overnight, one bought today, all four sold today.
GOLD_OVERNIGHT = a_position(
    **GOLD,
    quantity=3,
    overnight_quantity=3,
    buy_quantity=3,
    buy_value=Decimal(69171),
    close_price=Decimal(23232),
    last_price=Decimal(23355),
)
LEAD: dict[str, Any] = {"exchange": Exchange.MCX, "symbol": "LEADMINI", "product_type": ProductType.NRML}


def traded(position: Position, *trades: tuple[Any, int, str]) -> Position:
    for side, quantity, price in trades:
        fill = a_fill(
            side,
            quantity,
            price,
            exchange=position.exchange,
            symbol=position.symbol,
            product_type=position.product_type,
        )
        position = apply_fill(position, fill)
    return position


def test_gold_net_row_reproduced() -> None:
    row = traded(GOLD_OVERNIGHT, (BUY, 1, "23388"), (SELL, 4, "23340"))
    assert (row.quantity, row.buy_quantity, row.sell_quantity) == (0, 4, 4)
    assert row.buy_value / row.buy_quantity == Decimal("23139.75")
    assert row.sell_value == Decimal(93360)
    assert value(row) == pnl(row) == Decimal(801)
    assert m2m(row) == Decimal(276)
    assert average_price(row) == 0


def test_gold_day_row_is_net_short_at_its_sell_price() -> None:
    row = traded(a_position(**GOLD, last_price=Decimal(23355)), (BUY, 1, "23388"), (SELL, 4, "23340"))
    assert (row.quantity, average_price(row)) == (-3, Decimal(23340))
    assert (value(row), pnl(row), m2m(row)) == (Decimal(69972), Decimal(-93), Decimal(-93))


def test_lead_values_hold_the_multiplier() -> None:
    row = traded(a_position(**LEAD, multiplier=Decimal(1000), last_price=Decimal("161.05")), (BUY, 1, "161.05"))
    assert (row.buy_value, value(row)) == (Decimal(161050), Decimal(-161050))
    assert average_price(row) == Decimal("161.05")
    assert pnl(row) == 0
    assert pnl(row, Decimal("161.15")) == unrealised(row, Decimal("161.15")) == Decimal(100)


def test_long_part_sold_splits_profit() -> None:
    row = traded(a_position(last_price=Decimal(130)), (BUY, 10, "100"), (SELL, 4, "120"))
    assert (realised(row), unrealised(row), pnl(row)) == (Decimal(80), Decimal(180), Decimal(260))


def test_short_part_covered_splits_profit() -> None:
    row = traded(a_position(last_price=Decimal(90)), (SELL, 10, "100"), (BUY, 4, "95"))
    assert (realised(row), unrealised(row), pnl(row)) == (Decimal(20), Decimal(60), Decimal(80))


def test_long_to_short_flip_average_is_of_the_sells() -> None:
    row = traded(a_position(), (BUY, 10, "100"), (SELL, 15, "110"))
    assert (row.quantity, average_price(row)) == (-5, Decimal(110))


def test_flat_position_all_profit_is_realised() -> None:
    row = traded(a_position(last_price=Decimal(500)), (BUY, 10, "100"), (SELL, 10, "101"))
    assert (realised(row), unrealised(row), pnl(row)) == (Decimal(10), Decimal(0), Decimal(10))


def test_position_without_any_price_has_no_unrealised_part() -> None:
    row = traded(a_position(), (BUY, 10, "100"))
    assert (unrealised(row), pnl(row)) == (Decimal(0), Decimal(0))


def test_with_last_price_marks() -> None:
    row = with_last_price(traded(a_position(), (BUY, 10, "100")), Decimal(99))
    assert pnl(row) == Decimal(-10)


def test_roll_day_long_is_carried_at_average_and_day_starts_at_zero() -> None:
    row = roll_day(traded(a_position(last_price=Decimal(120)), (BUY, 10, "100"), (SELL, 4, "110")), Decimal(120))
    assert (row.quantity, row.overnight_quantity, row.buy_quantity, row.buy_value) == (6, 6, 6, Decimal(600))
    assert (row.sell_quantity, row.sell_value, row.day_buy_quantity, row.day_sell_quantity) == (0, Decimal(0), 0, 0)
    assert m2m(row) == 0
    assert unrealised(row) == Decimal(120)
    assert m2m(row, Decimal(115)) == Decimal(-30)


def test_roll_day_short_is_carried_at_average() -> None:
    row = roll_day(traded(a_position(), (SELL, 10, "100")), Decimal(105))
    assert (row.overnight_quantity, row.sell_quantity, row.sell_value) == (-10, 10, Decimal(1000))
    covered = traded(row, (BUY, 10, "102"))
    assert m2m(covered) == Decimal(30)
    assert pnl(covered) == Decimal(-20)


def test_roll_day_flat_leaves_nothing() -> None:
    row = roll_day(traded(a_position(), (BUY, 1, "100"), (SELL, 1, "90")), Decimal(90))
    assert (row.quantity, value(row), pnl(row), m2m(row)) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    "other",
    [
        {"symbol": "SBIN"},
        {"exchange": Exchange.BSE},
        {"product_type": ProductType.CNC},
        {"account_id": OTHER_ACCOUNT},
    ],
)
def test_apply_fill_of_another_position_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is not of position"):
        apply_fill(a_position(), a_fill(BUY, 1, "100", **other))
