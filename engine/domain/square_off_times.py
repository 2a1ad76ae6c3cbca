"""When intraday positions are squared off by the clock: each exchange at its time, on the days that it trades."""

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta

import msgspec

from engine.clock import IST
from engine.domain.calendar import Calendar, Phase, spans
from engine.domain.enums import Exchange, ProductType

BEFORE_CLOSE = timedelta(minutes=10)
"""How long before its end a session is squared off that the configured time does not lie in, such as Muhurat's."""

INTRADAY = frozenset({ProductType.MIS.value})


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """Exchanges that are squared off at one instant (UTC) of an IST day, until the last of them closes."""

    day: date
    at: datetime
    until: datetime
    exchanges: frozenset[str]

    @property
    def name(self) -> str:
        """Which of the day's square-offs it is; the same in every life of the engine."""
        return f"{self.day}:{'+'.join(sorted(self.exchanges))}"


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


def dues(day: date, calendar: Calendar, times: Mapping[Exchange, time]) -> list[Due]:
    """Return the square-offs of the IST *day* in order, exchanges of one time together."""
    together: dict[datetime, tuple[datetime, set[str]]] = {}
    for exchange, configured in times.items():
        found = square_off_at(exchange, day, calendar, configured)
        if found is None:
            continue
        at, closes = found
        until, exchanges = together.setdefault(at, (closes, set()))
        exchanges.add(exchange.value)
        together[at] = (max(until, closes), exchanges)
    return [
        Due(day=day, at=at, until=until, exchanges=frozenset(exchanges))
        for at, (until, exchanges) in sorted(together.items())
    ]
