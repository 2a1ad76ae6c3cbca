"""Good-till-triggered orders: taken, fired by the price, refused by the checks, kept over restarts."""

import json
from datetime import timedelta
from typing import Any

import pytest

from engine.exchange.errors import KiteRefusal


def form(trigger: Any = "1400.00", last: str = "1450.00", kind: str = "single", **order: Any) -> dict[str, str]:
    triggers = [trigger] if kind == "single" else list(trigger)
    one = {
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "transaction_type": "BUY",
        "quantity": 10,
        "order_type": "LIMIT",
        "product": "CNC",
        "price": 1401,
        **order,
    }
    condition = {
        "exchange": "NSE",
        "tradingsymbol": "INFY",
        "trigger_values": [float(value) for value in triggers],
        "last_price": float(last),
    }
    orders = [one] if kind == "single" else [one, {**one, "price": 1499}]
    return {"type": kind, "condition": json.dumps(condition), "orders": json.dumps(orders)}


def place(driver: Any, **fields: Any) -> int:
    return int(driver.exchange.gtts.place(driver.account, form(**fields), master(driver), driver.now)["trigger_id"])


def master(driver: Any) -> Any:
    return driver.exchange.roll(driver.now)


def row(driver: Any, trigger_id: int) -> dict[str, Any]:
    found: dict[str, Any] = driver.exchange.gtts.row(driver.account, trigger_id)
    return found


def test_gtt_row_has_kites_shape(driver: Any) -> None:
    found = row(driver, trigger_id := place(driver))
    assert found == {
        "id": trigger_id,
        "user_id": "AB1234",
        "parent_trigger": None,
        "type": "single",
        "created_at": "2026-11-23 10:00:00",
        "updated_at": "2026-11-23 10:00:00",
        "expires_at": "2027-11-23 10:00:00",
        "status": "active",
        "condition": {
            "exchange": "NSE",
            "last_price": 1450,
            "tradingsymbol": "INFY",
            "trigger_values": [1400],
            "instrument_token": 408065,
        },
        "orders": [
            {
                "exchange": "NSE",
                "tradingsymbol": "INFY",
                "product": "CNC",
                "order_type": "LIMIT",
                "transaction_type": "BUY",
                "quantity": 10,
                "price": 1401,
                "result": None,
            }
        ],
        "meta": {},
    }
    assert driver.exchange.gtts.rows(driver.account, driver.now) == [found]


@pytest.mark.parametrize(
    ("trigger", "quiet", "hit"), [("1400.00", "1400.10", "1400.00"), ("1500.00", "1499.90", "1500.00")]
)
def test_gtt_fires_once_when_the_price_comes_from_its_side(driver: Any, trigger: str, quiet: str, hit: str) -> None:
    trigger_id = place(driver, trigger=trigger, price=1500)
    driver.pin(quiet)
    assert driver.rows() == []
    driver.pin(hit)
    (order,) = driver.rows()
    assert (order["status"], order["variety"], order["order_type"]) == ("COMPLETE", "regular", "LIMIT")
    assert order["meta"] == {"gtt": trigger_id}
    found = row(driver, trigger_id)
    assert found["status"] == "triggered"
    result = found["orders"][0]["result"]
    assert result["order_result"] == {"status": "success", "order_id": order["order_id"], "rejection_reason": ""}
    assert json.loads(result["meta"]) == {"gtt": trigger_id}
    driver.pin("1450.00")
    driver.pin(hit)
    assert len(driver.rows()) == 1


@pytest.mark.parametrize(("hit", "leg", "other"), [("1399.00", 0, 1), ("1501.00", 1, 0)])
def test_two_leg_gtt_fires_the_first_hit_and_drops_the_other(driver: Any, hit: str, leg: int, other: int) -> None:
    trigger_id = place(driver, trigger=("1400.00", "1500.00"), kind="two-leg")
    driver.pin(hit)
    orders = row(driver, trigger_id)["orders"]
    assert orders[leg]["result"]["order_result"]["status"] == "success"
    assert orders[other]["result"] is None
    driver.pin("1399.00" if leg else "1501.00")
    assert [order["price"] for order in driver.rows()] == [1499 if leg else 1401]


def test_gtt_refused_by_the_checks_tells_the_reason(driver: Any) -> None:
    trigger_id = place(driver, price=1200)
    driver.pin("1400.00")
    assert driver.rows() == []
    found = row(driver, trigger_id)
    assert found["status"] == "triggered"
    assert found["orders"][0]["result"]["order_result"] == {
        "status": "failed",
        "order_id": "",
        "rejection_reason": "Your order price is lower than the current lower circuit limit of 1305.00. "
        "Place an order within the daily range.",
    }


def test_gtt_waits_while_the_market_is_closed(driver: Any) -> None:
    place(driver)
    driver.exchange.desk.market_open = False
    driver.pin("1400.00")
    assert driver.rows() == []
    driver.exchange.desk.market_open = True
    driver.tick()
    assert len(driver.rows()) == 1


def test_gtt_outlives_days_and_restarts(driver: Any) -> None:
    trigger_id = place(driver)
    driver.restarted()
    driver.pass_time(days=30)
    driver.restarted()
    assert row(driver, trigger_id)["status"] == "active"
    driver.pin("1400.00")
    assert len(driver.rows()) == 1
    driver.restarted()
    driver.pin("1400.00")
    assert len(driver.rows()) == 1
    assert row(driver, trigger_id)["status"] == "triggered"
    assert place(driver) == trigger_id + 1


def test_gtt_fired_just_before_a_crash_does_not_fire_again(driver: Any) -> None:
    """The line that makes the order is the line that ends the trigger."""
    trigger_id = place(driver)
    driver.pin("1400.00")
    while getattr(driver.save()[-1], "action", "") != "gtt":
        driver.events.pop()
    driver.restarted()
    driver.pin("1400.00")
    assert len(driver.rows()) == 1
    assert row(driver, trigger_id)["status"] == "triggered"


def test_gtt_ends_after_a_year(driver: Any) -> None:
    trigger_id = place(driver)
    driver.pass_time(days=365)
    driver.tick()
    assert row(driver, trigger_id)["status"] == "expired"
    driver.pass_time(days=8)
    assert driver.exchange.gtts.rows(driver.account, driver.now) == []


def test_gtt_modified_fires_at_its_new_price(driver: Any) -> None:
    trigger_id = place(driver)
    driver.now += timedelta(hours=1)
    driver.exchange.gtts.modify(driver.account, trigger_id, form("1390.00", price=1395), master(driver), driver.now)
    found = row(driver, trigger_id)
    assert (found["created_at"], found["updated_at"]) == ("2026-11-23 10:00:00", "2026-11-23 11:00:00")
    driver.pin("1400.00")
    assert driver.rows() == []
    driver.pin("1390.00")
    assert [order["price"] for order in driver.rows()] == [1395]
    with pytest.raises(KiteRefusal, match="triggered and cannot be changed"):
        driver.exchange.gtts.modify(driver.account, trigger_id, form(), master(driver), driver.now)


def test_gtt_deleted_never_fires(driver: Any) -> None:
    trigger_id = place(driver)
    driver.exchange.gtts.delete(driver.account, trigger_id, driver.now)
    driver.pin("1400.00")
    assert driver.rows() == []
    assert driver.exchange.gtts.rows(driver.account, driver.now) == []
    assert row(driver, trigger_id)["status"] == "deleted"


def test_gtt_of_another_account_is_unknown(driver: Any) -> None:
    trigger_id = place(driver)
    driver.exchange.add_account("key2", "secret2", "CD5678", 1000, now=driver.now)
    other = driver.exchange.state.accounts["CD5678"]
    with pytest.raises(KiteRefusal, match="Couldn't find that `trigger_id`"):
        driver.exchange.gtts.row(other, trigger_id)
    assert driver.exchange.gtts.rows(other, driver.now) == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"order_type": "MARKET"}, "Invalid `order_type`."),
        ({"product": "NRML"}, "Invalid `product`."),
        ({"quantity": 0}, "Invalid `quantity`."),
        ({"price": 0}, "Invalid `price`."),
        ({"price": 1400.05}, "Tick size for this script is 0.10."),
        ({"trigger": "1400.05"}, "Tick size for this script is 0.10."),
        ({"tradingsymbol": "SBIN"}, "Invalid `tradingsymbol`."),
        ({"transaction_type": "HOLD"}, "Invalid `transaction_type`."),
        ({"trigger": "1450.00"}, "Trigger price cannot be the last price."),
        ({"kind": "two-leg", "trigger": ("1500.00", "1400.00")}, "The last price has to be between"),
        ({"kind": "two-leg", "trigger": ("1400.00",)}, "Invalid `trigger_values`."),
    ],
)
def test_gtt_that_cannot_be_is_refused(driver: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(KiteRefusal) as caught:
        place(driver, **fields)
    assert (caught.value.status, caught.value.error_type) == (400, "InputException")
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize("field", ["type", "condition", "orders"])
@pytest.mark.parametrize(("value", "message"), [("", "Missing or empty field `{}`"), ("[1", "Invalid `{}`.")])
def test_gtt_with_a_broken_field_names_it(driver: Any, field: str, value: str, message: str) -> None:
    with pytest.raises(KiteRefusal) as caught:
        driver.exchange.gtts.place(driver.account, {**form(), field: value}, master(driver), driver.now)
    assert caught.value.message.startswith(message.format(field))


ODD_NUMBERS = ["1e999999", "-1", '"NaN"', '"Infinity"', "1e-300", "1e30"]


@pytest.mark.parametrize("number", ODD_NUMBERS)
@pytest.mark.parametrize("where", ["price", "trigger_values", "last_price"])
def test_gtt_with_a_number_that_is_no_price_is_refused(driver: Any, number: str, where: str) -> None:
    wanted = form()
    odd = {name: text.replace("1400.0", number) for name, text in wanted.items()}
    if where == "price":
        odd = {name: text.replace('"price": 1401', f'"price": {number}') for name, text in wanted.items()}
    if where == "last_price":
        odd = {name: text.replace("1450.0", number) for name, text in wanted.items()}
    assert odd != wanted
    with pytest.raises(KiteRefusal) as caught:
        driver.exchange.gtts.place(driver.account, odd, master(driver), driver.now)
    assert caught.value.message.startswith("Invalid `")
