"""The one door to PostgreSQL: a pool, and whole units of work that cross into asyncio once.

A unit of work is an asyncio-flavoured function of a connection: inside it only SQL and pure
functions. Crossing once per unit keeps asyncpg's own ``async with`` exits on asyncio's edge-triggered
cancellation, so a cancel can never leave a pooled connection inside an open transaction.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import msgspec
import trio
from asyncpg.pgproto.pgproto import UUID as DriverUuid

from engine import ids
from engine.errors import EngineError, StoreUnavailable
from engine.runtime.asyncio_bridge import BridgeCancelled, run_aio

# rows bring ids of the driver's own kind already; those made here shall be no slower
ids.make_by(DriverUuid)

T = TypeVar("T")
Connection = Any
Unit = Callable[[Connection], Awaitable[T]]

APP_ROLE = "engine_app"

UNREACHABLE = (
    OSError,
    TimeoutError,
    trio.TooSlowError,
    BridgeCancelled,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # the server went away between two steps of the driver, which then complains of itself
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.QueryCanceledError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresIOError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TransactionRollbackError,
)

SESSION = {
    "timezone": "UTC",
    "default_transaction_isolation": "read committed",
    "engine.user_id": "engine",
    "idle_in_transaction_session_timeout": "8s",
}
"""What every session is set to, whatever the server's, the database's or the login's own defaults are.

An engine that is stopped in the middle of a transaction holds the lease's row in it: the server ends that before the
lease can be taken for silence, or no standby could ever take it. No transaction here waits for anything but the store.
``engine.user_id`` says who asks: the engine itself, which the policies of migration 0016 let see every row.
"""

_REQUEST = (
    "SELECT set_config('engine.user_id', $1, true), set_config('engine.account_ids', $2, true),"
    " set_config('statement_timeout', $3, true)"
)
_STATEMENT_S = 2.0
_RUN_S = 5.0

_CLEAN_UP_S = 2.0
_RESERVED = 1


async def in_transaction(connection: Connection, unit: Unit[T]) -> T:
    """Run *unit* in a transaction of *connection* (asyncio-flavoured).

    A rollback waits two seconds for the server and no longer: after a deadline or a cancel the server may
    be the one that hangs, and dropping the connection rolls back as well.
    """
    transaction = connection.transaction()
    try:
        await transaction.start()
        try:
            result = await unit(connection)
        except BaseException:
            try:
                async with asyncio.timeout(_CLEAN_UP_S):
                    await transaction.rollback()
            except (*UNREACHABLE, asyncpg.PostgresError, asyncio.CancelledError):
                connection.terminate()
            raise
        await transaction.commit()
    except asyncpg.InternalClientError:
        # the driver does not know any more where it stands with the server
        connection.terminate()
        raise
    return result


async def _alone(connection: Connection, unit: Unit[T]) -> T:
    """Run *unit*, which is one statement, with no more round trips than it needs; it is a transaction by itself."""
    try:
        return await unit(connection)
    except (asyncpg.PostgresError, EngineError):
        raise
    except BaseException:
        # cancelled or cut off amid the statement: nobody knows what the server still has to say on it
        connection.terminate()
        raise


def _encode_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


async def prepare_connection(connection: Connection) -> None:
    await connection.set_type_codec("jsonb", encoder=_encode_json, decoder=msgspec.json.decode, schema="pg_catalog")


async def _leave_as_it_is(_connection: Connection) -> None:
    """Take a connection back into the pool without asking the server.

    A unit leaves nothing behind: it is a transaction, what it sets is set for it alone, and the driver rolls back what
    is still open. The driver's own way asks for another round trip, one in four of all there are.
    """


class Database:
    """A pool of connections to one PostgreSQL database.

    *role*, when given, is set on every connection, so that the engine works with fewer rights than
    the login that migrates. One connection is kept for units that are marked ``reserved``.
    """

    def __init__(self, url: str, *, role: str | None = None, max_connections: int = 8) -> None:
        self._url = url
        self._role = role
        self._max = max_connections
        self._pool: Any = None
        self._free = trio.Semaphore(max(1, max_connections - _RESERVED))

    async def open(self, *, timeout_s: float = 10.0) -> None:
        """Connect. Raises StoreUnavailable with the driver's words when it cannot."""
        settings = {"application_name": "trading-engine", **SESSION}
        if self._role:
            settings["role"] = self._role

        async def connect() -> Any:
            return await asyncpg.create_pool(
                self._url,
                min_size=1,
                max_size=self._max,
                timeout=timeout_s,
                command_timeout=30,
                server_settings=settings,
                init=prepare_connection,
                reset=_leave_as_it_is,
            )

        try:
            self._pool = await run_aio(connect, timeout_s=timeout_s)
        except (*UNREACHABLE, asyncpg.PostgresError) as exc:
            raise StoreUnavailable(f"cannot connect to PostgreSQL: {exc or type(exc).__name__}") from exc

    async def run(self, unit: Unit[T], *, timeout_s: float = _RUN_S, shield: bool = False, reserved: bool = False) -> T:
        """Run *unit* in one transaction and return what it returns.

        *shield* keeps a cancel from making the commit's outcome doubtful; the deadline still holds, give or
        take the two seconds a rollback may need. *reserved* does not queue behind ordinary units, and is one
        statement without a transaction around it: for what must not starve when slow reads hold every connection
        or the loop has much to do (the lease).
        Raises StoreUnavailable when the server cannot be reached or is too slow: after a write the
        caller reads back by key before it decides anything.
        """
        if reserved:
            return await self._cross(unit, timeout_s=timeout_s, shield=shield, runs=_alone)
        deadline = trio.current_time() + timeout_s
        try:
            with trio.fail_after(timeout_s, shield=shield):
                await self._free.acquire()
        except trio.TooSlowError as exc:
            raise StoreUnavailable("PostgreSQL: every connection is busy") from exc
        try:
            left_s = max(0.0, deadline - trio.current_time())
            return await self._cross(unit, timeout_s=left_s, shield=shield, runs=in_transaction)
        finally:
            self._free.release()

    def for_request(self, users: Iterable[UUID] | None, accounts: Iterable[UUID] = ()) -> "Database":
        """Return the same store as a request may see it: only what *users* own, and *accounts*; None: all of it.

        The server itself keeps the rest apart (row-level security): a query that forgot its condition finds nothing.
        It also ends a statement of a request after two seconds, or after the deadline of a unit that asked for more
        than the usual one.
        """
        return _ForRequest(self, "engine" if users is None else ",".join(map(str, users)), ",".join(map(str, accounts)))

    async def _cross(
        self, unit: Unit[T], *, timeout_s: float, shield: bool, runs: Callable[[Connection, Unit[T]], Awaitable[T]]
    ) -> T:
        pool = self._pool
        if pool is None:
            raise StoreUnavailable("the database is not open")

        async def work() -> T:
            connection = await pool.acquire(timeout=timeout_s)
            try:
                return await runs(connection, unit)
            finally:
                await pool.release(connection, timeout=_CLEAN_UP_S)

        try:
            return await run_aio(work, timeout_s=timeout_s, shield=shield)
        except UNREACHABLE as exc:
            raise StoreUnavailable(f"PostgreSQL: {exc or type(exc).__name__}") from exc

    async def close(self, *, timeout_s: float = 5.0) -> None:
        """Give the connections back, politely for *timeout_s* seconds, then at once."""
        pool, self._pool = self._pool, None
        if pool is None:
            return

        async def shut() -> None:
            try:
                await asyncio.wait_for(pool.close(), timeout_s)
            except TimeoutError:
                pool.terminate()

        try:
            await run_aio(shut, timeout_s=timeout_s + 1, shield=True)
        except (*UNREACHABLE, asyncpg.PostgresError):
            pool.terminate()


class _ForRequest(Database):
    """A view of a store for one request; the pool stays the other's."""

    def __init__(self, store: Database, users: str, accounts: str) -> None:
        self._store = store
        self._seen = (users, accounts)

    async def run(self, unit: Unit[T], *, timeout_s: float = _RUN_S, shield: bool = False, reserved: bool = False) -> T:
        statement_s = _STATEMENT_S if timeout_s <= _RUN_S else timeout_s

        async def walled(connection: Connection) -> T:
            await connection.execute(_REQUEST, *self._seen, str(int(statement_s * 1000)))
            return await unit(connection)

        # two statements, and a request is never reserved for
        return await self._store.run(walled, timeout_s=timeout_s, shield=shield)

    def for_request(self, users: Iterable[UUID] | None, accounts: Iterable[UUID] = ()) -> Database:
        return self._store.for_request(users, accounts)

    async def open(self, *, timeout_s: float = 10.0) -> None:
        raise StoreUnavailable("a view of a store is not opened")

    async def close(self, *, timeout_s: float = 5.0) -> None:
        raise StoreUnavailable("a view of a store is not closed")
