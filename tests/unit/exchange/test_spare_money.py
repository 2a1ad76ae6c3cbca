"""The quick yes to an order's money: never given where the exact figure says no."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.exchange.errors import KiteRefusal
from engine.exchange.riskchecks import RiskChecks
from engine.exchange.spare_money import SpareMoney

# a million rupees: some of these are far beyond it, some use it up in a few orders
orders = st.fixed_dictionaries(
    {
        "tradingsymbol": st.sampled_from(["INFY", "SBIN", "TCS", "RELIANCE", "HDFCBANK"]),
        "transaction_type": st.sampled_from(["BUY", "SELL"]),
        "quantity": st.sampled_from([1, 30, 300, 900, 3000]),
        "product": st.sampled_from(["MIS", "CNC"]),
        "order_type": st.just("MARKET"),
        "market_protection": st.just("-1"),
        "price": st.none(),
    }
)
NEAR = {"INFY": "1440", "SBIN": "810", "TCS": "3850", "RELIANCE": "2440", "HDFCBANK": "1630"}
resting = orders.map(lambda fields: {**fields, "order_type": "LIMIT", "price": NEAR[fields["tradingsymbol"]]})
steps = st.lists(st.one_of(orders, resting, st.timedeltas(timedelta(seconds=1), timedelta(hours=30))), max_size=25)


def play(driver: Any, wanted: list[Any]) -> list[Any]:
    """Carry out *wanted*; return each answer, each refusal with its figures, and the money left."""
    seen: list[Any] = []
    for step in wanted:
        if isinstance(step, timedelta):
            driver.pass_time(seconds=step.total_seconds())
            driver.tick()
            continue
        try:
            seen.append(driver.place(**step))
        except KiteRefusal as refusal:
            seen.append(refusal.message)
        seen.append(driver.exchange.margins(driver.account, "equity", driver.now)["net"])
    return seen


# the fixture is the class itself, which keeps nothing
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=steps)
def test_orders_are_taken_and_refused_as_by_the_exact_figure(wanted: list[Any], make_driver: Any) -> None:
    quick = play(make_driver(), wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RiskChecks, "_surely_covers", lambda *_: False)
        exact = play(make_driver(), wanted)
    assert quick == exact


def test_an_order_far_within_the_money_asks_no_position_for_its_price(make_driver: Any, monkeypatch: Any) -> None:
    driver = make_driver()
    driver.place(tradingsymbol="SBIN", quantity=1, order_type="MARKET", market_protection="-1")
    monkeypatch.setattr(RiskChecks, "money", lambda *_: pytest.fail("the exact money was asked for"))
    assert driver.place(tradingsymbol="INFY", quantity=1, price="1400")


def test_prices_that_may_leave_the_limits_are_asked_for_exactly(make_driver: Any, monkeypatch: Any) -> None:
    driver = make_driver()
    driver.pin("1450.00")
    monkeypatch.setattr(SpareMoney, "surely_covers", lambda *_: pytest.fail("a pinned price has no bound"))
    assert driver.place(quantity=1, price="1400")
