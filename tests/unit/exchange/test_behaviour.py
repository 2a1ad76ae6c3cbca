"""What a scenario may choose: refusals at once or later, odd rows, old answers, what lags."""

from decimal import Decimal
from typing import Any

import pytest

from engine.exchange.errors import KiteRefusal

NEW = ["PUT ORDER REQ RECEIVED", "VALIDATION PENDING", "OPEN PENDING"]
BY_THE_BROKER = ["PUT ORDER REQ RECEIVED", "VALIDATION PENDING", "REJECTED"]


@pytest.mark.parametrize(
    ("about", "fields", "statuses", "raw"),
    [
        ("funds", {"product": "CNC", "quantity": 700}, BY_THE_BROKER, "RMS:Margin Exceeds,Required:1015000.00"),
        ("holdings", {"product": "CNC", "transaction_type": "SELL"}, BY_THE_BROKER, "RMS:Rule: Check T1 holdings"),
        ("circuit", {"price": "1300"}, BY_THE_BROKER, "RMS:Rule: Check circuit limit including square off order"),
        ("tick", {"price": "1450.05"}, [*NEW, "REJECTED"], "16316 : The price is not a multiple of tick size"),
    ],
)
def test_refusal_comes_at_once_or_later_by_its_class(
    driver: Any, about: str, fields: dict[str, Any], statuses: list[str], raw: str
) -> None:
    message = driver.refusal(**fields).message
    assert driver.rows() == []
    driver.behave(rejections={about: "async"})
    row = driver.row(order_id := driver.place(**fields))
    assert driver.statuses(order_id) == statuses
    assert row["status_message"] == message
    assert row["status_message_raw"].startswith(raw)
    assert (row["exchange_order_id"], row["exchange_timestamp"], row["exchange_update_timestamp"]) == (None,) * 3
    assert (row["filled_quantity"], row["pending_quantity"], row["cancelled_quantity"]) == (0, 0, 0)


def test_refusal_of_a_class_left_out_follows_the_configuration(make_driver: Any) -> None:
    driver = make_driver(rejection="async")
    driver.behave(rejections={"circuit": "sync"})
    driver.pin("1450.00")
    assert "lower circuit limit" in driver.refusal(price="1300").message
    assert driver.row(driver.place(product="CNC", quantity=700))["status"] == "REJECTED"


def test_closed_market_refuses_later_in_the_exchanges_words(driver: Any) -> None:
    driver.behave(rejections={"hours": "async"})
    driver.exchange.desk.market_open = False
    order_id = driver.place(product="CNC")
    assert driver.statuses(order_id) == [*NEW, "REJECTED"]
    assert driver.row(order_id)["status_message_raw"] == "16278 : The markets have not been opened for trading"


def test_exchange_rejects_an_instrument_asynchronously(driver: Any) -> None:
    text = "16387 : Security is not allowed to trade in this market"
    driver.behave(order_rejects={"NSE:INFY": text})
    row = driver.row(order_id := driver.place())
    assert driver.statuses(order_id) == [*NEW, "REJECTED"]
    assert (row["status_message"], row["status_message_raw"]) == (text, text)
    assert driver.row(driver.place(tradingsymbol="SBIN", price="800"))["status"] != "REJECTED"


def test_broker_rejects_everything_asynchronously(driver: Any) -> None:
    driver.behave(order_rejects={"*": "RMS:Blocked for the account"})
    assert driver.statuses(driver.place()) == BY_THE_BROKER


def test_modify_is_refused_asynchronously_with_the_old_values(driver: Any) -> None:
    order_id = driver.place(price="1440.00")
    driver.behave(modify_rejects={"NSE:INFY": "17080 : Modification is not allowed"})
    driver.modify(order_id, price="1441.00")
    row = driver.row(order_id)
    assert (row["status"], row["price"], row["modified"]) == ("OPEN", 1440, False)
    assert row["status_message"] == "17080 : Modification is not allowed"
    assert driver.statuses(order_id)[-3:] == ["MODIFY VALIDATION PENDING", "MODIFY PENDING", "OPEN"]
    driver.behave()
    driver.modify(order_id, price="1442.00")
    assert (driver.row(order_id)["price"], driver.row(order_id)["status_message"]) == (1442, None)


@pytest.mark.parametrize(
    ("pending", "cancelled", "expected"),
    [("kept", "counted", (6, 6)), ("zero", "counted", (0, 6)), ("kept", "zero", (6, 0)), ("zero", "zero", (0, 0))],
)
def test_cancelled_rows_tell_of_the_remainder_as_chosen(
    driver: Any, pending: str, cancelled: str, expected: tuple[int, int]
) -> None:
    driver.exchange.desk.liquidity["NSE:INFY"] = 4
    order_id = driver.place()
    driver.cancel(order_id)
    assert driver.row(order_id)["pending_quantity"] == 6
    driver.behave(cancelled_pending=pending, cancelled_quantity=cancelled)
    row = driver.row(order_id)
    assert (row["pending_quantity"], row["cancelled_quantity"]) == expected
    assert row["filled_quantity"] == 4


def test_cancel_of_a_finished_order_in_the_newer_words(driver: Any) -> None:
    order_id = driver.place()
    driver.behave(finished_cancel="does_not_exist")
    with pytest.raises(KiteRefusal) as caught:
        driver.cancel(order_id)
    assert (caught.value.status, caught.value.error_type) == (400, "OrderException")
    assert caught.value.message == f"The order for ID ({order_id}) does not exist."


def test_book_in_no_order_has_the_same_rows(driver: Any) -> None:
    placed = [driver.place(price="1440.00") for _ in range(12)]
    assert [row["order_id"] for row in driver.rows()] == placed
    driver.behave(shuffle_orders=True)
    shuffled = [row["order_id"] for row in driver.rows()]
    assert shuffled != placed
    assert sorted(shuffled) == sorted(placed)


def test_positions_lag_behind_trades(driver: Any) -> None:
    driver.place(quantity=10)
    driver.wait(10)
    driver.behave(positions_lag_s=5)
    driver.place(quantity=7)
    driver.place(quantity=3, product="CNC")
    assert [row["quantity"] for row in driver.exchange.positions(driver.account, driver.now)["net"]] == [10]
    assert len(driver.exchange.trades(driver.account, driver.now)) == 3
    driver.wait(5)
    rows = driver.exchange.positions(driver.account, driver.now)["net"]
    assert [row["quantity"] for row in rows] == [17, 3]


def test_autoslice_answers_as_before_march_2026(driver: Any) -> None:
    driver.behave(autoslice_answer="v1")
    driver.exchange.add_account("key", "secret", "AB1234", Decimal(80_000), now=driver.now)
    answer = driver.place_raw(
        exchange="NFO",
        tradingsymbol="NIFTY26NOV25000CE",
        product="NRML",
        quantity=1755 * 8,
        price="20.00",
        autoslice="true",
    )
    assert [sorted(child) for child in answer] == [["order_id"]] * 2 + [["error"]] * 6
    tags = [row["tags"][1] for row in driver.rows()]
    assert tags == [f"autoslice:{answer[0]['order_id']}"] * 2


def test_limit_far_from_the_market_is_refused_when_asked_for(driver: Any) -> None:
    driver.behave(far_limit_percent=Decimal(5))
    assert driver.refusal(price="1370.00").message.startswith(
        "LIMIT orders that are far away from the LTP are restricted as per exchange guidelines. Please use [GTT](https://"
    )
    driver.place(price="1380.00")


@pytest.mark.parametrize(
    ("last", "side", "inside", "outside"),
    [
        ("100.00", "BUY", "140.00", "140.05"),
        ("100.00", "SELL", "60.00", "59.95"),
        ("40.00", "BUY", "60.00", "60.05"),
        ("40.00", "SELL", "20.00", "19.95"),
    ],
)
def test_limit_price_protection_of_an_option_is_told_as_a_circuit(
    driver: Any, last: str, side: str, inside: str, outside: str
) -> None:
    option = {"exchange": "NFO", "tradingsymbol": "NIFTY26NOV24500CE", "product": "NRML", "quantity": 65}
    driver.pin(last, "NFO:NIFTY26NOV24500CE")
    text = "Price exceeds circuit limits for the instrument. Place an order within the daily range."
    assert driver.refusal(**option, transaction_type=side, price=outside).message == text
    driver.place(**option, transaction_type=side, price=inside)


@pytest.mark.parametrize(
    ("exchange", "symbol", "disclosed", "is_allowed"),
    [
        ("NSE", "INFY", 10, True),
        ("NSE", "INFY", 9, False),
        ("NSE", "INFY", 101, False),
        ("MCX", "CRUDEOIL26DECFUT", 25, True),
        ("MCX", "CRUDEOIL26DECFUT", 24, False),
        ("NFO", "NIFTY26NOV25000CE", 65, False),
    ],
)
def test_disclosed_quantity_has_a_least_share_by_exchange(
    driver: Any, exchange: str, symbol: str, disclosed: int, is_allowed: bool
) -> None:
    driver.exchange.add_account("key", "secret", "AB1234", 10**10, now=driver.now)
    prices = {"INFY": "1440.00", "CRUDEOIL26DECFUT": "5600", "NIFTY26NOV25000CE": "10.00"}
    fields = {
        "exchange": exchange,
        "tradingsymbol": symbol,
        "quantity": 65 if exchange == "NFO" else 100,
        "price": prices[symbol],
        "disclosed_quantity": disclosed,
    }
    if is_allowed:
        assert driver.row(driver.place(**fields))["disclosed_quantity"] == disclosed
    else:
        assert driver.refusal(**fields).message == "Invalid `disclosed_quantity`."


def test_tag_may_hold_spaces_and_marks(driver: Any) -> None:
    row = driver.row(driver.place(tag="connect test order1"))
    assert (row["tag"], row["tags"]) == ("connect test order1", ["connect test order1"])


TRADE_KEYS = """trade_id order_id exchange tradingsymbol instrument_token product average_price quantity
exchange_order_id transaction_type fill_timestamp order_timestamp exchange_timestamp"""
ORDER_KEYS = """account_id placed_by order_id exchange_order_id parent_order_id status status_message status_message_raw
order_timestamp exchange_update_timestamp exchange_timestamp variety modified exchange tradingsymbol instrument_token
order_type transaction_type validity validity_ttl product quantity disclosed_quantity price trigger_price average_price
filled_quantity pending_quantity cancelled_quantity market_protection meta tag guid"""


def test_order_rows_have_kites_keys_and_types(driver: Any) -> None:
    row = driver.row(driver.place(price="1450.00"))
    assert set(row) == set(ORDER_KEYS.split())
    assert type(row["price"]) is type(row["average_price"]) is type(row["trigger_price"]) is int
    assert isinstance(driver.row(driver.place(price="1440.50"))["price"], float)
    assert "tags" in driver.row(driver.place(tag="T"))
    (trade,) = driver.exchange.order_trades(driver.account, row["order_id"], driver.now)
    assert set(trade) == set(TRADE_KEYS.split())
