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
