"""OpenAlgo's names: every instrument that can be traded has one, and it leads back to that instrument and no other."""

from collections import defaultdict
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.enums import Exchange
from engine.domain.instruments import Instrument, InstrumentBook
from engine.domain.openalgo_symbols import (
    EXCHANGES,
    OpenAlgoName,
    expiry_date,
    expiry_word,
    find,
    known_as,
    name_of,
    readings,
)
from engine.domain.signal import Refusal
from engine.exchange.instruments import build_master

DAY = date(2026, 11, 23)
BOOK = InstrumentBook(build_master(DAY).by_key.values())

UNDERLYINGS = st.text("ABCJAN0125&-", min_size=1, max_size=12)
DAYS = st.dates(date(2020, 1, 1), date(2039, 12, 31))
STRIKES = st.decimals(Decimal("0.25"), Decimal(999_999), places=2)


def test_every_instrument_of_the_master_comes_back_by_its_name() -> None:
    names: dict[OpenAlgoName, list[Instrument]] = defaultdict(list)
    for row in BOOK:
        names[name_of(row)].append(row)
    assert len(names) > 5_000
    for name, rows in names.items():
        found = find(BOOK, name.exchange, name.symbol)
        if len(rows) == 1:
            assert found == rows[0]
        else:
            assert isinstance(found, Refusal), f"{name} means {[row.key for row in rows]}"


@pytest.mark.parametrize(
    ("exchange", "symbol", "key"),
    [
        ("NSE", "INFY", "NSE:INFY"),
        ("NSE", "M&M", "NSE:M&M"),
        ("NSE", "BAJAJ-AUTO", "NSE:BAJAJ-AUTO"),
        ("NSE_INDEX", "NIFTY", "NSE:NIFTY 50"),
        ("NSE_INDEX", "BANKNIFTY", "NSE:NIFTY BANK"),
        ("NSE_INDEX", "INDIAVIX", "NSE:INDIA VIX"),
        ("BSE_INDEX", "SENSEX", "BSE:SENSEX"),
    ],
)
def test_names_as_openalgos_documents_have_them(exchange: str, symbol: str, key: str) -> None:
    found = find(BOOK, exchange, symbol)
    assert isinstance(found, Instrument)
    assert found.key == key


@pytest.mark.parametrize(
    ("exchange", "symbol", "reading"),
    [
        ("NFO", "NIFTY28MAR2420800CE", ("NIFTY", date(2024, 3, 28), "CE", Decimal(20800))),
        ("NFO", "BANKNIFTY24APR24FUT", ("BANKNIFTY", date(2024, 4, 24), "FUT", Decimal(0))),
        ("NFO", "VEDL25APR24292.5CE", ("VEDL", date(2024, 4, 25), "CE", Decimal("292.5"))),
        ("CDS", "USDINR19APR2482CE", ("USDINR", date(2024, 4, 19), "CE", Decimal(82))),
        ("MCX", "CRUDEOIL17APR246750CE", ("CRUDEOIL", date(2024, 4, 17), "CE", Decimal(6750))),
    ],
)
def test_contracts_are_read_as_openalgos_documents_write_them(
    exchange: str, symbol: str, reading: tuple[str, date, str, Decimal]
) -> None:
    underlying, expiry, kind, strike = reading
    row = contract(Exchange(exchange), underlying, expiry, kind, strike)
    assert name_of(row) == OpenAlgoName(exchange, symbol)
    assert find(InstrumentBook([row]), exchange, symbol) == row


@given(UNDERLYINGS, DAYS, st.sampled_from(["FUT", "CE", "PE"]), STRIKES)
def test_any_contract_comes_back_by_its_name(underlying: str, expiry: date, kind: str, strike: Decimal) -> None:
    row = contract(Exchange.NFO, underlying, expiry, kind, Decimal(0) if kind == "FUT" else strike)
    name = name_of(row)
    assert find(InstrumentBook([row]), name.exchange, name.symbol) == row
    assert known_as(InstrumentBook([row]), row.exchange, row.symbol) == name


@given(UNDERLYINGS, DAYS, STRIKES, STRIKES)
def test_name_of_two_contracts_means_neither(underlying: str, expiry: date, strike: Decimal, other: Decimal) -> None:
    first = contract(Exchange.NFO, underlying, expiry, "CE", strike)
    twin = contract(Exchange.NFO, underlying, expiry, "CE", strike, symbol="TWIN")
    further = contract(Exchange.NFO, underlying, expiry, "PE", other, symbol="FURTHER")
    book = InstrumentBook([first, twin, further])
    name = name_of(first)
    assert isinstance(find(book, name.exchange, name.symbol), Refusal)
    assert find(book, "NFO", name_of(further).symbol) == further


def test_name_that_can_be_read_in_two_ways_is_refused_when_both_are_listed() -> None:
    for text in ("NIFTY28MAR2420800CE", "X01JAN2502FEB26FUT", "11JAN2511JAN2511FUT", "A01JAN2501JAN2520CE"):
        found = list(readings(text))
        listed = [
            contract(Exchange.NFO, r.underlying, r.expiry, r.kind, r.strike, symbol=f"S{n}")
            for n, r in enumerate(found)
        ]
        for row in listed:
            assert find(InstrumentBook([row]), "NFO", text) == row
        if len(listed) > 1:
            assert isinstance(find(InstrumentBook(listed), "NFO", text), Refusal)


@given(st.text(max_size=60), st.text(max_size=20))
def test_anything_else_is_refused_and_never_raises(symbol: str, exchange: str) -> None:
    for at in (exchange, *EXCHANGES):
        found = find(BOOK, at, symbol)
        if isinstance(found, Instrument):
            assert name_of(found) == OpenAlgoName(at, symbol)


@pytest.mark.parametrize(
    ("exchange", "symbol", "says"),
    [
        ("NSE", "NIFTY 50", "index"),
        ("NSE", "infy", "check symbol"),
        ("NFO", "NIFTY", "underlying, expiry and strike"),
        ("NFO", "NIFTY ATM CE", "underlying, expiry and strike"),
        ("NFO", "NIFTY31FEB2620000CE", "underlying, expiry and strike"),
        ("NFO", "NIFTY24NOV26024500CE", "underlying, expiry and strike"),
        ("CRYPTO", "BTCUSDT", "not traded here"),
        ("", "INFY", "not traded here"),
    ],
)
def test_refusal_says_what_to_write(exchange: str, symbol: str, says: str) -> None:
    found = find(BOOK, exchange, symbol)
    assert isinstance(found, Refusal)
    assert says in found.message


def test_kites_own_symbols_of_contracts_are_not_openalgos() -> None:
    kite = next(row for row in BOOK if row.instrument_type == "CE" and row.name == "NIFTY")
    assert isinstance(find(BOOK, "NFO", kite.symbol), Refusal)


@given(DAYS)
def test_expiries_come_back(day: date) -> None:
    assert expiry_date(expiry_word(day)) == day


@pytest.mark.parametrize("word", ["", "28MAR2024", "31FEB26", "1MAR26", "28mar26", "28XXX26", "٢٨MAR26"])
def test_no_expiry(word: str) -> None:
    assert expiry_date(word) is None


def contract(
    exchange: Exchange, underlying: str, expiry: date, kind: str, strike: Decimal, *, symbol: str = "KITE"
) -> Instrument:
    """Return a contract whose own symbol says nothing."""
    return Instrument(
        exchange=exchange,
        symbol=symbol,
        token=1,
        tick_size=Decimal("0.05"),
        lot_size=1,
        name=underlying,
        instrument_type=kind,
        segment=f"{exchange}-{'FUT' if kind == 'FUT' else 'OPT'}",
        expiry=expiry,
        strike=strike or None,
    )
