"""The stores, looked at: whether they keep what they confirm, their schema, and what the day before left in them."""

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import Any

from engine.clock import IST, trading_day
from engine.config import Config
from engine.domain import day_checks
from engine.domain.day_checks import LeftOver, Seen
from engine.domain.enums import KillState
from engine.domain.killswitch import KillRecord
from engine.errors import EngineError
from engine.journal.store import JournalStore
from engine.store.checks import database_settings, owns_schema
from engine.store.database import Database
from engine.store.flags import kill_records
from engine.store.migrate import applied, available, latest_version, plan
from engine.store.queries.left_over import left_over

_HEARD_OF = timedelta(days=21)
_UNFINISHED = frozenset({KillState.CANCELLING, KillState.FLATTENING, KillState.FLAT_FAILED})


async def with_database(url: str, unit: Any) -> Any:
    """Run *unit* on a connection of its own. Raises StoreUnavailable."""
    database = Database(url, max_connections=1)
    await database.open(timeout_s=5)
    try:
        return await database.run(unit)
    finally:
        await database.close()


async def database(url: str, config: Config) -> Seen:
    """See that PostgreSQL keeps what it confirms (fsync, synchronous_commit, full_page_writes)."""
    if not await applied(url):
        return day_checks.ok("reachable, empty; the first start makes the schema")
    settings = await with_database(url, database_settings)
    problems = settings.problems()
    if problems:
        raise EngineError("; ".join(problems))
    said = f"PostgreSQL {settings.version_number // 10000}, fsync on, synchronous_commit {settings.synchronous_commit}"
    if not settings.has_role:
        said += "; the login may not create roles, so the audit log is guarded by its trigger alone"
    if not config.database.is_embedded and await with_database(config.database.url, owns_schema):
        said += (
            "; the engine's login owns the schema: let [database] url name a login that is only granted engine_app, "
            "and owner_url this one"
        )
    return day_checks.ok(said)


async def migrations(url: str) -> Seen:
    """See that the schema is the one that this program knows, or one that was only added to since."""
    rows = await applied(url)
    have, want = len(rows), latest_version()
    try:
        plan(available(), rows)
    except EngineError as error:
        return day_checks.fail(str(error), "start the newer engine")
    if have > want:
        return day_checks.ok(f"schema {have}, ahead of this engine's {want} by additions that it does not need")
    if have < want and have:
        return day_checks.fail(f"the schema is {have} of {want}", "run `engine migrate`")
    return day_checks.ok(f"schema {have} of {want}")


async def journal(url: str) -> Seen:
    """See that the journal's server keeps what it confirms (appendonly, appendfsync, no eviction)."""
    settings = await JournalStore(url).settings()
    problems = settings.problems()
    if problems:
        raise EngineError("; ".join(problems))
    told = f"{settings.server} {settings.version}, appendfsync {settings.appendfsync}, {settings.maxmemory_policy}"
    return day_checks.ok(told)


async def unfinished(store: Database, now: datetime) -> tuple[LeftOver, list[KillRecord]]:
    """Return what is not finished in the ledger, and the kill records in it. Raises StoreUnavailable."""
    day = trading_day(now)
    began = datetime.combine(day, time(0), IST).astimezone(UTC)

    async def unit(connection: Any) -> tuple[LeftOver, list[KillRecord]]:
        found = await left_over(connection, day=day, began=began, heard_since=now - _HEARD_OF)
        return found, await kill_records(connection)

    return await store.run(unit)


def kill_switches(records: Iterable[KillRecord]) -> dict[str, Seen]:
    """Judge the kill switches by their records."""
    on = [record for record in records if record.enabled]
    return day_checks.kill_switches(
        {record.scope for record in on}, {record.scope for record in on if record.state in _UNFINISHED}
    )
