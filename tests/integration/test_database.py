"""The pool on a real PostgreSQL: cancels, deadlines, dead backends, and a server that hangs."""

import asyncio
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, quote, urlsplit

import asyncpg
import pytest
import trio
import trio.testing

from engine.errors import StoreUnavailable
from engine.store.checks import DatabaseSettings, database_settings
from engine.store.database import APP_ROLE, Database
from engine.store.migrate import latest_version
from tests.support.cut_proxy import cut_proxy
from tests.support.ledger_rows import sql

STATES = "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'trading-engine'"


@asynccontextmanager
async def opened(url, **options):
    database = Database(url, **options)
    await database.open()
    try:
        yield database
    finally:
        await database.close()


def query(statement, *args):
    return lambda connection: connection.fetchval(statement, *args)


@pytest.fixture
async def proxied(database_url, tmp_path):
    parts = urlsplit(database_url)
    options = parse_qs(parts.query)
    folder = quote(str(tmp_path), safe="/")
    url = f"postgresql://{parts.username}@{parts.path}?host={folder}&port=5432&sslmode=disable"
    async with cut_proxy(tmp_path / ".s.PGSQL.5432", f"{options['host'][0]}/.s.PGSQL.{options['port'][0]}") as proxy:
        yield url, proxy


async def test_cancelled_units_leave_no_transaction_open(database_url, aio):
    await sql(database_url, "CREATE TABLE t (n int)")
    async with opened(database_url, max_connections=3) as database:
        for number in range(20):
            began = trio.Event()
            token = trio.lowlevel.current_trio_token()

            async def unit(connection, began=began, token=token, number=number):
                await connection.execute("INSERT INTO t VALUES ($1)", number)
                token.run_sync_soon(began.set)
                await connection.execute("SELECT pg_sleep(30)")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(database.run, unit)
                await began.wait()
                nursery.cancel_scope.cancel()
        with trio.fail_after(20):  # a cancelled statement may end a moment later; a leaked transaction never does
            while {state for (state,) in await sql(database_url, STATES)} - {"idle"}:
                await trio.sleep(0.05)
        async with trio.open_nursery() as nursery:
            for _ in range(6):
                nursery.start_soon(database.run, query("SELECT 1"))
    assert await sql(database_url, "SELECT count(*) FROM t") == [(0,)]


async def test_shielded_unit_commits_although_cancelled(database_url, aio):
    await sql(database_url, "CREATE TABLE t (n int)")
    async with opened(database_url) as database:
        with trio.CancelScope() as scope:
            scope.cancel()
            await database.run(query("INSERT INTO t VALUES (1) RETURNING n"), shield=True)
    assert await sql(database_url, "SELECT n FROM t") == [(1,)]


@pytest.mark.parametrize("shield", [False, True])
async def test_unit_past_its_deadline_is_rolled_back(database_url, aio, shield):
    await sql(database_url, "CREATE TABLE t (n int)")

    async def unit(connection):
        await connection.execute("INSERT INTO t VALUES (1)")
        await connection.execute("SELECT pg_sleep(30)")

    async with opened(database_url) as database:
        with pytest.raises(StoreUnavailable):
            await database.run(unit, timeout_s=0.1, shield=shield)
        assert await database.run(query("SELECT count(*) FROM t")) == 0


async def test_server_that_hangs_holds_a_unit_for_its_deadline_and_a_short_clean_up(aio, proxied, monkeypatch):
    monkeypatch.setattr("engine.store.database._CLEAN_UP_S", 0.1)
    url, proxy = proxied
    async with opened(url) as database:

        async def unit(connection):
            await connection.execute("SELECT 1")
            proxy.stall()
            await connection.execute("SELECT 2")

        # far below the 30 s that a rollback without a bound of its own would wait
        with trio.move_on_after(10) as bound, pytest.raises(StoreUnavailable):
            await database.run(unit, timeout_s=0.1, shield=True)
        assert not bound.cancel_called
        proxy.flow()
        assert await database.run(query("SELECT 3")) == 3


async def test_killed_backend_is_store_unavailable_and_the_pool_heals(database_url, aio):
    async with opened(database_url, max_connections=1) as database:
        pid = await database.run(query("SELECT pg_backend_pid()"))

        async def end_backend():
            other = await asyncpg.connect(database_url)
            try:
                await other.fetchval("SELECT pg_terminate_backend($1)", pid)
            finally:
                await other.close()

        async def unit(connection):
            await asyncio.gather(connection.execute("SELECT pg_sleep(30)"), end_backend())

        with pytest.raises(StoreUnavailable):
            await database.run(unit)
        assert await database.run(query("SELECT 1")) == 1


async def test_pool_heals_after_the_server_was_away(aio, proxied):
    url, proxy = proxied
    async with opened(url, max_connections=3) as database:
        await database.run(query("SELECT 1"))
        proxy.down()
        with pytest.raises(StoreUnavailable):
            await database.run(query("SELECT 1"), timeout_s=1)
        await proxy.up()
        assert await database.run(query("SELECT 1")) == 1


@pytest.mark.parametrize("reserved", [False, True])
async def test_driver_that_has_lost_its_place_is_a_store_that_is_away_and_gets_another_connection(
    database_url, aio, reserved
):
    async def pid(connection):
        return await connection.fetchval("SELECT pg_backend_pid()")

    async def lost(connection):
        # what the driver says when the server dies between two of its steps
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")

    async with opened(database_url, max_connections=1) as database:
        before = await database.run(pid, reserved=reserved)
        with pytest.raises(StoreUnavailable, match="another operation"):
            await database.run(lost, reserved=reserved)
        assert await database.run(pid, reserved=reserved) != before


async def test_reserved_unit_does_not_queue_behind_slow_reads(database_url, aio):
    async with opened(database_url, max_connections=3) as database, trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(lambda: database.run(query("SELECT pg_sleep(20)"), timeout_s=30))
        await trio.testing.wait_all_tasks_blocked(0.05)
        with pytest.raises(StoreUnavailable, match="busy"):
            await database.run(query("SELECT 1"), timeout_s=0.05)
        assert await database.run(query("SELECT 1"), timeout_s=5, reserved=True) == 1
        nursery.cancel_scope.cancel()


async def test_error_of_a_unit_passes_unchanged_and_rolls_back(database_url, aio):
    await sql(database_url, "CREATE TABLE t (n int)")

    async def unit(connection):
        await connection.execute("INSERT INTO t VALUES (1)")
        raise LookupError("mine")

    async with opened(database_url) as database:
        with pytest.raises(LookupError, match="mine"):
            await database.run(unit)
        assert await database.run(query("SELECT count(*) FROM t")) == 0


async def test_database_not_open_and_server_absent_are_store_unavailable(aio, tmp_path):
    database = Database(f"postgresql://u@/d?host={tmp_path}&port=5432")
    with pytest.raises(StoreUnavailable, match="not open"):
        await database.run(query("SELECT 1"))
    with pytest.raises(StoreUnavailable, match="cannot connect"):
        await database.open(timeout_s=2)


async def test_units_after_close_are_store_unavailable(database_url, aio):
    async with opened(database_url) as database:
        pass
    with pytest.raises(StoreUnavailable):
        await database.run(query("SELECT 1"))
    await database.close()


async def test_close_does_not_wait_for_a_unit_that_hangs(database_url, aio):
    database = Database(database_url)
    await database.open()
    async with trio.open_nursery() as nursery:

        async def hang():
            with pytest.raises(StoreUnavailable):
                await database.run(query("SELECT pg_sleep(60)"), timeout_s=100)

        nursery.start_soon(hang)
        await trio.testing.wait_all_tasks_blocked(0.05)
        with trio.fail_after(10):
            await database.close(timeout_s=0.1)


async def test_session_settings_do_not_depend_on_the_databases_own(database_url, aio, servers):
    name = urlsplit(database_url).path.lstrip("/")
    servers.sql(f"ALTER DATABASE \"{name}\" SET default_transaction_isolation = 'serializable'")
    servers.sql(f"ALTER DATABASE \"{name}\" SET timezone = 'Asia/Kolkata'")
    async with opened(database_url) as database:
        assert await database.run(query("SHOW transaction_isolation")) == "read committed"
        assert await database.run(query("SHOW timezone")) == "UTC"


async def test_json_comes_back_as_it_went(database_url, aio):
    value = {"a": [1, None, "é"], "b": {"c": True}}
    async with opened(database_url) as database:
        assert await database.run(query("SELECT $1::jsonb", value)) == value


async def test_settings_of_the_server_are_read(schema_url, aio):
    async with opened(schema_url) as database:
        found = await database.run(database_settings)
        # reading them leaves the session its own role
        assert await database.run(query("SELECT current_user")) != APP_ROLE
    assert found.problems() == []
    assert (found.schema_version, found.has_role) == (latest_version(), True)
    assert found.version_number >= 180000


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"version_number": 110005}, "version 11"),
        ({"fsync": "off"}, "set fsync = on"),
        ({"synchronous_commit": "off"}, "set synchronous_commit = on"),
        ({"full_page_writes": "off"}, "set full_page_writes = on"),
    ],
)
def test_settings_that_can_lose_orders_are_problems(change, says):
    good = {
        "version_number": 180000,
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "schema_version": 2,
        "has_role": True,
    }
    assert DatabaseSettings(**good).problems() == []
    (problem,) = DatabaseSettings(**(good | change)).problems()
    assert says in problem
