"""When contracts expire. Exchange holidays are not known here: an expiry only keeps clear of weekends."""

import calendar
from datetime import date, timedelta

_LAST = {"last_tuesday": calendar.TUESDAY, "last_thursday": calendar.THURSDAY}


def monthly_expiry(rule: str, year: int, month: int) -> date:
    """Return the expiry of a month's contract under *rule* of `engine.exchange.contracts`."""
    last = date(year, month, calendar.monthrange(year, month)[1])
    if rule in _LAST:
        return last - timedelta(days=(last.weekday() - _LAST[rule]) % 7)
    if rule == "two_before_month_end":
        return _weekday(_weekday(_weekday(last) - timedelta(days=1)) - timedelta(days=1))
    if rule == "month_end":
        return _weekday(last)
    return _weekday(date(year, month, int(rule.removeprefix("day_"))))


def coming_months(rule: str, day: date, count: int = 3) -> list[date]:
    """Return the next *count* monthly expiries that are not before *day*."""
    found: list[date] = []
    year, month = day.year, day.month
    while len(found) < count:
        expiry = monthly_expiry(rule, year, month)
        if expiry >= day:
            found.append(expiry)
        year, month = (year + 1, 1) if month == 12 else (year, month + 1)
    return found


def coming_weeks(rule: str, day: date, count: int) -> list[date]:
    """Return the next *count* weekly expiries that are not before *day*, those of a month's end among them."""
    first = day + timedelta(days=(_LAST[rule] - day.weekday()) % 7)
    return [first + timedelta(weeks=week) for week in range(count)]


def _weekday(day: date) -> date:
    while day.weekday() >= calendar.SATURDAY:
        day -= timedelta(days=1)
    return day
