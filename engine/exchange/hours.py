"""Market hours and the daily end of sessions, in IST."""

from datetime import datetime, time, timedelta

from engine.clock import IST

AMO_RELEASED_AT = time(9, 0)
OPENS_AT = time(9, 15)
CLOSES_AT = time(15, 30)
TOKENS_END_AT = time(6, 0)
_OPEN_S = 6.25 * 3600


def is_open(now: datetime) -> bool:
    """Whether *now* is a weekday between 09:15 and 15:30 IST; exchange holidays are not known here."""
    local = now.astimezone(IST)
    return local.weekday() < 5 and OPENS_AT <= local.time() < CLOSES_AT


def midnight(now: datetime) -> datetime:
    """Return the IST midnight that began *now*'s day."""
    return datetime.combine(now.astimezone(IST).date(), time(), IST)


def day_open(now: datetime, *, all_day: bool) -> datetime:
    """Return when trading of *now*'s IST day begins: midnight where the market never closes, else 09:15."""
    start = midnight(now)
    return start if all_day else start + timedelta(hours=OPENS_AT.hour, minutes=OPENS_AT.minute)


def last_open(now: datetime) -> datetime:
    """Return *now* while the market is open, else the latest close before it: prices stand still meanwhile."""
    if is_open(now):
        return now
    day = midnight(now)
    if now.astimezone(IST).time() < OPENS_AT:
        day -= timedelta(days=1)
    while day.weekday() >= 5:
        day -= timedelta(days=1)
    return day + timedelta(hours=CLOSES_AT.hour, minutes=CLOSES_AT.minute)


def traded_seconds(now: datetime, *, all_day: bool) -> float:
    """Return for how long *now*'s IST day has been trading, in seconds."""
    passed = (now - day_open(now, all_day=all_day)).total_seconds()
    if all_day:
        return passed
    return min(max(passed, 0.0), _OPEN_S) if now.astimezone(IST).weekday() < 5 else 0.0


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
