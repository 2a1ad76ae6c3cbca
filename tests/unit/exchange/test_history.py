"""Candles: out of the same process as the last prices, each interval made of the shorter ones."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from engine.exchange.errors import KiteRefusal
from engine.exchange.history import INTERVALS, candles, read_request
from engine.exchange.instruments import build_master
from engine.exchange.market import Market
from engine.exchange.replay import read_replay

DAY = date(2026, 11, 23)
MASTER = build_master(DAY)
# 16:00 IST
NOW = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)
INFY = MASTER.by_key["NSE:INFY"]
FUTURE = MASTER.by_key["NFO:NIFTY26NOVFUT"]


def ask(
    interval: str, start: str, end: str, market: Market | None = None, *, now: datetime = NOW, token: int = INFY.token
) -> list[list[Any]]:
    args = {"from": start, "to": end, "oi": "0", "continuous": "0"}
    return candles(read_request(str(token), interval, args, MASTER), market or Market(1), now)


def joined(parts: list[list[Any]]) -> list[Any]:
    volume = sum(part[5] for part in parts)
    high, low = max(part[2] for part in parts), min(part[3] for part in parts)
    return [parts[0][0], parts[0][1], high, low, parts[-1][4], volume]


@pytest.mark.parametrize(("interval", "minutes"), [("3minute", 3), ("5minute", 5), ("15minute", 15), ("60minute", 60)])
@pytest.mark.parametrize("all_day", [True, False])
def test_longer_candles_are_made_of_the_minutes(interval: str, minutes: int, all_day: bool) -> None:
    market = Market(1, all_day=all_day)
    begin, end = "2026-11-20 09:15:00", "2026-11-20 15:29:59"
    if all_day:
        begin, end = "2026-11-20 09:00:00", "2026-11-20 14:59:59"
    short = ask("minute", begin, end, market)
    longer = ask(interval, begin, end, market)
    assert longer == [joined(short[at : at + minutes]) for at in range(0, len(short), minutes)]


def test_candles_open_at_the_price_of_their_instant_and_enclose_it() -> None:
    market = Market(3)
    for stamp, opened, high, low, close, volume in ask("minute", "2026-11-23 11:00:00", "2026-11-23 11:30:00", market):
        assert opened == market.price_at(INFY, datetime.fromisoformat(stamp))
        assert low <= min(opened, close) <= max(opened, close) <= high
        assert volume > 0


def test_day_candle_has_the_volume_and_nearly_the_range_of_the_quote() -> None:
    market = Market(1)
    [day] = ask("day", "2026-11-23", "2026-11-23", market)
    quote = market.quote(INFY, NOW)
    assert day[0] == "2026-11-23T00:00:00+0530"
    assert (day[1], day[4], day[5]) == (quote.open, quote.last_price, quote.volume)
    assert day[2] >= quote.high
    assert day[3] <= quote.low


def test_exchange_hours_make_375_minutes_on_weekdays_only() -> None:
    market = Market(1, all_day=False)
    rows = ask("minute", "2026-11-20 00:00:00", "2026-11-22 23:59:59", market)
    assert len(rows) == 375
    assert (rows[0][0], rows[-1][0]) == ("2026-11-20T09:15:00+0530", "2026-11-20T15:29:00+0530")


def test_last_candle_shows_a_pinned_price_and_nothing_comes_after_now() -> None:
    market = Market(1)
    market.pin("NSE:INFY", Decimal("1500.00"))
    rows = ask("5minute", "2026-11-23 15:50:00", "2026-11-23 23:00:00", market)
    assert [row[0][11:16] for row in rows] == ["15:50", "15:55", "16:00"]
    assert rows[-1][2] == rows[-1][4] == Decimal("1500.00")


def test_open_interest_is_a_seventh_column_and_only_derivatives_have_any() -> None:
    args = {"from": "2026-11-23 10:00:00", "to": "2026-11-23 10:05:00", "oi": "1"}
    for instrument, has_any in ((FUTURE, True), (INFY, False)):
        rows = candles(read_request(str(instrument.token), "minute", args, MASTER), Market(1), NOW)
        assert {len(row) for row in rows} == {7}
        assert all((row[6] > 0) is has_any for row in rows)


def test_contract_has_no_candles_before_its_life_but_continuous_data_has() -> None:
    args = {"from": "2026-06-01", "to": "2026-11-23"}
    own = candles(read_request(str(FUTURE.token), "day", args, MASTER), Market(1), NOW)
    through = candles(read_request(str(FUTURE.token), "day", {**args, "continuous": "1"}, MASTER), Market(1), NOW)
    assert own[0][0] > "2026-08"
    assert through[0][0] == "2026-06-01T00:00:00+0530"
    assert through[-len(own) :] == own


@pytest.mark.parametrize(("interval", "days"), [(name, caps[1]) for name, caps in INTERVALS.items()])
def test_range_over_the_cap_is_refused(interval: str, days: int) -> None:
    end = datetime(2026, 11, 23)  # noqa: DTZ001 -- the wire's naive form
    for over, is_fine in ((timedelta(0), True), (timedelta(seconds=1), False)):
        args = {"from": str(end - timedelta(days=days) - over), "to": str(end)}
        if is_fine:
            read_request(str(INFY.token), interval, args, MASTER)
        else:
            with pytest.raises(KiteRefusal, match=f"interval exceeds max limit: {days} days"):
                read_request(str(INFY.token), interval, args, MASTER)


@pytest.mark.parametrize(
    ("token", "interval", "args", "text"),
    [
        ("1", "day", {}, "invalid token"),
        ("²", "day", {}, "invalid token"),
        (str(INFY.token), "2minute", {}, "invalid interval"),
        (str(INFY.token), "day", {"to": "2026-11-23"}, "invalid from date"),
        (str(INFY.token), "day", {"from": "2026-11-23", "to": "soon"}, "invalid to date"),
        (str(INFY.token), "day", {"from": "2026-11-23", "to": "2026-11-22"}, "from date cannot be after"),
        (str(INFY.token), "day", {"from": "2026-11-23", "to": "2026-11-23", "oi": "maybe"}, "invalid oi"),
    ],
)
def test_unclear_request_is_refused(token: str, interval: str, args: dict[str, str], text: str) -> None:
    with pytest.raises(KiteRefusal, match=text):
        read_request(token, interval, args, MASTER)


def test_replayed_instrument_has_candles_where_the_file_has_rows(tmp_path: Path) -> None:
    file = tmp_path / "prices.csv"
    file.write_text(
        "time,instrument,price,volume\n"
        "2026-11-20 15:29:00,NSE:INFY,1440,900\n"
        "2026-11-23 09:15:10,NSE:INFY,1450,10\n"
        "2026-11-23 09:15:40,NSE:INFY,1455.5,30\n"
        "2026-11-23 09:17:00,NSE:INFY,1449,35\n"
    )
    market = Market(1, read_replay(file))
    rows = ask("minute", "2026-11-23 09:00:00", "2026-11-23 10:00:00", market)
    assert rows == [
        ["2026-11-23T09:15:00+0530", Decimal(1450), Decimal("1455.5"), Decimal(1450), Decimal("1455.5"), 30],
        ["2026-11-23T09:17:00+0530", Decimal(1449), Decimal(1449), Decimal(1449), Decimal(1449), 5],
    ]
