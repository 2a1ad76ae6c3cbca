"""When positions are squared off by the clock: each exchange at its time, on the days that it trades.

Intraday positions at the times of the configuration, what a strategy holds at its own (``squareOffAt``).
"""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from uuid import UUID

import msgspec

from engine.clock import IST, trading_day
from engine.domain.calendar import Calendar, Phase, parse_hhmm, spans
from engine.domain.directory import Strategy
from engine.domain.enums import Exchange, ProductType

BEFORE_CLOSE = timedelta(minutes=10)
"""How long before its end a session is squared off that the configured time does not lie in, such as Muhurat's."""

INTRADAY = frozenset({ProductType.MIS.value})


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """Exchanges that are squared off at one instant (UTC) of an IST day, until they close.

    ``strategy_id`` is whose share of them it is, None for all intraday positions.
    """

    day: date
    at: datetime
    until: datetime
    exchanges: frozenset[str]
    strategy_id: UUID | None = None

    @property
    def name(self) -> str:
        """Which of the day's square-offs it is; the same in every life of the engine.

        That of a strategy has its time in it: when a person puts it off, what is bought until then is closed too.
        """
        exchanges = "+".join(sorted(self.exchanges))
        if self.strategy_id is None:
            return f"{self.day}:{exchanges}"
        return f"{self.day}:{self.strategy_id}:{self.at.astimezone(IST):%H:%M}:{exchanges}"


def square_off_at(
    exchange: Exchange, day: date, calendar: Calendar, configured: time
) -> tuple[datetime, datetime] | None:
    """Return when *exchange* is squared off on the IST *day* and when it closes; None when it does not trade.

    *configured* is IST. A day whose last session it does not lie in is squared off ten minutes before the end of that.
    """
    open_spans = [span for span in spans(exchange, day, calendar) if span.phase is Phase.OPEN]
    if not open_spans:
        return None
    last = open_spans[-1]
    closes = datetime.combine(day, last.end, IST)
    at = datetime.combine(day, configured, IST)
    if not last.start < configured < last.end:
        at = max(closes - BEFORE_CLOSE, datetime.combine(day, last.start, IST))
    return at, closes


def squared_off_since(exchange: Exchange, now: datetime, calendar: Calendar, configured: time) -> datetime | None:
    """Return when *exchange* was squared off today (IST), or None when it was not so far, or does not trade today."""
    found = square_off_at(exchange, trading_day(now), calendar, configured)
    return found[0] if found is not None and now >= found[0] else None


def dues(
    day: date, calendar: Calendar, times: Mapping[Exchange, time], *, strategy_id: UUID | None = None
) -> list[Due]:
    """Return the square-offs of the IST *day* in order, exchanges of one time and close together."""
    together: dict[tuple[datetime, datetime], set[str]] = {}
    for exchange, configured in times.items():
        found = square_off_at(exchange, day, calendar, configured)
        if found is not None:
            together.setdefault(found, set()).add(exchange.value)
    return [
        Due(day=day, at=at, until=until, exchanges=frozenset(exchanges), strategy_id=strategy_id)
        for (at, until), exchanges in sorted(together.items())
    ]


def dues_of(strategy: Strategy, day: date, calendar: Calendar) -> list[Due]:
    """Return the square-offs of the IST *day* that a strategy asks for, on every exchange; none without a time."""
    if strategy.square_off_at is None:
        return []
    times = dict.fromkeys(Exchange, parse_hhmm(strategy.square_off_at))
    return dues(day, calendar, times, strategy_id=strategy.id)
