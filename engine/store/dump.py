"""Every row of the database out of one snapshot, and back into an empty one (COPY, in its text form).

The text form of COPY is the same for every version of PostgreSQL, so that a backup of the embedded server goes into
one of the user's and the other way round. What is read is one REPEATABLE READ transaction: the rows belong together.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any, Protocol

import asyncpg
import msgspec

from engine.errors import StartupError, StoreUnavailable
from engine.runtime.asyncio_bridge import run_aio
from engine.store.database import UNREACHABLE
from engine.store.migrate import Applied, applied_rows

_CONNECT_S = 10.0
_MIGRATIONS = "schema_migrations"
# what a session may have set otherwise changes how values look in text
_FORM = (
    "SET LOCAL datestyle = 'ISO, YMD'",
    "SET LOCAL intervalstyle = 'postgres'",
    "SET LOCAL timezone = 'UTC'",
    "SET LOCAL extra_float_digits = 3",
    "SET LOCAL bytea_output = 'hex'",
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    # rows that a policy would hide make the copy fail instead of being left out
    "SET LOCAL row_security = off",
    "SELECT set_config('engine.user_id', 'engine', true)",
)
_COLUMNS = """
SELECT c.relname AS table, array_agg(a.attname::text ORDER BY a.attnum) AS columns
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
GROUP BY c.relname ORDER BY c.relname"""
_PARENTS = """
SELECT child.relname AS child, parent.relname AS parent
FROM pg_constraint k JOIN pg_class child ON child.oid = k.conrelid JOIN pg_class parent ON parent.oid = k.confrelid
WHERE k.contype = 'f' AND child.relnamespace = current_schema()::regnamespace AND child.oid <> parent.oid"""
_NUMBERED = """
SELECT c.relname AS table, a.attname AS column, pg_get_serial_sequence(quote_ident(c.relname), a.attname) AS sequence
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND a.attnum > 0 AND NOT a.attisdropped
  AND pg_get_serial_sequence(quote_ident(c.relname), a.attname) IS NOT NULL"""
_SIZE = """
SELECT coalesce(sum(pg_relation_size(c.oid)), 0)::bigint FROM pg_class c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'"""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows of one snapshot are of: schema, end of the audit chain (0: empty), size on disk in bytes."""

    applied: tuple[Applied, ...]
    audit_records: int
    audit_head: bytes
    size: int


class Sink(Protocol):
    """Takes the tables of a snapshot, one after the other."""

    def snapshot(self, snapshot: Snapshot) -> None:
        """The first word: what the tables are of."""

    def begin(self, table: str, columns: Sequence[str]) -> None:
        """A table begins."""

    def write(self, content: bytes) -> None:
        """Rows of the table in the text form of COPY."""

    def end(self, rows: int) -> None:
        """The table ends; it had *rows* rows."""


class TableRows(msgspec.Struct, frozen=True):
    """A table of a backup, with what `Sink.write` was given."""

    table: str
    columns: tuple[str, ...]
    content: Iterator[bytes]


async def dump(url: str, sink: Sink, *, timeout_s: float) -> None:
    """Give *sink* every table of the database at *url*, parents first. Raises StoreUnavailable, StartupError.

    What the sink raises comes out as it is.
    """

    async def work(connection: Any) -> None:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            for setting in _FORM:
                await connection.execute(setting)
            found = await applied_rows(connection)
            if not found:
                raise StartupError("the database is empty: there is nothing to copy; start the engine first")
            last = await connection.fetchrow("SELECT seq, hash FROM audit_logs ORDER BY seq DESC LIMIT 1")
            sink.snapshot(
                Snapshot(
                    applied=tuple(found),
                    audit_records=0 if last is None else last["seq"],
                    audit_head=b"" if last is None else last["hash"],
                    size=await connection.fetchval(_SIZE),
                )
            )
            for table, columns in await _tables(connection):
                sink.begin(table, columns)

                async def take(content: bytes) -> None:
                    sink.write(content)

                # a query, for a table in parts is copied by none of the other ways
                listed = ", ".join(map(_quoted, columns))
                query = f"SELECT {listed} FROM {_quoted(table)}"  # noqa: S608 -- catalog names
                status = await connection.copy_from_query(query, output=take, format="text")
                sink.end(_rows(status))

    await _with_connection(url, work, timeout_s)


async def occupied(url: str, *, timeout_s: float = 15.0) -> str | None:
    """Return what stands in the database at *url*, None when a backup may go into it. Raises StoreUnavailable."""

    async def work(connection: Any) -> str | None:
        tables = await _tables(connection)
        for table, _ in tables:
            if await connection.fetchval(f"SELECT EXISTS (SELECT FROM {_quoted(table)})"):  # noqa: S608 -- catalog name
                return f"its table {table} has rows"
        if tables and not await applied_rows(connection):
            return f"it has tables of somebody else: {tables[0][0]}"
        return None

    found: str | None = await _with_connection(url, work, timeout_s)
    return found


async def load(
    url: str,
    tables: Iterable[TableRows],
    *,
    finish: Callable[[Any], Awaitable[None]],
    timeout_s: float,
) -> dict[str, int]:
    """Put *tables* into the empty database at *url*, whose schema is theirs; return the rows of each.

    One transaction, with *finish* (an asyncio-flavoured unit) at its end: what raises leaves the database empty.
    Raises StoreUnavailable, StartupError for rows that do not fit the schema.
    """

    async def work(connection: Any) -> dict[str, int]:
        async with connection.transaction():
            for setting in _FORM:
                await connection.execute(setting)
            known = {table: set(columns) for table, columns in await _tables(connection)}
            counts: dict[str, int] = {}
            for part in tables:
                if not set(part.columns) <= known.get(part.table, set()):
                    raise StartupError(f"the schema has no table {part.table} with the columns of the backup")
                status = await connection.copy_to_table(
                    part.table, source=_each(part.content), columns=list(part.columns), format="text"
                )
                counts[part.table] = _rows(status)
            for row in await connection.fetch(_NUMBERED):
                newest = f"SELECT max({_quoted(row['column'])}) FROM {_quoted(row['table'])}"  # noqa: S608 -- catalog names
                top = await connection.fetchval(newest)
                if top is not None:
                    await connection.execute("SELECT setval($1::text::regclass, $2)", row["sequence"], top)
            if await connection.fetchval("SELECT to_regprocedure('engine_keep_parts(integer)')") is not None:
                # months that have gone by have no part in a new database
                await connection.execute("SELECT engine_keep_parts(1)")
            await finish(connection)
            # what is checked at the end of a transaction is checked before anything else hangs on it
            await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            return counts

    counts: dict[str, int] = await _with_connection(url, work, timeout_s)
    return counts


async def _tables(connection: Any) -> list[tuple[str, list[str]]]:
    """Return the tables with their columns, those that others refer to first."""
    columns = {row["table"]: list(row["columns"]) for row in await connection.fetch(_COLUMNS)}
    columns.pop(_MIGRATIONS, None)
    graph: dict[str, set[str]] = {table: set() for table in columns}
    for row in await connection.fetch(_PARENTS):
        graph[row["child"]].add(row["parent"])
    try:
        order = list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise StartupError(f"tables refer to each other in a circle and cannot be copied: {error.args[1]}") from error
    return [(table, columns[table]) for table in order if table in columns]


async def _each(content: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def _with_connection(url: str, work: Callable[[Any], Awaitable[Any]], timeout_s: float) -> Any:
    async def crossing() -> Any:
        try:
            connection = await asyncpg.connect(url, timeout=_CONNECT_S)
        except asyncpg.PostgresError as error:
            raise StoreUnavailable(f"cannot connect to PostgreSQL: {error}") from error
        try:
            return await work(connection)
        finally:
            await connection.close(timeout=5)

    try:
        return await run_aio(crossing, timeout_s=timeout_s)
    except asyncpg.PostgresError as error:
        raise StartupError(f"PostgreSQL refused: {error}") from error
    except UNREACHABLE as error:
        raise StoreUnavailable(f"PostgreSQL: {error or type(error).__name__}") from error


def _rows(status: str) -> int:
    return int(status.rpartition(" ")[2])


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
