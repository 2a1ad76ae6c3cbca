"""Positions by Kite's formulas, what days do to them, holdings and money."""

from decimal import Decimal
from typing import Any

import pytest

from engine.exchange.portfolio import PositionKey, PositionTotals
from engine.exchange.portfolio_rows import position_row

D = Decimal


def test_position_row_reproduces_the_published_gold_example() -> None:
    """Buy 4 at 23139.75 (3 of them overnight), sell 4 at 23340: pnl 801, m2m 276 (kite.md 9.1)."""
    overnight = D("23139.75") * 4 - D(23388)
    totals = PositionTotals(
        instrument_token=1,
        overnight_quantity=3,
        overnight_value=overnight,
        day_buy_quantity=1,
        day_buy_value=D(23388),
        day_sell_quantity=4,
        day_sell_value=D(93360),
    )
    row = position_row(PositionKey("MCX", "GOLDGUINEA", "NRML"), totals, D(23337), D(23232))
    assert (row["quantity"], row["pnl"], row["m2m"], row["average_price"]) == (0, 801, 276, 0)
    assert (row["buy_price"], row["sell_price"], row["buy_quantity"]) == (D("23139.75"), 23340, 4)
    assert row["unrealised"] == row["pnl"]
    assert row["realised"] == 0


def test_position_row_values_hold_the_multiplier() -> None:
    totals = PositionTotals(
        instrument_token=1, multiplier=D(1000), day_sell_quantity=1, day_sell_value=D("161.05") * 1000
    )
    row = position_row(PositionKey("MCX", "LEADMINI", "NRML"), totals, D("161.05"), D(0))
    assert (row["sell_value"], row["sell_price"], row["average_price"]) == (161050, D("161.05"), D("161.05"))
    assert (row["quantity"], row["pnl"]) == (-1, 0)


def test_position_short_at_night_is_marked_from_the_close() -> None:
    totals = PositionTotals(instrument_token=1, overnight_quantity=-10, overnight_value=D(1000))
    row = position_row(PositionKey("NFO", "X", "NRML"), totals, D(90), D(95))
    assert (row["sell_m2m"], row["m2m"], row["pnl"], row["average_price"]) == (950, 50, 100, 100)


def test_position_follows_trades_and_stays_as_a_flat_row(driver: Any) -> None:
    driver.place(quantity=10)
    driver.pin("1460.00")
    row = driver.position()
    assert (row["quantity"], row["pnl"], row["average_price"], row["product"]) == (10, 100, 1450, "MIS")
    driver.place(transaction_type="SELL", quantity=10, price="1455.00")
    row = driver.position()
    assert (row["quantity"], row["pnl"], row["average_price"]) == (0, 100, 0)
    assert driver.position(which="day")["day_sell_price"] == 1460


def test_position_products_are_apart(driver: Any) -> None:
    driver.place(product="CNC", quantity=5)
    driver.place(product="MIS", quantity=7)
    rows = driver.exchange.positions(driver.account, driver.now)["net"]
    assert {(row["product"], row["quantity"]) for row in rows} == {("CNC", 5), ("MIS", 7)}


def test_position_of_yesterday_is_overnight_today(driver: Any) -> None:
    future = {"exchange": "NFO", "tradingsymbol": "INFY26DECFUT", "product": "NRML"}
    driver.pin("1460.00", "NFO:INFY26DECFUT")
    driver.place(**future, quantity=800, price="1461.00")
    driver.place(**future, quantity=400, transaction_type="SELL", price="1460.00")
    driver.pass_time(days=1)
    row = driver.position("INFY26DECFUT")
    assert (row["quantity"], row["overnight_quantity"], row["average_price"]) == (400, 400, 1460)
    assert driver.exchange.positions(driver.account, driver.now)["day"] == []
    driver.place(**future, quantity=400, transaction_type="SELL", price="1459.00")
    row = driver.position("INFY26DECFUT")
    assert (row["quantity"], row["pnl"], row["sell_quantity"]) == (0, 0, 400)
    day = driver.position("INFY26DECFUT", "day")
    assert (day["quantity"], day["overnight_quantity"]) == (-400, 0)


def test_position_of_an_expired_contract_is_gone(driver: Any) -> None:
    driver.pin("1460.00", "NFO:INFY26NOVFUT")
    driver.place(exchange="NFO", tradingsymbol="INFY26NOVFUT", product="NRML", quantity=400, price="1460")
    driver.pass_time(days=1)
    assert driver.position("INFY26NOVFUT")["quantity"] == 400
    driver.pass_time(days=1)
    assert driver.exchange.positions(driver.account, driver.now)["net"] == []


def test_delivery_becomes_a_holding_first_t1_then_settled(driver: Any) -> None:
    driver.place(product="CNC", quantity=10)
    assert driver.exchange.holdings(driver.account, driver.now) == []
    driver.pass_time(days=1)
    driver.pin("1460.00")
    (holding,) = driver.exchange.holdings(driver.account, driver.now)
    assert (holding["quantity"], holding["t1_quantity"], holding["average_price"]) == (0, 10, 1450)
    assert holding["pnl"] == 100
    assert driver.exchange.positions(driver.account, driver.now)["net"] == []
    driver.pass_time(days=1)
    (holding,) = driver.exchange.holdings(driver.account, driver.now)
    assert (holding["quantity"], holding["t1_quantity"]) == (10, 0)


def test_delivery_sale_from_holdings_is_a_negative_position_today(driver: Any) -> None:
    driver.place(product="CNC", quantity=10)
    driver.pass_time(days=2)
    driver.place(product="CNC", quantity=4, transaction_type="SELL")
    (holding,) = driver.exchange.holdings(driver.account, driver.now)
    assert (driver.position()["quantity"], holding["used_quantity"]) == (-4, 4)
    assert driver.refusal(product="CNC", quantity=7, transaction_type="SELL").error_type == "HoldingException"
    driver.pass_time(days=1)
    (holding,) = driver.exchange.holdings(driver.account, driver.now)
    assert (holding["quantity"], holding["average_price"]) == (6, 1450)


def test_delivery_pending_sale_counts_against_holdings(driver: Any) -> None:
    driver.place(product="CNC", quantity=10)
    driver.place(product="CNC", quantity=6, transaction_type="SELL", price="1500")
    assert driver.refusal(product="CNC", quantity=5, transaction_type="SELL").error_type == "HoldingException"


def margin(driver: Any) -> dict[str, Any]:
    segment: dict[str, Any] = driver.exchange.margins(driver.account, "equity", driver.now)
    return segment


def test_margin_of_a_resting_order_is_blocked_and_freed(driver: Any) -> None:
    order_id = driver.place(price="1400.00", quantity=10)
    assert margin(driver)["net"] == 1_000_000 - D("2800")
    driver.cancel(order_id)
    assert margin(driver)["net"] == 1_000_000


def test_margin_of_an_exit_is_not_blocked(driver: Any) -> None:
    driver.place(quantity=10)
    before = margin(driver)["net"]
    driver.place(quantity=10, transaction_type="SELL", price="1500")
    assert margin(driver)["net"] == before
    driver.place(quantity=10, transaction_type="SELL", price="1500")
    assert margin(driver)["net"] == before - 3000


def test_margin_takes_profit_in_and_debits_are_the_sum_of_what_is_used(driver: Any) -> None:
    driver.place(quantity=10)
    driver.pin("1460.00")
    driver.place(quantity=10, transaction_type="SELL")
    segment = margin(driver)
    assert segment["net"] == 1_000_100
    assert segment["utilised"]["m2m_realised"] == -100
    used = sum(value for name, value in segment["utilised"].items() if name != "debits")
    assert segment["utilised"]["debits"] == used
    assert segment["available"]["cash"] - segment["utilised"]["debits"] == segment["net"]


def test_margin_cash_of_tomorrow_holds_todays_profit(driver: Any) -> None:
    driver.place(quantity=10)
    driver.pin("1440.00")
    driver.place(quantity=10, transaction_type="SELL", price="1440.00")
    driver.pass_time(days=1)
    assert margin(driver)["available"]["cash"] == 999_900


@pytest.mark.parametrize(("side", "blocked"), [("BUY", D("1300.00")), ("SELL", D("243750.00"))])
def test_margin_of_an_option_is_its_premium_or_a_share_of_the_strike(driver: Any, side: str, blocked: Decimal) -> None:
    driver.pin("20.00", "NFO:NIFTY26NOV25000CE")
    option = {"exchange": "NFO", "tradingsymbol": "NIFTY26NOV25000CE", "product": "NRML"}
    driver.place(**option, transaction_type=side, quantity=65, price="20.00")
    assert margin(driver)["net"] == 1_000_000 - blocked


def test_margin_after_any_day_of_orders_is_what_the_book_adds_up_to(driver: Any) -> None:
    """The sums kept per lane never drift from the orders themselves."""
    for number in range(60):
        side = "BUY" if number % 3 else "SELL"
        price = f"{1430 + number % 40}.00"
        order_id = driver.place(transaction_type=side, price=price, quantity=1 + number % 7)
        if number % 4 == 0 and driver.order(order_id).status == "OPEN":
            driver.modify(order_id, price=f"{1440 + number % 5}.00", quantity=9)
        if number % 5 == 0 and not driver.order(order_id).is_terminal:
            driver.cancel(order_id)
    driver.pin("1447.00")
    book = driver.exchange.state.books["AB1234"]
    expected: dict[Any, tuple[int, Decimal]] = {}
    for entry in book.entries.values():
        order = entry.order
        if not order.is_terminal:
            units, blocked = expected.get(order.lane, (0, D(0)))
            expected[order.lane] = (units + order.remaining, blocked + order.remaining * order.price / 5)
    assert len(expected) == 2
    assert {name: (lane.remaining, lane.blocked) for name, lane in book.lanes.items()} == expected


def test_modify_is_charged_only_for_the_difference(driver: Any) -> None:
    order_id = driver.place(product="CNC", price="1400.00", quantity=700)
    driver.modify(order_id, quantity=714)
    assert margin(driver)["net"] == 400
