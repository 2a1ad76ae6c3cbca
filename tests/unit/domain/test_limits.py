from decimal import Decimal
from typing import Any

import pytest

from engine.domain.enums import Exchange, ProductType
from engine.domain.limits import RiskLimits, TradingWindow, loosened, narrow


def test_narrow_nothing_is_no_limit() -> None:
    assert narrow() == narrow(RiskLimits(), RiskLimits()) == RiskLimits()


@pytest.mark.parametrize(
    ("name", "loose", "tight"),
    [
        ("max_order_value", Decimal(2), Decimal(1)),
        ("max_open_positions", 5, 0),
        ("circuit_breaker_failures", 5, 3),
        ("circuit_breaker_cooldown_s", 60, 600),
        ("duplicate_window_s", 10, 60),
        ("allowed_exchanges", (Exchange.NSE, Exchange.BSE), (Exchange.BSE,)),
        ("allowed_products", (ProductType.MIS,), ()),
        ("trading_window", TradingWindow(start="09:15", end="15:20"), TradingWindow(start="10:00", end="15:00")),
    ],
)
def test_narrow_takes_the_tighter_whichever_comes_first(name: str, loose: Any, tight: Any) -> None:
    a, b = RiskLimits(**{name: loose}), RiskLimits(**{name: tight})
    assert narrow(a, b) == narrow(b, a) == narrow(b, RiskLimits()) == b
    assert loosened(a, b) == ()
    assert loosened(b, a) == (name,)
    assert loosened(b, RiskLimits()) == (name,)
    assert loosened(RiskLimits(), b) == ()


def test_narrow_windows_overlap() -> None:
    morning = RiskLimits(trading_window=TradingWindow(start="09:15", end="12:00"))
    late = RiskLimits(trading_window=TradingWindow(start="11:00", end="15:20"))
    assert narrow(morning, late).trading_window == TradingWindow(start="11:00", end="12:00")


def test_loosened_order_of_exchanges_does_not_matter() -> None:
    old = RiskLimits(allowed_exchanges=(Exchange.NSE, Exchange.BSE))
    new = RiskLimits(allowed_exchanges=(Exchange.BSE, Exchange.NSE))
    assert loosened(old, new) == ()
