"""``engine doctor``: what is wrong with this box, each with its mend."""

import os
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import trio
import typer

from engine.cli.broker_tokens import broker_tokens
from engine.cli.egress import order_address
from engine.cli.places import (
    ConfigOption,
    DataDirOption,
    JsonOption,
    config_of,
    data_dir_of,
    open_stores,
    say,
    say_json,
)
from engine.clock import SystemClock
from engine.config import Config
from engine.data_dir import locked_by
from engine.errors import EngineError
from engine.journal.store import JournalStore
from engine.leadership import SILENT_S
from engine.runtime import holder
from engine.security.keys import load_or_create
from engine.store import lease
from engine.store.checks import database_settings
from engine.store.database import Database
from engine.store.migrate import applied, latest_version

_LEAST_FREE = 1 << 30
_OLDEST_SANE_YEAR = 2025


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


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One check: ``detail`` says what was seen, or, when it is not ok, the mend; ``leader`` is of the lease's."""

    check: str
    ok: bool
    detail: str
    leader: Leader | None = None


def doctor(config: ConfigOption = None, data_dir: DataDirOption = None, json: JsonOption = False) -> None:
    """Check keys, clock, disk, the address of orders, stores, migrations, journal and broker sessions; exit 1 on any
    failure."""
    settings, folder = config_of(config), data_dir_of(data_dir)
    findings = trio.run(_examine, settings, folder)
    if json:
        say_json(findings)
    else:
        for finding in findings:
            say(f"{'ok  ' if finding.ok else 'FAIL'} {finding.check}: {finding.detail}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


async def _examine(settings: Config, folder: Path) -> list[Finding]:
    findings = [
        await _check("keys", lambda: trio.to_thread.run_sync(_keys, settings, folder)),
        await _check("clock", _clock),
        await _check("disk", lambda: trio.to_thread.run_sync(_disk, folder)),
        await _check("order address", lambda: order_address(settings)),
    ]
    try:
        async with open_stores(settings, folder) as stores:
            findings.append(await _check("database", lambda: _database(stores.database_url)))
            findings.append(await _check("migrations", lambda: _migrations(stores.database_url)))
            findings.append(await _check("journal", lambda: _journal(stores.redis_url)))
            findings.append(await _lease(stores.database_url, folder))
            findings.append(await _check("broker token", lambda: _tokens(stores.database_url, settings, folder)))
    except EngineError as error:
        findings.append(Finding(check="stores", ok=False, detail=str(error)))
    return findings


async def _check(name: str, look: Callable[[], Awaitable[str]]) -> Finding:
    try:
        return Finding(check=name, ok=True, detail=await look())
    except (EngineError, OSError) as error:
        return Finding(check=name, ok=False, detail=" ".join(str(error).split()))


def _keys(settings: Config, folder: Path) -> str:
    security = settings.security
    if security.master_key is None and not (folder / "keys").exists():
        return "none yet; the first start makes them"
    load_or_create(master_key=security.master_key, jwt_secret=security.jwt_secret, data_dir=folder)
    return "present, readable by you alone"


async def _clock() -> str:
    now = SystemClock().now()
    if now.year < _OLDEST_SANE_YEAR:
        raise EngineError(f"the clock says {now:%Y-%m-%d}; set it (timedatectl set-ntp true)")
    return f"{now:%Y-%m-%d %H:%M:%S} UTC"


def _disk(folder: Path) -> str:
    existing = folder
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < _LEAST_FREE:
        raise EngineError(f"{free >> 20} MiB free at {existing}; make room, 1 GiB at least")
    if not os.access(existing, os.W_OK):
        raise EngineError(f"{existing} cannot be written; use --data-dir DIR or change its owner")
    return f"{free >> 30} GiB free"


async def _with_database(url: str, unit: Callable[[Any], Awaitable[Any]]) -> Any:
    database = Database(url, max_connections=1)
    await database.open(timeout_s=5)
    try:
        return await database.run(unit)
    finally:
        await database.close()


async def _database(url: str) -> str:
    if not await applied(url):
        return "reachable, empty; the first start makes the schema"
    settings = await _with_database(url, database_settings)
    problems = settings.problems()
    if problems:
        raise EngineError("; ".join(problems))
    role = (
        ""
        if settings.has_role
        else "; the login may not create roles, so the audit log is guarded by its trigger alone"
    )
    return f"PostgreSQL {settings.version_number // 10000}, fsync on{role}"


async def _migrations(url: str) -> str:
    have, want = len(await applied(url)), latest_version()
    if have > want:
        raise EngineError(f"the schema is {have}, this engine knows {want}: start the newer engine")
    if have < want and have:
        raise EngineError(f"the schema is {have} of {want}: run `engine migrate`")
    return f"schema {have} of {want}"


async def _journal(url: str) -> str:
    settings = await JournalStore(url).settings()
    problems = settings.problems()
    if problems:
        raise EngineError("; ".join(problems))
    return f"{settings.server} {settings.version}, appendfsync {settings.appendfsync}, {settings.maxmemory_policy}"


async def _tokens(url: str, settings: Config, folder: Path) -> str:
    if len(await applied(url)) != latest_version():
        return "not looked at: the schema is of another version"
    database = Database(url, max_connections=1)
    await database.open(timeout_s=5)
    try:
        return await broker_tokens(settings, folder, database, SystemClock())
    finally:
        await database.close()


async def _lease(url: str, folder: Path) -> Finding:
    """Who leads. Nobody is as well as somebody: the next engine to start takes the lease."""
    try:
        held = await _with_database(url, lease.read) if await applied(url) else None
    except EngineError as error:
        return Finding(check="lease", ok=False, detail=" ".join(str(error).split()))
    if held is None:
        return Finding(check="lease", ok=True, detail="nobody leads yet")
    leader = _leader(held, locked_by(folder)[0])
    return Finding(check="lease", ok=True, detail=_told_leader(leader), leader=leader)


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
