"""Converting positions, authorising holdings, and the other views of holdings."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from engine.clock import IST
from engine.exchange.errors import KiteRefusal
from engine.exchange.portfolio import PositionKey

FORM = {
    "exchange": "NSE",
    "tradingsymbol": "INFY",
    "transaction_type": "BUY",
    "position_type": "day",
    "quantity": "4",
    "old_product": "MIS",
    "new_product": "CNC",
}


def convert(driver: Any, **fields: Any) -> bool:
    form = {name: str(value) for name, value in {**FORM, **fields}.items()}
    done: bool = driver.exchange.portfolio_desk.convert(
        driver.account, form, driver.exchange.roll(driver.now), driver.now
    )
    return done


def quantities(driver: Any) -> dict[str, int]:
    rows = driver.exchange.positions(driver.account, driver.now)["net"]
    return {row["product"]: row["quantity"] for row in rows}


def net(driver: Any) -> Any:
    return driver.exchange.margins(driver.account, "equity", driver.now)["net"]


def test_conversion_takes_a_part_to_another_product(driver: Any) -> None:
    driver.place(quantity=10)
    assert convert(driver) is True
    assert quantities(driver) == {"MIS": 6, "CNC": 4}
    assert net(driver) == 1_000_000 - 6 * 290 - 4 * 1450
    assert {row["average_price"] for row in driver.exchange.positions(driver.account, driver.now)["net"]} == {1450}
    driver.restarted()
    assert quantities(driver) == {"MIS": 6, "CNC": 4}


def test_conversion_keeps_the_profit_of_all_positions(driver: Any) -> None:
    driver.place(quantity=10)
    driver.place(quantity=5, price="1460.00")
    driver.pin("1470.00")
    before = sum(row["pnl"] for row in driver.exchange.positions(driver.account, driver.now)["net"])
    convert(driver, quantity=7)
    assert sum(row["pnl"] for row in driver.exchange.positions(driver.account, driver.now)["net"]) == before


def test_conversion_of_an_overnight_future(driver: Any) -> None:
    key = "NFO:INFY26DECFUT"
    driver.pin("1460.00", key)
    future = {"exchange": "NFO", "tradingsymbol": "INFY26DECFUT"}
    driver.place(**future, product="NRML", quantity=800, transaction_type="SELL", price="1460.00")
    driver.pass_time(days=1)
    asked = {**future, "transaction_type": "SELL", "old_product": "NRML", "new_product": "MIS", "quantity": 400}
    with pytest.raises(KiteRefusal, match="higher than the 0"):
        convert(driver, **asked)
    convert(driver, **asked, position_type="overnight")
    held = driver.exchange.state.portfolios["AB1234"].positions
    assert held[PositionKey("NFO", "INFY26DECFUT", "MIS")].overnight_quantity == -400
    assert held[PositionKey("NFO", "INFY26DECFUT", "MIS")].overnight_value == 400 * 1460
    assert held[PositionKey("NFO", "INFY26DECFUT", "NRML")].overnight_quantity == -400


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quantity": 11}, "Quantity to convert is higher than the 10 of the position."),
        ({"transaction_type": "SELL"}, "Quantity to convert is higher than the 0 of the position."),
        ({"position_type": "overnight"}, "Quantity to convert is higher than the 0 of the position."),
        ({"position_type": "week"}, "Invalid `position_type`."),
        ({"new_product": "NRML"}, "Invalid `new_product`."),
        ({"new_product": "MIS"}, "Invalid `new_product`."),
        ({"quantity": "-1"}, "Invalid `quantity`."),
        ({"old_product": ""}, "Missing or empty field `old_product`"),
        ({"tradingsymbol": "NOPE"}, "The instrument you are placing an order for has either expired"),
    ],
)
def test_conversion_that_cannot_be_is_refused(driver: Any, fields: dict[str, Any], message: str) -> None:
    driver.place(quantity=10)
    with pytest.raises(KiteRefusal) as caught:
        convert(driver, **fields)
    assert (caught.value.status, caught.value.error_type) == (400, "InputException")
    assert caught.value.message.startswith(message)
    assert quantities(driver) == {"MIS": 10}


def test_conversion_to_delivery_needs_the_whole_money(driver: Any) -> None:
    driver.place(quantity=3000)
    with pytest.raises(KiteRefusal) as caught:
        convert(driver, quantity=1000)
    assert caught.value.error_type == "MarginException"


# holdings


@pytest.fixture
def holder(driver: Any) -> Any:
    """An account that holds 10 INFY."""
    driver.place(product="CNC")
    driver.pass_time(days=2)
    driver.pin("1460.00")
    return driver


def sell(driver: Any, quantity: int = 10) -> str:
    return str(driver.place(product="CNC", transaction_type="SELL", quantity=quantity, price="1460.00"))


def authorise(driver: Any, *asked: tuple[str, str]) -> None:
    master = driver.exchange.roll(driver.now)
    request_id = driver.exchange.portfolio_desk.request_authorisation(driver.account, asked, master, driver.now)
    driver.exchange.portfolio_desk.authorise("key", request_id["request_id"], driver.now)


def test_sale_from_holdings_needs_authorisation_where_switched_on(holder: Any) -> None:
    holder.behave(needs_authorisation=True)
    refusal = holder.refusal(product="CNC", transaction_type="SELL", price="1460.00")
    assert (refusal.status, refusal.error_type) == (428, "HoldingException")
    assert refusal.message == "10 quantity needs authorisation at depository."
    (held,) = holder.exchange.holdings(holder.account, holder.now)
    authorise(holder, (held["isin"], "4"))
    sell(holder, 4)
    assert holder.refusal(product="CNC", transaction_type="SELL", quantity=1, price="1460.00").status == 428
    authorise(holder)
    sell(holder, 6)
    holder.restarted()
    assert [row["authorised_quantity"] for row in holder.exchange.holdings(holder.account, holder.now)] == [14]


def test_shares_bought_today_need_no_authorisation(holder: Any) -> None:
    holder.behave(needs_authorisation=True)
    holder.place(product="CNC", quantity=5, price="1460.00")
    sell(holder, 5)
    assert holder.refusal(product="CNC", transaction_type="SELL", quantity=1, price="1460.00").status == 428


def test_authorisation_ends_with_its_day(holder: Any) -> None:
    holder.behave(needs_authorisation=True)
    authorise(holder)
    holder.pass_time(days=1)
    assert holder.refusal(product="CNC", transaction_type="SELL", price="1460.00").status == 428


def test_authorisation_is_not_given_after_half_past_five(holder: Any) -> None:
    holder.now = datetime(2026, 11, 25, 17, 30, tzinfo=IST)
    with pytest.raises(KiteRefusal, match="until 17:30"):
        authorise(holder)


@pytest.mark.parametrize(
    ("asked", "field"), [(("INE000000000", "1"), "isin"), (("own", "11"), "quantity"), (("own", "x"), "quantity")]
)
def test_authorisation_of_what_is_not_held_is_refused(holder: Any, asked: tuple[str, str], field: str) -> None:
    (held,) = holder.exchange.holdings(holder.account, holder.now)
    isin = held["isin"] if asked[0] == "own" else asked[0]
    with pytest.raises(KiteRefusal, match=f"Invalid `{field}`"):
        authorise(holder, (isin, asked[1]))


def test_authorisation_request_works_once(holder: Any) -> None:
    master = holder.exchange.roll(holder.now)
    desk = holder.exchange.portfolio_desk
    request_id = desk.request_authorisation(holder.account, [], master, holder.now)["request_id"]
    desk.authorise("key", request_id, holder.now)
    with pytest.raises(KiteRefusal, match="Invalid `request_id`"):
        desk.authorise("key", request_id, holder.now)


HOLDING_KEYS = """tradingsymbol exchange instrument_token isin product price quantity used_quantity t1_quantity
realised_quantity authorised_quantity authorised_date authorisation opening_quantity short_quantity
collateral_quantity collateral_type discrepancy average_price last_price close_price pnl day_change
day_change_percentage mtf"""


def test_holding_row_has_kites_keys(holder: Any) -> None:
    (held,) = holder.exchange.holdings(holder.account, holder.now)
    assert set(held) == set(HOLDING_KEYS.split())
    assert set(held["mtf"]) == {"quantity", "used_quantity", "average_price", "value", "initial_margin"}
    assert len(held["isin"]) == 12
    assert (held["pnl"], held["day_change"]) == (100, 10)
    (auction,) = holder.exchange.holdings_auctions(holder.account, holder.now)
    assert set(auction) == {*HOLDING_KEYS.split(), "auction_number"}


def test_holdings_summary_adds_up(holder: Any) -> None:
    summary = holder.exchange.holdings_summary(holder.account, holder.now)
    assert summary == {
        "total_pnl": 100,
        "total_pnl_percent": Decimal("0.689655"),
        "today_pnl": 100,
        "today_pnl_percent": Decimal("0.689655"),
        "invested_amount": 14500,
        "current_value": 14600,
    }
    assert holder.exchange.compact_holdings(holder.account, holder.now) == [
        {"exchange": "NSE", "tradingsymbol": "INFY", "instrument_token": 408065, "t1_quantity": 0, "quantity": 10}
    ]


def test_holdings_summary_of_nothing_is_zeros(driver: Any) -> None:
    assert set(driver.exchange.holdings_summary(driver.account, driver.now).values()) == {0}


POSITION_KEYS = """tradingsymbol exchange instrument_token product quantity overnight_quantity multiplier average_price
close_price last_price value pnl m2m unrealised realised buy_quantity buy_price buy_value buy_m2m sell_quantity
sell_price sell_value sell_m2m day_buy_quantity day_buy_price day_buy_value day_sell_quantity day_sell_price
day_sell_value"""
AVAILABLE = "adhoc_margin cash opening_balance live_balance collateral intraday_payin"
UTILISED = """debits exposure m2m_realised m2m_unrealised option_premium payout span holding_sales turnover
liquid_collateral stock_collateral delivery"""


def test_position_and_funds_rows_have_kites_keys_and_whole_numbers(driver: Any) -> None:
    driver.place(quantity=10)
    row = driver.position()
    assert set(row) == set(POSITION_KEYS.split())
    assert {type(value) for name, value in row.items() if name not in ("tradingsymbol", "exchange", "product")} == {int}
    for segment in ("equity", "commodity"):
        funds = driver.exchange.margins(driver.account, segment, driver.now)
        assert set(funds) == {"enabled", "net", "available", "utilised"}
        assert set(funds["available"]) == set(AVAILABLE.split())
        assert set(funds["utilised"]) == set(UTILISED.split())


def test_debits_are_the_sum_of_what_is_utilised(driver: Any) -> None:
    driver.place(quantity=10)
    driver.place(product="CNC", quantity=2)
    driver.place(price="1440.00", quantity=3)
    driver.pin("1449.00")
    driver.pin("1450.00", "NFO:INFY26DECFUT")
    future = {"exchange": "NFO", "tradingsymbol": "INFY26DECFUT", "product": "NRML", "quantity": 400}
    driver.place(**future, price="1450.00")
    driver.pin("20.00", "NFO:NIFTY26NOV25000CE")
    option = {"exchange": "NFO", "tradingsymbol": "NIFTY26NOV25000CE", "product": "NRML", "quantity": 65}
    driver.place(**option, price="20.00")
    funds = driver.exchange.margins(driver.account, "equity", driver.now)
    utilised = dict(funds["utilised"])
    debits = utilised.pop("debits")
    assert sum(utilised.values()) == debits
    assert funds["net"] == funds["available"]["live_balance"] == funds["available"]["cash"] - debits
    assert (utilised["span"], utilised["option_premium"]) == (69600, 1300)
