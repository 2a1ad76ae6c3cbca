"""Market hours and the daily end of sessions, in IST."""

from datetime import date, datetime, time, timedelta

from engine.clock import IST
from engine.domain.calendar import Phase, spans
from engine.domain.enums import Exchange

AMO_RELEASED_AT = time(9, 0)
TOKENS_END_AT = time(6, 0)


def midnight(now: datetime) -> datetime:
    """Return the IST midnight that began *now*'s day."""
    return datetime.combine(now.astimezone(IST).date(), time(), IST)


def session_of(exchange: Exchange, day: date, *, all_day: bool) -> tuple[datetime, datetime] | None:
    """Return when trading of an IST day begins and ends, None on a day without any.

    *all_day*: the market never closes. Otherwise an exchange has its regular hours on weekdays; holidays are
    not known here.
    """
    start = datetime.combine(day, time(), IST)
    if all_day:
        return start, start + timedelta(days=1)
    found = [span for span in spans(exchange, day) if span.phase is Phase.OPEN]
    if not found:
        return None
    return datetime.combine(day, found[0].start, IST), datetime.combine(day, found[-1].end, IST)


def last_open(exchange: Exchange, now: datetime) -> datetime:
    """Return *now* while the exchange is open, else its latest close before that: prices stand still meanwhile."""
    day = now.astimezone(IST).date()
    while True:
        hours = session_of(exchange, day, all_day=False)
        if hours is not None and hours[0] <= now:
            return min(now, hours[1])
        day -= timedelta(days=1)


def traded_seconds(exchange: Exchange, now: datetime, *, all_day: bool) -> float:
    """Return for how long *exchange* has traded in *now*'s IST day, in seconds."""
    hours = session_of(exchange, now.astimezone(IST).date(), all_day=all_day)
    return 0.0 if hours is None else max((min(now, hours[1]) - hours[0]).total_seconds(), 0.0)


def amo_release(placed_at: datetime) -> datetime:
    """Return when an after-market order placed at *placed_at* goes to the exchange: the next weekday's 09:00 IST."""
    local = placed_at.astimezone(IST)
    release = datetime.combine(local.date(), AMO_RELEASED_AT, IST)
    while release <= local or release.weekday() >= 5:
        release += timedelta(days=1)
    return release


def session_end(opened_at: datetime) -> datetime:
    """Return when a session opened at *opened_at* ends: the next 06:00 IST (kite.md 2)."""
    local = opened_at.astimezone(IST)
    end = datetime.combine(local.date(), TOKENS_END_AT, IST)
    return end if local < end else end + timedelta(days=1)
