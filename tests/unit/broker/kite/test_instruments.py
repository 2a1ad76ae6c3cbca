from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.broker.kite.instruments import COLUMNS, parse_instruments
from engine.domain.enums import Exchange
from engine.errors import BrokerUnavailable

HEADER = ",".join(COLUMNS) + "\n"
EQUITY = "3813889,14898,CENTRALBK-BE,CENTRAL BANK OF INDIA,0.0,,0.0,0.05,1,EQ,NSE,NSE\n"
OPTION = "12073986,47164,BANKNIFTY18JAN23500CE,,2528.4,2018-01-25,23500.0,0.05,40,CE,NFO-OPT,NFO\n"
INDEX = "256265,1001,NIFTY 50,NIFTY 50,0,,0,0,0,EQ,INDICES,NSE\n"


def test_parse_instruments_reads_rows_with_exact_decimals():
    equity, option = parse_instruments((HEADER + EQUITY + OPTION).encode())
    assert (equity.key, equity.token, equity.tick_size, equity.lot_size) == (
        "NSE:CENTRALBK-BE",
        3813889,
        Decimal("0.05"),
        1,
    )
    assert (equity.expiry, equity.strike) == (None, None)
    assert (option.exchange, option.expiry, option.strike, option.lot_size, option.instrument_type) == (
        Exchange.NFO,
        date(2018, 1, 25),
        Decimal("23500.0"),
        40,
        "CE",
    )
    assert option.last_price == Decimal("2528.4")


def test_parse_instruments_keeps_indices_untradable_and_leaves_foreign_exchanges_out():
    foreign = EQUITY.replace(",NSE,NSE", ",NCO,NCO")
    (index,) = parse_instruments((HEADER + INDEX + foreign).encode())
    assert (index.key, index.segment, index.is_tradable) == ("NSE:NIFTY 50", "INDICES", False)


@pytest.mark.parametrize(
    ("exchange", "name", "multiplier"),
    [
        ("MCX", "CRUDEOIL", 100),
        ("MCX", "GOLDM", 10),
        ("MCX", "NOSUCHOIL", 1),
        ("CDS", "USDINR", 1000),
        ("BCD", "EURINR", 1000),
        ("NFO", "CRUDEOIL", 1),
    ],
)
def test_parse_instruments_knows_what_a_lot_is_worth(exchange, name, multiplier):
    row = f"1,1,{name}26DECFUT,{name},0,2026-12-18,0,1,1,FUT,{exchange}-FUT,{exchange}\n"
    (found,) = parse_instruments((HEADER + row).encode())
    assert (found.lot_size, found.multiplier) == (1, multiplier)


@pytest.mark.parametrize("tick", ["0.01", "0.0025", "0.05", "0.10", "0.50", "1", "5"])
def test_parse_instruments_keeps_every_tick_exact(tick):
    (found,) = parse_instruments((HEADER + EQUITY.replace(",0.05,", f",{tick},")).encode())
    assert found.tick_size == Decimal(tick)


@pytest.mark.parametrize("tick_and_lot", ["0,1", "0.05,0", "-0.05,1"])
def test_parse_instruments_leaves_out_a_share_without_tick_or_lot(tick_and_lot):
    assert parse_instruments((HEADER + EQUITY.replace(",0.05,1,", f",{tick_and_lot},")).encode()) == []


def test_parse_instruments_takes_columns_by_name_not_place():
    header, row = HEADER.strip().split(","), EQUITY.strip().split(",")
    text = ",".join(reversed(header)) + "\r\n" + ",".join(reversed(row)) + "\r\n"
    assert parse_instruments(text.encode())[0].symbol == "CENTRALBK-BE"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "column exchange is missing"),
        ("<html></html>\n", "is missing"),
        (HEADER.replace("tick_size,", "") + EQUITY, "tick_size is missing"),
        (HEADER + EQUITY.replace(",0.05,", ",cheap,"), "line 2: tick_size"),
        (HEADER + EQUITY + EQUITY.replace(",1,EQ", ",one,EQ"), "line 3: lot_size"),
        (HEADER + OPTION.replace("2018-01-25", "soon"), "line 2: expiry"),
        (HEADER + EQUITY.replace(",0.0,,", ",NaN,,"), "line 2: last_price"),
        (HEADER + "1,2,3\n", "line 2: exchange"),
    ],
)
def test_parse_instruments_unreadable_dump_names_line_and_column(text, words):
    with pytest.raises(BrokerUnavailable, match=words):
        parse_instruments(text.encode())


@given(st.one_of(st.binary(max_size=80), st.text(max_size=80).map(lambda text: (HEADER + EQUITY + text).encode())))
def test_parse_instruments_arbitrary_bytes_give_rows_or_broker_unavailable(body):
    try:
        found = parse_instruments(body)
    except BrokerUnavailable:
        return
    assert all(instrument.tick_size > 0 for instrument in found)
