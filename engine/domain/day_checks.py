"""What can break the trading day: each check as a pure decision about what was gathered.

A check has a code that never changes, and says what was found and, when it is not ok, how to mend it. ``fail`` is what
keeps orders from being placed, or from being accounted for; ``warn`` is for a person, and costs no order by itself.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum
from uuid import UUID

import msgspec

from engine.clock import IST
from engine.domain.calendar import Calendar, is_trading_day, next_open
from engine.domain.enums import Exchange
from engine.domain.readiness import Finding

_MIB = 1 << 20
_LEAST_FREE = 1 << 30
_FULL_WITHIN_DAYS = 7
_GROWTH_NEEDS = timedelta(hours=1)
_LEAST_MEMORY, _LITTLE_MEMORY = 128 * _MIB, 512 * _MIB
_DESCRIPTORS_FAIL, _DESCRIPTORS_WARN = 0.9, 0.7
_LEAST_HOLIDAYS = 8
_YEAR_END = timedelta(days=31)
_FREEZE_OLD = timedelta(days=45)
_USUAL_DAYS, _USUAL_OF, _SILENT_DAYS = 5, 10, 2


class State(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Scope(StrEnum):
    """What a check is about."""

    ENGINE = "engine"
    ACCOUNT = "account"
    SOURCE = "source"


class Seen(msgspec.Struct, frozen=True):
    """What a look came to; ``mend`` is empty when nothing is to be done."""

    state: State
    found: str
    mend: str = ""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check at ``checked_at`` (aware UTC). ``subject`` is the account or source, ``name`` what people call it."""

    code: str
    state: State
    found: str
    mend: str = ""
    checked_at: datetime
    scope: Scope = Scope.ENGINE
    subject: UUID | None = None
    name: str = ""


def ok(found: str) -> Seen:
    """Return that all is well."""
    return Seen(State.OK, found)


def warn(found: str, mend: str) -> Seen:
    """Return what a person should look at."""
    return Seen(State.WARN, found, mend)


def fail(found: str, mend: str) -> Seen:
    """Return what must be mended."""
    return Seen(State.FAIL, found, mend)


def check(code: str, seen: Seen, at: datetime) -> Check:
    """Return a look at the engine as a check."""
    return Check(code=code, state=seen.state, found=seen.found, mend=seen.mend, checked_at=at)


def worst(checks: Iterable[Check]) -> State:
    """Return the worst state of *checks*, ok of none."""
    states = {each.state for each in checks}
    return next((state for state in (State.FAIL, State.WARN) if state in states), State.OK)


# the box


def disk(free: int, place: str, *, writable: bool, samples: Sequence[tuple[datetime, int]] = ()) -> Seen:
    """Judge *free* bytes at *place*; *samples* are earlier (instant, free bytes), oldest first."""
    if free < _LEAST_FREE:
        return fail(f"{free >> 20} MiB free at {place}", "make room, 1 GiB at least")
    if not writable:
        return fail(f"{place} cannot be written", "use --data-dir DIR, or change its owner")
    days = days_left(samples)
    if days is not None and days < _FULL_WITHIN_DAYS:
        return warn(f"{free >> 30} GiB free at {place}, full in {days:.1f} days at this pace", "make room, or find out")
    return ok(f"{free >> 30} GiB free")


def days_left(samples: Sequence[tuple[datetime, int]]) -> float | None:
    """Return in how many days the disk is full at the pace of *samples*, None while that cannot be told."""
    if len(samples) < 2:
        return None
    (began, before), (ended, after) = samples[0], samples[-1]
    took = ended - began
    if took < _GROWTH_NEEDS or after >= before:
        return None
    return after * took.total_seconds() / (before - after) / 86_400


def memory(available: int | None) -> Seen:
    """Judge the bytes of memory that are there to be had; None where the system does not say."""
    if available is None:
        return ok("the system does not say")
    found = f"{available // _MIB} MiB to be had"
    if available < _LEAST_MEMORY:
        return fail(found, "stop other programs or add memory: the system may end the engine")
    if available < _LITTLE_MEMORY:
        return warn(found, "stop other programs or add memory")
    return ok(found)


def descriptors(used: int, limit: int) -> Seen:
    """Judge the engine's open files and connections."""
    found = f"{used} of {limit} files and connections are open"
    mend = "raise LimitNOFILE of the service (ulimit -n), or lower [server] connections"
    if used >= limit * _DESCRIPTORS_FAIL:
        return fail(found, mend)
    return warn(found, mend) if used >= limit * _DESCRIPTORS_WARN else ok(found)


def clock(now: datetime, *, suspect: str | None = None, is_kept: bool | None = None, oldest_year: int = 2025) -> Seen:
    """Judge the wall clock: *suspect* is why it is not believed, *is_kept* whether the system keeps it by NTP."""
    mend = "let the system keep it (timedatectl set-ntp true)"
    if now.year < oldest_year:
        return fail(f"the clock says {now:%Y-%m-%d}", mend)
    if suspect is not None:
        return fail(suspect, mend)
    if is_kept is False:
        return warn(f"{now:%Y-%m-%d %H:%M:%S} UTC, and nobody keeps it right", mend)
    return ok(f"{now:%Y-%m-%d %H:%M:%S} UTC")


class BackupFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The last backup that is known: when it was made and proved by a trial restore, whether its file is there."""

    file: str
    at: datetime
    is_there: bool
    proved_at: datetime | None = None
    copy_fault: str = ""


def backup(known: BackupFacts | None, *, wanted: str, at: str, old_after: timedelta, now: datetime, live: bool) -> Seen:
    """Judge the last backup; *wanted* is the folder for daily ones, made at *at* (IST); *live*: with real money."""
    by_hand = "run `engine backup FILE`"
    if known is None:
        if wanted:
            mend = f"the engine makes one every day at {at} IST; its log says what is wrong"
            return fail(f"none was made yet into {wanted}", mend)
        mend = f"set [backup] dir for a daily one, or {by_hand}"
        return warn("none was ever made", mend) if live else ok("none is made; [backup] dir asks for a daily one")
    proof = f", restored as a trial {known.proved_at:%Y-%m-%d}" if known.proved_at else ", read back whole"
    told = f"the last one is {(now - known.at).total_seconds() / 3600:.0f} h old{proof}: {known.file}"
    if not known.is_there:
        return fail(f"{told}, and is not there any more", by_hand)
    if wanted and now - known.at > old_after:
        return fail(told, f"see the log for BACKUP_FAILED, or {by_hand}")
    if known.copy_fault:
        return warn(f"{told}; the copy of it failed: {known.copy_fault}", "see [backup] after")
    return ok(told)


# the day


def market(now: datetime, calendar: Calendar) -> Seen:
    """Say how long it is until the stock exchange opens."""
    opens = next_open(Exchange.NSE, now, calendar)
    if opens is None:
        return warn("NSE does not open within a month", "see [market] holidays and special_sessions")
    local = opens.astimezone(IST)
    left = int((opens - now).total_seconds() // 60)
    today = now.astimezone(IST).date()
    if local.date() == today:
        return ok(f"NSE opens in {left // 60} h {left % 60} min, at {local:%H:%M} IST")
    name = calendar.holidays.get(today, "")
    closed = "" if is_trading_day(today, calendar) else f"no trading today{f' ({name})' if name else ''}; "
    return ok(f"{closed}NSE opens on {local:%a %d %b at %H:%M} IST")


def holidays(now: datetime, calendar: Calendar) -> Seen:
    """Judge whether the calendar knows the holidays of this year, and of the next when that is near."""
    today = now.astimezone(IST).date()
    years = {today.year, (today + _YEAR_END).year}
    counts = {year: sum(day.year == year and day.weekday() < 5 for day in calendar.holidays) for year in sorted(years)}
    short = [year for year, count in counts.items() if count < _LEAST_HOLIDAYS]
    if short:
        found = f"only {counts[short[0]]} holidays of {short[0]} are known"
        return fail(found, "list them in [market] holidays, or upgrade the package `holidays`")
    return ok(", ".join(f"{count} holidays of {year}" for year, count in counts.items()))


def instruments(loaded: date | None, wanted: date, count: int) -> Seen:
    """Judge the instrument list: of which day it is, and of which it should be."""
    if loaded is None:
        return fail("none have been read yet", "log an account in: reading them needs a session")
    if loaded < wanted:
        return fail(f"those of {loaded} are loaded, not those of {wanted}", "log an account in; it is tried again")
    return ok(f"{count} of {loaded}")


def freeze(newest: date | None, today: date, *, live: bool) -> Seen:
    """Judge the age of the freeze quantities, which the exchanges change monthly."""
    mend = "`engine instruments freeze FILE` takes the exchange's list"
    if newest is None:
        return warn("none are known", mend)
    found = f"as of {newest}"
    return warn(found, mend) if live and today - newest > _FREEZE_OLD else ok(found)


# what the day before left


class LeftOver(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger has that is not finished; ``old_`` is of before today. ``overnight`` names MIS positions."""

    dead: Mapping[str, int] = {}
    approvals: int = 0
    unknown: int = 0
    old_unknown: int = 0
    overnight: tuple[str, ...] = ()
    heard: Mapping[UUID, tuple[date, ...]] = {}


def left_over(found: LeftOver, *, live: bool) -> dict[str, Seen]:
    """Judge what is not finished."""
    dead = sum(found.dead.values())
    named = ", ".join(f"{count} {queue}" for queue, count in sorted(found.dead.items()))
    seen = {
        "deadLetters": warn(f"{dead} wait: {named}", "decide: `engine dead-letters list`, then requeue or discard")
        if dead
        else ok("none wait"),
        "approvals": warn(f"{found.approvals} intents wait for a person", "approve or reject them")
        if found.approvals
        else ok("none wait"),
        "unknownOrders": ok("none"),
        "overnight": ok("no intraday position is left of an earlier day"),
    }
    if found.old_unknown:
        mend = "POST /accounts/{id}/reconcile, and compare with the broker's own page"
        seen["unknownOrders"] = fail(f"{found.old_unknown} of an earlier day are still UNKNOWN", mend)
    elif found.unknown:
        seen["unknownOrders"] = warn(f"{found.unknown} are UNKNOWN", "the order book settles them within minutes")
    if found.overnight:
        shown = ", ".join(found.overnight[:5]) + (" and more" if len(found.overnight) > 5 else "")
        mend = "compare with the broker, and close them: POST /executions/positions/square-off"
        seen["overnight"] = (fail if live else warn)(f"intraday positions of an earlier day: {shown}", mend)
    return seen


def kill_switches(on: Collection[str], unfinished: Collection[str]) -> dict[str, Seen]:
    """Judge the kill switches: scopes that are *on*, and those whose flattening is *unfinished*."""
    mend = "see GET /risk/killswitch/status; an ADMIN disables it"
    seen = {"killSwitches": ok("off"), "flattening": ok("nothing is being flattened")}
    if on:
        judge = fail if "global" in on else warn
        seen["killSwitches"] = judge(f"on: {', '.join(sorted(on))}", mend)
    if unfinished:
        found = f"not proven flat: {', '.join(sorted(unfinished))}"
        seen["flattening"] = fail(found, "see GET /risk/killswitch/status for what is not flat, and why")
    return seen


# accounts and sources

# of an account's own looks those that are the engine's
_ENGINES_OWN = frozenset({"clock", "instruments"})
_ACCOUNT_MENDS = {
    "session": "log in",
    "funds": "log in, or see the broker's page",
    "orders": "mend what it names, then POST /accounts/{id}/unblock",
    "permissions": "change the strategy, or what the account may trade at the broker",
}


def account(findings: Iterable[Finding], *, subject: UUID, name: str, at: datetime, login: str) -> list[Check]:
    """Return the looks at an account as checks; *login* says where a person logs in."""
    return [
        Check(
            code=finding.check,
            state=State.FAIL if finding.ok is False else State.OK,
            found=finding.detail,
            mend="" if finding.ok is not False else _mend(finding.check, login),
            checked_at=at,
            scope=Scope.ACCOUNT,
            subject=subject,
            name=name,
        )
        for finding in findings
        if finding.check not in _ENGINES_OWN
    ]


def _mend(code: str, login: str) -> str:
    mend = _ACCOUNT_MENDS.get(code, "see what was found")
    return f"{mend} at {login}" if code == "session" and login else mend


def source(
    silent_since: datetime | None, missing: int, days: Collection[date], today: date, calendar: Calendar
) -> Seen:
    """Judge a source: silent by its own measure, signals that never came, or days without its usual ones.

    *days* are the IST dates of late on which it signalled.
    """
    if silent_since is not None:
        return warn(f"silent since {silent_since:%Y-%m-%d %H:%M} UTC", "see whether its program runs")
    if missing:
        return warn(f"{missing} of its signals never came", "see whether its program can reach the engine")
    traded = [day for day in (today - timedelta(days=ahead) for ahead in range(1, 30)) if is_trading_day(day, calendar)]
    usual, late = traded[:_USUAL_OF], traded[:_SILENT_DAYS]
    known = set(days)
    if sum(day in known for day in usual) >= _USUAL_DAYS and not known & {today, *late}:
        newest = max(known)
        return warn(f"no signal since {newest}, while it used to signal on most days", "see whether its program runs")
    return ok(f"last signal on {max(known)}" if known else "no signal yet")
