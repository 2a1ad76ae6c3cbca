"""The journal under two leases: what an engine that leads no more has in hand does not come into it."""

from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
import trio

from engine import boot
from engine.clock import SystemClock
from engine.errors import Fenced
from engine.journal import keys
from engine.journal.address import parse
from engine.journal.store import JournalStore
from engine.journal.writer import JournalWriter
from engine.store import lease
from engine.store.database import Database
from tests.support.valkey import OwnValkey


@pytest.fixture
def own(tmp_path):
    with OwnValkey(tmp_path) as server:
        yield server


@pytest.fixture
async def database(schema_url, aio):
    opened = Database(schema_url)
    await opened.open()
    yield opened
    await opened.close()


@asynccontextmanager
async def writing(own, epoch, fence):
    writer = JournalWriter(parse(own.url), epoch=str(epoch), ttl_s=60, fence=fence)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        yield writer
        nursery.cancel_scope.cancel()


async def until(look):
    with trio.fail_after(10):
        while not look():
            await trio.sleep(0.005)


async def append(writer, key):
    answers = []
    writer.append(key, b"entry", answers.append)
    await until(lambda: answers)
    return answers[0]


def take(database, name):
    async def unit(connection):
        return await lease.take(connection, holder=name, seen=await lease.read(connection))

    return database.run(unit)


def place(database, own, epoch):
    return boot.journal_place(database, JournalStore(own.url), clock=SystemClock(), lease_epoch=epoch)


def entries(own, epoch):
    with own.client() as client:
        return client.xlen(keys.stream(str(epoch)))


async def test_writer_of_an_earlier_lease_appends_nothing_once_the_next_has_claimed(database, own):
    assert await take(database, "a") == 1
    found = await place(database, own, 1)
    async with writing(own, found.epoch, 1) as old:
        await until(lambda: old.available)
        assert await append(old, "before") is not None
        assert await take(database, "b") == 2
        again = await place(database, own, 2)
        assert (again.epoch, again.was_reset) == (found.epoch, False)
        # what it has in hand between two looks at the name
        assert await append(old, "after") is None
        await until(lambda: not old.available)
        async with writing(own, again.epoch, 2) as new:
            await until(lambda: new.available)
            assert await append(new, "of the next") is not None
    assert entries(own, found.epoch) == 2


async def test_engine_that_was_overtaken_while_it_started_does_not_claim(database, own):
    assert await take(database, "a") == 1
    assert await take(database, "b") == 2
    found = await place(database, own, 2)
    with pytest.raises(Fenced):
        await place(database, own, 1)
    with own.client() as client:
        assert client.get(keys.EPOCH).decode() == keys.name(str(found.epoch), 2)


async def test_ledger_out_of_a_backup_claims_a_journal_that_later_leases_wrote(database, own):
    journal = uuid4()
    with own.client() as client:
        client.set(keys.EPOCH, keys.name(str(journal), 57))
    assert await take(database, "a") == 1
    found = await place(database, own, 1)
    async with writing(own, found.epoch, 1) as writer:
        await until(lambda: writer.available)
        assert await append(writer, "one") is not None


async def test_wiped_server_that_an_earlier_lease_named_first_is_the_leaders(own):
    journal = str(uuid4())
    async with writing(own, journal, 8) as writer:
        await until(lambda: writer.available)
        with own.client() as client:
            client.flushall()
            client.set(keys.EPOCH, keys.name(journal, 7))
        assert await append(writer, "lost") is None
        await until(lambda: writer.available)
        assert await append(writer, "kept") is not None
        with own.client() as client:
            assert client.get(keys.EPOCH).decode() == keys.name(journal, 8)


@pytest.mark.parametrize(
    ("name", "by", "expected"),
    [("j:1", "j:2", True), ("j", "j:1", True), ("j:2", "j:2", False), ("j:3", "j:2", False), ("k:1", "j:2", False)],
)
def test_name_is_superseded_by_the_same_journals_under_a_later_lease(name, by, expected):
    assert keys.is_superseded(name, by=by) is expected
