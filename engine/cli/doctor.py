"""``engine doctor``: what could break the day on this box, each with its mend."""

from datetime import datetime
from pathlib import Path
from uuid import UUID

import msgspec
import trio
import typer

from engine.actors.control import call
from engine.cli.broker_tokens import broker_tokens
from engine.cli.places import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    config_of,
    data_dir_of,
    open_stores,
    say_json,
)
from engine.cli.terminal import say_mark
from engine.clock import Clock, SystemClock, trading_day
from engine.config import Config
from engine.data_dir import locked_by
from engine.doctor import box, stores
from engine.doctor.looks import in_thread, look, of_the_box, worded
from engine.domain import day_checks
from engine.domain.day_checks import Check, Scope, State
from engine.errors import EngineError
from engine.leadership import SILENT_S
from engine.market_calendar import build_calendar
from engine.runtime import holder
from engine.store import lease
from engine.store.database import Database
from engine.store.migrate import applied, latest_version

_LIVE_S = 28.0
# what a running engine alone knows, or knows better
_LIVE_ONLY = frozenset({"descriptors", "instruments", "freezeQuantities", "clock", "disk"})
_WORDS = {"orderAddress": "order address", "brokerToken": "broker token"}


class Leader(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Who may write and send; ``ageS`` is seconds since the lease was renewed.

    ``isThisEngine`` is whether it is the engine of this data directory, ``isAlive`` null where that cannot be told.
    """

    holder: str
    host: str | None
    process: int | None
    epoch: int
    age_s: float
    released: bool
    is_alive: bool | None
    is_this_engine: bool


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    """One check as it is printed: ``detail`` is what was found and, when it is not ok, the mend; ``ok`` is whether it
    did not fail; ``leader`` is of the lease's."""

    check: str
    code: str
    ok: bool
    state: State
    detail: str
    found: str
    mend: str
    scope: Scope
    id: UUID | None = None
    name: str = ""
    checked_at: datetime
    leader: Leader | None = None


def doctor(config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """Check the box, the stores, the ways outside and, while an engine runs here, all that it knows; exit 1 on any
    failure, each with its mend. A warning is for a person, and no failure."""
    settings, folder = config_of(config), data_dir_of(data_dir)
    findings = trio.run(_examine, settings, folder)
    if json:
        say_json(findings)
    else:
        for finding in findings:
            say_mark(_MARKS[finding.state], f" {finding.check}: {finding.detail}", ok=finding.ok)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


_MARKS = {State.OK: "ok  ", State.WARN: "warn", State.FAIL: "FAIL"}


async def _examine(settings: Config, folder: Path) -> list[Finding]:
    clock = SystemClock()
    now = clock.now()
    live = await _live(folder)
    checks = await _of_the_box(settings, folder, clock)
    leader: Leader | None = None
    try:
        async with open_stores(settings, folder) as found:
            url = found.database_url
            checks.append(await look("database", lambda: stores.database(url, settings), now))
            checks.append(await look("migrations", lambda: stores.migrations(url), now))
            checks.append(await look("journal", lambda: stores.journal(found.redis_url), now))
            held, leader = await _lease(url, folder, now)
            checks.append(held)
            tokens = worded(lambda: _tokens(url, settings, folder))
            checks.append(await look("brokerToken", tokens, now))
            checks += await _unfinished(url, settings, now)
    except EngineError as error:
        checks.append(day_checks.check("stores", day_checks.fail(str(error), "see [database] and [redis]"), now))
    known = {each.code for each in live if each.code in _LIVE_ONLY}
    checks = [each for each in checks if each.code not in known]
    own = {each.code for each in checks}
    checks += [each for each in live if each.scope is not Scope.ENGINE or each.code not in own]
    return [_finding(each, leader if each.code == "lease" else None) for each in checks]


async def _live(folder: Path) -> list[Check]:
    """Return what the engine that runs on *folder* says of itself, nothing when none does."""
    try:
        answer = await call(folder, {"command": "doctor"}, timeout_s=_LIVE_S)
    except (EngineError, trio.TooSlowError) as error:
        text = str(error) or f"the engine here does not answer within {_LIVE_S:.0f} s"
        return [day_checks.check("engine", day_checks.fail(text, "see its log"), SystemClock().now())]
    if answer is None:
        return []
    if "checks" not in answer:
        found = day_checks.warn(f"the engine here cannot say: {answer.get('error')}", "restart it after an upgrade")
        return [day_checks.check("engine", found, SystemClock().now())]
    return msgspec.convert(answer["checks"], list[Check])


async def _of_the_box(settings: Config, folder: Path, clock: Clock) -> list[Check]:
    now = clock.now()
    calendar = build_calendar(settings.market, today=trading_day(now))
    looks = {
        **of_the_box(settings, folder, clock),
        "clock": in_thread(lambda: box.clock(now)),
        "disk": in_thread(lambda: box.disk(folder)),
    }
    checks = [await look(code, of, now) for code, of in looks.items()]
    return [
        *checks,
        day_checks.check("holidays", day_checks.holidays(now, calendar), now),
        day_checks.check("market", day_checks.market(now, calendar), now),
    ]


async def _unfinished(url: str, settings: Config, now: datetime) -> list[Check]:
    if len(await applied(url)) < latest_version():
        return []
    database = Database(url, max_connections=1)
    try:
        await database.open(timeout_s=5)
        left, records = await stores.unfinished(database, now)
    finally:
        await database.close()
    seen = day_checks.left_over(left, live=settings.broker.mode == "kite") | stores.kill_switches(records)
    return [day_checks.check(code, each, now) for code, each in seen.items()]


def _finding(check: Check, leader: Leader | None) -> Finding:
    word = _WORDS.get(check.code, check.code) + (f" of {check.scope} {check.name}" if check.subject else "")
    return Finding(
        check=word,
        code=check.code,
        ok=check.state is not State.FAIL,
        state=check.state,
        detail=f"{check.found}{f': {check.mend}' if check.mend else ''}",
        found=check.found,
        mend=check.mend,
        scope=check.scope,
        id=check.subject,
        name=check.name,
        checked_at=check.checked_at,
        leader=leader,
    )


async def _tokens(url: str, settings: Config, folder: Path) -> str:
    if len(await applied(url)) < latest_version():
        return "not looked at: the schema is of another version"
    database = Database(url, max_connections=1)
    await database.open(timeout_s=5)
    try:
        return await broker_tokens(settings, folder, database, SystemClock())
    finally:
        await database.close()


async def _lease(url: str, folder: Path, now: datetime) -> tuple[Check, Leader | None]:
    """Who leads. Nobody is as well as somebody: the next engine to start takes the lease."""
    try:
        held = await stores.with_database(url, lease.read) if await applied(url) else None
    except EngineError as error:
        return day_checks.check("lease", day_checks.fail(" ".join(str(error).split()), "start PostgreSQL"), now), None
    if held is None:
        return day_checks.check("lease", day_checks.ok("nobody leads yet"), now), None
    leader = _leader(held, locked_by(folder)[0])
    return day_checks.check("lease", day_checks.ok(_told_leader(leader)), now), leader


def _leader(held: lease.Lease, of_this_folder: str) -> Leader:
    named = holder.read(held.holder)
    is_alive = not named.is_dead if named is not None and named.is_here else None
    return Leader(
        holder=holder.told(held.holder),
        host=None if named is None else named.host,
        process=None if named is None else named.process,
        epoch=held.epoch,
        age_s=round(held.age_s, 1),
        released=held.released,
        is_alive=False if held.released else is_alive,
        is_this_engine=not held.released and is_alive is True and held.holder == of_this_folder,
    )


def _told_leader(leader: Leader) -> str:
    who = f"{leader.holder}, epoch {leader.epoch}"
    if leader.released:
        return f"free: {who} gave it back"
    if leader.is_alive is False:
        return f"free: {who} has ended without giving it back"
    where = "the engine of this data directory" if leader.is_this_engine else "not the engine of this data directory"
    silent = "; silent, a standby takes over" if leader.age_s > SILENT_S else ""
    return f"{who} leads, renewed {leader.age_s:.1f} s ago{silent} ({where})"
