from decimal import Decimal
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.broker.kite import forms
from engine.broker.kite.forms import OrderNotEncodable, place_form, replace_form
from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType, Validity, Variety
from tests.support.broker_orders import committed_order


def test_place_form_market_order_is_the_packages_bytes():
    order = committed_order(
        symbol="M&M", product_type=ProductType.CNC, order_type=OrderType.MARKET, tag="a b", market_protection=None
    )
    assert place_form(order) == (
        b"variety=regular&exchange=NSE&tradingsymbol=M%26M&transaction_type=BUY&quantity=1&product=CNC"
        b"&order_type=MARKET&validity=DAY&tag=a+b&market_protection=-1"
    )


def test_place_form_limit_order_has_price_and_no_protection():
    order = committed_order(price=Decimal("1450.50"), market_protection=Decimal(2), tag="T1")
    assert place_form(order) == (
        b"variety=regular&exchange=NSE&tradingsymbol=INFY&transaction_type=BUY&quantity=1&product=MIS"
        b"&order_type=LIMIT&price=1450.50&validity=DAY&tag=T1"
    )


def test_place_form_sl_order_has_both_prices():
    order = committed_order(
        order_type=OrderType.SL, price=Decimal(90), trigger_price=Decimal("89.95"), validity=Validity.IOC, tag="T1"
    )
    form = dict(parse_qsl(place_form(order).decode()))
    assert (form["price"], form["trigger_price"], form["validity"]) == ("90", "89.95", "IOC")
    assert "market_protection" not in form


@pytest.mark.parametrize("given_protection", [None, Decimal(0), Decimal("1.5")])
def test_place_form_sl_m_order_always_has_protection_and_never_a_price(given_protection):
    order = committed_order(
        order_type=OrderType.SL_M,
        price=Decimal(5),
        trigger_price=Decimal(90),
        market_protection=given_protection,
        transaction_type=TransactionType.SELL,
    )
    form = dict(parse_qsl(place_form(order).decode()))
    assert form["market_protection"] == str(given_protection or -1)
    assert "price" not in form
    assert form["order_type"] == "SL-M"


def test_place_form_market_order_drops_price_and_trigger():
    order = committed_order(order_type=OrderType.MARKET, price=Decimal(5), trigger_price=Decimal(6))
    form = dict(parse_qsl(place_form(order).decode()))
    assert "price" not in form
    assert "trigger_price" not in form


@pytest.mark.parametrize(("price", "text"), [("1E+3", "1000"), ("1E-2", "0.01"), ("2.50", "2.50"), ("7", "7")])
def test_place_form_price_is_plain_digits(price, text):
    form = dict(parse_qsl(place_form(committed_order(price=Decimal(price))).decode()))
    assert form["price"] == text


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"price": None}, "price"),
        ({"price": Decimal(0)}, "price"),
        ({"price": Decimal("Infinity")}, "price"),
        ({"price": Decimal("1E+20")}, "price"),
        ({"order_type": OrderType.SL_M}, "trigger_price"),
        ({"order_type": OrderType.SL, "price": Decimal(1), "trigger_price": None}, "trigger_price"),
        ({"quantity": 0}, "quantity"),
        ({"tag": ""}, "tag"),
        ({"tag": "T" * 21}, "tag"),
        ({"order_type": OrderType.MARKET, "market_protection": Decimal("NaN")}, "market_protection"),
    ],
)
def test_place_form_unusable_order_is_refused_naming_the_field(changes, field):
    with pytest.raises(OrderNotEncodable, match=f"^{field}: "):
        place_form(committed_order(**changes))


@given(
    symbol=st.text(min_size=1, max_size=20).filter(lambda s: s.isprintable()),
    exchange=st.sampled_from(Exchange),
    price=st.decimals(min_value="0.01", max_value="10000000", places=4),
    quantity=st.integers(1, 10**9),
)
def test_place_form_reads_back_what_was_ordered(symbol, exchange, price, quantity):
    order = committed_order(symbol=symbol, exchange=exchange, price=price, quantity=quantity)
    form = dict(parse_qsl(place_form(order).decode(), keep_blank_values=True, strict_parsing=True))
    assert form["tradingsymbol"] == symbol
    assert form["exchange"] == exchange
    assert Decimal(form["price"]) == price
    assert "E" not in form["price"]
    assert form["quantity"] == str(quantity)
    assert form["tag"] == order.tag


def test_replace_form_is_the_packages_bytes():
    form = replace_form("151", Variety.REGULAR, quantity=3, price=Decimal("2.0"), order_type=OrderType.LIMIT)
    assert form == b"variety=regular&order_id=151&quantity=3&price=2.0&order_type=LIMIT"


def test_replace_form_to_market_gains_protection_and_loses_price():
    form = replace_form("151", Variety.REGULAR, price=Decimal(2), order_type=OrderType.MARKET)
    assert form == b"variety=regular&order_id=151&order_type=MARKET&market_protection=-1"


def test_replace_form_sends_only_what_changes():
    assert replace_form("151", Variety.AMO, trigger_price=Decimal(9)) == b"variety=amo&order_id=151&trigger_price=9"


@pytest.mark.parametrize("order_id", ["", "1/../2", "1 2", "1\r\nX: y", "1?x=y"])
def test_replace_form_order_id_that_would_change_the_path_is_refused(order_id):
    with pytest.raises(OrderNotEncodable, match="broker_order_id"):
        replace_form(order_id, Variety.REGULAR, quantity=1)


@pytest.mark.parametrize(("stored", "sent"), [("-1.0000", "-1"), ("2450.5000", "2450.5"), ("0.0500", "0.05")])
def test_place_form_number_read_back_from_the_ledger_has_no_trailing_noise(stored: str, sent: str) -> None:
    assert forms.plain("price", Decimal(stored)) == sent
