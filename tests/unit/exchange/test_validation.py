"""Refusals of a place: Kite's texts word for word, and the order in which they come."""

from decimal import Decimal
from typing import Any

import pytest

KEY, SECRET, USER = "key", "secret", "AB1234"
MARKET_TEXT = (
    "Market orders without market protection are not allowed via API. "
    "Please set market protection or use a Limit order."
)


def test_place_with_everything_wrong_is_refused_in_kites_order(driver: Any) -> None:
    """Each step mends what the one before complained of."""
    nifty = "NIFTY26NOV24500CE"
    driver.exchange.desk.market_open = False
    driver.pin("100.00", f"NFO:{nifty}")
    fields: dict[str, Any] = {
        "exchange": "NFO",
        "tradingsymbol": "NOPE",
        "transaction_type": "HOLD",
        "quantity": 1001,
        "product": "",
        "order_type": "SL-M",
        "price": "0",
        "trigger_price": "100.03",
    }
    steps: list[tuple[dict[str, Any], str]] = [
        ({"product": "MIS"}, "Missing or empty field `product`"),
        ({"transaction_type": "BUY"}, "Invalid `transaction_type`."),
        (
            {"tradingsymbol": nifty},
            "The instrument you are placing an order for has either expired or does not exist.",
        ),
        ({"quantity": 1820}, "Quantity should be in multiples of the lot size 65."),
        (
            {"trigger_price": "9000.05"},
            "Tick size for this script is 0.05. Kindly enter trigger price in the multiple of tick size "
            "for this script",
        ),
        (
            {"quantity": 1755},
            "The order quantity 1820 (28 lots) is higher than the maximum quantity of 1755 (27 lots) allowed by the "
            "exchanges. Please reduce the order quantity or use iceberg orders.",
        ),
        ({"market_protection": "2"}, MARKET_TEXT),
        (
            {"open": True},
            "MIS (intraday) are blocked as the markets are not open for trading today. Try placing an AMO order.",
        ),
        ({"trigger_price": "200.00"}, "cannot be above the upper circuit price"),
    ]
    for mend, expected in steps:
        refusal = driver.refusal(**fields)
        assert refusal.message == expected or expected in refusal.message
        assert (refusal.status, refusal.error_type) == (400, "InputException")
        if mend.pop("open", False):
            driver.exchange.desk.market_open = True
        fields |= mend
    driver.exchange.add_account(KEY, SECRET, USER, Decimal(1000), now=driver.now)
    assert driver.refusal(**fields).error_type == "MarginException"
    driver.exchange.add_account(KEY, SECRET, USER, Decimal(1_000_000), now=driver.now)
    assert driver.statuses(driver.place(**fields))[-1] == "TRIGGER PENDING"


@pytest.mark.parametrize(
    "field", ["exchange", "tradingsymbol", "transaction_type", "quantity", "product", "order_type", "price"]
)
@pytest.mark.parametrize("value", [None, ""])
def test_place_without_a_required_field_names_it(driver: Any, field: str, value: str | None) -> None:
    assert driver.refusal(**{field: value}).message == f"Missing or empty field `{field}`"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("exchange", "NYSE"),
        ("transaction_type", "buy"),
        ("order_type", "STOP"),
        ("product", "BO"),
        ("product", "NRML"),
        ("validity", "GTC"),
        ("quantity", "0"),
        ("quantity", "-5"),
        ("quantity", "1.5"),
        ("quantity", "١٢"),
        ("price", "0"),
        ("price", "-1"),
        ("price", "NaN"),
        ("price", "1e3"),
        ("price", "Infinity"),
        ("market_protection", "101"),
        ("market_protection", "-2"),
        ("disclosed_quantity", "11"),
        ("autoslice", "maybe"),
    ],
)
def test_place_with_an_impossible_value_names_the_field(driver: Any, field: str, value: str) -> None:
    assert driver.refusal(**{field: value}).message == f"Invalid `{field}`."


def test_place_off_tick_tells_the_tick(driver: Any) -> None:
    refusal = driver.refusal(price="1450.05")
    assert refusal.message == (
        "Tick size for this script is 0.10. Kindly enter price in the multiple of tick size for this script"
    )


@pytest.mark.parametrize("price", ["1450", "1450.0", "1450.00", "1450.000"])
def test_place_price_may_be_written_with_any_zeros(driver: Any, price: str) -> None:
    assert driver.row(driver.place(price=price))["status"] == "COMPLETE"


def test_place_outside_the_circuit_tells_the_limit(driver: Any) -> None:
    assert driver.refusal(price="1300").message == (
        "Your order price is lower than the current lower circuit limit of 1305.00. "
        "Place an order within the daily range."
    )
    assert driver.refusal(price="1600").message == (
        "Your order price is higher than the current upper circuit limit of 1595.00. "
        "Place an order within the daily range."
    )


def test_place_trigger_below_the_circuit_tells_the_limit(driver: Any) -> None:
    refusal = driver.refusal(order_type="SL", transaction_type="SELL", price="1310", trigger_price="1300")
    assert refusal.message == (
        "Trigger price for stoploss sell orders cannot be below the lower circuit price. "
        "Please try placing the order with trigger price above 1305.00."
    )


@pytest.mark.parametrize("order_type", ["MARKET", "SL-M"])
@pytest.mark.parametrize("protection", [None, "", "0"])
def test_place_market_without_protection_is_refused(driver: Any, order_type: str, protection: str | None) -> None:
    refusal = driver.refusal(order_type=order_type, trigger_price="1460", market_protection=protection)
    assert (refusal.status, refusal.error_type, refusal.message) == (400, "InputException", MARKET_TEXT)


def test_place_beyond_the_funds_tells_required_and_available(driver: Any) -> None:
    refusal = driver.refusal(product="CNC", quantity=700)
    assert (refusal.status, refusal.error_type) == (400, "MarginException")
    assert refusal.message == (
        "Insufficient funds. Required margin is 1015000.00 but available margin is 1000000.00. "
        "Check the orderbook for open orders."
    )


def test_place_delivery_sale_without_holdings_is_refused(driver: Any) -> None:
    refusal = driver.refusal(product="CNC", transaction_type="SELL")
    assert (refusal.status, refusal.error_type) == (400, "HoldingException")
    assert refusal.message.startswith("Insufficient stock holding or there are pending sell orders for this stock.")


def test_place_tag_of_21_characters_is_refused_and_of_20_kept(driver: Any) -> None:
    assert driver.refusal(tag="A" * 21).status == 400
    assert driver.row(driver.place(tag="A" * 20))["tag"] == "A" * 20


def test_place_index_is_not_tradable(driver: Any) -> None:
    assert "not tradable" in driver.refusal(tradingsymbol="NIFTY 50").message


def test_place_ioc_on_mcx_is_refused(driver: Any) -> None:
    fields = {"exchange": "MCX", "tradingsymbol": "CRUDEOIL26DECFUT", "product": "NRML", "quantity": 1}
    assert driver.refusal(**fields, validity="IOC", price="5628").message == "Invalid `validity`."


def test_place_unoffered_variety_is_refused_by_name(driver: Any) -> None:
    assert driver.refusal("bo").message == "Invalid `variety`."


def test_place_autoslice_below_the_freeze_quantity_is_refused(driver: Any) -> None:
    fields = {"exchange": "NFO", "tradingsymbol": "NIFTY26NOVFUT", "product": "NRML", "quantity": 65}
    assert driver.refusal(**fields, price="24622.50", autoslice="true").message == (
        "Quantity should be greater than or equal to 1755 for order slicing."
    )


def test_place_autoslice_makes_children_with_parent_tags_and_errors_in_place(driver: Any) -> None:
    premium = "NIFTY26NOV25000CE"
    driver.exchange.add_account(KEY, SECRET, USER, Decimal(160_000), now=driver.now)
    answer = driver.place_raw(
        exchange="NFO",
        tradingsymbol=premium,
        product="NRML",
        quantity=1755 * 8,
        price="20.00",
        autoslice="True",
        tag="MINE",
    )
    placed = [child["order_id"] for child in answer["children"] if "order_id" in child]
    failed = [child["error"] for child in answer["children"] if "error" in child]
    assert (len(placed), len(failed)) == (4, 4)
    assert answer["order_id"] not in placed
    assert {(error["code"], error["error_type"]) for error in failed} == {(400, "MarginException")}
    row = driver.row(placed[0])
    assert row["tags"] == ["autoslice", f"autoslice:{answer['order_id']}", "MINE"]
    assert (row["tag"], row["quantity"]) == ("MINE", 1755)


def test_slice_modified_to_a_market_order_is_still_a_slice(driver: Any) -> None:
    driver.exchange.add_account(KEY, SECRET, USER, Decimal(10**9), now=driver.now)
    driver.exchange.desk.liquidity["NFO:NIFTY26NOVFUT"] = 0
    future = {"exchange": "NFO", "tradingsymbol": "NIFTY26NOVFUT", "product": "NRML", "quantity": 1820}
    answer = driver.place_raw(**future, price="24000.00", autoslice="true", tag="MINE")
    order_id = answer["children"][0]["order_id"]
    driver.modify(order_id, order_type="MARKET", market_protection="1")
    assert driver.row(order_id)["tags"] == ["autoslice", f"autoslice:{answer['order_id']}", "mktp", "mktp:1.00", "MINE"]


def test_place_refused_leaves_nothing_in_the_book(driver: Any) -> None:
    driver.refusal(price="1450.05")
    assert driver.exchange.orders(driver.account, driver.now) == b"[]"


def test_place_closed_market_rejects_other_products_too(driver: Any) -> None:
    driver.exchange.desk.market_open = False
    assert driver.refusal(product="CNC").message == "16278 : The markets have not been opened for trading"


def test_place_async_rejection_shows_in_the_book_with_both_messages(make_driver: Any) -> None:
    driver = make_driver(rejection="async")
    order_id = driver.place(product="CNC", quantity=700)
    assert driver.statuses(order_id) == ["PUT ORDER REQ RECEIVED", "VALIDATION PENDING", "REJECTED"]
    row = driver.row(order_id)
    assert row["status_message"].startswith("Insufficient funds. Required margin is 1015000.00")
    assert row["status_message_raw"].startswith("RMS:Margin Exceeds,Required:1015000.00, Available:1000000.00")
    assert (row["exchange_order_id"], row["exchange_timestamp"], row["pending_quantity"]) == (None, None, 0)
    assert driver.refusal(price="1450.05").status == 400
