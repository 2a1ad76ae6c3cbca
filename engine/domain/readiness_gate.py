"""The morning gate: with ``[market] readiness_gate = "block"`` nothing is opened until the day's checks have passed.

A period begins with the morning's report. In it a failed check of the engine holds every entry back, one of an account
that account's; once a scope has passed, it has for the period: what breaks later has guards of its own. An
administrator's override opens everything for the period. What reduces a position is never held.
"""

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from typing import Literal
from uuid import UUID

import msgspec

from engine.clock import IST
from engine.domain.calendar import Calendar
from engine.domain.day_checks import Check, Scope, State
from engine.domain.morning import report_at

GateMode = Literal["warn", "block"]
ENGINE = "engine"
# faults that a person is told of, and that no order waits for
_BARS_NOTHING = frozenset({"telegram", "backup", "certificate"})


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """Who let entries through in spite of failed checks, when (aware UTC), and why."""

    by: str
    at: datetime
    reason: str


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What the checks of ``period`` said: by scope ("engine" or an account's id) what stands against it.

    ``passed`` are the scopes that have passed in the period; ``told`` is the day of the last report.
    """

    period: date | None = None
    passed: frozenset[str] = frozenset()
    against: dict[str, str] = {}
    override: Override | None = None
    told: date | None = None


def period_of(now: datetime, calendar: Calendar, usual: time) -> date:
    """Return the period that *now* (aware) lies in, named by the IST date on which it began."""
    today = now.astimezone(IST).date()
    begins = report_at(today, calendar, usual)
    return today if begins is None or now >= begins else today - timedelta(days=1)


def judged(gate: Gate, checks: Iterable[Check], period: date) -> Gate:
    """Return *gate* after the *checks* of a look in *period*."""
    if gate.period != period:
        gate = Gate(period=period, told=gate.told)
    found: dict[str, list[str]] = {ENGINE: []}
    for each in checks:
        if each.scope is Scope.SOURCE or each.code in _BARS_NOTHING:
            continue
        scope = ENGINE if each.subject is None else str(each.subject)
        faults = found.setdefault(scope, [])
        if each.state is State.FAIL:
            faults.append(f"{each.code}: {each.found}")
    passed = gate.passed | {scope for scope, faults in found.items() if not faults}
    against = {scope: "; ".join(faults) for scope, faults in found.items() if faults and scope not in passed}
    return msgspec.structs.replace(gate, passed=passed, against=against)


def overridden(gate: Gate, period: date, override: Override) -> Gate:
    """Return *gate* opened for *period* by a person."""
    if gate.period != period:
        gate = Gate(period=period, told=gate.told)
    return msgspec.structs.replace(gate, override=override)


def holds(gate: Gate, period: date, account_id: UUID | None = None) -> str | None:
    """Return why an entry of *account_id* is held back in *period* (None: of every account), None when it is not."""
    if gate.period == period and gate.override is not None:
        return None
    if gate.period != period:
        return f"the checks of {period} have not been made yet"
    if ENGINE not in gate.passed:
        return gate.against.get(ENGINE, "the engine has not been checked yet")
    if account_id is None or str(account_id) in gate.passed:
        return None
    return gate.against.get(str(account_id))
