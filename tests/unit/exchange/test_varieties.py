"""Iceberg, cover, auction and after-market orders from placing to their end."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.exchange.config import Limits
from engine.exchange.errors import KiteRefusal
from engine.exchange.forms import OrderForm, leg_quantities

NEW = ["PUT ORDER REQ RECEIVED", "VALIDATION PENDING", "OPEN PENDING"]
FUTURE = {"exchange": "NFO", "tradingsymbol": "NIFTY26NOVFUT", "product": "NRML"}


def iceberg(driver: Any, **fields: Any) -> str:
    wanted = {"quantity": 30, "iceberg_legs": 3, "iceberg_quantity": 10, "price": "1440.00", "tag": "ICE", **fields}
    return str(driver.place("iceberg", **wanted))


# iceberg


def test_iceberg_releases_one_leg_after_another(driver: Any) -> None:
    first = iceberg(driver)
    (row,) = driver.rows()
    assert (row["order_id"], row["quantity"], row["variety"], row["tag"]) == (first, 10, "iceberg", "ICE")
    assert row["meta"] == {
        "iceberg": {"leg": 1, "legs": 3, "leg_quantity": 10, "total_quantity": 30, "remaining_quantity": 20}
    }
    driver.exchange.desk.liquidity["NSE:INFY"] = 10
    driver.pin("1439.00")
    legs = [row["meta"]["iceberg"] for row in driver.rows()]
    assert [(leg["leg"], leg["remaining_quantity"]) for leg in legs] == [(1, 20), (2, 10)]
    assert [row["status"] for row in driver.rows()] == ["COMPLETE", "OPEN"]
    driver.exchange.desk.liquidity.pop("NSE:INFY")
    driver.tick()
    assert [(row["status"], row["tag"]) for row in driver.rows()] == [("COMPLETE", "ICE")] * 3
    assert driver.position()["quantity"] == 30


def test_iceberg_cancelled_leg_ends_it(driver: Any) -> None:
    driver.cancel(iceberg(driver), "iceberg")
    driver.pin("1439.00")
    assert [row["status"] for row in driver.rows()] == ["CANCELLED"]


def test_iceberg_later_legs_keep_a_changed_price(driver: Any) -> None:
    driver.modify(iceberg(driver), "iceberg", price="1445.00")
    driver.exchange.desk.liquidity["NSE:INFY"] = 10
    driver.pin("1445.00")
    assert [row["price"] for row in driver.rows()] == [1445, 1445]


def test_iceberg_market_protects_every_leg_by_the_price_of_its_release(driver: Any) -> None:
    driver.exchange.desk.liquidity["NSE:INFY"] = 10
    iceberg(driver, order_type="MARKET", market_protection="1")
    assert [row["price"] for row in driver.rows()] == [1464.5, 1464.5]
    assert [row["tags"] for row in driver.rows()] == [["mktp", "mktp:1.00", "ICE"]] * 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"iceberg_legs": 1}, "Invalid `iceberg_legs`."),
        ({"iceberg_legs": 51}, "Invalid `iceberg_legs`."),
        ({"quantity": 2, "iceberg_quantity": 1}, "Invalid `iceberg_legs`."),
        ({"iceberg_legs": None}, "Missing or empty field `iceberg_legs`"),
        ({"iceberg_quantity": ""}, "Missing or empty field `iceberg_quantity`"),
        ({"iceberg_quantity": 9}, "Invalid `iceberg_quantity`."),
        ({"iceberg_quantity": 15}, "Invalid `iceberg_quantity`."),
        ({"validity": "IOC"}, "Invalid `validity`."),
    ],
)
def test_iceberg_with_wrong_legs_is_refused(driver: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(KiteRefusal) as caught:
        iceberg(driver, **fields)
    assert (caught.value.status, caught.value.message) == (400, message)
    assert driver.rows() == []


def test_iceberg_odd_lots_go_to_the_first_legs(driver: Any) -> None:
    """31 lots in 2 legs are 16 and 15 (kite.md 5.2)."""
    driver.pin("24600.00", "NFO:NIFTY26NOVFUT")
    order = {**FUTURE, "quantity": 31 * 65, "iceberg_legs": 2, "price": "24600.00"}
    with pytest.raises(KiteRefusal, match="Invalid `iceberg_quantity`"):
        iceberg(driver, **order, iceberg_quantity=15 * 65)
    driver.exchange.add_account("key", "secret", "AB1234", 10**9, now=driver.now)
    iceberg(driver, **order, iceberg_quantity=16 * 65)
    assert [row["quantity"] for row in driver.rows()] == [16 * 65, 15 * 65]


def test_iceberg_over_the_freeze_quantity_passes_when_its_legs_do_not(driver: Any) -> None:
    order = {**FUTURE, "quantity": 30 * 65, "iceberg_legs": 2, "iceberg_quantity": 15 * 65, "price": "24600.00"}
    driver.exchange.add_account("key", "secret", "AB1234", 10**9, now=driver.now)
    iceberg(driver, **order)
    too_large = {**order, "quantity": 60 * 65, "iceberg_quantity": 30 * 65}
    assert "higher than the maximum quantity of 1755" in driver.refusal("iceberg", **too_large).message


def test_iceberg_legs_count_towards_the_cap_of_the_day(make_driver: Any) -> None:
    driver = make_driver(limits=Limits(orders_per_day=4))
    driver.pin("1439.00")
    iceberg(driver)
    driver.place()
    assert driver.refusal().message == "Maximum allowed order requests exceeded."
    driver.restarted()
    driver.now += timedelta(seconds=20)
    assert driver.refusal().message == "Maximum allowed order requests exceeded."


def test_iceberg_leg_lost_by_a_crash_is_released_again(driver: Any) -> None:
    driver.exchange.desk.liquidity["NSE:INFY"] = 10
    iceberg(driver, price="1450.00")
    lost = driver.save().pop()
    assert lost.action == "leg"
    driver.restarted()
    assert [row["meta"]["iceberg"]["leg"] for row in driver.rows()] == [1, 2, 3]
    driver.restarted()
    assert len(driver.rows()) == 3


@given(st.integers(2, 50), st.integers(1, 400), st.sampled_from([1, 25, 65]))
def test_legs_are_whole_lots_that_add_up_and_never_grow(legs: int, lots: int, lot_size: int) -> None:
    wanted = OrderForm(
        variety="iceberg",
        exchange="NFO",
        tradingsymbol="X",
        transaction_type="BUY",
        order_type="LIMIT",
        product="NRML",
        quantity=lots * lot_size,
        iceberg_legs=legs,
    )
    quantities = leg_quantities(wanted, lot_size)
    assert (len(quantities), sum(quantities)) == (legs, wanted.quantity)
    assert quantities == sorted(quantities, reverse=True)
    assert quantities[0] - quantities[-1] in (0, lot_size)
    assert not any(quantity % lot_size for quantity in quantities)


def test_regular_order_ignores_iceberg_fields(driver: Any) -> None:
    order_id = driver.place(iceberg_legs=1, iceberg_quantity="x", algo_id="ALGO7", unheard_of="1")
    assert (driver.row(order_id)["quantity"], driver.row(order_id)["meta"]) == (10, {})


# cover


def cover(driver: Any, **fields: Any) -> str:
    return str(driver.place("co", **{"price": "1450.00", "trigger_price": "1430.00", "tag": "CVR", **fields}))


def stop_of(driver: Any, entry_id: str) -> dict[str, Any]:
    (stop,) = [row for row in driver.rows() if row["parent_order_id"] == entry_id]
    return stop


def test_cover_entry_gets_its_stop_when_it_fills(driver: Any) -> None:
    entry_id = cover(driver)
    stop = stop_of(driver, entry_id)
    assert (stop["transaction_type"], stop["quantity"], stop["trigger_price"]) == ("SELL", 10, 1430)
    assert (stop["status"], stop["variety"], stop["product"]) == ("TRIGGER PENDING", "co", "CO")
    driver.pin("1429.00")
    assert stop_of(driver, entry_id)["status"] == "COMPLETE"
    assert driver.position()["quantity"] == 0


def test_cover_entry_that_does_not_fill_has_no_stop(driver: Any) -> None:
    entry_id = cover(driver, price="1440.00")
    driver.cancel(entry_id, "co")
    assert [row["status"] for row in driver.rows()] == ["CANCELLED"]


def test_cover_stop_grows_with_the_fills_of_its_entry(driver: Any) -> None:
    driver.exchange.desk.liquidity["NSE:INFY"] = 4
    entry_id = cover(driver)
    assert stop_of(driver, entry_id)["quantity"] == 4
    driver.exchange.desk.liquidity["NSE:INFY"] = 3
    driver.tick()
    assert stop_of(driver, entry_id)["quantity"] == 7
    driver.cancel(entry_id, "co")
    assert (stop_of(driver, entry_id)["status"], stop_of(driver, entry_id)["quantity"]) == ("TRIGGER PENDING", 7)


def test_cover_stop_that_is_hit_ends_what_is_left_of_the_entry(driver: Any) -> None:
    driver.exchange.desk.liquidity["NSE:INFY"] = 4
    entry_id = cover(driver)
    driver.exchange.desk.liquidity["NSE:INFY"] = 0
    driver.pin("1430.00")
    assert driver.row(entry_id)["status"] == "CANCELLED"
    driver.exchange.desk.liquidity["NSE:INFY"] = 100
    driver.tick()
    assert driver.position()["quantity"] == 0


def test_cover_is_left_by_cancelling_the_stop_with_its_parent(driver: Any) -> None:
    entry_id = cover(driver)
    stop_id = stop_of(driver, entry_id)["order_id"]
    with pytest.raises(KiteRefusal, match="Missing or empty field `parent_order_id`"):
        driver.cancel(stop_id, "co")
    with pytest.raises(KiteRefusal, match="Couldn't find that `order_id`"):
        driver.cancel(stop_id, "co", parent_order_id="99")
    driver.cancel(stop_id, "co", parent_order_id=entry_id)
    assert stop_of(driver, entry_id)["status"] == "COMPLETE"
    assert driver.position()["quantity"] == 0


def test_cover_stop_can_only_change_its_trigger(driver: Any) -> None:
    entry_id = cover(driver)
    stop_id = stop_of(driver, entry_id)["order_id"]
    driver.modify(stop_id, "co", trigger_price="1435.00", parent_order_id=entry_id)
    assert stop_of(driver, entry_id)["trigger_price"] == 1435
    with pytest.raises(KiteRefusal, match="Only the trigger price"):
        driver.modify(stop_id, "co", quantity=5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trigger_price": None}, "Missing or empty field `trigger_price`"),
        ({"product": "CNC"}, "Invalid `product`."),
        ({"order_type": "SL"}, "Invalid `order_type`."),
        ({"trigger_price": "1451.00"}, "Trigger price of a cover order should be between 1305.00 and 1450.00."),
        ({"order_type": "MARKET", "trigger_price": "1440"}, "Market orders without market protection"),
    ],
)
def test_cover_that_cannot_be_is_refused(driver: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(KiteRefusal) as caught:
        cover(driver, **fields)
    assert caught.value.message.startswith(message)


def test_cover_stop_lost_by_a_crash_is_placed_again(driver: Any) -> None:
    entry_id = cover(driver)
    driver.exchange.market.pin("NSE:INFY", None)
    lost = driver.save().pop()
    assert lost.action == "stop"
    driver.restarted()
    assert stop_of(driver, entry_id)["quantity"] == 10


# auction


def test_auction_sells_from_holdings_by_its_number(driver: Any) -> None:
    assert (
        driver.refusal("auction", product="CNC", transaction_type="SELL", auction_number="22").message
        == "Invalid `auction_number`."
    )
    driver.place(product="CNC")
    driver.pass_time(days=2)
    (held,) = driver.exchange.holdings_auctions(driver.account, driver.now)
    number = held["auction_number"]
    order = {"product": "CNC", "transaction_type": "SELL", "price": "1460.00", "auction_number": number}
    order_id = driver.place("auction", **order)
    driver.cancel(order_id, "auction")
    row = driver.row(order_id)
    assert (row["auction_number"], row["variety"], row["status"]) == (number, "auction", "CANCELLED")
    assert (row["pending_quantity"], row["cancelled_quantity"]) == (10, 0)
    for field, value in (("transaction_type", "BUY"), ("product", "MIS"), ("order_type", "MARKET")):
        refusal = driver.refusal("auction", **{**order, field: value, "market_protection": "1"})
        assert refusal.message == f"Invalid `{field}`."


# after-market


def test_amo_waits_until_nine_and_then_goes_the_whole_way(driver: Any) -> None:
    order_id = driver.place("amo")
    assert driver.statuses(order_id) == ["AMO REQ RECEIVED"]
    driver.pass_time(hours=22, minutes=59)
    driver.tick()
    assert driver.row(order_id)["status"] == "AMO REQ RECEIVED"
    driver.pass_time(minutes=1)
    driver.tick()
    assert driver.statuses(order_id) == ["AMO REQ RECEIVED", *NEW, "OPEN", "COMPLETE"]
    assert driver.row(order_id)["order_timestamp"] == "2026-11-24 09:00:00"


def test_amo_of_friday_evening_waits_for_monday(driver: Any) -> None:
    driver.now = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
    driver.pass_time()
    order_id = driver.place("amo", price="1440.00")
    driver.pass_time(days=2)
    driver.tick()
    assert driver.row(order_id)["status"] == "AMO REQ RECEIVED"
    driver.restarted()
    driver.pass_time(hours=16)
    driver.tick()
    assert driver.row(order_id)["status"] == "OPEN"


def test_amo_released_early_meets_the_market(driver: Any) -> None:
    order_id = driver.place("amo")
    driver.exchange.release_amos(driver.now)
    assert driver.row(order_id)["status"] == "COMPLETE"


def test_amo_market_is_priced_when_the_market_opens(driver: Any) -> None:
    order_id = driver.place("amo", order_type="MARKET", market_protection="1", tag="T")
    assert (driver.row(order_id)["order_type"], driver.row(order_id)["price"]) == ("MARKET", 0)
    driver.pin("1460.00")
    driver.exchange.release_amos(driver.now)
    row = driver.row(order_id)
    assert (row["order_type"], row["price"], row["tags"]) == ("LIMIT", 1474.6, ["mktp", "mktp:1.00", "T"])


def test_amo_without_money_at_the_opening_is_rejected(driver: Any) -> None:
    order_id = driver.place("amo", product="CNC", quantity=600)
    driver.place(product="CNC", quantity=80)
    driver.exchange.add_account("key", "secret", "AB1234", 900_000, now=driver.now)
    driver.exchange.release_amos(driver.now)
    row = driver.row(order_id)
    assert row["status"] == "REJECTED"
    assert row["status_message"].startswith("Insufficient funds.")
    assert row["status_message_raw"].startswith("RMS:Margin Exceeds")


@pytest.mark.parametrize(
    "fields",
    [{"order_type": "SL", "trigger_price": "1440"}, {"validity": "IOC"}, {"validity": "TTL", "validity_ttl": 5}],
)
def test_amo_is_a_days_limit_or_market_order(driver: Any, fields: dict[str, Any]) -> None:
    assert driver.refusal("amo", **fields).message.startswith("Invalid `")
