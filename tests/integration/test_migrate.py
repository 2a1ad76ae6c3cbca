"""Migrations on a real PostgreSQL: once, in order, all or nothing, and the rights they leave behind."""

import asyncio
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import pytest
import trio

from engine.boot import open_database
from engine.clock import SystemClock
from engine.domain.enums import Role
from engine.errors import StartupError, StoreUnavailable
from engine.runtime.asyncio_bridge import run_aio
from engine.store import users
from engine.store.checks import database_settings
from engine.store.database import APP_ROLE, Database
from engine.store.migrate import applied, available, latest_version, migrate, migrations_folder, what_breaks
from tests.support.ledger_rows import sql

DATA = Path(__file__).parent / "migrations"


@pytest.fixture
def folder(tmp_path):
    for path in migrations_folder().glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text())
    return tmp_path


def add(folder, number, text, name="add_thing"):
    (folder / f"{number:04d}_{name}.sql").write_text(text)


def as_login(url, login):
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{login}@"))


async def tables(url):
    found = await sql(
        url,
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition ORDER BY 1",
    )
    return [name for (name,) in found]


async def test_migrations_are_applied_once_and_in_order(database_url, aio):
    done = await migrate(database_url)
    assert [m.version for m in done] == list(range(1, latest_version() + 1))
    assert [(a.version, a.checksum) for a in await applied(database_url)] == [(m.version, m.checksum) for m in done]
    assert await migrate(database_url) == []


async def test_dry_run_tells_and_changes_nothing(database_url, aio):
    assert len(await migrate(database_url, dry_run=True)) == latest_version()
    assert await tables(database_url) == []
    assert await applied(database_url) == []


async def test_every_migration_runs_on_a_database_in_use(database_url, aio, tmp_path):
    for migration in available():
        (tmp_path / f"{migration.name}.sql").write_text(migration.sql)
        assert [m.version for m in await migrate(database_url, folder=tmp_path)] == [migration.version]
        data = DATA / f"{migration.version:04d}_data.sql"
        assert data.exists(), f"{data.name} is missing: rows for the tables of {migration.name}"
        await execute(database_url, data.read_text())
    empty = [name for name in await tables(database_url) if not await sql(database_url, f'SELECT 1 FROM "{name}"')]
    assert empty == []


async def execute(url, text):
    async def unit():
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(text)
        finally:
            await connection.close()

    await run_aio(unit, timeout_s=20)


async def test_file_changed_after_it_was_applied_is_refused(database_url, aio, folder):
    await migrate(database_url, folder=folder)
    path = sorted(folder.glob("0001*"))[0]
    path.write_text(path.read_text() + "-- a comment\n")
    add(folder, latest_version() + 1, "CREATE TABLE thing ()")
    with pytest.raises(StartupError, match="changed after it was applied"):
        await migrate(database_url, folder=folder)
    assert "thing" not in await tables(database_url)


async def test_older_engine_works_on_a_schema_that_was_only_expanded(database_url, aio, folder):
    newer = latest_version() + 1
    text = (
        "CREATE TABLE thing (id int); ALTER TABLE users ADD COLUMN thing text, ADD COLUMN size int NOT NULL DEFAULT 0"
    )
    add(folder, newer, text, name="expand_users")
    await migrate(database_url, folder=folder)
    # the engine of before is started again: it takes the schema as it is, and signs people up as it always did
    assert await migrate(database_url) == []
    database, version, _ = await open_database(database_url)
    user = UUID(int=5)
    try:
        made = await database.run(
            lambda c: users.insert_user(
                c, user_id=user, email="a@b", name="A", role=Role.ADMIN, password_hash="h", now=SystemClock().now()
            )
        )
    finally:
        await database.close()
    assert (made.id, version) == (user, newer)
    # and the newer one after that
    assert await migrate(database_url, folder=folder) == []


async def test_older_engine_refuses_a_schema_from_which_something_was_taken(database_url, aio, folder):
    add(folder, latest_version() + 1, "CREATE TABLE thing ()", name="expand_thing")
    add(folder, latest_version() + 2, "ALTER TABLE users DROP COLUMN name", name="drop_names")
    await migrate(database_url, folder=folder)
    with pytest.raises(StartupError, match=r"drop_names did more than add: start the newer engine"):
        await migrate(database_url)


@pytest.mark.parametrize(
    ("sql", "breaks"),
    [
        ("CREATE TABLE t (id int NOT NULL); CREATE INDEX ON t (id); GRANT SELECT ON t TO engine_app", False),
        ("ALTER TABLE t ADD COLUMN a text, ADD COLUMN b int NOT NULL DEFAULT 0 -- no DROP here", False),
        ("ALTER TABLE t ADD COLUMN a text NOT NULL", True),
        ("ALTER TABLE t ADD COLUMN b int NOT NULL DEFAULT 0, ADD COLUMN a text NOT NULL", True),
        ("ALTER TABLE t DROP COLUMN a", True),
        ("ALTER TABLE t RENAME a TO b", True),
        ("ALTER TABLE t ALTER COLUMN a SET NOT NULL", True),
        ("UPDATE t SET a = 1", True),
        ("CREATE UNIQUE INDEX ON t (a)", True),
        ("REVOKE ALL ON t FROM engine_app", True),
    ],
)
def test_what_breaks_an_older_engine_is_told_from_what_only_adds(sql, breaks):
    assert bool(what_breaks(sql)) is breaks


def test_migrations_that_say_they_only_expand_do():
    broken = {m.name: what_breaks(m.sql) for m in available() if "_expand_" in m.name}
    assert not {name: found for name, found in broken.items() if found}


async def test_newer_schema_is_refused(database_url, aio, folder):
    add(folder, latest_version() + 1, "CREATE TABLE thing ()")
    await migrate(database_url, folder=folder)
    with pytest.raises(StartupError, match=rf"has schema {latest_version() + 1} .*start the newer engine"):
        await migrate(database_url)


async def test_failing_migration_is_rolled_back_whole_and_earlier_ones_stay(database_url, aio, folder):
    add(folder, latest_version() + 1, "CREATE TABLE thing (); SELECT 1 / 0;")
    with pytest.raises(StartupError, match="rolled back: division by zero"):
        await migrate(database_url, folder=folder)
    assert "thing" not in await tables(database_url)
    assert len(await applied(database_url)) == latest_version()
    add(folder, latest_version() + 1, "CREATE TABLE thing ()")
    assert [m.version for m in await migrate(database_url, folder=folder)] == [latest_version() + 1]


async def test_programs_that_migrate_at_once_apply_each_file_once(database_url, aio):
    results = []

    async def one():
        results.append(len(await migrate(database_url)))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
    assert sorted(results) == [0, 0, 0, 0, latest_version()]


async def test_databases_of_one_server_migrate_at_once(servers, aio):
    names = [f"twin_{n}" for n in range(6)]
    urls = [servers.create_database(name) for name in names]
    try:
        servers.sql("CREATE ROLE twin_login LOGIN SUPERUSER")
        async with trio.open_nursery() as nursery:
            for url in urls:
                # a login without the role yet: all of them grant it at the same moment
                nursery.start_soon(migrate, as_login(url, "twin_login"))
        for url in urls:
            assert len(await applied(url)) == latest_version()
    finally:
        for name in names:
            servers.drop_database(name)
        servers.sql("DROP ROLE twin_login")


@pytest.mark.parametrize("member", [False, True])
async def test_role_granted_by_another_database_at_the_same_moment_is_waited_for(servers, aio, member):
    servers.sql("CREATE ROLE twin_login LOGIN SUPERUSER")
    url = as_login(servers.create_database("twin"), "twin_login")
    if member:
        servers.sql(f"GRANT {APP_ROLE} TO twin_login")

    async def grant_while_migrating():
        other = await asyncpg.connect(servers.database_url("postgres"))
        try:
            async with other.transaction():
                await other.execute(f"GRANT {APP_ROLE} TO twin_login WITH ADMIN OPTION")
                nursery.start_soon(migrate, url)
                for _ in range(100):
                    # it waits for this transaction, or has nothing left to grant
                    if await other.fetchval("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
                        break
                    await asyncio.sleep(0.01)
        finally:
            await other.close()

    try:
        async with trio.open_nursery() as nursery:
            await run_aio(grant_while_migrating, timeout_s=20)
        assert len(await applied(url)) == latest_version()
    finally:
        servers.drop_database("twin")
        servers.sql("DROP ROLE twin_login")


async def test_kill_in_the_middle_leaves_the_old_schema_or_the_new(database_url, aio, folder):
    add(folder, latest_version() + 1, "CREATE TABLE thing (); SELECT pg_sleep(30); CREATE TABLE other ();")
    program = (
        "import trio, sys, pathlib\n"
        "from engine.runtime.asyncio_bridge import open_aio\n"
        "from engine.store.migrate import migrate\n"
        "async def main():\n"
        "    async with open_aio(print):\n"
        "        await migrate(sys.argv[1], folder=pathlib.Path(sys.argv[2]))\n"
        "trio.run(main)\n"
    )
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", program, database_url, str(folder)])
    try:
        with trio.fail_after(20):
            while not await sql(
                database_url,
                "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()",
            ):
                await trio.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    assert "thing" not in await tables(database_url)
    await sql(database_url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
    add(folder, latest_version() + 1, "CREATE TABLE thing ()")
    await migrate(database_url, folder=folder)
    assert "thing" in await tables(database_url)


async def test_migration_beyond_its_deadline_is_store_unavailable(database_url, aio, folder):
    add(folder, latest_version() + 1, "SELECT pg_sleep(30)")
    with pytest.raises(StoreUnavailable):
        await migrate(database_url, folder=folder, timeout_s=1)


@pytest.mark.parametrize("change", ["absent server", "absent database"])
async def test_what_cannot_be_reached_is_store_unavailable(database_url, aio, tmp_path, change):
    parts = urlsplit(database_url)
    url = (
        parts._replace(path="/nowhere").geturl()
        if change == "absent database"
        else f"postgresql://u@/d?host={tmp_path}"
    )
    for call in (migrate, applied):
        with pytest.raises(StoreUnavailable, match="cannot connect"):
            await call(url)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["0001_a.sql", "0003_b.sql"], "without a gap"),
        (["0001_a.sql", "0001_b.sql"], "two migrations have the number 0001"),
        (["first.sql"], "is not named NNNN_verb_noun.sql"),
    ],
)
def test_bad_file_names_are_refused(tmp_path, names, says):
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(StartupError, match=says):
        available(tmp_path)


# rights


AS_APP = f"SET ROLE {APP_ROLE}; "


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_logs SET actor = 'x'",
        "DELETE FROM audit_logs",
        "TRUNCATE audit_logs",
        "ALTER TABLE audit_logs DISABLE TRIGGER ALL",
        "DROP TABLE audit_logs",
        "DROP TRIGGER audit_logs_no_change ON audit_logs",
        "DROP TRIGGER audit_logs_no_change ON audit_logs_0",
        "CREATE OR REPLACE FUNCTION audit_logs_append_only() RETURNS trigger LANGUAGE plpgsql"
        " AS 'BEGIN RETURN NEW; END'",
        "ALTER TABLE orders ADD COLUMN x int",
        "DROP TABLE orders",
        "DELETE FROM orders",
        "TRUNCATE orders CASCADE",
        "UPDATE fills SET quantity = 1",
        "DELETE FROM order_events",
        "DELETE FROM engine_lease",
        "DELETE FROM journal_cursor",
        "DELETE FROM system_flags",
        "DELETE FROM schema_migrations",
        "UPDATE schema_migrations SET checksum = 'x'",
        "INSERT INTO schema_migrations (version, name, checksum) VALUES (99, 'x', 'x')",
        "CREATE TABLE mine ()",
    ],
)
async def test_engine_role_is_refused(schema_url, aio, statement):
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await execute(schema_url, AS_APP + statement)


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_logs SET actor = 'x'", "DELETE FROM audit_logs", "TRUNCATE audit_logs"]
)
async def test_trigger_stops_the_owner_too(schema_url, aio, statement):
    await execute(schema_url, "INSERT INTO audit_logs VALUES (1, now(), 'a', 'A', 's', '{}', '\\x00', '\\x01')")
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await execute(schema_url, statement)


async def settings_of(url):
    database = Database(url, max_connections=1)
    await database.open()
    try:
        return await database.run(database_settings)
    finally:
        await database.close()


async def test_login_without_createrole_works_as_itself(servers, aio):
    servers.sql("CREATE ROLE plain_login LOGIN")
    url = as_login(servers.create_database("plain"), "plain_login")
    servers.sql("ALTER DATABASE plain OWNER TO plain_login")
    try:
        assert len(await migrate(url)) == latest_version()
        # the role exists on this server, but it was not this login's to grant
        assert not (await settings_of(url)).has_role
    finally:
        servers.drop_database("plain")
        servers.sql("DROP ROLE plain_login")


async def test_login_with_createrole_gives_itself_the_role(database_url, servers, aio):
    servers.sql("CREATE ROLE making_login LOGIN CREATEROLE")
    url = as_login(servers.create_database("making"), "making_login")
    servers.sql("ALTER DATABASE making OWNER TO making_login")
    servers.sql(f"GRANT {APP_ROLE} TO making_login WITH ADMIN TRUE, SET FALSE, INHERIT FALSE")
    try:
        await migrate(url)
        assert (await settings_of(url)).has_role
        opened = Database(url, role=APP_ROLE)
        await opened.open()
        assert await opened.run(lambda c: c.fetchval("SELECT current_user")) == APP_ROLE
        await opened.close()
    finally:
        servers.drop_database("making")
        servers.sql("DROP ROLE making_login")


@pytest.mark.parametrize("lacks", ["SET", "rights on the tables"])
async def test_role_that_the_login_cannot_use_is_not_used(schema_url, servers, aio, lacks):
    servers.sql("CREATE ROLE odd_login LOGIN")
    name = urlsplit(schema_url).path.lstrip("/")
    try:
        servers.sql("GRANT SELECT ON schema_migrations TO odd_login", name)
        if lacks == "SET":
            servers.sql(f"GRANT {APP_ROLE} TO odd_login WITH SET FALSE")
        else:
            servers.sql(f"GRANT {APP_ROLE} TO odd_login")
            servers.sql(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {APP_ROLE}", name)
        assert not (await settings_of(as_login(schema_url, "odd_login"))).has_role
    finally:
        servers.sql("DROP OWNED BY odd_login", name)
        servers.sql("DROP ROLE odd_login")
