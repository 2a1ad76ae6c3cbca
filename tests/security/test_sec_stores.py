"""Attacks on the stores: as the engine, with less rights than the owner and no way back up; by many writers at once.

SEC-061 and SEC-083.
"""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import redis
import trio

from engine import boot
from engine.actors.audit_writer import AuditWriter
from engine.domain.audit import AuditDraft
from engine.embedded.valkey import ENGINE_USER
from engine.journal.address import parse
from engine.journal.store import JournalStore
from engine.journal.writer import JournalWriter
from engine.runtime.asyncio_bridge import open_aio
from engine.store import audit_append, lease
from engine.store.checks import owns_schema
from engine.store.database import APP_ROLE, Database
from engine.store.ledger import LedgerStore
from engine.store.migrate import migrate
from tests.support.ledger_rows import audit_chain
from tests.support.servers import TestServers

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
LOGIN = f"low_{uuid4().hex[:8]}"


@pytest.fixture
async def aio() -> AsyncIterator[None]:
    async with open_aio(lambda _report: None):
        yield


@pytest.fixture
def low_url(servers: TestServers, database_url: str) -> Iterator[str]:
    """The database by a login that is granted the engine's role and nothing else."""
    make = f"CREATE ROLE {APP_ROLE} NOLOGIN"
    servers.sql(f"DO $$ BEGIN {make}; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    servers.sql(f"CREATE ROLE {LOGIN} LOGIN")
    servers.sql(f"GRANT {APP_ROLE} TO {LOGIN}")
    yield database_url.replace("engine_owner@", f"{LOGIN}@")
    servers.sql(f"DROP ROLE {LOGIN}")


@pytest.fixture
async def database(low_url: str, database_url: str, aio: Any) -> Any:
    opened, _, has_role = await boot.open_database(low_url, owner_url=database_url)
    assert has_role
    yield opened
    await opened.close()


UP = ("RESET ROLE", "SET ROLE NONE", "SET SESSION AUTHORIZATION DEFAULT", "SET ROLE engine_owner")
ATTACKS = (
    "DELETE FROM audit_logs",
    "UPDATE audit_logs SET actor = 'me'",
    "TRUNCATE audit_logs",
    "ALTER TABLE audit_logs DISABLE TRIGGER ALL",
    "DROP TABLE audit_logs",
    "CREATE TABLE mine (a int)",
    "DELETE FROM data_keys",
    "DELETE FROM data_key_wraps",
    "ALTER ROLE engine_app SUPERUSER",
    "SELECT pg_read_file('/etc/passwd')",
    "COPY audit_logs TO PROGRAM 'cat'",
)


async def test_sec_061_engines_login_climbs_to_no_other_rights(database: Database, database_url: str) -> None:
    for up in UP:
        for attack in ATTACKS:

            async def unit(connection: Any, up: str = up, attack: str = attack) -> None:
                await connection.execute(up)
                await connection.execute(attack)

            with pytest.raises(Exception, match=r"permission denied|must be owner|only roles with"):
                await database.run(unit)
    assert not await database.run(owns_schema)
    # what `engine doctor` tells of a login that could climb
    owner = Database(database_url, role=APP_ROLE, max_connections=1)
    await owner.open()
    assert await owner.run(owns_schema)
    await owner.close()


async def test_sec_083_sixty_four_writers_at_once_leave_one_chain_without_a_gap(database_url: str, aio: Any) -> None:
    await migrate(database_url)
    database = Database(database_url)
    await database.open()
    assert await database.run(lambda c: lease.take(c, holder="t", seen=None)) == 1
    ledger = AuditWriter(LedgerStore(database_url, role=APP_ROLE), epoch=1)

    def a_draft(name: str) -> AuditDraft:
        return AuditDraft(at=NOW, actor="system", action="RACED", subject=name)

    async with trio.open_nursery() as running:
        await running.start(ledger.run)
        async with trio.open_nursery() as writers:
            for number in range(64):
                writers.start_soon(audit_append.append_beside_engine, database, a_draft(f"command:{number}"))
                ledger.record(a_draft(f"engine:{number}"))
                await trio.sleep(0.001)
        assert await ledger.barrier(timeout_s=20)
        running.cancel_scope.cancel()
    await database.close()
    records = await audit_chain(database_url)
    assert [record.seq for record in records] == list(range(1, 129))
    assert len({record.subject for record in records}) == 128


@pytest.fixture
def engine_redis_url(servers: TestServers) -> str:
    """The embedded Valkey by the user that engines log in as."""
    return servers.redis_url.replace("unix://", f"unix://{ENGINE_USER}:{ENGINE_USER}@") + "?db=9"


@pytest.mark.parametrize(
    "attack",
    [
        "FLUSHALL",
        "FLUSHDB",
        "CONFIG SET appendonly no",
        "CONFIG SET dir /tmp",
        "CONFIG RESETSTAT",
        "SHUTDOWN NOSAVE",
        "SAVE",
        "REPLICAOF 127.0.0.1 1",
        "ACL SETUSER engine +@all",
        "MODULE LIST",
        "KEYS *",
        "MONITOR",
        "SWAPDB 0 1",
        "EVAL return{redis.call('FLUSHALL')} 0",
    ],
)
def test_sec_061_engines_user_can_neither_empty_nor_set_up_the_journals_server(
    engine_redis_url: str, attack: str
) -> None:
    client: Any = redis.Redis.from_url(engine_redis_url)
    try:
        client.set("kept", "1")
        with pytest.raises(redis.exceptions.ResponseError, match=r"(?i)permission|can't run this command"):
            client.execute_command(*attack.split(" "))
        assert client.get("kept") == b"1"
        client.delete("kept")
    finally:
        client.close()


async def test_sec_061_journal_works_as_that_user(engine_redis_url: str, aio: Any) -> None:
    store = JournalStore(engine_redis_url)
    epoch = str(uuid4())
    settings = await store.settings()
    assert settings.problems() == []
    assert settings.appendfsync == "always"
    assert await store.claim(epoch, 1)
    await store.set_epoch(epoch)
    assert await store.epoch() == epoch
    assert await store.last_position(epoch) is None
    assert JournalWriter(parse(engine_redis_url), epoch=epoch, ttl_s=60, fence=1)
