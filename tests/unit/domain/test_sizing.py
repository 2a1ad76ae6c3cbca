from decimal import Decimal
from typing import Any

import pytest

from engine.domain.denial import Denial
from engine.domain.enums import SizingMode
from engine.domain.sizing import Sized, size


def sized(mode: SizingMode, value: str, **fields: Any) -> Sized | Denial:
    defaults: dict[str, Any] = {
        "signal_quantity": 10,
        "lot_size": 1,
        "capital": Decimal(100_000),
        "price": Decimal(300),
    }
    return size(mode=mode, value=Decimal(value), **(defaults | fields))


@pytest.mark.parametrize(
    ("mode", "value", "fields", "quantity"),
    [
        (SizingMode.MULTIPLIER, "1", {}, 10),
        (SizingMode.MULTIPLIER, "0.5", {"signal_quantity": 7}, 3),
        (SizingMode.MULTIPLIER, "1.5", {"signal_quantity": 100, "lot_size": 40}, 120),
        (SizingMode.FIXED, "55", {"lot_size": 25}, 50),
        (SizingMode.LOTS, "2", {"lot_size": 25}, 50),
        (SizingMode.LOTS, "2.9", {"lot_size": 25}, 50),
        (SizingMode.CAPITAL_PCT, "10", {}, 33),
        (SizingMode.CAPITAL_PCT, "10", {"lot_size": 25}, 25),
        (SizingMode.CAPITAL_PCT, "50", {"price": Decimal(16), "multiplier": Decimal(1000)}, 3),
    ],
)
def test_size_rounds_down_to_whole_lots(mode: SizingMode, value: str, fields: dict[str, Any], quantity: int) -> None:
    assert sized(mode, value, **fields) == Sized(quantity=quantity)


@pytest.mark.parametrize(
    ("mode", "value", "fields"),
    [
        (SizingMode.MULTIPLIER, "0.09", {}),
        (SizingMode.FIXED, "24", {"lot_size": 25}),
        (SizingMode.FIXED, "-50", {"lot_size": 25}),
        (SizingMode.LOTS, "0.9", {"lot_size": 25}),
        (SizingMode.LOTS, "0", {}),
        (SizingMode.CAPITAL_PCT, "0.1", {}),
    ],
)
def test_size_less_than_a_lot_denied(mode: SizingMode, value: str, fields: dict[str, Any]) -> None:
    denial = sized(mode, value, **fields)
    assert isinstance(denial, Denial)
    assert denial.code == "SIZE_ZERO"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"capital": None}, "CAPITAL_UNKNOWN"),
        ({"capital": Decimal(0)}, "CAPITAL_UNKNOWN"),
        ({"price": None}, "PRICE_UNAVAILABLE"),
        ({"price": Decimal(0)}, "PRICE_UNAVAILABLE"),
        ({"lot_size": 0}, "INSTRUMENT_NOT_TRADABLE"),
        ({"price": Decimal("1e-9")}, "SIZE_TOO_LARGE"),
    ],
)
def test_size_by_capital_without_a_figure_denied(fields: dict[str, Any], code: str) -> None:
    denial = sized(SizingMode.CAPITAL_PCT, "10", **fields)
    assert isinstance(denial, Denial)
    assert denial.code == code


def test_size_other_modes_need_neither_capital_nor_price() -> None:
    assert sized(SizingMode.FIXED, "5", capital=None, price=None) == Sized(quantity=5)
