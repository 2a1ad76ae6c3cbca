from datetime import date, datetime, time, timedelta

import holidays
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.clock import IST
from engine.config.sections import MarketConfig, SessionConfig
from engine.domain.calendar import (
    Calendar,
    Phase,
    SpecialSession,
    close_of,
    is_open,
    is_trading_day,
    next_open,
    opened_at,
    parse_hhmm,
    phase_at,
    spans,
)
from engine.domain.enums import Exchange
from engine.market_calendar import build_calendar

WEDNESDAY = date(2026, 11, 18)
SUMMER = date(2026, 7, 15)
SUNDAY = date(2026, 11, 8)
MUHURAT = SpecialSession(day=SUNDAY, start=time(18), end=time(19))
REAL = build_calendar(MarketConfig(), today=WEDNESDAY)


def test_holidays_are_the_packages_of_the_exchange():
    known = holidays.financial_holidays("XNSE", years=range(2025, 2030))
    assert REAL.holidays == {day: str(name) for day, name in sorted(known.items())}


def at(day: date, clock: str) -> datetime:
    return datetime.combine(day, parse_hhmm(clock), IST)


@pytest.mark.parametrize(
    ("exchange", "clock", "phase"),
    [
        (Exchange.NSE, "08:59", Phase.CLOSED),
        (Exchange.NSE, "09:00", Phase.PRE_OPEN),
        (Exchange.NSE, "09:14", Phase.PRE_OPEN),
        (Exchange.NSE, "09:15", Phase.OPEN),
        (Exchange.NSE, "15:30", Phase.CLOSING),
        (Exchange.BSE, "15:40", Phase.POST_CLOSE),
        (Exchange.BSE, "16:00", Phase.CLOSED),
        (Exchange.BFO, "09:14", Phase.CLOSED),
        (Exchange.BFO, "15:29", Phase.OPEN),
        (Exchange.NFO, "15:30", Phase.CLOSED),
        (Exchange.CDS, "09:00", Phase.OPEN),
        (Exchange.BCD, "17:00", Phase.CLOSED),
        (Exchange.MCX, "23:54", Phase.OPEN),
        (Exchange.MCX, "23:55", Phase.CLOSED),
    ],
)
def test_phase_of_a_regular_winter_day(exchange: Exchange, clock: str, phase: Phase) -> None:
    assert phase_at(exchange, at(WEDNESDAY, clock)) is phase
    assert is_open(exchange, at(WEDNESDAY, clock)) is (phase is Phase.OPEN)


@pytest.mark.parametrize(
    ("day", "closes"),
    [
        (SUMMER, time(23, 30)),
        # the last day of New York's summer time is a Sunday, so is the first
        (date(2026, 10, 30), time(23, 30)),
        (date(2026, 11, 2), time(23, 55)),
        (date(2027, 3, 12), time(23, 55)),
        (date(2027, 3, 15), time(23, 30)),
    ],
)
def test_commodities_close_later_while_new_york_has_winter_time(day: date, closes: time) -> None:
    assert close_of(Exchange.MCX, day) == closes


def test_weekend_and_holiday_are_closed() -> None:
    closed = Calendar(holidays={WEDNESDAY: "of the test"}, evening_holidays=frozenset({WEDNESDAY}))
    for exchange in Exchange:
        for day in (date(2026, 11, 21), date(2026, 11, 22), WEDNESDAY):
            assert spans(exchange, day, closed) == ()
            assert close_of(exchange, day, closed) is None
    assert is_trading_day(WEDNESDAY)
    assert not is_trading_day(WEDNESDAY, closed)


def test_holidays_of_the_exchange_are_known() -> None:
    assert not is_trading_day(date(2026, 11, 24), REAL), "Guru Nanak Jayanti"
    assert not is_trading_day(date(2027, 1, 26), REAL), "Republic Day"
    assert is_trading_day(date(2026, 11, 25), REAL)


@pytest.mark.parametrize(
    ("day", "morning", "evening"),
    [
        (date(2026, 11, 24), False, True),  # Guru Nanak Jayanti
        (date(2026, 12, 25), False, False),  # Christmas
        (date(2027, 3, 26), False, False),  # Good Friday
        (date(2027, 1, 26), False, False),  # Republic Day
        (date(2027, 1, 1), True, False),  # New Year
        (date(2026, 11, 25), True, True),
    ],
)
def test_commodities_trade_half_of_most_holidays(day: date, morning: bool, evening: bool) -> None:
    assert is_open(Exchange.MCX, at(day, "10:00"), REAL) is morning
    assert is_open(Exchange.MCX, at(day, "18:00"), REAL) is evening


def test_special_session_opens_a_sunday_for_its_hours_only() -> None:
    calendar = Calendar(special=(MUHURAT,))
    assert is_open(Exchange.NSE, at(SUNDAY, "18:30"), calendar)
    assert not is_open(Exchange.NSE, at(SUNDAY, "10:00"), calendar)
    assert not is_open(Exchange.NSE, at(SUNDAY, "19:00"), calendar)


def test_special_session_replaces_the_hours_of_a_regular_day() -> None:
    short = SpecialSession(day=WEDNESDAY, start=time(9, 15), end=time(12))
    calendar = Calendar(special=(short,))
    assert not is_open(Exchange.NFO, at(WEDNESDAY, "13:00"), calendar)


def test_special_session_of_an_exchange_goes_before_that_of_all() -> None:
    own = SpecialSession(day=SUNDAY, start=time(18), end=time(23, 30), exchange=Exchange.MCX)
    calendar = Calendar(special=(MUHURAT, own))
    assert close_of(Exchange.MCX, SUNDAY, calendar) == time(23, 30)
    assert close_of(Exchange.NSE, SUNDAY, calendar) == time(19)


def test_configuration_adds_holidays_and_sessions() -> None:
    session = SessionConfig(date="2026-11-20", start="17:00", end="23:00", exchange=Exchange.MCX)
    market = MarketConfig(holidays=("2026-11-19", "2026-11-20"), special_sessions=(session,))
    calendar = build_calendar(market, today=WEDNESDAY)
    assert spans(Exchange.MCX, date(2026, 11, 19), calendar) == ()
    assert not is_trading_day(date(2026, 11, 20), calendar)
    assert is_open(Exchange.MCX, at(date(2026, 11, 20), "18:00"), calendar)


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        (at(WEDNESDAY, "08:00"), at(WEDNESDAY, "09:15")),
        (at(WEDNESDAY, "09:15"), at(date(2026, 11, 19), "09:15")),
        (at(date(2026, 11, 20), "16:00"), at(date(2026, 11, 23), "09:15")),
        (at(date(2026, 11, 23), "16:00"), at(date(2026, 11, 25), "09:15")),  # over a holiday
    ],
)
def test_next_open_is_the_first_to_come(now: datetime, opens: datetime) -> None:
    assert next_open(Exchange.NSE, now, REAL) == opens


@given(
    st.sampled_from(Exchange),
    st.integers(0, 700 * 24 * 60),
)
def test_next_open_is_where_the_phase_becomes_open(exchange: Exchange, minute: int) -> None:
    now = at(date(2026, 1, 1), "00:00") + timedelta(minutes=minute)
    opens = next_open(exchange, now, REAL)
    assert opens is not None
    assert opens > now
    assert is_open(exchange, opens, REAL)
    assert not is_open(exchange, opens - timedelta(seconds=1), REAL)


@pytest.mark.parametrize(("text", "clock"), [("00:00", time(0)), ("09:15", time(9, 15)), ("23:59", time(23, 59))])
def test_parse_hhmm_two_digits_each(text: str, clock: time) -> None:
    assert parse_hhmm(text) == clock


@pytest.mark.parametrize(
    "text", ["", "9:15", "24:00", "12:60", "09:15:00", "09.15", "\u0660\u0669:\u0661\u0665", "09:15\n"]
)
def test_parse_hhmm_anything_else_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write HH:MM"):
        parse_hhmm(text)


@pytest.mark.parametrize(
    ("exchange", "day", "clock", "opened"),
    [
        (Exchange.NSE, WEDNESDAY, "09:14", None),
        (Exchange.NSE, WEDNESDAY, "09:15", "09:15"),
        (Exchange.NSE, WEDNESDAY, "15:29", "09:15"),
        (Exchange.NSE, WEDNESDAY, "15:30", None),
        (Exchange.MCX, WEDNESDAY, "23:00", "09:00"),
        (Exchange.NSE, SUNDAY, "12:00", None),
    ],
)
def test_opened_at_is_when_the_session_that_goes_on_began(exchange, day, clock, opened):
    assert opened_at(exchange, at(day, clock), Calendar()) == (None if opened is None else at(day, opened))


def test_opened_at_knows_special_sessions():
    assert opened_at(Exchange.NSE, at(SUNDAY, "18:30"), Calendar(special=(MUHURAT,))) == at(SUNDAY, "18:00")
