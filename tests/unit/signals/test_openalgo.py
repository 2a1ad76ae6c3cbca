# ruff: noqa: RUF001 -- look-alike digits are what is tested
"""Orders as OpenAlgo's clients write them: what is read, exactly, and what is refused."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType
from engine.domain.instruments import Instrument
from engine.domain.signal import Refusal, Signal
from engine.http.openalgo.bodies import BasketRow, ModifyBody, PlaceBody, SmartBody, SplitBody
from engine.signals import json_guard, openalgo

INFY = Instrument(exchange=Exchange.NSE, symbol="INFY", token=1, tick_size=Decimal("0.05"), lot_size=1)
ROW: dict[str, Any] = {"symbol": "INFY", "exchange": "NSE", "action": "BUY", "quantity": "10"}


def find(exchange: str, symbol: str) -> Instrument | Refusal:
    if (exchange, symbol) == ("NSE", "INFY"):
        return INFY
    return Refusal(code="UNKNOWN_SYMBOL", message=f"{exchange}:{symbol} is unknown", field="symbol")


def read(**fields: Any) -> Any:
    """Return the fields as they come out of a body: numbers as they are written there."""
    given = {name: value for name, value in (ROW | fields).items() if value is not None}
    return json_guard.read(json.dumps(given).encode())


def order(**fields: Any) -> Signal:
    signal = openalgo.order(read(**fields), find)
    assert isinstance(signal, Signal), signal
    return signal


def test_order_with_nothing_but_what_is_needed_is_a_market_order_in_mis() -> None:
    signal = order()
    assert (signal.order_type, signal.product_type) == (OrderType.MARKET, ProductType.MIS)
    assert (signal.symbol, signal.exchange, signal.quantity) == ("INFY", Exchange.NSE, 10)
    assert (signal.price, signal.trigger_price, signal.position_size) == (None, None, None)


@pytest.mark.parametrize("quantity", ["10", 10, 10.0, "10.0", " 10 ", "10."])
def test_quantity_is_read_from_text_and_numbers(quantity: Any) -> None:
    assert order(quantity=quantity).quantity == 10


@pytest.mark.parametrize(
    "quantity",
    ["", "0", 0, -10, "-10", "1.5", 1.5, "1e3", "1,000", "१०", "１０", True, [], {}, "+5", "ten", 10**10, None],
)
def test_quantity_that_is_no_whole_number_of_units_is_refused(quantity: Any) -> None:
    refusal = openalgo.order(read(quantity=quantity), find)
    assert isinstance(refusal, Refusal)
    assert refusal.field == "quantity"


@pytest.mark.parametrize(("text", "price"), [("1450.05", "1450.05"), ("1450", "1450"), ("1450.50", "1450.50")])
def test_prices_are_exact(text: str, price: str) -> None:
    for given in (json.dumps(text), text):
        fixed = '"symbol":"INFY","exchange":"NSE","action":"SELL","quantity":1,"pricetype":"SL"'
        row = json_guard.read(f'{{{fixed},"price":{given},"trigger_price":{given}}}'.encode())
        signal = openalgo.order(row, find)  # type: ignore[arg-type]
        assert isinstance(signal, Signal)
        assert (signal.price, signal.trigger_price) == (Decimal(price), Decimal(price))


@pytest.mark.parametrize("price", ["abc", "-1", -1, "1e2", "1450.00001", "NaN", True, []])
def test_price_that_is_none_is_refused_even_where_it_is_not_used(price: Any) -> None:
    refusal = openalgo.order(read(price=price), find)
    assert isinstance(refusal, Refusal)
    assert refusal.field == "price"


def test_price_that_the_type_does_not_take_is_dropped() -> None:
    signal = order(price="1450", trigger_price=1440, pricetype="MARKET")
    assert (signal.price, signal.trigger_price) == (None, None)
    assert order(price="1450", trigger_price="0", pricetype="LIMIT").price == 1450
    assert order(price="0.0", trigger_price="1440", pricetype="SL-M").trigger_price == 1440


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"pricetype": "LIMIT"}, "price"),
        ({"pricetype": "SL", "price": 1450}, "trigger_price"),
        ({"pricetype": "SL-M", "trigger_price": 0}, "trigger_price"),
        ({"pricetype": "STOP"}, "pricetype"),
        ({"action": "HOLD"}, "action"),
        ({"action": ""}, "action"),
        ({"action": None}, "action"),
        ({"action": 1}, "action"),
        ({"product": "MTF"}, "product"),
        ({"product": "CO"}, "product"),
        ({"symbol": "NOSUCH"}, "symbol"),
        ({"symbol": ""}, "symbol"),
        ({"symbol": "ＩＮＦＹ"}, "symbol"),
        ({"exchange": None}, "exchange"),
        ({"trailing_sl": "5"}, "trailing_sl"),
        ({"disclosed_quantity": "11"}, "disclosed_quantity"),
        ({"position_size": "5"}, "position_size"),
        ({"quantitty": "5"}, "quantitty"),
        ({"stoploss": "-3"}, "stoploss"),
    ],
)
def test_wrong_field_is_refused_by_name(fields: dict[str, Any], field: str) -> None:
    refusal = openalgo.order(read(**fields), find)
    assert isinstance(refusal, Refusal), refusal
    assert refusal.field == field


def test_words_may_be_in_any_letter_case_and_exits_are_attached() -> None:
    signal = order(action="sell", exchange="nse", symbol="infy", stoploss="1500", target="1400.5", trailing_sl="0")
    assert signal.transaction_type is TransactionType.SELL
    assert (signal.stop_loss, signal.target) == (Decimal(1500), Decimal("1400.5"))


@pytest.mark.parametrize(("size", "side"), [("25", "BUY"), (-25, "SELL"), ("-25.0", "SELL"), ("0", "BUY"), (0, "BUY")])
def test_smart_order_asks_for_a_position_whatever_its_action_says(size: Any, side: str) -> None:
    for action in ("BUY", "SELL"):
        signal = openalgo.smart_order(read(position_size=size, action=action, quantity="100"), find)
        assert isinstance(signal, Signal)
        assert signal.position_size == int(float(size))
        assert signal.transaction_type == side


@pytest.mark.parametrize("size", [None, "", "1.5", "long", True, "--5", "1e2"])
def test_smart_order_without_a_size_is_refused(size: Any) -> None:
    refusal = openalgo.smart_order(read(position_size=size), find)
    assert isinstance(refusal, Refusal)
    assert refusal.field == "position_size"


@pytest.mark.parametrize(("total", "part", "parts"), [(105, 20, [20] * 5 + [5]), (10, 20, [10]), (100, 1, [1] * 100)])
def test_split_adds_up(total: int, part: int, parts: list[int]) -> None:
    split = openalgo.split(read(quantity=total, splitsize=str(part)), find)
    assert isinstance(split, openalgo.Split)
    assert [signal.quantity for signal in split.signals] == parts
    assert (split.total, split.size) == (total, part)


@pytest.mark.parametrize(("total", "part"), [(101, 1), (10, 0), (10, ""), (10, "x"), (999_999_999, 1)])
def test_split_that_cannot_be_is_refused(total: int, part: Any) -> None:
    refusal = openalgo.split(read(quantity=total, splitsize=part), find)
    assert isinstance(refusal, Refusal)
    assert refusal.field == "splitsize"


def test_basket_buys_first_and_keeps_the_order_otherwise() -> None:
    rows: Any = [{"action": "SELL", "n": 1}, {"action": " buy", "n": 2}, {"n": 3}, {"action": "BUY", "n": 4}]
    basket = openalgo.basket(rows)
    assert isinstance(basket, list)
    assert [row["n"] for row in basket] == [2, 4, 1, 3]


@pytest.mark.parametrize("value", [None, {}, [], "x", [1], [{}, None], [{}] * 101])
def test_basket_of_another_shape_is_refused(value: Any) -> None:
    assert isinstance(openalgo.basket(value), Refusal)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("  x ", "x"),
        (250408000989443, "250408000989443"),
        ("", None),
        (None, None),
        (True, None),
        ("a\nb", None),
        ("x" * 65, None),
    ],
)
def test_text_field(value: Any, found: str | None) -> None:
    read_ = openalgo.word({"orderid": value}, "orderid")
    assert read_ == found if found else isinstance(read_, Refusal)


@pytest.mark.parametrize(
    ("shape", "known"),
    [
        (BasketRow, openalgo.ORDER_FIELDS),
        (PlaceBody, openalgo.ORDER_FIELDS),
        (SmartBody, openalgo.ORDER_FIELDS | {"position_size"}),
        (SplitBody, openalgo.ORDER_FIELDS | {"splitsize"}),
        (ModifyBody, openalgo.CHANGE_FIELDS),
    ],
)
def test_api_document_lists_what_is_read(shape: Any, known: frozenset[str]) -> None:
    documented = {field.encode_name for field in msgspec.structs.fields(shape)} - {"apikey", "strategy"}
    assert documented <= known
    # these two are taken for the sake of clients that send them always, and do nothing
    assert known - documented <= {"trailing_sl", "underlying_ltp"}
