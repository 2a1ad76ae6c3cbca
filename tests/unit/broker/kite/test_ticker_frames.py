"""The ticker's wire format: the published vectors, and the texts around them."""

from datetime import UTC, datetime
from decimal import Decimal
from struct import pack

import pytest

from engine.broker.kite.ticker_frames import (
    Depth,
    Mode,
    Notice,
    decode_frame,
    decode_text,
    subscription_texts,
)
from engine.broker.values import BrokerOrder
from engine.domain.enums import OrderStatus
from engine.errors import BrokerUnavailable
from tests.support.ticker_server import frame, ltp, order_text

INDEX = "0003e909 002555c1 002585aa 00251c6e 00253b40 00256250 fffff371"
QUOTE = "00064c03 2b5d8830 00000001 2b5cf5b4 000003e8 0000000a 00000014 2b5523c0 2b646600 2b539d20 2b56aa60"


def one(text: str):
    """Return the only tick of a frame around the packet *text*."""
    (tick,) = decode_frame(frame(bytes.fromhex(text)))
    return tick


@pytest.mark.parametrize(
    ("packet", "token", "price"),
    [
        ("00063a01 00026683", 408065, "1573.15"),
        ("0004d206 000b19fe", 315910, "72.755"),
        ("00004d0c 0012d644", 19724, "123.45"),
        ("00064c03 2b5d8830", 412675, "72.755"),
        ("ffffff01 ffffffff", 0xFFFFFF01, "42949672.95"),
    ],
)
def test_last_price_has_the_divisor_of_its_segment(packet: str, token: int, price: str) -> None:
    tick = one(packet)
    assert (tick.token, tick.last_price, tick.mode, tick.is_tradable) == (token, Decimal(price), Mode.LTP, True)


def test_index_has_an_order_of_prices_of_its_own() -> None:
    quote, full = one(INDEX), one(INDEX + "60e2947f")
    for tick in (quote, full):
        assert tick.token == 256265
        assert not tick.is_tradable
        assert [tick.last_price, tick.high, tick.low, tick.open, tick.close] == [
            Decimal(text) for text in ("24467.85", "24590.50", "24321.10", "24400.00", "24500.00")
        ]
    assert (quote.mode, quote.exchange_at) == (Mode.QUOTE, None)
    assert (full.mode, full.exchange_at) == (Mode.FULL, datetime.fromtimestamp(1625461887, UTC))


def test_quote_of_a_currency_future() -> None:
    tick = one(QUOTE)
    assert tick.mode is Mode.QUOTE
    assert (tick.last_quantity, tick.volume, tick.buy_quantity, tick.sell_quantity) == (1, 1000, 10, 20)
    assert [tick.average_price, tick.open, tick.high, tick.low, tick.close] == [
        Decimal(text) for text in ("72.75125", "72.70", "72.80", "72.69", "72.71")
    ]


def test_full_packet_has_depth_and_times() -> None:
    head = pack(">11I", 408065, 157370, 7, 157037, 1192471, 100, 200, 156915, 157500, 156100, 156780)
    times = pack(">5I", 1625461887, 11, 12, 13, 0)
    bids = b"".join(pack(">2IH2x", 5 + n, 157340 - n, 1 + n) for n in range(5))
    asks = b"".join(pack(">2IH2x", 172 + n, 157370 + n, 65535 - n) for n in range(5))
    (tick,) = decode_frame(frame(head + times + bids + asks))
    assert tick.mode is Mode.FULL
    assert tick.last_trade_at == datetime(2021, 7, 5, 5, 11, 27, tzinfo=UTC)
    assert tick.exchange_at is None, "no time at all, not 1970"
    assert (tick.oi, tick.oi_day_high, tick.oi_day_low) == (11, 12, 13)
    assert tick.bids[0] == Depth(quantity=5, price=Decimal("1573.40"), orders=1)
    assert tick.asks[4] == Depth(quantity=176, price=Decimal("1573.74"), orders=65531)


def test_frame_of_two_and_a_packet_of_unknown_length() -> None:
    index = bytes.fromhex(INDEX)
    ticks = decode_frame(frame(ltp(408065, 157315), bytes(12), b"", index))
    assert [tick.token for tick in ticks] == [408065, 256265]


@pytest.mark.parametrize("heartbeat", [b"", b"\x00", b"\xff", b"\x00\x00"])
def test_heartbeat_and_empty_frame_hold_no_tick(heartbeat: bytes) -> None:
    assert decode_frame(heartbeat) == ()


@pytest.mark.parametrize("cut", range(2, 12))
def test_truncated_frame_is_one_typed_error(cut: int) -> None:
    whole = frame(ltp(408065, 157315))
    assert len(whole) == 12
    with pytest.raises(BrokerUnavailable, match="ticker frame"):
        decode_frame(whole[:cut])


def test_order_update_is_read_as_the_book_is() -> None:
    update = decode_text(order_text("240101000000001", "UPDATE", filled=4))
    assert isinstance(update, BrokerOrder)
    assert update.broker_order_id == "240101000000001"
    assert update.status is OrderStatus.PARTIALLY_FILLED
    assert update.average_price == Decimal("1500.05")
    assert update.exchange_update_timestamp == datetime(2026, 11, 2, 4, 30, tzinfo=UTC)


def test_notices_and_unknown_kinds() -> None:
    assert decode_text('{"type":"error","data":"too \\"many\\" tokens"}') == Notice(
        kind="error", text='too "many" tokens'
    )
    assert decode_text('{"type":"message","data":{"a":1}}') == Notice(kind="message", text='{"a":1}')
    told = decode_text('{"type":"message","data":"a\\u001b[2Jb"}')
    assert isinstance(told, Notice)
    assert told.text.isprintable()
    assert decode_text('{"type":"weather","data":1}') is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '"order"',
        '{"type":"order"}',
        '{"type":"order","data":[]}',
        '{"type":"order","data":{}}',
        '{"type":"order","data":{"order_id":"1","filled_quantity":1e400}}',
        '{"type":1}',
        "[" * 5000,
    ],
)
def test_text_that_cannot_be_read_is_one_typed_error(text: str) -> None:
    with pytest.raises(BrokerUnavailable):
        decode_text(text)


def test_subscriptions_change_by_what_differs() -> None:
    assert subscription_texts({}, {1: Mode.LTP, 2: Mode.FULL}) == [
        '{"a":"subscribe","v":[1,2]}',
        '{"a":"mode","v":["ltp",[1]]}',
        '{"a":"mode","v":["full",[2]]}',
    ]
    assert subscription_texts({1: Mode.LTP, 2: Mode.FULL}, {2: Mode.LTP}) == [
        '{"a":"unsubscribe","v":[1]}',
        '{"a":"mode","v":["ltp",[2]]}',
    ]
    assert subscription_texts({1: Mode.LTP}, {1: Mode.LTP}) == []


def test_many_instruments_are_subscribed_to_in_parts() -> None:
    texts = subscription_texts({}, dict.fromkeys(range(2500), Mode.LTP))
    assert len(texts) == 6
    assert max(map(len, texts)) < 6000
