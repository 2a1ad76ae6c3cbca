"""TradingView alerts: JSON or text, with the secret taken out before anything can quote it."""

import json

import pytest

from engine.domain.signal import Refusal, Signal
from engine.signals import tradingview
from engine.signals.refusals import RefusalCode as Code
from engine.signals.sheets import Batch

ROW = {
    "symbol": "INFY",
    "exchange": "NSE",
    "transactionType": "BUY",
    "quantity": "1",
    "orderType": "MARKET",
    "productType": "CNC",
}
TEXT = "BUY INFY NSE\nQty: 1\nType: MARKET\nProduct: CNC"


def items(alert):
    assert isinstance(alert.content, Batch)
    return alert.content.items


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({**ROW, "secret": "s3cret"}),
        " \r\n" + json.dumps({"secret": "s3cret", **ROW}),
        f"Secret: s3cret\n{TEXT}",
        f"{TEXT}\r\nSECRET :s3cret  \r\n",
    ],
)
def test_parse_alert_with_secret_gives_secret_and_signal(body):
    alert = tradingview.parse(body.encode())
    assert alert.secret == "s3cret"
    (signal,) = items(alert)
    assert isinstance(signal, Signal)
    assert (signal.symbol, signal.quantity) == ("INFY", 1)
    assert "s3cret" not in repr(alert)


@pytest.mark.parametrize("body", [json.dumps(ROW), json.dumps([ROW, ROW]), TEXT, json.dumps({**ROW, "secret": 5})])
def test_parse_alert_without_secret_gives_none(body):
    alert = tradingview.parse(body.encode())
    assert alert.secret is None
    assert all(isinstance(item, Signal) for item in items(alert))


@pytest.mark.parametrize(
    "body", [f"Secret: s3cret\n{TEXT}\nQty: 5", json.dumps({**ROW, "quantity": 0, "secret": "s3cret"})]
)
def test_parse_alert_refusal_never_quotes_the_secret(body):
    alert = tradingview.parse(body.encode())
    (refusal,) = items(alert)
    assert isinstance(refusal, Refusal)
    assert "s3cret" not in repr(refusal)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", Code.INVALID_JSON),
        (b"\xff", Code.INVALID_ENCODING),
        (b"x" * 65_537, Code.BODY_TOO_LARGE),
        (b"Secret: a\nSecret: b\nBUY INFY NSE 1 MARKET CNC", Code.REPEATED_FIELD),
    ],
)
def test_parse_alert_unreadable_is_refused_whole(body, code):
    alert = tradingview.parse(body)
    assert isinstance(alert.content, Refusal)
    assert alert.content.code == code


def test_parse_alert_of_nothing_is_not_a_signal():
    (refusal,) = items(tradingview.parse(b""))
    assert refusal.code == Code.NOT_A_SIGNAL


ALERT = {"exchange": "NSE", "action": "buy", "contracts": "2", "orderType": "MARKET", "productType": "MIS"}


@pytest.mark.parametrize(
    ("given", "symbol", "exchange"),
    [
        ({"ticker": "RELIANCE"}, "RELIANCE", "NSE"),
        ({"ticker": "NSE:RELIANCE"}, "RELIANCE", "NSE"),
        ({"ticker": "BSE:RELIANCE", "exchange": None}, "RELIANCE", "BSE"),
        ({"ticker": "M&M", "exchange": "NSE_DLY"}, "M&M", "NSE"),
        ({"ticker": "SBIN", "exchange": "NSE_DL"}, "SBIN", "NSE"),
        ({"ticker": "NIFTY261126C24000"}, "NIFTY 26NOV26 24000 CE", "NFO"),
        ({"ticker": "NSE:BANKNIFTY261230P51500.5"}, "BANKNIFTY 30DEC26 51500.5 PE", "NFO"),
        ({"ticker": "NIFTY1!"}, "NIFTY FUT", "NFO"),
        ({"ticker": "SENSEX2!", "exchange": "BSE"}, "SENSEX FUT NEXT", "BFO"),
        ({"ticker": "CRUDEOIL1!", "exchange": "MCX"}, "CRUDEOIL FUT", "MCX"),
        ({"ticker": "NIFTY26NOVFUT", "exchange": "NFO"}, "NIFTY26NOVFUT", "NFO"),
    ],
)
def test_symbol_as_tradingview_writes_it_becomes_ours(given, symbol, exchange):
    row = {name: value for name, value in (ALERT | given).items() if value is not None}
    (signal,) = items(tradingview.parse(json.dumps(row).encode()))
    assert isinstance(signal, Signal), signal
    assert (signal.symbol, signal.exchange) == (symbol, exchange)


def test_text_takes_the_same_symbols():
    for line in ("buy NSE:NIFTY1! NSE_DLY", "buy NIFTY1! NSE", "BUY NSE:NIFTY1!"):
        (signal,) = items(tradingview.parse(f"{line}\nQty: 75\nType: MARKET\nProduct: NRML".encode()))
        assert isinstance(signal, Signal), signal
        assert (signal.symbol, signal.exchange) == ("NIFTY FUT", "NFO")


@pytest.mark.parametrize(
    ("position", "size", "goal"),
    [("long", "3", 3), ("short", 3, -3), ("flat", "0", 0), ("Flat", None, 0), ("long", "75.0", 75), ("short", 2.0, -2)],
)
def test_market_position_is_a_position_to_reach(position, size, goal):
    row = {"ticker": "SBIN", "exchange": "NSE", "orderType": "MARKET", "productType": "MIS", "marketPosition": position}
    row |= {} if size is None else {"marketPositionSize": size}
    (signal,) = items(tradingview.parse(json.dumps(row).encode()))
    assert isinstance(signal, Signal), signal
    assert signal.position_size == goal


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"marketPosition": "long", "marketPositionSize": "-3"}, "marketPositionSize"),
        ({"marketPosition": "long", "marketPositionSize": "0"}, "marketPositionSize"),
        ({"marketPosition": "long"}, "marketPositionSize"),
        ({"marketPosition": "short", "marketPositionSize": "0.5"}, "marketPositionSize"),
        ({"marketPosition": "up", "marketPositionSize": "1"}, "marketPosition"),
        ({"marketPositionSize": "1"}, "marketPosition"),
        ({"marketPosition": "long", "marketPositionSize": "1", "positionSize": 1}, "marketPosition"),
        ({"symbol": "INFY"}, "symbol"),
        ({"exchange": "BSE", "ticker": "NSE:SBIN"}, "symbol"),
        ({"orderId": {"a": 1}}, "orderId"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_alert_that_can_be_read_two_ways_is_refused_and_the_field_named(changes, field):
    content = tradingview.parse(json.dumps({"ticker": "SBIN"} | ALERT | changes).encode()).content
    refusal = content if isinstance(content, Refusal) else content.items[0]
    assert isinstance(refusal, Refusal)
    assert refusal.field == field


def test_what_is_told_for_people_decides_nothing():
    told = {"close": "815.05", "interval": "5", "orderId": "Long", "comment": "x", "time": "2026-11-30T03:45:00Z"}
    (signal,) = items(tradingview.parse(json.dumps({"ticker": "SBIN"} | ALERT | told).encode()))
    assert isinstance(signal, Signal)
    assert signal.price is None


@pytest.mark.parametrize("stamp", ["2026-11-30T04:00:00Z", None, "2026-13-30T04:00:00Z", "yesterday", "{{timenow}}"])
def test_time_of_an_alert_is_read_exactly_or_refused(stamp):
    text = "BUY SBIN NSE 1 MARKET MIS"
    alert = tradingview.parse((text if stamp is None else f"{text}\nTimenow: {stamp}").encode())
    if stamp is None:
        assert alert.fired_at is None
    elif isinstance(alert.content, Refusal):
        assert alert.fired_at is None
        assert alert.content.field == "timenow"
        assert not stamp.startswith("2026-11")
    else:
        assert alert.fired_at is not None
        assert alert.fired_at.isoformat() == "2026-11-30T04:00:00+00:00"


@pytest.mark.parametrize("body", [b"BUY A:B C\n" * 6000, b"Secret: x\n" * 6000, b"BUY " + b"{{" * 30_000])
def test_text_of_a_stranger_is_refused_by_its_length_before_it_is_read(body):
    content = tradingview.parse(body).content
    assert isinstance(content, Refusal)
    assert content.code == Code.TEXT_TOO_LONG
