"""Exchange sessions: when an exchange takes orders, in Indian time.

Regular hours as the exchanges publish them (equity and its derivatives 09:15 to 15:30, currency 09:00 to
17:00, commodities 09:00 to 23:30, or 23:55 while New York has winter time; kite.md appendix C). Holidays and
special sessions are a `Calendar`, an argument: the lists change every year. Not modelled: agricultural
commodities, which end at 17:00 or 21:00, and the pre-open of futures.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

import msgspec

from engine.clock import IST
from engine.domain.enums import Exchange

_SATURDAY = 5
_HHMM = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_NEW_YORK = ZoneInfo("America/New_York")
_LOOK_AHEAD_DAYS = 30
_MCX_MORNING_ENDS = time(17, 0)


class Phase(StrEnum):
    """What an exchange is doing; regular orders are taken in OPEN."""

    PRE_OPEN = "PRE_OPEN"
    OPEN = "OPEN"
    CLOSING = "CLOSING"
    POST_CLOSE = "POST_CLOSE"
    CLOSED = "CLOSED"


class Span(msgspec.Struct, frozen=True):
    """A phase of a day, IST; ``end`` is outside."""

    start: time
    end: time
    phase: Phase


class SpecialSession(msgspec.Struct, frozen=True, kw_only=True):
    """Hours of one day in place of the regular ones, such as Muhurat trading; ``exchange`` None is every one."""

    day: date
    start: time
    end: time
    exchange: Exchange | None = None


class Calendar(msgspec.Struct, frozen=True, kw_only=True):
    """The days that are not like the others.

    ``holidays`` (with their names) close every exchange but MCX's evening, which ``evening_holidays`` close;
    ``special`` sessions replace a day's hours, on weekends and holidays too.
    """

    holidays: Mapping[date, str] = {}
    evening_holidays: frozenset[date] = frozenset()
    special: tuple[SpecialSession, ...] = ()


REGULAR = Calendar()
"""Weekdays only: no holidays, no special sessions."""

_EQUITY = (
    Span(time(9, 0), time(9, 15), Phase.PRE_OPEN),
    Span(time(9, 15), time(15, 30), Phase.OPEN),
    Span(time(15, 30), time(15, 40), Phase.CLOSING),
    Span(time(15, 40), time(16, 0), Phase.POST_CLOSE),
)
_EQUITY_DERIVATIVES = (Span(time(9, 15), time(15, 30), Phase.OPEN),)
_CURRENCY = (Span(time(9, 0), time(17, 0), Phase.OPEN),)
_REGULAR: Mapping[Exchange, tuple[Span, ...]] = {
    Exchange.NSE: _EQUITY,
    Exchange.BSE: _EQUITY,
    Exchange.NFO: _EQUITY_DERIVATIVES,
    Exchange.BFO: _EQUITY_DERIVATIVES,
    Exchange.CDS: _CURRENCY,
    Exchange.BCD: _CURRENCY,
}


def parse_hhmm(text: str) -> time:
    """Return the time of day written as ``HH:MM``, 24 hours, both parts with two digits.

    Raises:
        ValueError: anything else.
    """
    found = _HHMM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:20]!r} is not a time of day; write HH:MM, such as 15:20")
    return time(int(found[1]), int(found[2]))


def is_trading_day(day: date, calendar: Calendar = REGULAR) -> bool:
    """Return whether the stock exchanges trade on *day* (an IST date), be it for a special session."""
    return bool(spans(Exchange.NSE, day, calendar))


def spans(exchange: Exchange, day: date, calendar: Calendar = REGULAR) -> tuple[Span, ...]:
    """Return the phases of *day* (an IST date) in order; what is between and around them is CLOSED."""
    special = [session for session in calendar.special if session.day == day]
    own = [session for session in special if session.exchange is exchange]
    chosen = own or [session for session in special if session.exchange is None]
    if chosen:
        return tuple(Span(s.start, s.end, Phase.OPEN) for s in sorted(chosen, key=lambda s: s.start))
    if day.weekday() >= _SATURDAY:
        return ()
    if exchange is Exchange.MCX:
        return _commodity(day, calendar)
    return () if day in calendar.holidays else _REGULAR[exchange]


def _commodity(day: date, calendar: Calendar) -> tuple[Span, ...]:
    has_morning, has_evening = day not in calendar.holidays, day not in calendar.evening_holidays
    if not has_morning and not has_evening:
        return ()
    opens = time(9, 0) if has_morning else _MCX_MORNING_ENDS
    closes = _evening_end(day) if has_evening else _MCX_MORNING_ENDS
    return (Span(opens, closes, Phase.OPEN),)


def _evening_end(day: date) -> time:
    noon = datetime.combine(day, time(12), _NEW_YORK)
    return time(23, 30) if noon.dst() else time(23, 55)


def phase_at(exchange: Exchange, instant: datetime, calendar: Calendar = REGULAR) -> Phase:
    """Return what *exchange* is doing at *instant* (aware)."""
    local = instant.astimezone(IST)
    clock = local.time()
    for span in spans(exchange, local.date(), calendar):
        if span.start <= clock < span.end:
            return span.phase
    return Phase.CLOSED


def opened_at(exchange: Exchange, instant: datetime, calendar: Calendar = REGULAR) -> datetime | None:
    """Return since when *exchange* takes regular orders without a break as of *instant* (aware), None while closed."""
    local = instant.astimezone(IST)
    for span in spans(exchange, local.date(), calendar):
        if span.phase is Phase.OPEN and span.start <= local.time() < span.end:
            return datetime.combine(local.date(), span.start, IST)
    return None


def is_open(exchange: Exchange, instant: datetime, calendar: Calendar = REGULAR) -> bool:
    """Return whether *exchange* takes regular orders at *instant* (aware)."""
    return phase_at(exchange, instant, calendar) is Phase.OPEN


def close_of(exchange: Exchange, day: date, calendar: Calendar = REGULAR) -> time | None:
    """Return when the last regular session of *day* ends, IST; None on a day without one."""
    return max((span.end for span in spans(exchange, day, calendar) if span.phase is Phase.OPEN), default=None)


def next_open(exchange: Exchange, instant: datetime, calendar: Calendar = REGULAR) -> datetime | None:
    """Return the first instant after *instant* (aware) at which *exchange* opens; None when not within a month."""
    local = instant.astimezone(IST)
    for ahead in range(_LOOK_AHEAD_DAYS + 1):
        day = local.date() + timedelta(days=ahead)
        for span in spans(exchange, day, calendar):
            opens = datetime.combine(day, span.start, IST)
            if span.phase is Phase.OPEN and opens > instant:
                return opens
    return None
