"""The binary encoder against the wire vectors, and against the official client's parser."""

import struct
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.enums import Exchange
from engine.domain.instruments import Instrument
from engine.exchange.instruments import build_master
from engine.exchange.market import Market, Quote
from engine.exchange.quotes import Book, Level, book_of
from engine.exchange.ticker_frames import MAX_PACKETS, divisor, frames, full_packet, ltp_packet, quote_packet
from tests.support.ticker import official_parse, packets_of

MASTER = build_master(date(2026, 11, 23))
NOW = datetime(2021, 7, 5, 5, 11, 27, tzinfo=UTC)
NO_LEVEL = Level(Decimal(0), 0, 0)
NO_BOOK = Book((NO_LEVEL,) * 5, (NO_LEVEL,) * 5, 0, 0)


def instrument(token: int, tick: str = "0.05", segment: str = "NSE") -> Instrument:
    return Instrument(
        exchange=Exchange.NSE, symbol="X", token=token, tick_size=Decimal(tick), lot_size=1, segment=segment
    )


def quote(last: str, opened: str, high: str, low: str, close: str, **fields: object) -> Quote:
    values = {
        "volume": 0,
        "last_quantity": 0,
        "average_price": Decimal(0),
        "last_trade_at": NOW,
        "oi": 0,
        "oi_day_high": 0,
        "oi_day_low": 0,
        "lower_circuit": Decimal(0),
        "upper_circuit": Decimal(0),
        **fields,
    }
    prices = {"last_price": last, "open": opened, "high": high, "low": low, "close": close}
    return Quote(**{name: Decimal(text) for name, text in prices.items()}, **values)  # type: ignore[arg-type]


NIFTY = instrument(256265, segment="INDICES")
NIFTY_QUOTE = quote("24467.85", "24400.00", "24590.50", "24321.10", "24500.00")
NIFTY_HEX = "0003e909 002555c1 002585aa 00251c6e 00253b40 00256250 fffff371"


def test_ltp_packets_match_the_vectors_of_every_divisor() -> None:
    assert ltp_packet(408065, Decimal("1573.15")) == bytes.fromhex("00063a01 00026683")
    assert ltp_packet(315910, Decimal("72.755")) == bytes.fromhex("0004d206 000b19fe")
    assert ltp_packet(19724, Decimal("123.45")) == bytes.fromhex("00004d0c 0012d644")


def test_index_packets_have_an_order_of_their_own_and_a_signed_change() -> None:
    assert quote_packet(NIFTY, NIFTY_QUOTE, NO_BOOK) == bytes.fromhex(NIFTY_HEX)
    assert full_packet(NIFTY, NIFTY_QUOTE, NO_BOOK, NOW) == bytes.fromhex(NIFTY_HEX + "60e2947f")


def test_currency_quote_matches_the_vector() -> None:
    prices = quote(
        "72.755",
        "72.70",
        "72.80",
        "72.69",
        "72.71",
        last_quantity=1,
        average_price=Decimal("72.75125"),
        volume=1000,
    )
    assert quote_packet(instrument(412675, "0.0025"), prices, NO_BOOK._replace(buy_quantity=10, sell_quantity=20)) == (
        bytes.fromhex(
            "00064c03 2b5d8830 00000001 2b5cf5b4 000003e8 0000000a 00000014 2b5523c0 2b646600 2b539d20 2b56aa60"
        )
    )


def test_frame_packs_packets_with_their_lengths() -> None:
    packets = [ltp_packet(408065, Decimal("1573.15")), quote_packet(NIFTY, NIFTY_QUOTE, NO_BOOK)]
    expected = "0002 0008 00063a0100026683 001c " + NIFTY_HEX
    assert list(frames(packets)) == [bytes.fromhex(expected)]
    assert list(frames([])) == []


def test_many_packets_go_into_few_frames_and_none_is_lost() -> None:
    packets = [ltp_packet(token, Decimal(token)) for token in range(2 * MAX_PACKETS + 1)]
    made = list(frames(packets))
    assert len(made) == 3
    assert [packet for frame in made for packet in packets_of(frame)] == packets


def test_full_packet_is_read_back_by_the_official_client() -> None:
    infy = MASTER.by_key["NSE:INFY"]
    bids = tuple(Level(Decimal("1573.40") - n, 5 + n, n + 1) for n in range(5))
    asks = tuple(Level(Decimal("1573.70") + n, 172 + n, n + 3) for n in range(5))
    prices = quote(
        "1573.70",
        "1569.15",
        "1575.00",
        "1561.05",
        "1567.80",
        volume=1192471,
        last_quantity=7,
        average_price=Decimal("1570.37"),
        oi=11,
        oi_day_high=13,
        oi_day_low=7,
    )
    packet = full_packet(infy, prices, Book(bids, asks, 256511, 360503), NOW)
    assert len(packet) == 184
    [tick] = official_parse(next(frames([packet])))
    assert (tick["instrument_token"], tick["mode"], tick["tradable"]) == (408065, "full", True)
    assert (tick["last_price"], tick["average_traded_price"], tick["volume_traded"]) == (1573.70, 1570.37, 1192471)
    assert (tick["total_buy_quantity"], tick["total_sell_quantity"]) == (256511, 360503)
    assert tick["ohlc"] == {"open": 1569.15, "high": 1575.0, "low": 1561.05, "close": 1567.80}
    assert (tick["oi"], tick["oi_day_high"], tick["oi_day_low"]) == (11, 13, 7)
    assert [level["price"] for level in tick["depth"]["buy"]] == [float(level.price) for level in bids]
    assert [(level["quantity"], level["orders"]) for level in tick["depth"]["sell"]] == [
        (level.quantity, level.orders) for level in asks
    ]
    assert tick["exchange_timestamp"].timestamp() == tick["last_trade_time"].timestamp() == NOW.timestamp()


@pytest.mark.parametrize("segment", sorted({i.segment for i in MASTER.by_key.values()}))
def test_every_segment_is_read_back_by_the_official_client(segment: str) -> None:
    market, moment = Market(5), datetime(2026, 11, 23, 6, 30, 11, tzinfo=UTC)
    for listed in [i for i in MASTER.by_key.values() if i.segment == segment][::11]:
        seen = market.quote(listed, moment)
        book = book_of(listed, seen)
        made = [
            ltp_packet(listed.token, seen.last_price),
            quote_packet(listed, seen, book),
            full_packet(listed, seen, book, moment),
        ]
        ltp, short, full = official_parse(next(frames(made)))
        assert [tick["mode"] for tick in (ltp, short, full)] == ["ltp", "quote", "full"]
        for tick in (ltp, short, full):
            assert tick["instrument_token"] == listed.token
            assert Decimal(str(round(tick["last_price"], 7))) == seen.last_price
            assert tick["tradable"] is (segment != "INDICES")
        assert full["ohlc"] == short["ohlc"]
        assert [Decimal(str(round(short["ohlc"][name], 7))) for name in ("open", "high", "low", "close")] == [
            seen.open,
            seen.high,
            seen.low,
            seen.close,
        ]
        if segment != "INDICES":
            assert (full["oi"], full["volume_traded"]) == (seen.oi, seen.volume)
            assert [round(level["price"], 7) for level in full["depth"]["buy"]] == [float(b.price) for b in book.bids]


@given(
    token=st.integers(0, 2**32 - 1),
    paise=st.integers(0, 400),
    volume=st.integers(0, 2**40),
)
def test_any_values_make_packets_of_the_right_size(token: int, paise: int, volume: int) -> None:
    prices = quote(str(Decimal(paise) / 100), "1", "1", "1", "1", volume=volume, oi=volume)
    listed = instrument(token)
    is_index = token & 0xFF == 9
    short, full = quote_packet(listed, prices, NO_BOOK), full_packet(listed, prices, NO_BOOK, NOW)
    assert (len(short), len(full)) == ((28, 32) if is_index else (44, 184))
    assert struct.unpack(">2I", short[:8]) == (token, paise * divisor(token) // 100)
    if not is_index:
        assert struct.unpack(">I", short[16:20]) == (volume % 2**32,)
