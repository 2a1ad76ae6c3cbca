"""Forward-only migrations: numbered SQL files, checksummed, applied in order under one lock.

Each file is one transaction, so a kill in the middle leaves either the old schema or the new one. A file that
changed after it was applied is refused.

Changes of the schema come in two steps, so that an upgrade can be taken back by starting the old program again. A
file named ``NNNN_expand_noun.sql`` only adds what an older program does not notice (`what_breaks`); what an older
program needs is taken away in a later version, by a file of any other name. A schema that is newer than this program is
taken as it is when only such additions were made, and refused otherwise.
"""

import hashlib
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg
import msgspec

from engine.errors import StartupError, StoreUnavailable
from engine.runtime.asyncio_bridge import run_aio
from engine.runtime.crashpoint import crashpoint
from engine.store.database import UNREACHABLE

_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_EXPANDS = re.compile(r"^\d{4}_expand_")
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
# what a program that does not know of the change could fail on
_BREAKING = re.compile(
    r"\b(DROP|RENAME|TRUNCATE|REVOKE|DELETE\s+FROM|UPDATE\s+(?!ON\b)\w+\s+SET|SET\s+NOT\s+NULL|ALTER\s+COLUMN|ADD\s+CONSTRAINT"
    r"|CREATE\s+TRIGGER|CREATE\s+POLICY|ROW\s+LEVEL\s+SECURITY|CREATE\s+UNIQUE\s+INDEX|CREATE\s+OR\s+REPLACE)\b",
    re.IGNORECASE,
)
_ADDED_COLUMN = re.compile(r"\bADD\s+COLUMN\b[^;]*?(?=,\s*ADD\b|;|$)", re.IGNORECASE)
_LOCK = 0x656E67696E65  # "engine": the advisory lock that serialises migrating programs

_CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)"""


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One SQL file: its number, name, text and SHA-256 in hex."""

    version: int
    name: str
    sql: str
    checksum: str


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """One row of schema_migrations."""

    version: int
    name: str
    checksum: str
    applied_at: datetime

    @property
    def expands(self) -> bool:
        """Whether it only added what older programs do not notice."""
        return _EXPANDS.match(self.name) is not None


def what_breaks(sql: str) -> list[str]:
    """Return what in the text of a migration a program of the version before could fail on; none in one that expands.

    A rule of thumb for who writes one, not a proof: it knows the words that take away or demand.
    """
    text = _COMMENT.sub(" ", sql)
    found = [" ".join(match.group(0).split()).upper() for match in _BREAKING.finditer(text)]
    for match in _ADDED_COLUMN.finditer(text):
        column = match.group(0).upper()
        if "NOT NULL" in column and "DEFAULT" not in column:
            found.append(" ".join(column.split()))
    return found


def migrations_folder() -> Path:
    """Return the folder of the SQL files: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "_migrations", package.parent / "migrations"):
        if folder.is_dir():
            return folder
    raise StartupError("the migrations folder is missing from this installation; install the package again")


def available(folder: Path | None = None) -> list[Migration]:
    """Return all migrations in order. Raises StartupError on a gap, a twin or a bad file name."""
    found: dict[int, Migration] = {}
    for path in sorted((folder or migrations_folder()).glob("*.sql")):
        match = _NAME.match(path.name)
        if match is None:
            raise StartupError(f"migration {path.name} is not named NNNN_verb_noun.sql")
        text = path.read_text(encoding="utf-8")
        version = int(match.group(1))
        if version in found:
            raise StartupError(f"two migrations have the number {version:04d}")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        found[version] = Migration(version=version, name=path.stem, sql=text, checksum=checksum)
    ordered = [found[version] for version in sorted(found)]
    if [m.version for m in ordered] != list(range(1, len(ordered) + 1)):
        raise StartupError("the migrations are not numbered 0001, 0002, … without a gap")
    return ordered


def latest_version(folder: Path | None = None) -> int:
    """Return the number of the newest migration that this program knows."""
    return len(available(folder))


def plan(known: list[Migration], applied: list[Applied]) -> list[Migration]:
    """Return what is still to be applied, nothing where a newer program has only expanded the schema.

    Raises StartupError for an altered schema, and for one that a newer program has changed in another way.
    """
    breaking = [each for each in applied[len(known) :] if not each.expands]
    if breaking:
        newest = applied[-1]
        raise StartupError(
            f"the database has schema {newest.version} ({newest.name}), newer than this engine's {len(known)}, and "
            f"{breaking[0].name} did more than add: start the newer engine, or restore a backup made with this one"
        )
    for ours, theirs in zip(known, applied, strict=False):
        if (ours.version, ours.checksum) != (theirs.version, theirs.checksum):
            raise StartupError(
                f"migration {theirs.name} in the database is not the {ours.name} of this engine: "
                "the file was changed after it was applied; install the engine that made this database"
            )
    return known[len(applied) :]


async def applied_rows(connection: Any) -> list[Applied]:
    """Return what the database of *connection* already has (asyncio-flavoured unit)."""
    if await connection.fetchval("SELECT to_regclass('schema_migrations')") is None:
        return []
    rows = await connection.fetch("SELECT version, name, checksum, applied_at FROM schema_migrations ORDER BY version")
    return [Applied(**dict(row)) for row in rows]


async def _with_connection(url: str, work: Any, timeout_s: float) -> Any:
    async def crossing() -> Any:
        try:
            # the deadline of each statement too: a rollback must not wait for a server that hangs
            connection = await asyncpg.connect(url, timeout=timeout_s, command_timeout=timeout_s)
        except asyncpg.PostgresError as exc:
            raise StoreUnavailable(f"cannot connect to PostgreSQL: {exc}") from exc
        try:
            return await work(connection)
        finally:
            await connection.close(timeout=5)

    try:
        return await run_aio(crossing, timeout_s=timeout_s)
    except UNREACHABLE as exc:
        raise StoreUnavailable(f"cannot connect to PostgreSQL: {exc or type(exc).__name__}") from exc


async def applied(url: str, *, timeout_s: float = 10.0) -> list[Applied]:
    """Return what the database at *url* already has. Raises StoreUnavailable."""
    result: list[Applied] = await _with_connection(url, applied_rows, timeout_s)
    return result


async def migrate(
    url: str,
    *,
    dry_run: bool = False,
    folder: Path | None = None,
    timeout_s: float = 120.0,
    up_to: int | None = None,
) -> list[Migration]:
    """Bring the database at *url* up to date and return what was applied (with *dry_run*: would be).

    *up_to* ends at an earlier version, for rows that are of it.
    Raises StartupError when the schema is altered, or newer by more than what only adds; StoreUnavailable when there
    is no server.
    """
    known = available(folder)[:up_to]

    async def work(connection: Any) -> list[Migration]:
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
        todo = plan(known, await applied_rows(connection))
        if dry_run:
            return todo
        for migration in todo:
            crashpoint("R1.before_migration")
            async with connection.transaction():
                await connection.execute(_CREATE_TABLE)
                await connection.execute(migration.sql)
                crashpoint("R1.mid_migration")
                await connection.execute(
                    "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
                    migration.version,
                    migration.name,
                    migration.checksum,
                )
        crashpoint("R1.after_migration")
        return todo

    try:
        result: list[Migration] = await _with_connection(url, work, timeout_s)
    except asyncpg.PostgresError as exc:
        raise StartupError(f"a migration failed and was rolled back: {exc}") from exc
    return result
