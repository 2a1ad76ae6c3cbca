"""The journal's cursor in the ledger's own transaction, on a real PostgreSQL."""

from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.ledger_entry import LedgerEntry
from engine.errors import Fenced, StoreUnavailable
from engine.store import history, lease
from engine.store.database import APP_ROLE, Database
from engine.store.ledger import Batch, JournalCursor, LedgerRefused, LedgerStore, Write
from tests.support.ledger_rows import NOW, Trader, draft, sql

EPOCH = uuid4()


@pytest.fixture
async def trader(schema_url, aio):
    database = Database(schema_url, max_connections=1)
    await database.open()
    await database.run(lambda c: lease.take(c, holder="test", seen=None))
    await database.close()
    await sql(schema_url, history.CURSOR, EPOCH, "5-0", NOW)
    return await Trader().seed(schema_url)


@asynccontextmanager
async def store(url):
    opened = LedgerStore(url, role=APP_ROLE)
    try:
        yield opened
    finally:
        await opened.close()


async def cursor(url):
    return (await sql(url, "SELECT position FROM journal_cursor"))[0][0]


def moved(position, epoch=EPOCH):
    return JournalCursor(epoch=epoch, position=position)


@pytest.mark.parametrize("writes", [(), (Write(sql="SELECT 1"),)])
async def test_cursor_moves_with_the_intents_of_its_batch(trader, schema_url, writes):
    intent = trader.intent()
    async with store(schema_url) as ledger:
        await ledger.commit(Batch(new_intents=[intent], cursor=moved("6-0"), writes=writes), epoch=1, timeout_s=5)
        assert await cursor(schema_url) == "6-0"
        with pytest.raises(LedgerRefused):
            await ledger.commit(Batch(new_intents=[intent], cursor=moved("7-0"), writes=writes), epoch=1, timeout_s=5)
    assert await cursor(schema_url) == "6-0", "what is refused moves nothing"


@pytest.mark.parametrize(
    ("position", "stands"), [("5-1", "5-1"), ("10-0", "10-0"), ("4-99", "5-0"), ("5-0", "5-0"), ("0-0", "5-0")]
)
async def test_cursor_never_goes_back(trader, schema_url, position, stands):
    async with store(schema_url) as ledger:
        await ledger.commit(Batch(cursor=moved(position)), epoch=1, timeout_s=5)
    assert await cursor(schema_url) == stands


async def test_cursor_of_another_journal_and_of_a_lost_lease_is_left_alone(trader, schema_url):
    async with store(schema_url) as ledger:
        await ledger.commit(Batch(cursor=moved("9-0", uuid4())), epoch=1, timeout_s=5)
        with pytest.raises(Fenced):
            await ledger.commit(Batch(cursor=moved("9-0")), epoch=2, timeout_s=5)
    assert await cursor(schema_url) == "5-0"


class Source:
    """Says that every batch takes the cursor to the next position; notes what is on disk."""

    def __init__(self):
        self.handed, self.on_disk = 5, []

    def ahead(self, _entries):
        self.handed += 1
        return moved(f"{self.handed}-0")

    def reached(self, cursor):
        self.on_disk.append(cursor.position)


class LosesAnswers(LedgerStore):
    """Commits the first batch and loses the answer."""

    lost = False

    async def commit(self, batch, **options):
        await super().commit(batch, **options)
        if not self.lost:
            self.lost = True
            raise StoreUnavailable("the answer was lost")


async def test_cursor_of_a_commit_without_an_answer_is_known_to_be_on_disk(trader, schema_url):
    writer, source = AuditWriter(LosesAnswers(schema_url, role=APP_ROLE), epoch=1), Source()
    writer.journal = source
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await writer.write(LedgerEntry(new_intents=(trader.intent(),), audit=(draft(),)))
        assert (source.on_disk, await cursor(schema_url)) == (["6-0"], "6-0")
        await writer.write(LedgerEntry())
        assert (source.on_disk, await cursor(schema_url)) == (["6-0", "7-0"], "7-0")
        nursery.cancel_scope.cancel()


async def test_cursor_is_asked_for_anew_when_refused_entries_are_tried_singly(trader, schema_url):
    asked = []

    class Singly(Source):
        def ahead(self, entries):
            asked.append(len(entries))
            return super().ahead(entries)

    writer = AuditWriter(LedgerStore(schema_url, role=APP_ROLE), epoch=1)
    writer.journal = Singly()
    good, bad = trader.intent(), trader.intent(source_id=uuid4())
    failures = []
    writer.append(LedgerEntry(new_intents=(good,), audit=(draft(),)))
    writer.append(LedgerEntry(new_intents=(bad,), audit=(draft(),), on_fail=failures.append))
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        assert await writer.barrier()
        nursery.cancel_scope.cancel()
    assert (asked, len(failures)) == ([2, 1, 1], 1)
    assert await cursor(schema_url) == writer.journal.on_disk[-1] == "7-0"
