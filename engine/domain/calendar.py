"""Exchange sessions: when an exchange takes orders, in Indian time.

Regular hours as the exchanges publish them (equity and equity derivatives 09:15 to 15:30, currency
09:00 to 17:00, commodities 09:00 to 23:30; kite.md appendix C). Holidays are an argument: the list
changes every year. Pre-open, special (Muhurat) and MCX's winter extension to 23:55 are not modelled.
"""

import re
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time

from engine.clock import IST
from engine.domain.enums import Exchange

NO_HOLIDAYS: frozenset[date] = frozenset()

_SATURDAY = 5
_HHMM = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")

_EQUITY = (time(9, 15), time(15, 30))
_CURRENCY = (time(9, 0), time(17, 0))
_COMMODITY = (time(9, 0), time(23, 30))
_SESSIONS = {
    Exchange.NSE: _EQUITY,
    Exchange.BSE: _EQUITY,
    Exchange.NFO: _EQUITY,
    Exchange.BFO: _EQUITY,
    Exchange.CDS: _CURRENCY,
    Exchange.BCD: _CURRENCY,
    Exchange.MCX: _COMMODITY,
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


def session(exchange: Exchange) -> tuple[time, time]:
    """Return opening and closing time of *exchange* in IST; the closing minute is outside."""
    return _SESSIONS[exchange]


def is_trading_day(day: date, holidays: AbstractSet[date] = NO_HOLIDAYS) -> bool:
    """Return whether *day* (an IST date) is a weekday that is no holiday."""
    return day.weekday() < _SATURDAY and day not in holidays


def is_open(exchange: Exchange, instant: datetime, holidays: AbstractSet[date] = NO_HOLIDAYS) -> bool:
    """Return whether *exchange* takes regular orders at *instant* (aware)."""
    local = instant.astimezone(IST)
    opens, closes = _SESSIONS[exchange]
    return is_trading_day(local.date(), holidays) and opens <= local.time() < closes
