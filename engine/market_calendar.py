"""The exchanges' calendar: holidays of the package `holidays` (NSE's list), overridden by the configuration.

Dates of the Islamic calendar are that package's estimates until the exchange publishes its list: an
override or an upgrade of the package corrects them.
"""

import importlib
from collections.abc import Mapping, Sequence
from datetime import date
from functools import lru_cache
from types import ModuleType

import holidays

from engine.config.sections import MarketConfig, SessionConfig
from engine.domain.calendar import Calendar, SpecialSession, parse_hhmm
from engine.runtime.imports import stood_in

_EXCHANGES = "holidays.financial"
# A process that runs on into another year still knows its holidays.
_YEARS_AHEAD = 3
# MCX trades in the evening of NSE's holidays, but for these days (MCX, trading holidays); on New Year's day it is
# the other way round.
_MCX_CLOSED_ALL_DAY = frozenset({(1, 26), (8, 15), (10, 2), (12, 25)})
_GOOD_FRIDAY = "Good Friday"
_NEW_YEAR = (1, 1)


def build_calendar(market: MarketConfig, *, today: date) -> Calendar:
    """Return the calendar of the years around *today*."""
    years = range(today.year - 1, today.year + _YEARS_AHEAD + 1)
    known = _listed(years)
    evening = {
        day for day, name in known.items() if (day.month, day.day) in _MCX_CLOSED_ALL_DAY or _GOOD_FRIDAY in name
    }
    evening |= {date(year, *_NEW_YEAR) for year in years}
    own = {date.fromisoformat(text): "holiday of the configuration" for text in market.holidays}
    return Calendar(
        holidays=dict(sorted({**known, **own}.items())),
        evening_holidays=frozenset(evening | own.keys()),
        special=_special(market.special_sessions),
    )


@lru_cache(maxsize=4)
def _listed(years: range) -> Mapping[date, str]:
    with stood_in(_EXCHANGES, _only_asked_for()):
        exchange = importlib.import_module(f"{_EXCHANGES}.national_stock_exchange_of_india")
    return {day: str(name) for day, name in exchange.XNSE(years=years).items()}


def _only_asked_for() -> ModuleType:
    """Return a package of the exchanges that imports none: the real one imports all, and every country of the world."""
    package = ModuleType(_EXCHANGES)
    package.__path__ = [f"{folder}/financial" for folder in holidays.__path__]
    return package


def _special(sessions: Sequence[SessionConfig]) -> tuple[SpecialSession, ...]:
    return tuple(
        SpecialSession(
            day=date.fromisoformat(session.date),
            start=parse_hhmm(session.start),
            end=parse_hhmm(session.end),
            exchange=session.exchange,
        )
        for session in sessions
    )
