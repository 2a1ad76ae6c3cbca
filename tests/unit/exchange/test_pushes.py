"""Which changes of an order the exchange tells its subscribers of, and what it says."""

from typing import Any

import pytest

from engine.exchange import rows
from engine.exchange.orders import Order
from engine.exchange.state import Account


class Told(list[tuple[str, str, int]]):
    """User, status of the push, filled quantity."""

    def take(self, account: Account, order: Order, status: str) -> None:
        self.append((account.user_id, status, order.filled_quantity))


@pytest.fixture
def told(driver: Any) -> Told:
    told = Told()
    driver.exchange.subscribe_orders(told.take)
    return told


def test_push_is_not_sent_for_mere_placement(driver: Any, told: Told) -> None:
    driver.place(price="1440.00")
    assert told == []


def test_push_tells_of_partial_fill_modification_and_end(driver: Any, told: Told) -> None:
    driver.exchange.desk.liquidity["NSE:INFY"] = 4
    order_id = driver.place(price="1450.00")
    driver.modify(order_id, price="1451.00")
    driver.exchange.desk.liquidity["NSE:INFY"] = 10
    driver.tick()
    assert told == [("AB1234", "UPDATE", 4), ("AB1234", "UPDATE", 4), ("AB1234", "COMPLETE", 10)]


def test_push_tells_of_trigger_and_cancel(driver: Any, told: Told) -> None:
    order_id = driver.place(order_type="SL", price="1462.00", trigger_price="1460.00")
    driver.pin("1470.00")
    driver.cancel(order_id)
    assert [status for _, status, _ in told] == ["OPEN", "CANCELLED"]


def test_push_tells_of_asynchronous_rejection(make_driver: Any) -> None:
    driver = make_driver(rejection="async")
    driver.pin("1450.00")
    told = Told()
    driver.exchange.subscribe_orders(told.take)
    driver.place(product="CNC", quantity=700)
    assert told == [("AB1234", "REJECTED", 0)]


def test_push_is_not_sent_for_an_amo(driver: Any, told: Told) -> None:
    driver.exchange.desk.market_open = False
    order_id = driver.place("amo")
    driver.modify(order_id, "amo", price="1449.00")
    driver.cancel(order_id, "amo")
    assert told == []


def test_push_is_not_repeated_by_a_restart(driver: Any, told: Told) -> None:
    driver.place(price="1450.00")
    before = list(told)
    driver.restarted()
    assert told == before


PUSH_KEYS = """account_id unfilled_quantity checksum placed_by order_id exchange_order_id parent_order_id status
status_message status_message_raw order_timestamp exchange_update_timestamp exchange_timestamp variety exchange
tradingsymbol instrument_token order_type transaction_type validity product quantity disclosed_quantity price
trigger_price average_price filled_quantity pending_quantity cancelled_quantity market_protection meta tag guid"""


def test_push_and_postback_have_kites_keys(driver: Any) -> None:
    order = driver.order(driver.place(price="1440.00", tag="T"))
    push = rows.push_row(order, "UPDATE")
    assert set(push) == set(PUSH_KEYS.split())
    assert (push["account_id"], push["checksum"], push["status"], push["tag"]) == ("AB1234", "", "UPDATE", "T")
    assert (push["unfilled_quantity"], push["pending_quantity"]) == (10, 10)
    postback = rows.postback_row(order, 77)
    assert set(postback) == set(PUSH_KEYS.split()) - {"account_id"} | {"user_id", "app_id"}
    assert (postback["user_id"], postback["app_id"], postback["status"]) == ("AB1234", 77, "OPEN")
