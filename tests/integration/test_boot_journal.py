"""Matching the journal with the ledger's cursor at start, and taking in what only the journal holds."""

from uuid import UUID, uuid4

import pytest
import trio

from engine import boot
from engine.actors.audit_writer import AuditWriter
from engine.actors.dead_letters import DeadLetters
from engine.actors.ingest import EarlierDeliveries, Ingest
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import SystemClock
from engine.domain.directory import Directory
from engine.domain.killswitch import KillSwitches
from engine.errors import MailboxFull, StartupError, UnavailableError
from engine.journal import keys
from engine.journal.entry import encode
from engine.journal.store import JournalStore
from engine.recovery import Recovery
from engine.store import dead_letters as letter_rows
from engine.store import history, lease
from engine.store.database import APP_ROLE, Database
from engine.store.ledger import LedgerStore
from engine.store.migrate import latest_version
from tests.support.ledger_rows import Trader, draft, sql
from tests.support.valkey import OwnValkey

KEY = b"j" * 32


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


@pytest.fixture
def place(database, own):
    store = JournalStore(own.url)
    return lambda: boot.journal_place(database, store, clock=SystemClock())


async def move_cursor(url, position):
    await sql(url, "UPDATE journal_cursor SET position = $1", position)


def append(server, epoch, entry=b"x", **options):
    with server.client() as client:
        return client.xadd(keys.stream(str(epoch)), {"e": entry}, **options).decode()


async def test_first_start_names_the_journal_and_begins_at_its_begin(place, own, database):
    found = await place()
    assert (found.position, found.was_reset) == ("0-0", False)
    with own.client() as client:
        assert client.get(keys.EPOCH) == str(found.epoch).encode()
    assert await database.run(history.journal_cursor) == (found.epoch, "0-0")


async def test_later_start_goes_on_at_the_cursor(place, own, schema_url):
    first = await place()
    position = append(own, first.epoch)
    append(own, first.epoch)
    await move_cursor(schema_url, position)
    again = await place()
    assert (again.epoch, again.position, again.was_reset) == (first.epoch, position, False)


async def test_start_after_everything_was_trimmed_is_no_reset(place, own, schema_url):
    first = await place()
    await move_cursor(schema_url, append(own, first.epoch))
    with own.client() as client:
        client.xtrim(keys.stream(str(first.epoch)), maxlen=0, approximate=False)
    assert not (await place()).was_reset


@pytest.mark.parametrize("case", ["wiped", "foreign", "garbage", "set back", "stream gone"])
async def test_journal_that_is_not_the_ledgers_gets_a_new_name(place, own, schema_url, database, case):
    first = await place()
    position = append(own, first.epoch)
    await move_cursor(schema_url, position)
    with own.client() as client:
        match case:
            case "wiped":
                client.flushall()
            case "foreign":
                client.set(keys.EPOCH, str(uuid4()))
            case "garbage":
                client.set(keys.EPOCH, "no name")
            case "set back":
                # an older copy of the server's files: the name is there, the last entries are not
                client.delete(keys.stream(str(first.epoch)))
                client.xadd(keys.stream(str(first.epoch)), {"e": "x"}, id="1-1")
            case "stream gone":
                client.delete(keys.stream(str(first.epoch)))
    found = await place()
    assert (found.was_reset, found.position) == (True, "0-0")
    assert found.epoch != first.epoch
    assert await database.run(history.journal_cursor) == (found.epoch, "0-0")
    assert not (await place()).was_reset


async def test_journal_older_than_the_database_is_read_from_its_begin(place, own):
    epoch = uuid4()
    with own.client() as client:
        client.set(keys.EPOCH, str(epoch))
    append(own, epoch)
    found = await place()
    assert (found.epoch, found.position, found.was_reset) == (epoch, "0-0", False)


async def test_bad_name_in_a_fresh_start_is_replaced(place, own):
    with own.client() as client:
        client.set(keys.EPOCH, "no name")
    assert isinstance((await place()).epoch, UUID)


# the stores at start


async def test_journal_that_can_lose_entries_is_refused_with_the_mend(aio, own):
    await boot.check_journal(JournalStore(own.url))
    with own.client() as client:
        client.config_set("appendfsync", "everysec")
    with pytest.raises(StartupError, match="CONFIG SET appendfsync always"):
        await boot.check_journal(JournalStore(own.url))


async def test_absent_stores_are_refused_with_the_mend_and_without_the_password(aio, tmp_path):
    with pytest.raises(StartupError, match=r"Start the server, or correct \[redis\] url"):
        await boot.check_journal(JournalStore(f"unix://{tmp_path}/none.sock"))
    with pytest.raises(StartupError, match=r"correct \[database\] url \(postgresql://u:\*\*\*@") as refused:
        await boot.open_database(f"postgresql://u:hunter2@/d?host={tmp_path}", wait_s=0)
    assert "hunter2" not in str(refused.value)


async def test_opening_migrates_and_works_as_the_engines_role(aio, database_url):
    database, version, has_role = await boot.open_database(database_url)
    assert (version, has_role) == (latest_version(), True)
    assert await database.run(lambda c: c.fetchval("SELECT current_user")) == APP_ROLE
    await database.close()


async def test_server_with_settings_that_lose_orders_is_refused(aio, database_url, servers):
    name = database_url.split("/")[3].split("?")[0]
    servers.sql(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    with pytest.raises(StartupError, match="set synchronous_commit = on"):
        await boot.open_database(database_url)


# replay


class Replay:
    """A ledger and an ingest whose risk actor only writes the intents down."""

    def __init__(self, url, store, epoch):
        self.ledger = AuditWriter(LedgerStore(url, role=APP_ROLE), epoch=1)
        self._store, self._epoch, self._database = store, epoch, Database(url)
        self.keys = []
        self.alerts = []
        self.counted = []
        real = self.ledger.append

        def appended(entry):
            self.counted += [write for write in entry.writes if "INSERT INTO journal_attempts" in write.sql]
            real(entry)

        self.ledger.append = appended

    async def close(self):
        """After a replay that failed."""
        await self._database.close()

    async def known(self, deliveries):
        wanted = [(d.source_id, d.idempotency_key) for d in deliveries]
        return await self._database.run(lambda c: history.known_deliveries(c, wanted))

    def decide(self, passage):
        self.keys.append(passage.delivery.idempotency_key)
        self.ledger.append(
            LedgerEntry(
                new_intents=tuple(passage.intents.values()),
                audit=(draft(passage.delivery.idempotency_key),),
                on_commit=passage.commit,
                on_fail=passage.fail,
            )
        )

    async def run(self, position="0-0"):
        self.keys = []
        ingest = self.ingest = Ingest(
            directory=Directory(),
            kill=KillSwitches(),
            journal=None,
            journal_key=KEY,
            clock=SystemClock(),
            dedup_window_s=86400,
            decide=lambda passage: self.decide(passage),
            waiting_orders=lambda: 0,
            earlier=EarlierDeliveries(known=self.known),
        )
        await self._database.open()
        self.ledger.journal = ingest.progress
        letters = DeadLetters(
            ledger=self.ledger,
            clock=SystemClock(),
            journal_key=KEY,
            alert=lambda *told: self.alerts.append(told),
            take_in=ingest.accept,
            find=lambda _id: None,
        )
        recovery = Recovery(
            ingest=ingest,
            ledger=self.ledger,
            letters=letters,
            attempts_of=lambda *asked: self._database.run(lambda c: letter_rows.attempts_of(c, *asked)),
            key=KEY,
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(self.ledger.run)
            with trio.fail_after(20):
                result = await recovery.replay(self._store, epoch=self._epoch, position=position)
            assert await self.ledger.barrier()
            nursery.cancel_scope.cancel()
        await self._database.close()
        return result


@pytest.fixture
async def replaying(schema_url, own, place, database):
    await database.run(lambda c: lease.take(c, holder="t", seen=None))
    trader = await Trader().seed(schema_url)
    epoch = (await place()).epoch
    return trader, epoch, Replay(schema_url, JournalStore(own.url), epoch)


async def test_replay_takes_in_new_deliveries_in_order_and_skips_known_ones(replaying, own, schema_url):
    trader, epoch, replay = replaying
    ids = [append(own, epoch, encode(trader.delivery(f"k{n}"), KEY)) for n in range(30)]
    assert await replay.run() == (30, ids[-1])
    assert replay.keys == [f"k{n}" for n in range(30)]
    # a second start before the cursor moved
    assert await replay.run() == (0, ids[-1])
    append(own, epoch, encode(trader.delivery("k3"), KEY))
    last = append(own, epoch, encode(trader.delivery("late"), KEY))
    assert await replay.run(ids[-1]) == (1, last)
    assert replay.keys == ["late"]
    assert await sql(schema_url, "SELECT count(*) FROM trade_intents") == [(31,)]


async def test_replay_reads_on_behind_a_full_page(replaying, own, schema_url):
    trader, epoch, replay = replaying
    with own.client() as client, client.pipeline(transaction=False) as pipe:
        for n in range(520):
            pipe.xadd(keys.stream(str(epoch)), {"e": encode(trader.delivery(f"k{n}"), KEY)})
        ids = pipe.execute()
    assert await replay.run() == (520, ids[-1].decode())


async def test_damaged_entries_become_dead_letters_once_and_stop_nothing(replaying, own, schema_url):
    trader, epoch, replay = replaying
    good = encode(trader.delivery("good"), KEY)
    forged = encode(trader.delivery("forged"), b"x" * 32)
    flipped = good[:40] + bytes([good[40] ^ 1]) + good[41:]
    for entry in (forged, b"", b"garbage", flipped, good):
        last = append(own, epoch, entry)
    for expected in (1, 0):
        assert await replay.run() == (expected, last)
    letters = await sql(schema_url, "SELECT payload, status, queue FROM dead_letters ORDER BY created_at")
    assert {payload for payload, _, _ in letters} == {forged, b"", b"garbage", flipped}
    assert len(letters) == 4
    assert {(status, queue) for _, status, queue in letters} == {("WAITING", "signal")}
    assert await sql(schema_url, "SELECT idempotency_key FROM trade_intents") == [("good",)]


async def test_cursor_in_the_ledger_moves_along_with_replay(replaying, own, schema_url):
    trader, epoch, replay = replaying
    entries = [encode(trader.delivery("a"), KEY), b"garbage", encode(trader.delivery("b"), KEY)]
    ids = [append(own, epoch, entry) for entry in entries]
    await replay.run()
    assert await sql(schema_url, "SELECT position FROM journal_cursor") == [(ids[-1],)]
    assert replay.ingest.progress.on_disk == ids[-1]
    assert await sql(schema_url, "SELECT * FROM journal_attempts") == []


# entries that end the engine


async def begun(url, epoch, position, attempts):
    await sql(url, "INSERT INTO journal_attempts VALUES ($1, $2, $3)", epoch, position, attempts)


async def counts(url):
    return dict(await sql(url, "SELECT position, attempts FROM journal_attempts"))


async def test_entry_is_counted_before_it_is_handled_whole_first_and_singly_after(replaying, own, schema_url):
    trader, epoch, replay = replaying
    ids = [append(own, epoch, encode(trader.delivery(f"k{n}"), KEY)) for n in range(5)]
    await begun(schema_url, epoch, ids[2], 1)
    await begun(schema_url, epoch, ids[3], 2)
    seen = {}
    decide = replay.decide

    def look(passage):
        # what the ledger was handed before: the counts go ahead of the intents
        seen[passage.delivery.idempotency_key] = [
            dict(zip(write.args[1], write.args[2], strict=True)) for write in replay.counted
        ]
        decide(passage)

    replay.decide = look
    assert (await replay.run())[0] == 5
    assert seen["k0"] == seen["k1"] == [{ids[0]: 1, ids[1]: 1}]
    assert seen["k2"][1:] == [{ids[2]: 2}]
    assert seen["k3"][2:] == [{ids[3]: 3}]
    assert seen["k4"][3:] == [{ids[4]: 1}]
    assert await counts(schema_url) == {}


async def test_entry_with_three_strikes_becomes_a_dead_letter_and_the_others_go_on(replaying, own, schema_url):
    trader, epoch, replay = replaying
    entries = [encode(trader.delivery(f"k{n}"), KEY) for n in range(3)]
    ids = [append(own, epoch, entry) for entry in entries]
    await begun(schema_url, epoch, ids[1], 3)
    assert await replay.run() == (2, ids[-1])
    assert replay.keys == ["k0", "k2"]
    letters = await sql(schema_url, "SELECT kind, queue, status, attempts, payload FROM dead_letters")
    assert letters == [("POISON", "signal", "WAITING", 3, entries[1])]
    assert await sql(schema_url, "SELECT position FROM journal_cursor") == [(ids[-1],)]
    assert len(replay.alerts) == 1
    assert await counts(schema_url) == {}


async def test_fault_of_a_store_is_no_strike(replaying, own, schema_url):
    trader, epoch, replay = replaying
    ids = [append(own, epoch, encode(trader.delivery(f"k{n}"), KEY)) for n in range(2)]

    def decide(_passage):
        raise MailboxFull("full")

    replay.decide = decide
    with pytest.RaisesGroup(UnavailableError, allow_unwrapped=True, flatten_subgroups=True):
        await replay.run()
    await replay.close()
    assert await counts(schema_url) == dict.fromkeys(ids, 0)


async def test_fault_of_an_entry_is_a_strike(replaying, own, schema_url):
    trader, epoch, replay = replaying
    position = append(own, epoch, encode(trader.delivery("k"), KEY))

    def decide(_passage):
        raise ZeroDivisionError

    replay.decide = decide
    with pytest.RaisesGroup(ZeroDivisionError, allow_unwrapped=True, flatten_subgroups=True):
        await replay.run()
    await replay.close()
    assert await counts(schema_url) == {position: 1}


async def test_replay_of_an_empty_journal_keeps_the_position(replaying):
    _, _, replay = replaying
    assert await replay.run("7-1") == (0, "7-1")
