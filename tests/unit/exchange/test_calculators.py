"""Margin and charge calculators, trigger ranges."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from engine.exchange import rows
from engine.exchange.errors import KiteRefusal

NIFTY = "NIFTY26NOVFUT"


def asked(symbol: str = "INFY", **fields: Any) -> dict[str, Any]:
    return {
        "exchange": "NSE",
        "tradingsymbol": symbol,
        "transaction_type": "BUY",
        "variety": "regular",
        "product": "CNC",
        "order_type": "LIMIT",
        "quantity": 10,
        "price": 1450,
        "trigger_price": 0,
        **fields,
    }


def future(symbol: str = NIFTY, **fields: Any) -> dict[str, Any]:
    return asked(symbol, **{"exchange": "NFO", "product": "NRML", "quantity": 65, "price": 24600, **fields})


def margins(driver: Any, *orders: dict[str, Any], compact: bool = False) -> list[dict[str, Any]]:
    body, master = msgspec.json.encode(orders), driver.exchange.roll(driver.now)
    answer = driver.exchange.calculators.order_margins(body, master, driver.now, is_compact=compact)
    decoded: list[dict[str, Any]] = msgspec.json.decode(rows.encode(answer))
    return decoded


def basket(driver: Any, *orders: dict[str, Any], positions: bool = False, compact: bool = False) -> dict[str, Any]:
    body, master = msgspec.json.encode(orders), driver.exchange.roll(driver.now)
    held = driver.exchange.state.portfolios["AB1234"] if positions else None
    answer = driver.exchange.calculators.basket_margins(body, held, master, driver.now, is_compact=compact)
    decoded: dict[str, Any] = msgspec.json.decode(rows.encode(answer))
    return decoded


ROW = """type tradingsymbol exchange span exposure option_premium additional bo cash var pnl leverage charges total"""
CHARGES = """transaction_tax transaction_tax_type exchange_turnover_charge sebi_turnover_charge brokerage stamp_duty
gst total"""


def test_margin_row_has_kites_keys(driver: Any) -> None:
    (row,) = margins(driver, asked())
    assert set(row) == set(ROW.split())
    assert set(row["charges"]) == set(CHARGES.split())
    assert set(row["charges"]["gst"]) == {"igst", "cgst", "sgst", "total"}
    assert (row["type"], row["var"], row["total"], row["leverage"]) == ("equity", 14500, 14500, 1)
    assert row["pnl"] == {"realised": 0, "unrealised": 0}


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (asked(product="MIS"), {"var": 2900, "total": 2900, "leverage": 5}),
        (asked(product="MTF"), {"var": 3625, "total": 3625, "leverage": 4}),
        (asked(transaction_type="SELL"), {"total": 0}),
        (asked(order_type="MARKET", price=0), {"total": 14500}),
        (asked(order_type="SL-M", price=0, trigger_price=1500), {"total": 15000}),
        (future(), {"span": 191880, "exposure": 47970, "total": 239850, "leverage": 1}),
        (future("NIFTY26NOV24500CE", price=100), {"option_premium": 6500, "total": 6500, "span": 0}),
        (
            future("NIFTY26NOV24500CE", price=100, transaction_type="SELL"),
            {"span": 191100, "exposure": 47775, "option_premium": 0, "total": 238875},
        ),
        (
            future("CRUDEOIL26DECFUT", exchange="MCX", quantity=1, price=5600),
            {"type": "commodity", "total": 84000},
        ),
    ],
)
def test_margin_of_an_order_is_what_it_would_block(
    driver: Any, order: dict[str, Any], expected: dict[str, Any]
) -> None:
    (row,) = margins(driver, order)
    assert {name: row[name] for name in expected} == expected


def test_margin_asked_for_is_the_one_that_an_order_is_refused_by(driver: Any) -> None:
    (row,) = margins(driver, asked(quantity=700))
    text = f"Required margin is {row['total']}.00 but available margin is 1000000.00."
    assert text in driver.refusal(product="CNC", quantity=700).message


def test_compact_margins_are_totals_alone(driver: Any) -> None:
    assert margins(driver, asked(), compact=True) == [
        {"type": "equity", "tradingsymbol": "INFY", "exchange": "NSE", "total": 14500}
    ]


def test_charges_are_of_todays_rates(driver: Any) -> None:
    orders = [
        {**asked(), "order_id": "1", "average_price": 560},
        {**future(transaction_type="SELL"), "order_id": "2", "average_price": 24600.5},
        {
            **future("CRUDEOIL26DECFUT", exchange="MCX", transaction_type="SELL", quantity=1),
            "order_id": "3",
            "average_price": 5600,
        },
    ]
    master = driver.exchange.roll(driver.now)
    answer = driver.exchange.calculators.order_charges(msgspec.json.encode(orders), master, driver.now)
    share, index, oil = msgspec.json.decode(rows.encode(answer))
    assert {name: share[name] for name in ("tradingsymbol", "quantity", "price")} == {
        "tradingsymbol": "INFY",
        "quantity": 10,
        "price": 560,
    }
    charges = share["charges"]
    assert (charges["transaction_tax"], charges["transaction_tax_type"]) == (5.6, "stt")
    assert (charges["brokerage"], charges["exchange_turnover_charge"]) == (0, 0.17192)
    assert (charges["gst"]["igst"], charges["gst"]["total"]) == (0.031954, 0.031954)
    assert (index["charges"]["brokerage"], index["charges"]["transaction_tax"]) == (20, 799.51625)
    assert (oil["charges"]["transaction_tax_type"], oil["charges"]["transaction_tax"]) == ("ctt", 56)


def test_charges_need_an_average_price(driver: Any) -> None:
    body = msgspec.json.encode([{**asked(), "average_price": 0}])
    with pytest.raises(KiteRefusal, match="Invalid `average_price`"):
        driver.exchange.calculators.order_charges(body, driver.exchange.roll(driver.now), driver.now)


def test_basket_of_a_spread_asks_less_than_its_orders(driver: Any) -> None:
    answer = basket(driver, future(), future("NIFTY26DECFUT", transaction_type="SELL", price=24700))
    assert set(answer) == {"initial", "final", "orders", "charges"}
    assert answer["initial"]["total"] == sum(row["total"] for row in answer["orders"])
    assert answer["final"]["exposure"] == answer["initial"]["exposure"]
    assert answer["final"]["span"] == pytest.approx(answer["initial"]["span"] / 4)
    assert answer["charges"]["brokerage"] == 40
    assert set(basket(driver, future(), compact=True)["final"]) == {"type", "tradingsymbol", "exchange", "total"}


def test_basket_that_closes_itself_asks_nothing_in_the_end(driver: Any) -> None:
    answer = basket(driver, asked(product="MIS"), asked(product="MIS", transaction_type="SELL"))
    assert (answer["initial"]["total"], answer["final"]["total"]) == (5800, 0)


def test_basket_considers_positions_when_asked(driver: Any) -> None:
    driver.place(quantity=10)
    exit_order = asked(product="MIS", transaction_type="SELL")
    assert basket(driver, exit_order)["final"]["total"] == 2900
    assert basket(driver, exit_order, positions=True)["final"]["total"] == 0


def test_empty_basket_is_all_zeros(driver: Any) -> None:
    answer = basket(driver)
    assert (answer["initial"]["total"], answer["orders"], answer["charges"]["total"]) == (0, [], 0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The request body is not a JSON array of orders"),
        (b"{}", "The request body is not a JSON array of orders"),
        (b'[{"exchange": "NSE"}]', "The request body is not a JSON array of orders"),
        (msgspec.json.encode([asked("NOPE")]), "The instrument you are placing an order for"),
        (msgspec.json.encode([asked(product="BO")]), "Invalid `product`."),
        (msgspec.json.encode([asked(quantity=0)]), "Invalid `quantity`."),
        (msgspec.json.encode([asked(transaction_type="HOLD")]), "Invalid `transaction_type`."),
        (msgspec.json.encode([asked()] * 501), "At most 500 orders"),
    ],
)
def test_calculator_refuses_what_is_no_order(driver: Any, body: bytes, message: str) -> None:
    with pytest.raises(KiteRefusal) as caught:
        driver.exchange.calculators.order_margins(body, driver.exchange.roll(driver.now), driver.now, is_compact=False)
    assert (caught.value.status, caught.value.error_type) == (400, "InputException")
    assert caught.value.message.startswith(message)


def test_trigger_range_is_what_a_cover_order_may_have(driver: Any) -> None:
    master = driver.exchange.roll(driver.now)
    ranges = driver.exchange.calculators.trigger_ranges("buy", ["NSE:INFY", "NSE:NOPE"], master, driver.now)
    assert ranges == {"NSE:INFY": {"instrument_token": 408065, "lower": 1305, "upper": 1450}}
    driver.place("co", price="1450.00", trigger_price=str(ranges["NSE:INFY"]["lower"]))
    below = ranges["NSE:INFY"]["lower"] - Decimal("0.10")
    assert driver.refusal("co", price="1450.00", trigger_price=str(below)).status == 400
    with pytest.raises(KiteRefusal):
        driver.exchange.calculators.trigger_ranges("hold", ["NSE:INFY"], master, driver.now)


@pytest.mark.parametrize("number", ["1e999999", "-1", '"NaN"', '"Infinity"', "1e-300", "1e30"])
def test_calculator_refuses_a_number_that_is_no_price(driver: Any, number: str) -> None:
    body = msgspec.json.encode([asked()]).replace(b'"price":1450', b'"price":' + number.encode())
    with pytest.raises(KiteRefusal) as caught:
        driver.exchange.calculators.order_margins(body, driver.exchange.roll(driver.now), driver.now, is_compact=False)
    assert caught.value.message == "Invalid `price`."
