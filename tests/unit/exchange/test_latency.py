"""Interim states that last: what is seen on the way, what is refused meanwhile, and what a restart keeps."""

from typing import Any

import pytest

from engine.exchange.config import Latency
from engine.exchange.errors import KiteRefusal

NEW = ["PUT ORDER REQ RECEIVED", "VALIDATION PENDING", "OPEN PENDING"]
SLOW = {"latency": Latency(received_s=1, validation_s=2, exchange_s=3)}
CHANGED = ["MODIFY VALIDATION PENDING", "MODIFY PENDING", "MODIFIED", "OPEN"]


@pytest.fixture
def slow(driver: Any) -> Any:
    driver.behave(**SLOW)
    return driver


def resting(driver: Any, **fields: Any) -> str:
    """An order that is in the book already when things become slow."""
    driver.behave()
    order_id = str(driver.place(**{"price": "1440.00", **fields}))
    driver.behave(**SLOW)
    return order_id


def test_place_passes_its_stages_at_their_instants(slow: Any) -> None:
    order_id = slow.place()
    seen = []
    for seconds in (0, 1, 2, 3):
        slow.now = slow.now.replace(second=slow.now.second + seconds)
        seen.append(slow.row(order_id)["status"])
    assert seen == [*NEW, "COMPLETE"]
    assert slow.statuses(order_id) == [*NEW, "OPEN", "COMPLETE"]
    assert slow.row(order_id)["exchange_timestamp"] == "2026-11-23 10:00:06"


def test_place_has_no_exchange_id_until_it_is_open(slow: Any) -> None:
    order_id = slow.place(price="1440.00")
    slow.wait(5)
    assert slow.row(order_id)["exchange_order_id"] is None
    slow.wait(1)
    assert len(slow.row(order_id)["exchange_order_id"]) == 16


def test_stop_passes_to_trigger_pending(slow: Any) -> None:
    order_id = slow.place(order_type="SL", price="1462.00", trigger_price="1460.00")
    slow.wait(6)
    assert slow.statuses(order_id) == [*NEW, "TRIGGER PENDING"]


@pytest.mark.parametrize("seconds", [0, 1, 3])
def test_order_on_its_way_can_be_neither_modified_nor_cancelled(slow: Any, seconds: int) -> None:
    order_id = slow.place(price="1440.00")
    slow.wait(seconds)
    with pytest.raises(KiteRefusal) as modify:
        slow.modify(order_id, price="1441.00")
    assert modify.value.message == "Order cannot be modified as it is being processed. Try later."
    with pytest.raises(KiteRefusal) as cancel:
        slow.cancel(order_id)
    assert cancel.value.message == "Order cannot be cancelled as it is being processed. Try later."


def test_modify_keeps_the_old_values_until_the_exchange_has_it(driver: Any) -> None:
    order_id = resting(driver)
    driver.modify(order_id, price="1441.00")
    assert (driver.row(order_id)["status"], driver.row(order_id)["price"]) == ("MODIFY VALIDATION PENDING", 1440)
    with pytest.raises(KiteRefusal, match="cannot be modified"):
        driver.modify(order_id, price="1442.00")
    driver.wait(2)
    assert (driver.row(order_id)["status"], driver.row(order_id)["price"]) == ("MODIFY PENDING", 1440)
    driver.wait(3)
    assert (driver.row(order_id)["status"], driver.row(order_id)["price"]) == ("OPEN", 1441)
    assert driver.statuses(order_id)[4:] == CHANGED


def test_order_still_fills_while_its_cancel_is_on_the_way(driver: Any) -> None:
    order_id = resting(driver)
    driver.cancel(order_id)
    assert driver.row(order_id)["status"] == "CANCEL PENDING"
    driver.exchange.desk.liquidity["NSE:INFY"] = 4
    driver.pin("1440.00")
    assert driver.row(order_id)["status"] == "CANCEL PENDING"
    driver.wait(3)
    row = driver.row(order_id)
    assert (row["status"], row["filled_quantity"], row["cancelled_quantity"]) == ("CANCELLED", 4, 6)


def test_order_filled_before_its_cancel_arrived_stays_complete(driver: Any) -> None:
    order_id = resting(driver)
    driver.cancel(order_id)
    driver.pin("1440.00")
    driver.wait(10)
    assert driver.statuses(order_id)[-2:] == ["CANCEL PENDING", "COMPLETE"]


def test_modify_to_less_than_was_filled_meanwhile_changes_nothing(driver: Any) -> None:
    order_id = resting(driver)
    driver.modify(order_id, quantity=5)
    driver.exchange.desk.liquidity["NSE:INFY"] = 7
    driver.pin("1440.00")
    driver.wait(5)
    row = driver.row(order_id)
    assert (row["status"], row["quantity"], row["filled_quantity"]) == ("OPEN", 10, 7)
    assert row["status_message"] == "The order was filled before it could be modified."


def test_trigger_waits_for_the_end_of_a_modify(driver: Any) -> None:
    order_id = resting(driver, order_type="SL", price="1462.00", trigger_price="1460.00")
    driver.modify(order_id, price="1463.00")
    driver.pin("1461.00")
    assert driver.row(order_id)["status"] == "MODIFY VALIDATION PENDING"
    driver.wait(5)
    assert driver.row(order_id)["status"] == "COMPLETE"


def test_restart_keeps_what_is_on_the_way(driver: Any) -> None:
    order_id = resting(driver)
    driver.modify(order_id, price="1441.00")
    driver.restarted()
    assert driver.row(order_id)["status"] == "MODIFY VALIDATION PENDING"
    driver.wait(2)
    driver.restarted()
    assert driver.row(order_id)["status"] == "MODIFY PENDING"
    driver.wait(3)
    assert (driver.row(order_id)["status"], driver.row(order_id)["price"]) == ("OPEN", 1441)
    assert driver.statuses(order_id)[4:] == CHANGED


def test_day_ends_an_order_on_its_way(slow: Any) -> None:
    slow.now = slow.now.replace(hour=18, minute=29, second=58)
    order_id = slow.place(price="1440.00")
    slow.pass_time(days=1)
    slow.tick()
    assert slow.rows() == []
    last = [event for event in slow.save() if getattr(event, "order_id", None) == order_id][-1]
    assert last.stages[-1].status == "CANCELLED"
    slow.wait(10)
