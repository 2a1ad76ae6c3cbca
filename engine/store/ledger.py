"""The ledger's transaction: a whole batch of rows and its audit records, or nothing.

Works on a connection of its own with prepared statements. Two shapes: everything that trading writes (intents,
orders, their events, fills, positions, books, audit, the journal's cursor) is a single statement of the tables that
the batch has rows for; a batch that also holds other writes is an explicit transaction around it.
"""

import asyncio
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from engine.domain.audit import GENESIS, AuditRecord
from engine.domain.fill import Fill
from engine.domain.intent import Intent, IntentEvent
from engine.domain.order import Order, OrderEvent
from engine.domain.position import Position
from engine.domain.verdict import VerdictRow
from engine.errors import EngineError, Fenced, StoreUnavailable
from engine.runtime.asyncio_bridge import run_aio
from engine.runtime.crashpoint import crashpoint
from engine.store.database import SESSION, UNREACHABLE, in_transaction, prepare_connection
from engine.store.tables import (
    AUDIT,
    BOOKS,
    FILLS,
    INTENT_EVENTS,
    INTENT_UPDATES,
    NEW_INTENTS,
    NEW_ORDERS,
    ORDER_EVENTS,
    ORDER_UPDATES,
    POSITIONS,
    RESULTS,
    TRIPS,
    VERDICTS,
    Table,
    compose,
)


class LedgerRefused(EngineError):
    """The store refused a batch for what is in it (a constraint); the store itself is well."""


class Write(msgspec.Struct, frozen=True, kw_only=True):
    """Another statement of the transaction, with its arguments: SQL is a constant of the caller."""

    sql: str
    args: tuple[Any, ...] = ()


class JournalCursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far the ledger has come in the journal named ``epoch``: every entry up to ``position`` is decided."""

    epoch: UUID
    position: str


class Batch(msgspec.Struct, kw_only=True):
    """What one transaction writes. Updates are last-version-wins per id, and never of a row that is new here.

    ``cursor``, when given, moves the journal's cursor forward; one that is further already stays.
    """

    new_intents: Sequence[Intent] = ()
    intent_updates: Sequence[Intent] = ()
    intent_events: Sequence[IntentEvent] = ()
    new_orders: Sequence[Order] = ()
    order_updates: Sequence[Order] = ()
    order_events: Sequence[OrderEvent] = ()
    verdicts: Sequence[VerdictRow] = ()
    fills: Sequence[Fill] = ()
    positions: Sequence[tuple[Position, date, datetime]] = ()
    writes: Sequence[Write] = ()
    audit: Sequence[AuditRecord] = ()
    cursor: JournalCursor | None = None


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The last record of the audit chain: the witness of what has been committed."""

    seq: int
    hash: bytes


Shape = tuple[tuple[Table[Any], bool], ...]
"""What a statement is made for: tables, and whether each gets a single row."""
Parts = list[tuple[Table[Any], list[tuple[Any, ...]]]]
"""Tables with their rows."""

_PARTS: tuple[tuple[str, Table[Any]], ...] = (
    ("new_intents", NEW_INTENTS),
    ("intent_updates", INTENT_UPDATES),
    ("intent_events", INTENT_EVENTS),
    ("new_orders", NEW_ORDERS),
    ("order_updates", ORDER_UPDATES),
    ("order_events", ORDER_EVENTS),
    ("verdicts", VERDICTS),
    ("fills", FILLS),
    ("positions", POSITIONS),
    ("audit", AUDIT),
)
# writes of these are rows of the one statement: under load each fill brings one
_MERGED = {table.sql(): table for table in (BOOKS, TRIPS, RESULTS)}
# What a single signal writes: a decision with its order written ahead, what the broker says of it, and its fill.
_USUAL: tuple[Shape, ...] = (
    (
        (NEW_INTENTS, True),
        (INTENT_EVENTS, False),
        (NEW_ORDERS, True),
        (ORDER_EVENTS, False),
        (VERDICTS, True),
        (AUDIT, False),
    ),
    ((ORDER_UPDATES, True), (ORDER_EVENTS, True), (AUDIT, True)),
    ((FILLS, True), (POSITIONS, True), (AUDIT, True), (BOOKS, True)),
)
# More shapes than a day's trading has; each is a prepared statement of the server's.
_MOST_STATEMENTS = 128
# With more rows than this in a table no other's single row gets a form of its own: what that saves is less than
# making ready one of the many statements that there would be, of which most are met once.
_LARGE = 32

# The plans are made once, when the tables may be next to empty: by statistics they would read whole tables
# that a busy day has filled since. Every row here is found by its key.
_BY_INDEX = {
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}


def _parts(batch: Batch) -> tuple[Parts, list[Write]]:
    """Return the rows of *batch* by table, always in one order of tables, and the writes that are statements."""
    found: Parts = [(table, table.rows(values)) for name, table in _PARTS if (values := getattr(batch, name))]
    others = []
    merged: dict[Table[Any], list[tuple[Any, ...]]] = {table: [] for table in _MERGED.values()}
    for write in batch.writes:
        if (into := _MERGED.get(write.sql)) is None:
            others.append(write)
        else:
            merged[into].extend(zip(*write.args, strict=True))
    found += [(table, table.rows(values)) for table, values in merged.items() if values]
    return found, others


def _shape(parts: Parts) -> Shape:
    is_large = any(len(rows) > _LARGE for _, rows in parts)
    return tuple((table, len(rows) == 1 and not is_large) for table, rows in parts)


def _arguments(shape: Shape, parts: Parts, cursor: JournalCursor | None, epoch: int) -> list[Any]:
    arguments: list[Any] = [epoch, *((None, None) if cursor is None else (cursor.epoch, cursor.position))]
    for (_, is_single), (_, rows) in zip(shape, parts, strict=True):
        arguments += rows[0] if is_single else zip(*rows, strict=True)
    return arguments


# SQLSTATE classes that speak of the batch: data, constraint, trigger, and statements that are wrong.
# All others (deadlock, disk, configuration, a server that goes away) speak of the store: it is tried again.
_REFUSALS = ("22", "23", "27", "42", "44", "P0")
_OF_THE_STORE = (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedTableError, asyncpg.UndefinedObjectError)


class LedgerStore:
    """The ledger's own connection. One user: the audit writer."""

    def __init__(self, url: str, *, role: str | None) -> None:
        self._url = url
        self._role = role
        self._connection: Any = None
        self._statements: dict[Shape, Any] = {}
        self._backend: tuple[int, datetime] | None = None
        self._doubtful: tuple[int, datetime] | None = None

    async def commit(self, batch: Batch, *, epoch: int, timeout_s: float) -> None:
        """Write *batch* in one transaction.

        Raises Fenced when *epoch* no longer holds the lease, LedgerRefused when the batch itself is at
        fault (a constraint, a value that does not fit) and nothing of it is written, StoreUnavailable when
        the outcome is not known (ask `has`) or there is no server.
        """

        async def work() -> None:
            connection = await self._open()
            parts, others = _parts(batch)
            shape = _shape(parts)
            statement = await self._statement(connection, shape)
            arguments = _arguments(shape, parts, batch.cursor, epoch)
            if not others:
                await self._write_parts(statement, arguments, epoch)
                return

            async def unit(_connection: Any) -> None:
                await self._write_parts(statement, arguments, epoch)
                crashpoint("W.mid_commit")
                for write in others:
                    await connection.execute(write.sql, *write.args)

            await in_transaction(connection, unit)

        await self._cross(work, timeout_s)

    async def _statement(self, connection: Any, shape: Shape) -> Any:
        statement = self._statements.get(shape)
        if statement is None:
            if len(self._statements) >= _MOST_STATEMENTS:
                self._statements.clear()
            statement = self._statements[shape] = await connection.prepare(compose(shape))
        return statement

    @staticmethod
    async def _write_parts(statement: Any, arguments: Sequence[Any], epoch: int) -> None:
        if not await statement.fetch(*arguments):
            raise Fenced(f"the lease of epoch {epoch} has been taken by another engine")

    async def head(self, *, timeout_s: float = 5.0) -> Head:
        """Return the end of the audit chain as committed. Raises StoreUnavailable."""

        async def work() -> Head:
            connection = await self._open()
            row = await connection.fetchrow("SELECT seq, hash FROM audit_logs ORDER BY seq DESC LIMIT 1")
            return Head(seq=0, hash=GENESIS) if row is None else Head(seq=row["seq"], hash=row["hash"])

        found: Head = await self._cross(work, timeout_s)
        return found

    async def has(self, head: Head, *, timeout_s: float = 5.0) -> bool:
        """Whether the chain holds the record *head*: the witness of a commit whose outcome was not known.

        The answer is final: the server's process that may still be at that commit is ended first. Raises
        StoreUnavailable while that, or the server, cannot be reached.
        """

        async def work() -> bool:
            await self._end_doubtful()
            connection = await self._open()
            return bool(
                await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM audit_logs WHERE seq = $1 AND hash = $2)", head.seq, head.hash
                )
            )

        found: bool = await self._cross(work, timeout_s)
        return found

    async def _end_doubtful(self) -> None:
        """Make sure that the process of a commit without an answer is gone. Raises StoreUnavailable."""
        if self._doubtful is None:
            return
        # as the login itself: the engine's role may not end the login's processes
        connection = await asyncpg.connect(self._url, timeout=3, command_timeout=3, server_settings=SESSION)
        try:
            for _ in range(20):
                alive = await connection.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2",
                    *self._doubtful,
                )
                if not alive:
                    self._doubtful = None
                    return
                await asyncio.sleep(0.05)
        finally:
            connection.terminate()
        raise StoreUnavailable("PostgreSQL: an earlier transaction of the ledger has not ended yet")

    async def known_intents(self, ids: Sequence[UUID], *, timeout_s: float = 5.0) -> set[UUID]:
        """Return which of *ids* are already in the store. Raises StoreUnavailable."""

        async def work() -> set[UUID]:
            connection = await self._open()
            rows = await connection.fetch("SELECT id FROM trade_intents WHERE id = ANY($1::uuid[])", list(ids))
            return {row["id"] for row in rows}

        found: set[UUID] = await self._cross(work, timeout_s)
        return found

    async def close(self) -> None:
        """Close the connection; a later call opens a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _open(self) -> Any:
        if self._connection is not None and not self._connection.is_closed():
            return self._connection
        settings = {"application_name": "trading-engine-ledger", **SESSION, **_BY_INDEX}
        if self._role:
            settings["role"] = self._role
        connection = await asyncpg.connect(self._url, timeout=3, server_settings=settings)
        try:
            await prepare_connection(connection)
            self._statements = {}
            for shape in _USUAL:
                await self._statement(connection, shape)
            self._backend = await self._own_backend(connection)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        return connection

    @staticmethod
    async def _own_backend(connection: Any) -> tuple[int, datetime] | None:
        # asked as the login: the engine's role does not see when the login's processes began
        async def unit(_connection: Any) -> Any:
            await connection.execute("SET LOCAL ROLE NONE")
            return await connection.fetchrow(
                "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
            )

        row = await in_transaction(connection, unit)
        return None if row is None or row["backend_start"] is None else (row["pid"], row["backend_start"])

    async def _cross(self, work: Any, timeout_s: float) -> Any:
        try:
            return await run_aio(work, timeout_s=timeout_s, shield=True)
        except (Fenced, StoreUnavailable):
            raise
        except Exception as exc:
            if self._is_refusal(exc):
                raise LedgerRefused(f"{type(exc).__name__}: {exc}") from exc
            # a reply may still be under way on it: the next batch must not read this one's answer
            if self._connection is not None and self._backend is not None:
                self._doubtful = self._backend
            await self.close()
            raise StoreUnavailable(f"PostgreSQL: {exc or type(exc).__name__}") from exc

    def _is_refusal(self, error: Exception) -> bool:
        """Whether *error* is the batch's own fault."""
        if isinstance(error, asyncpg.PostgresError):
            of_the_batch = str(error.sqlstate or "").startswith(_REFUSALS)
            return of_the_batch and not isinstance(error, (*UNREACHABLE, *_OF_THE_STORE))
        if isinstance(error, asyncpg.InterfaceError):
            # on a connection that lives the driver found fault with the arguments
            return self._connection is not None and not self._connection.is_closed()
        return not isinstance(error, UNREACHABLE)


__all__ = ["Batch", "Head", "JournalCursor", "LedgerRefused", "LedgerStore", "Write"]
