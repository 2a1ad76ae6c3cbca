"""Market hours and the daily end of sessions, in IST."""

from datetime import datetime, time, timedelta

from engine.clock import IST

AMO_RELEASED_AT = time(9, 0)
OPENS_AT = time(9, 15)
CLOSES_AT = time(15, 30)
TOKENS_END_AT = time(6, 0)


def is_open(now: datetime) -> bool:
    """Whether *now* is a weekday between 09:15 and 15:30 IST; exchange holidays are not known here."""
    local = now.astimezone(IST)
    return local.weekday() < 5 and OPENS_AT <= local.time() < CLOSES_AT


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
