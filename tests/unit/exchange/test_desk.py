"""The order desk: matching, triggers, protection, partial fills, modify and cancel, day's end."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from engine.exchange.errors import KiteRefusal

NEW = ["PUT ORDER REQ RECEIVED", "VALIDATION PENDING", "OPEN PENDING"]


def test_limit_that_crosses_fills_at_the_market_price(driver: Any) -> None:
    order_id = driver.place(price="1455.00")
    row = driver.row(order_id)
    assert driver.statuses(order_id) == [*NEW, "OPEN", "COMPLETE"]
    assert (row["average_price"], row["filled_quantity"], row["pending_quantity"]) == (1450.0, 10, 0)
    assert len(row["exchange_order_id"]) == 16
    assert len(order_id) == 19


def test_limit_that_does_not_cross_rests_until_the_price_comes(driver: Any) -> None:
    order_id = driver.place(price="1445.00")
    assert driver.statuses(order_id) == [*NEW, "OPEN"]
    driver.pin("1445.10")
    assert driver.row(order_id)["status"] == "OPEN"
    driver.pin("1444.90")
    assert driver.row(order_id)["average_price"] == 1444.9
    assert driver.statuses(order_id) == [*NEW, "OPEN", "COMPLETE"]


def test_sell_limit_fills_only_at_or_above_its_price(driver: Any) -> None:
    order_id = driver.place(transaction_type="SELL", price="1450.10")
    assert driver.row(order_id)["status"] == "OPEN"
    driver.pin("1450.10")
    assert driver.row(order_id)["status"] == "COMPLETE"


def test_market_is_stored_as_a_protected_limit_with_system_tags(driver: Any) -> None:
    row = driver.row(driver.place(order_type="MARKET", price=None, market_protection="2", tag="MYTAG"))
    assert (row["order_type"], row["price"], row["market_protection"]) == ("LIMIT", 1479.0, 0)
    assert (row["tag"], row["tags"]) == ("MYTAG", ["mktp", "mktp:2.00", "MYTAG"])
    assert (row["status"], row["average_price"]) == ("COMPLETE", 1450.0)


def test_market_without_a_tag_has_tag_null_and_system_tags(driver: Any) -> None:
    row = driver.row(driver.place(order_type="MARKET", price="1", market_protection="0.5"))
    assert (row["tag"], row["tags"]) == (None, ["mktp", "mktp:0.50"])


@pytest.mark.parametrize(
    ("symbol", "price", "side", "expected", "tag"),
    [
        ("INFY", "1450.00", "BUY", "1457.2", "mktp:0.50"),
        ("INFY", "1450.00", "SELL", "1442.8", "mktp:0.50"),
        ("ITC", "465.00", "BUY", "469.65", "mktp:1.00"),
        ("YESBANK", "22.00", "SELL", "21.56", "mktp:2.00"),
    ],
)
def test_market_automatic_protection_follows_the_table(
    driver: Any, symbol: str, price: str, side: str, expected: str, tag: str
) -> None:
    driver.pin(price, f"NSE:{symbol}")
    row = driver.row(
        driver.place(tradingsymbol=symbol, transaction_type=side, order_type="MARKET", market_protection="-1")
    )
    assert Decimal(str(row["price"])) == Decimal(expected)
    assert tag in row["tags"]


def test_market_remainder_rests_as_a_limit(driver: Any) -> None:
    driver.exchange.desk.liquidity["NSE:INFY"] = 4
    order_id = driver.place(order_type="MARKET", market_protection="1")
    row = driver.row(order_id)
    assert (row["status"], row["filled_quantity"], row["pending_quantity"]) == ("OPEN", 4, 6)


def test_stop_loss_waits_triggers_and_fills(driver: Any) -> None:
    order_id = driver.place(order_type="SL", price="1462.00", trigger_price="1460.00")
    assert driver.statuses(order_id) == [*NEW, "TRIGGER PENDING"]
    driver.pin("1459.90")
    assert driver.row(order_id)["status"] == "TRIGGER PENDING"
    driver.pin("1461.00")
    assert driver.statuses(order_id) == [*NEW, "TRIGGER PENDING", "OPEN", "COMPLETE"]
    row = driver.row(order_id)
    assert (row["order_type"], row["average_price"]) == ("SL", 1461.0)


def test_stop_loss_that_gaps_over_its_limit_rests(driver: Any) -> None:
    order_id = driver.place(order_type="SL", price="1462.00", trigger_price="1460.00")
    driver.pin("1470.00")
    assert driver.statuses(order_id) == [*NEW, "TRIGGER PENDING", "OPEN"]
    driver.pin("1461.00")
    assert driver.row(order_id)["status"] == "COMPLETE"


def test_stop_market_becomes_a_protected_limit_when_triggered(driver: Any) -> None:
    order_id = driver.place(
        order_type="SL-M", transaction_type="SELL", trigger_price="1440.00", market_protection="1", tag="T"
    )
    before = driver.row(order_id)
    assert (before["order_type"], before["price"], before["tags"]) == ("SL-M", 0, ["T"])
    driver.pin("1440.00")
    row = driver.row(order_id)
    assert (row["status"], row["order_type"], row["price"]) == ("COMPLETE", "LIMIT", 1425.6)
    assert row["tags"] == ["mktp", "mktp:1.00", "T"]


def test_ioc_fills_what_it_can_and_cancels_the_rest(driver: Any) -> None:
    driver.exchange.desk.liquidity["NSE:INFY"] = 4
    order_id = driver.place(validity="IOC")
    row = driver.row(order_id)
    assert (row["status"], row["filled_quantity"], row["cancelled_quantity"]) == ("CANCELLED", 4, 6)
    assert driver.statuses(order_id) == [*NEW, "OPEN", "OPEN", "CANCELLED"]


def test_ioc_that_does_not_cross_is_cancelled_whole(driver: Any) -> None:
    row = driver.row(driver.place(validity="IOC", price="1440"))
    assert (row["status"], row["filled_quantity"], row["cancelled_quantity"]) == ("CANCELLED", 0, 10)


def test_ttl_is_cancelled_when_its_minutes_are_over(driver: Any) -> None:
    order_id = driver.place(validity="TTL", validity_ttl=5, price="1440")
    driver.pass_time(minutes=4)
    driver.tick()
    assert driver.row(order_id)["status"] == "OPEN"
    driver.pass_time(minutes=1)
    driver.tick()
    assert driver.row(order_id)["status"] == "CANCELLED"


def test_partial_fills_end_complete_with_exact_average(make_driver: Any) -> None:
    driver = make_driver(partial_fills=True)
    driver.pin("1450.00")
    order_id = driver.place(quantity=100, price="1460.00")
    assert driver.row(order_id)["status"] == "OPEN"
    for price in ("1451.00", "1452.00", "1453.00"):
        driver.pin(price)
    trades = driver.exchange.order_trades(driver.account, order_id, driver.now)
    row = driver.row(order_id)
    assert row["status"] == "COMPLETE"
    assert len(trades) > 1
    assert sum(trade["quantity"] for trade in trades) == 100
    value = sum(trade["quantity"] * trade["average_price"] for trade in trades)
    assert Decimal(str(row["average_price"])) == Decimal(value) / 100


def test_partial_fills_are_the_same_for_the_same_seed(make_driver: Any) -> None:
    def fills(seed: int) -> list[int]:
        driver = make_driver(partial_fills=True, seed=seed)
        driver.pin("1450.00")
        for _ in range(3):
            driver.place(quantity=90)
        for _ in range(4):
            driver.tick()
        return [trade["quantity"] for trade in driver.exchange.trades(driver.account, driver.now)]

    assert fills(5) == fills(5)
    assert fills(5) != fills(6)


def test_partial_fills_of_a_contract_are_whole_lots(make_driver: Any) -> None:
    driver = make_driver(partial_fills=True)
    driver.place(exchange="NFO", tradingsymbol="NIFTY26NOVFUT", product="NRML", quantity=195, price="24800")
    for _ in range(4):
        driver.tick()
    quantities = [trade["quantity"] for trade in driver.exchange.trades(driver.account, driver.now)]
    assert sum(quantities) == 195
    assert [q for q in quantities if q % 65] == []


def test_amo_is_accepted_as_received_and_does_not_trade(driver: Any) -> None:
    driver.exchange.desk.market_open = False
    order_id = driver.place("amo")
    assert driver.statuses(order_id) == ["AMO REQ RECEIVED"]
    driver.exchange.desk.market_open = True
    driver.tick()
    assert driver.row(order_id)["status"] == "AMO REQ RECEIVED"
    driver.cancel(order_id, "amo")
    assert driver.statuses(order_id) == ["AMO REQ RECEIVED", "CANCELLED"]


def test_modify_shows_its_stages_with_old_values_until_the_last(driver: Any) -> None:
    order_id = driver.place(price="1440.00")
    driver.modify(order_id, price="1441.00", quantity=20)
    history = driver.exchange.order_history(driver.account, order_id, driver.now)
    assert [row["status"] for row in history] == [
        *NEW,
        "OPEN",
        "MODIFY VALIDATION PENDING",
        "MODIFY PENDING",
        "MODIFIED",
        "OPEN",
    ]
    assert [row["price"] for row in history] == [Decimal("1440.00")] * 7 + [Decimal("1441.00")]
    assert (driver.row(order_id)["quantity"], driver.row(order_id)["modified"]) == (20, True)


def test_modify_to_a_price_that_crosses_fills(driver: Any) -> None:
    order_id = driver.place(price="1440.00")
    driver.modify(order_id, price="1450.00")
    assert driver.statuses(order_id)[-2:] == ["OPEN", "COMPLETE"]


def test_modify_limit_to_market_needs_protection(driver: Any) -> None:
    order_id = driver.place(price="1440.00")
    with pytest.raises(KiteRefusal, match="Market orders without market protection"):
        driver.modify(order_id, order_type="MARKET")
    driver.modify(order_id, order_type="MARKET", market_protection="1")
    assert driver.row(order_id)["status"] == "COMPLETE"


def test_modify_stop_to_limit_makes_it_live(driver: Any) -> None:
    order_id = driver.place(order_type="SL", price="1462.00", trigger_price="1460.00")
    driver.modify(order_id, order_type="LIMIT", price="1450.00")
    assert driver.row(order_id)["status"] == "COMPLETE"


def test_modify_limit_to_stop_is_refused(driver: Any) -> None:
    order_id = driver.place(price="1440.00")
    with pytest.raises(KiteRefusal, match="cannot be changed from LIMIT to SL"):
        driver.modify(order_id, order_type="SL", trigger_price="1460")


def test_modify_below_the_filled_quantity_is_refused(driver: Any) -> None:
    driver.exchange.desk.liquidity["NSE:INFY"] = 4
    order_id = driver.place()
    with pytest.raises(KiteRefusal, match="more than the filled quantity 4"):
        driver.modify(order_id, quantity=4)
    driver.modify(order_id, quantity=5)
    assert driver.row(order_id)["pending_quantity"] == 1


@pytest.mark.parametrize("end", ["fill", "cancel"])
def test_modify_and_cancel_of_a_finished_order_are_refused(driver: Any, end: str) -> None:
    order_id = driver.place(price="1450.00" if end == "fill" else "1440.00")
    if end == "cancel":
        driver.cancel(order_id)
    with pytest.raises(KiteRefusal) as modify:
        driver.modify(order_id, price="1430.00")
    assert modify.value.message == "Order cannot be modified as it is being processed. Try later."
    assert (modify.value.status, modify.value.error_type) == (400, "InputException")
    with pytest.raises(KiteRefusal) as cancel:
        driver.cancel(order_id)
    assert cancel.value.message == "Order cannot be cancelled as it is being processed. Try later."


@pytest.mark.parametrize(("order_id", "variety"), [("123", "regular"), (None, "amo")])
def test_modify_of_an_unknown_id_or_variety_finds_nothing(driver: Any, order_id: str | None, variety: str) -> None:
    placed = driver.place(price="1440.00")
    with pytest.raises(KiteRefusal) as caught:
        driver.modify(order_id or placed, variety, price="1430.00")
    assert (caught.value.status, caught.value.message) == (500, "Couldn't find that `order_id`.")


def test_modify_is_refused_after_25_times(driver: Any) -> None:
    order_id = driver.place(price="1440.00")
    for step in range(25):
        driver.modify(order_id, price=f"14{10 + step}.00")
    with pytest.raises(KiteRefusal) as caught:
        driver.modify(order_id, price="1409.00")
    assert caught.value.message == "Maximum allowed order modifications exceeded."
    assert caught.value.error_type == "NetworkException"
    assert driver.row(order_id)["price"] == 1434.0


def test_cancel_shows_its_stages_and_kites_quantities(driver: Any) -> None:
    order_id = driver.place(price="1440.00")
    driver.cancel(order_id)
    assert driver.statuses(order_id) == [*NEW, "OPEN", "CANCEL PENDING", "CANCELLED"]
    row = driver.row(order_id)
    assert (row["filled_quantity"], row["pending_quantity"], row["cancelled_quantity"]) == (0, 10, 10)


def test_two_places_with_one_tag_are_two_orders(driver: Any) -> None:
    assert driver.place(tag="SAME") != driver.place(tag="SAME")


def test_book_shows_only_today_and_cancels_what_was_left(driver: Any) -> None:
    open_id, filled_id = driver.place(price="1440.00"), driver.place()
    driver.pass_time(days=1)
    assert driver.exchange.orders(driver.account, driver.now) == b"[]"
    assert driver.exchange.trades(driver.account, driver.now) == []
    last = [e for e in driver.save() if getattr(e, "order_id", None) == open_id][-1]
    assert last.stages[-1].status == "CANCELLED"
    with pytest.raises(KiteRefusal, match="Couldn't find"):
        driver.exchange.order_history(driver.account, filled_id, driver.now)


def test_hours_enforced_closes_at_night_and_on_sundays(make_driver: Any) -> None:
    driver = make_driver(enforce_hours=True)
    driver.place(price="1400.00")
    driver.pass_time(hours=6)
    assert "markets are not open" in driver.refusal().message
    driver.pass_time(hours=-6, days=-1)
    assert "markets are not open" in driver.refusal().message


def test_hours_enforced_are_those_of_the_exchange(make_driver: Any) -> None:
    driver = make_driver(enforce_hours=True)
    driver.pass_time(hours=10)
    oil = {"exchange": "MCX", "tradingsymbol": "CRUDEOIL26DECFUT", "product": "NRML", "quantity": 1}
    assert driver.row(driver.place(**oil, price="5300"))["status"] == "OPEN"
    assert "have not been opened" in driver.refusal(product="CNC").message
    driver.pass_time(hours=3, minutes=55)
    assert "have not been opened" in driver.refusal(**oil, price="5300").message


def test_dated_order_ids_have_15_digits(make_driver: Any) -> None:
    driver = make_driver(order_ids="dated")
    assert driver.place(price="1400.00") == "261123000000001"
    assert driver.place(price="1400.00") == "261123000000002"


def test_restart_brings_everything_back(driver: Any) -> None:
    driver.exchange.desk.liquidity["NSE:INFY"] = 14
    done, part = driver.place(tag="ONE"), driver.place(tag="TWO")
    stop = driver.place(order_type="SL-M", trigger_price="1500.00", market_protection="-1")
    driver.modify(stop, trigger_price="1510.00")
    driver.refusal(price="1450.05")

    def everything() -> tuple[Any, ...]:
        exchange, account, now = driver.exchange, driver.account, driver.now
        return (
            exchange.orders(account, now),
            exchange.trades(account, now),
            exchange.positions(account, now),
            exchange.margins(account, None, now),
            [exchange.order_history(account, order_id, now) for order_id in (done, part, stop)],
        )

    driver.exchange.market.pin("NSE:INFY", None)
    driver.exchange.desk.market_open = False
    before = everything()
    last_id = driver.exchange.state.last_order_id
    driver.config = type(driver.config)(limits=driver.config.limits, market_open=False)
    driver.restarted()
    assert everything() == before
    assert driver.exchange.authenticate(driver.header, driver.now) == driver.account
    assert int(driver.place("amo")) > last_id - 1
    driver.exchange.desk.market_open = True
    driver.pin("1511.00")
    assert driver.row(stop)["status"] == "COMPLETE"


def test_restart_between_an_order_and_its_trade_fills_it_once(driver: Any) -> None:
    """The record may end after any line: what was lost is done again from the order that is there."""
    order_id = driver.place(price="1500.00")
    lost = driver.save().pop()
    assert lost.order_id == order_id
    driver.restarted()
    assert driver.statuses(order_id) == [*NEW, "OPEN", "COMPLETE"]
    assert len(driver.exchange.trades(driver.account, driver.now)) == 1


def test_restart_on_a_later_day_ends_what_the_earlier_left_open(driver: Any) -> None:
    driver.place(price="1400.00")
    driver.place(product="CNC")
    driver.save()
    driver.now += timedelta(days=3)
    driver.restarted()
    assert driver.exchange.orders(driver.account, driver.now) == b"[]"
    assert driver.exchange.state.books["AB1234"].lanes == {}
    (holding,) = driver.exchange.holdings(driver.account, driver.now)
    assert holding["quantity"] == 10
