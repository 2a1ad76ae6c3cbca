"""The morning's report: when it is made, and its words."""

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta

from engine.clock import IST
from engine.domain.calendar import Calendar, next_open
from engine.domain.day_checks import Check, State, market
from engine.domain.enums import Exchange


def report_at(day: date, calendar: Calendar, usual: time) -> datetime | None:
    """Return when the report of *day* is made (aware), None without a session that day.

    At *usual* (IST); on a day whose only sessions are special ones half an hour before the first of them.
    """
    opens = next_open(Exchange.NSE, datetime.combine(day, time(0), IST) - timedelta(seconds=1), calendar)
    if opens is None or opens.astimezone(IST).date() != day:
        return None
    if any(session.day == day for session in calendar.special):
        return opens - timedelta(minutes=30)
    return datetime.combine(day, usual, IST)


def told(checks: Sequence[Check], at: datetime, calendar: Calendar) -> str:
    """Return the morning's message: one line when all is well, else every failure and warning with its mend."""
    bad = [each for each in checks if each.state is not State.OK]
    when = market(at, calendar).found
    fails = sum(each.state is State.FAIL for each in bad)
    if not bad:
        return f"READY: {len(checks)} checks, all well; {when}"
    head = f"NOT_READY: {fails} of {len(checks)} checks failed" if fails else f"READY: {len(bad)} warnings"
    lines = [
        f"{each.state.upper()} {each.code}{f' {each.name}' if each.name else ''}: {each.found}. {each.mend}".rstrip(
            ". "
        )
        for each in sorted(bad, key=lambda each: each.state is not State.FAIL)
    ]
    return f"{head}; {when}\n" + "\n".join(lines)


def _line(each: Check) -> str:
    of = f" {each.name}" if each.name else ""
    return f"{each.state.upper()} {each.code}{of}: {each.found}. {each.mend}".rstrip(". ")
