"""The instrument master: what is listed, Kite's CSV, expiries from the date, ticks, lots, tokens."""

import csv
import io
from datetime import date, timedelta
from decimal import Decimal

import pytest

from engine.exchange.contracts import equity_tick
from engine.exchange.expiries import monthly_expiry
from engine.exchange.instruments import CSV_HEADER, SEGMENT_CODE, build_master

DAY = date(2026, 11, 23)
MASTER = build_master(DAY)
PROMISED = """
RELIANCE TCS INFY HDFCBANK ICICIBANK SBIN ITC LT AXISBANK KOTAKBANK BHARTIARTL HINDUNILVR BAJFINANCE
MARUTI ASIANPAINT TITAN SUNPHARMA WIPRO HCLTECH NTPC M&M
"""


def test_master_lists_the_promised_shares_with_their_real_tokens() -> None:
    assert [symbol for symbol in PROMISED.split() if f"NSE:{symbol}" not in MASTER.by_key] == []
    assert MASTER.by_key["NSE:INFY"].token == 408065
    assert MASTER.by_key["NSE:SBIN"].token == 779521
    assert len([i for i in MASTER.by_key.values() if i.segment == "NSE"]) >= 60


def test_master_has_every_segment() -> None:
    segments = {i.segment for i in MASTER.by_key.values()}
    shares, dated = {"NSE", "BSE", "INDICES"}, ("NFO", "BFO", "CDS", "BCD", "MCX")
    assert segments == shares | {f"{exchange}-{kind}" for exchange in dated for kind in ("FUT", "OPT")}
    assert len(MASTER.by_key) > 4000


def test_master_has_the_oddities_of_the_real_one() -> None:
    by_key = MASTER.by_key
    assert by_key["NSE:CENTRALBK-BE"].token == 3813889
    assert by_key["NSE:MRF"].tick_size == 5
    ticks = {i.tick_size for i in by_key.values()}
    assert {Decimal(t) for t in ("0.01", "0.05", "0.10", "0.25", "0.5", "1", "0.0025")} <= ticks
    assert {"NFO:ITC26NOV472.5CE" in by_key, "NFO:ITC26NOV470CE" in by_key} == {False, True}
    assert by_key["CDS:USDINR26NOV88.5PE"].strike == Decimal("88.5")
    assert by_key["BFO:SENSEX26NOV80400CE"].expiry == date(2026, 11, 26)
    assert {i.lot_size for i in by_key.values() if i.exchange in ("MCX", "CDS", "BCD")} == {1}


def test_master_token_of_a_contract_is_nobody_elses_while_it_lives() -> None:
    owners: dict[int, str] = {}
    for offset in range(0, 120, 7):
        for key, instrument in build_master(DAY + timedelta(days=offset)).by_key.items():
            assert owners.setdefault(instrument.token, key) == key


def test_master_tokens_are_unique_uint32_with_the_segment_in_the_low_byte() -> None:
    tokens = [i.token for i in MASTER.by_key.values()]
    assert len(set(tokens)) == len(tokens) == len(MASTER.by_token)
    for instrument in MASTER.by_key.values():
        code = SEGMENT_CODE["INDICES" if instrument.segment == "INDICES" else instrument.exchange]
        assert instrument.token & 0xFF == code
        assert instrument.token < 2**32


def test_master_derivative_token_does_not_change_from_day_to_day() -> None:
    tomorrow = build_master(DAY + timedelta(days=1))
    both = [key for key in MASTER.by_key if key in tomorrow.by_key]
    assert [k for k in both if MASTER.by_key[k].token != tomorrow.by_key[k].token] == []


@pytest.mark.parametrize("offset", range(0, 400, 3))
def test_master_of_any_day_holds_only_contracts_that_have_not_expired(offset: int) -> None:
    day = DAY + timedelta(days=offset)
    dated = [i for i in build_master(day).by_key.values() if i.expiry is not None]
    assert len(dated) > 100
    assert [i.symbol for i in dated if i.expiry is None or i.expiry < day or i.expiry.weekday() > 4] == []


def test_nfo_contracts_expire_on_the_last_tuesday_and_weekly_options_on_tuesdays() -> None:
    assert monthly_expiry("last_tuesday", 2026, 11) == date(2026, 11, 24)
    assert "NFO:NIFTY26NOV24500CE" in MASTER.by_key
    after = build_master(date(2026, 11, 25))
    assert "NFO:NIFTY26NOVFUT" not in after.by_key
    weekly = after.by_key["NFO:NIFTY26D0124500PE"]
    assert weekly.expiry == date(2026, 12, 1)


def test_index_is_listed_with_tick_and_lot_zero() -> None:
    nifty = MASTER.by_key["NSE:NIFTY 50"]
    assert (nifty.token, nifty.tick_size, nifty.lot_size, nifty.segment) == (256265, 0, 0, "INDICES")


def test_freeze_quantities_are_whole_lots_and_known_for_index_and_stock_contracts_only() -> None:
    for instrument in MASTER.by_key.values():
        if instrument.exchange in ("NFO", "BFO"):
            assert instrument.freeze_quantity
            assert instrument.freeze_quantity % instrument.lot_size == 0
        else:
            assert instrument.freeze_quantity is None


@pytest.mark.parametrize(
    ("price", "tick"),
    [
        ("22.10", "0.01"),
        ("249.99", "0.01"),
        ("250", "0.05"),
        ("1000", "0.05"),
        ("1000.1", "0.10"),
        ("6900", "0.50"),
        ("20000", "1"),
        ("37450", "5"),
    ],
)
def test_equity_tick_follows_the_price(price: str, tick: str) -> None:
    assert equity_tick(Decimal(price)) == Decimal(tick)


def test_csv_has_kites_columns_and_parses_back() -> None:
    text = MASTER.csv().decode()
    assert text.splitlines()[0] == CSV_HEADER
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(MASTER.by_key)
    by_key = {f"{row['exchange']}:{row['tradingsymbol']}": row for row in rows}
    infy = by_key["NSE:INFY"]
    assert (infy["instrument_token"], infy["exchange_token"], infy["expiry"], infy["strike"]) == (
        "408065",
        "1594",
        "",
        "0.0",
    )
    option = by_key["NFO:BANKNIFTY26NOV55500CE"]
    assert (option["expiry"], option["strike"], option["lot_size"], option["instrument_type"]) == (
        "2026-11-24",
        "55500",
        "30",
        "CE",
    )


def test_csv_of_one_exchange_holds_only_that_exchange() -> None:
    rows = list(csv.DictReader(io.StringIO(MASTER.csv("MCX").decode())))
    assert rows
    assert {row["exchange"] for row in rows} == {"MCX"}


def test_find_takes_a_token_or_a_key() -> None:
    assert MASTER.find("408065") is MASTER.find("NSE:INFY") is MASTER.by_key["NSE:INFY"]
    assert MASTER.find("NSE:NOPE") is None
    assert MASTER.find("²") is None
