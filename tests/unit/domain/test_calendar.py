from datetime import date, datetime, time

import pytest

from engine.clock import IST
from engine.domain.calendar import is_open, is_trading_day, parse_hhmm, session
from engine.domain.enums import Exchange

WEDNESDAY = date(2026, 11, 18)


@pytest.mark.parametrize(
    ("exchange", "clock", "opened"),
    [
        (Exchange.NSE, "09:14", False),
        (Exchange.NSE, "09:15", True),
        (Exchange.BFO, "15:29", True),
        (Exchange.NFO, "15:30", False),
        (Exchange.CDS, "09:00", True),
        (Exchange.BCD, "17:00", False),
        (Exchange.MCX, "23:29", True),
        (Exchange.MCX, "23:30", False),
    ],
)
def test_is_open_within_the_session_only(exchange: Exchange, clock: str, opened: bool) -> None:
    assert is_open(exchange, datetime.combine(WEDNESDAY, parse_hhmm(clock), IST)) is opened


def test_is_open_weekend_and_holiday_closed() -> None:
    noon = time(12)
    assert not is_open(Exchange.NSE, datetime.combine(date(2026, 11, 21), noon, IST))
    assert not is_open(Exchange.NSE, datetime.combine(date(2026, 11, 22), noon, IST))
    assert not is_open(Exchange.NSE, datetime.combine(WEDNESDAY, noon, IST), {WEDNESDAY})


def test_is_trading_day_plain_weekday() -> None:
    assert is_trading_day(WEDNESDAY)


def test_session_known_for_every_exchange() -> None:
    for exchange in Exchange:
        opens, closes = session(exchange)
        assert opens < closes


@pytest.mark.parametrize(("text", "clock"), [("00:00", time(0)), ("09:15", time(9, 15)), ("23:59", time(23, 59))])
def test_parse_hhmm_two_digits_each(text: str, clock: time) -> None:
    assert parse_hhmm(text) == clock


@pytest.mark.parametrize(
    "text", ["", "9:15", "24:00", "12:60", "09:15:00", "09.15", "\u0660\u0669:\u0661\u0665", "09:15\n"]
)
def test_parse_hhmm_anything_else_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write HH:MM"):
        parse_hhmm(text)
