"""The audit writer on a real PostgreSQL: one chain, nothing lost, nothing twice, whatever the wire does."""

import asyncio
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit
from uuid import uuid4

import msgspec
import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from engine.actors.audit_writer import AuditWriter, DuplicateIntent
from engine.actors.ledger_entry import LedgerEntry
from engine.domain.enums import Exchange, IntentStatus, OrderStatus, ProductType
from engine.domain.position import Position
from engine.errors import Fenced, StoreUnavailable, UnavailableError
from engine.store import audit_append, lease, rows
from engine.store.database import APP_ROLE, Database
from engine.store.ledger import LedgerRefused, LedgerStore, Write
from tests.support.cut_proxy import cut_proxy
from tests.support.ledger_rows import NOW, Trader, audit_chain, draft, intent_event, order_event, sql

FLAG = (
    "INSERT INTO system_flags (name, value, version, updated_at) VALUES ($1, '{}', 1, now())"
    " ON CONFLICT (name) DO UPDATE SET version = system_flags.version + 1"
)


@asynccontextmanager
async def database(url):
    opened = Database(url, max_connections=3)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


async def take_lease(url):
    async with database(url) as opened:
        seen = await opened.run(lease.read)
        return await opened.run(lambda c: lease.take(c, holder="test", seen=seen))


@asynccontextmanager
async def writing(url, *, epoch=1, role=APP_ROLE):
    writer = AuditWriter(LedgerStore(url, role=role), epoch=epoch)
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        yield writer
        nursery.cancel_scope.cancel()


@pytest.fixture
async def trader(schema_url, aio):
    await take_lease(schema_url)
    return await Trader().seed(schema_url)


def through(url, folder: Path):
    """The URL of the same database by way of a proxy's socket in *folder*, and the server's own socket."""
    parts = urlsplit(url)
    options = parse_qs(parts.query)
    socket = f"{options['host'][0]}/.s.PGSQL.{options['port'][0]}"
    query = f"host={quote(str(folder), safe='/')}&port=5432&sslmode=disable"
    return f"postgresql://{parts.username}@{parts.path}?{query}", socket


@pytest.fixture
async def proxied(schema_url, tmp_path):
    url, socket = through(schema_url, tmp_path)
    async with cut_proxy(tmp_path / ".s.PGSQL.5432", socket) as proxy:
        yield url, proxy


class Outcome:
    """What a ledger entry was told."""

    def __init__(self):
        self.ended = trio.Event()
        self.committed = 0
        self.error = None

    def entry(self, **rows):
        return LedgerEntry(on_commit=self._commit, on_fail=self._fail, **rows)

    def _commit(self):
        self.committed += 1
        self.ended.set()

    def _fail(self, error):
        self.error = error
        self.ended.set()

    async def wait(self):
        with trio.fail_after(20):
            await self.ended.wait()
        return self


async def subjects(url):
    return [record.subject for record in await audit_chain(url)]


async def test_entries_that_wait_go_in_one_transaction(schema_url, trader):
    writer = AuditWriter(LedgerStore(schema_url, role=APP_ROLE), epoch=1)
    intents = [trader.intent() for _ in range(50)]
    for intent in intents:
        writer.append(LedgerEntry(new_intents=(intent,), audit=(draft(),)))
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        assert await writer.barrier(timeout_s=10)
        nursery.cancel_scope.cancel()
    assert (writer.batches, writer.entries) == (1, 50)
    assert await sql(schema_url, "SELECT count(DISTINCT xmin::text) FROM trade_intents") == [(1,)]


async def test_chain_of_64_parallel_appenders_has_no_gap(schema_url, trader):
    async with writing(schema_url) as writer:

        async def append(number):
            for n in range(10):
                await writer.write(LedgerEntry(audit=(draft(f"{number}.{n}"),)))

        async with trio.open_nursery() as nursery:
            for number in range(64):
                nursery.start_soon(append, number)
    found = await subjects(schema_url)
    assert len(found) == 640
    assert len(set(found)) == 640


async def test_values_come_back_exactly(schema_url, trader):
    intent = trader.intent()
    order = trader.order(
        intent,
        status=OrderStatus.COMPLETE,
        price=Decimal("2450.0525"),
        market_protection=Decimal("-1"),
        filled_quantity=3,
        average_price=Decimal("2450.123456789"),
        submitting_at=NOW,
        broker_order_id="2411",
    )
    fill = trader.fill(order, "t1", "2450.12345678", 3)
    position = Position(
        account_id=trader.account_id,
        exchange=Exchange.NSE,
        symbol="INFY",
        product_type=ProductType.MIS,
        quantity=3,
        buy_quantity=3,
        buy_value=Decimal("7350.37037034"),
        close_price=Decimal("2449.95"),
        last_price=Decimal("2450.05"),
    )
    async with writing(schema_url) as writer:
        await writer.write(
            LedgerEntry(
                new_intents=(intent,),
                intent_events=(intent_event(intent.id),),
                new_orders=(order,),
                order_events=(order_event(order, OrderStatus.COMPLETE),),
                fills=(fill,),
                positions=((position, NOW.date(), NOW),),
                audit=(draft(),),
            )
        )
    async with database(schema_url) as opened:

        async def read(connection):
            return [
                rows.intent(await connection.fetchrow("SELECT * FROM trade_intents")),
                rows.order(await connection.fetchrow("SELECT * FROM orders")),
                rows.fill(await connection.fetchrow("SELECT * FROM fills")),
                rows.position(await connection.fetchrow("SELECT * FROM positions")),
            ]

        assert await opened.run(read) == [intent, order, fill, position]


async def test_row_new_and_changed_in_one_batch_is_written_in_its_last_version(schema_url, trader):
    writer = AuditWriter(LedgerStore(schema_url, role=APP_ROLE), epoch=1)
    intent, order = trader.intent(), trader.order()
    writer.append(LedgerEntry(new_intents=(intent,), new_orders=(order,), audit=(draft(),)))
    gone = msgspec.structs.replace(order, status=OrderStatus.CANCELLED)
    ended = msgspec.structs.replace(intent, status=IntentStatus.CANCELLED, reason="R")
    writer.append(LedgerEntry(order_updates=(gone,), order_events=(order_event(order, gone.status),), audit=(draft(),)))
    writer.append(LedgerEntry(intent_updates=(ended,), audit=(draft(),)))
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        assert await writer.barrier(timeout_s=10)
        nursery.cancel_scope.cancel()
    assert writer.batches == 1
    assert await sql(schema_url, "SELECT status FROM orders") == [("CANCELLED",)]
    assert await sql(schema_url, "SELECT status, reason FROM trade_intents") == [("CANCELLED", "R")]


@pytest.mark.parametrize("enters_stands_first", [False, True])
async def test_one_order_makes_way_for_the_next_in_one_batch(schema_url, trader, enters_stands_first):
    leaves = trader.order(status=OrderStatus.SUBMITTING)
    enters = trader.order()
    stand = (enters, leaves) if enters_stands_first else (leaves, enters)
    async with writing(schema_url) as writer:
        await writer.write(LedgerEntry(new_orders=stand, audit=(draft(),)))
        batches = writer.batches
        for order, to in ((enters, OrderStatus.SUBMITTING), (leaves, OrderStatus.SUBMITTED)):
            moved = msgspec.structs.replace(order, status=to)
            writer.append(LedgerEntry(order_updates=(moved,), audit=(draft(),)))
        assert await writer.barrier()
        assert writer.batches == batches + 1
    found = await sql(schema_url, "SELECT id, status FROM orders")
    assert dict(found) == {leaves.id: "SUBMITTED", enters.id: "SUBMITTING"}


async def test_second_unresolved_order_of_an_instrument_is_refused(schema_url, trader):
    async with writing(schema_url) as writer:
        await writer.write(LedgerEntry(new_orders=(trader.order(status=OrderStatus.UNKNOWN),), audit=(draft(),)))
        with pytest.raises(LedgerRefused, match="orders_one_unresolved"):
            await writer.write(LedgerEntry(new_orders=(trader.order(status=OrderStatus.SUBMITTING),), audit=(draft(),)))
    assert await sql(schema_url, "SELECT status FROM orders") == [("UNKNOWN",)]


async def test_repeated_intent_is_told_and_the_rest_of_the_batch_goes_on(schema_url, trader):
    known, fresh = trader.intent(), trader.intent()
    async with writing(schema_url) as writer:
        await writer.write(LedgerEntry(new_intents=(known,), audit=(draft("first"),)))
        repeat, other = Outcome(), Outcome()
        writer.append(repeat.entry(new_intents=(known,), audit=(draft("repeat"),)))
        writer.append(other.entry(new_intents=(fresh,), audit=(draft("fresh"),)))
        await other.wait()
        await repeat.wait()
    assert isinstance(repeat.error, DuplicateIntent)
    assert (other.committed, other.error) == (1, None)
    assert await subjects(schema_url) == ["first", "fresh"]


async def test_same_new_intent_twice_in_a_batch_is_written_once(schema_url, trader):
    writer = AuditWriter(LedgerStore(schema_url, role=APP_ROLE), epoch=1)
    intent, first, second = trader.intent(), Outcome(), Outcome()
    writer.append(first.entry(new_intents=(intent,), audit=(draft("first"),)))
    writer.append(second.entry(new_intents=(intent,), audit=(draft("second"),)))
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await first.wait()
        await second.wait()
        nursery.cancel_scope.cancel()
    assert first.committed == 1
    assert isinstance(second.error, DuplicateIntent)
    assert await subjects(schema_url) == ["first"]


POISON = {
    "a number too large": lambda t: {"new_orders": (t.order(quantity=2**70),)},
    "a value of the wrong type": lambda t: {"new_orders": (t.order(symbol=5),)},
    "a lone surrogate": lambda t: {"new_orders": (t.order(symbol="\ud800"),)},
    "a NUL": lambda t: {"new_orders": (t.order(symbol="\0"),)},
    "a check": lambda t: {"new_orders": (t.order(quantity=0),)},
    "an unknown account": lambda t: {"new_orders": (t.order(account_id=uuid4()),)},
    "a price out of range": lambda t: {"new_orders": (t.order(price=Decimal("1e20")),)},
    "content without a form": lambda t: {"audit": (draft().__class__(**_fields(content={"x": object()})),)},
    "a row that is none": lambda t: {"order_updates": (None,)},
    "wrong SQL": lambda t: {"writes": (Write(sql="SELECT nothing FROM orders"),)},
    "too many arguments": lambda t: {"writes": (Write(sql="SELECT 1", args=("x",)),)},
    "wrong arguments": lambda t: {"writes": (Write(sql="SELECT $1::int", args=("x",)),)},
}


def _fields(**changes):
    base = draft()
    return {name: getattr(base, name) for name in base.__struct_fields__} | changes


@pytest.mark.parametrize("name", POISON)
async def test_poison_entry_is_refused_and_its_neighbours_are_written(schema_url, trader, name):
    writer = AuditWriter(LedgerStore(schema_url, role=APP_ROLE), epoch=1)
    before, bad, after = Outcome(), Outcome(), Outcome()
    writer.append(before.entry(new_intents=(trader.intent(),), audit=(draft("before"),)))
    poison = POISON[name](trader)
    writer.append(bad.entry(**({"audit": (draft("bad"),)} | poison)))
    writer.append(after.entry(new_intents=(trader.intent(),), audit=(draft("after"),)))
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        assert await writer.barrier(timeout_s=10)
        nursery.cancel_scope.cancel()
    assert isinstance(bad.error, LedgerRefused)
    assert (before.committed, after.committed) == (1, 1)
    assert await subjects(schema_url) == ["before", "after"]


async def test_callback_that_raises_keeps_no_other_from_being_told(schema_url, trader):
    writer = AuditWriter(LedgerStore(schema_url, role=APP_ROLE), epoch=1)
    told = Outcome()

    def broken():
        raise RuntimeError("bug in a callback")

    writer.append(LedgerEntry(audit=(draft(),), on_commit=broken))
    writer.append(told.entry(audit=(draft(),)))
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            await nursery.start(writer.run)
            assert await writer.barrier(timeout_s=10)
            nursery.cancel_scope.cancel()
    assert told.committed == 1
    assert [line["event"] for line in logs] == ["ledger.callback_failed"]


async def test_operator_may_append_between_batches(schema_url, trader):
    async with writing(schema_url) as writer, database(schema_url) as opened:
        for number in range(5):
            await writer.write(LedgerEntry(audit=(draft(f"engine {number}"),)))
            await opened.run(lambda c, n=number: audit_append.append(c, draft(f"cli {n}"), draft(f"cli {n}b")))
    assert len(await subjects(schema_url)) == 15


async def test_two_operators_at_once_fork_no_chain(schema_url, trader):
    async with database(schema_url) as opened, trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(opened.run, lambda c, n=number: audit_append.append(c, draft(f"cli {n}")))
    assert len(await subjects(schema_url)) == 12


@pytest.mark.parametrize("shape", ["hot", "explicit", "without audit"])
@pytest.mark.parametrize("fault", ["lose_reply_to", "lose_request"])
async def test_cut_around_the_commit_neither_loses_nor_doubles(schema_url, trader, proxied, shape, fault):
    url, proxy = proxied
    async with writing(url) as writer:
        await writer.write(LedgerEntry(audit=(draft("start"),)))
        order = trader.order()
        outcome = Outcome()
        event = order_event(order, order.status)
        written = {"new_orders": (order,), "order_events": (event,), "audit": (draft("one"),)}
        mark = order.tag.encode()
        if shape == "explicit":
            written["writes"], mark = (Write(sql=FLAG, args=("f",)),), b"COMMIT"
        elif shape == "without audit":
            # may be written twice, must not be lost
            written, mark = {"writes": (Write(sql=FLAG, args=("f",)),)}, b"COMMIT"
        setattr(proxy, fault, mark)
        writer.append(outcome.entry(**written))
        await outcome.wait()
        await writer.write(LedgerEntry(audit=(draft("end"),)))
    assert proxy.lost == 1
    assert (outcome.committed, outcome.error) == (1, None)
    if shape == "without audit":
        assert await subjects(schema_url) == ["start", "end"]
        assert len(await sql(schema_url, "SELECT 1 FROM system_flags")) == 1
        return
    assert await subjects(schema_url) == ["start", "one", "end"]
    assert len(await sql(schema_url, "SELECT 1 FROM order_events")) == 1
    if shape == "explicit":
        assert await sql(schema_url, "SELECT version FROM system_flags") == [(1,)]


async def test_commit_without_answer_is_recognised_behind_an_operators_record(schema_url, trader, proxied):
    url, proxy = proxied
    async with writing(url) as writer, database(schema_url) as opened:
        await writer.write(LedgerEntry(audit=(draft("start"),)))
        outcome = Outcome()
        order = trader.order()
        proxy.lose_reply_to = order.tag.encode()
        proxy.stall()
        writer.append(outcome.entry(new_orders=(order,), audit=(draft("one"),)))
        await trio.testing.wait_all_tasks_blocked(0.05)
        proxy.flow()
        while not proxy.lost:
            await trio.sleep(0.005)
        proxy.stall()  # the witness is asked for only once the operator has appended
        await opened.run(lambda c: audit_append.append(c, draft("cli")))
        proxy.flow()
        await outcome.wait()
        await writer.write(LedgerEntry(audit=(draft("end"),)))
    assert outcome.committed == 1
    assert await subjects(schema_url) == ["start", "one", "cli", "end"]


async def test_commit_still_under_way_after_the_deadline_is_ended_before_it_is_repeated(
    schema_url, trader, monkeypatch
):
    monkeypatch.setattr("engine.actors.audit_writer._COMMIT_TIMEOUT_S", 0.3)
    async with writing(schema_url) as writer:
        await writer.write(LedgerEntry(audit=(draft("start"),)))
        locked, let_go, outcome = trio.Event(), asyncio.Event(), Outcome()

        async def hold(connection):
            await connection.execute("LOCK TABLE system_flags IN ACCESS EXCLUSIVE MODE")
            locked.set()
            await let_go.wait()

        async with database(schema_url) as other, trio.open_nursery() as nursery:
            nursery.start_soon(lambda: other.run(hold, timeout_s=20))
            await locked.wait()
            # it waits for that lock beyond its deadline
            writer.append(outcome.entry(writes=(Write(sql=FLAG, args=("f",)),), audit=(draft("one"),)))
            while writer.available:
                await trio.sleep(0.01)
            let_go.set()
        await outcome.wait()
    assert outcome.committed == 1
    assert await subjects(schema_url) == ["start", "one"]
    assert await sql(schema_url, "SELECT version FROM system_flags") == [(1,)]


async def test_transaction_that_outlives_its_connection_is_ended_before_it_is_repeated(schema_url, trader, proxied):
    url, proxy = proxied
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        " AND application_name = 'trading-engine-ledger'"
    )

    async def waits_for_the_lock(*, other_than=()):
        with trio.fail_after(10):
            while not (found := {pid for (pid,) in await sql(schema_url, waiting)} - set(other_than)):
                await trio.sleep(0.01)
        return found

    async def hold(connection):
        # an order that refers to the account waits for this, with its rows written already
        await connection.execute("SELECT 1 FROM kite_accounts FOR UPDATE")
        locked.set()
        await let_go.wait()

    locked, let_go, outcome = trio.Event(), asyncio.Event(), Outcome()
    async with writing(url) as writer, database(schema_url) as other:
        await writer.write(LedgerEntry(audit=(draft("start"),)))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: other.run(hold, timeout_s=20))
            await locked.wait()
            writer.append(outcome.entry(new_orders=(trader.order(),), audit=(draft("one"),)))
            # the server goes on with a statement whose client it does not know to be gone, and would commit it
            first = await waits_for_the_lock()
            proxy.down()
            await proxy.up()
            await waits_for_the_lock(other_than=first)
            let_go.set()
        await outcome.wait()
    assert (outcome.committed, outcome.error) == (1, None)
    assert await subjects(schema_url) == ["start", "one"]
    assert await sql(schema_url, "SELECT count(*) FROM orders") == [(1,)]


async def test_killed_backend_loses_nothing_under_load(schema_url, trader, servers):
    async with writing(schema_url) as writer:

        async def load(number):
            for n in range(20):
                await writer.write(LedgerEntry(audit=(draft(f"{number}.{n}"),)), timeout_s=20)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(load, number)
            for _ in range(6):
                await sql(
                    schema_url,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'trading-engine-ledger' AND datname = current_database()",
                )
                await trio.sleep(0.02)
    found = await subjects(schema_url)
    assert (len(found), len(set(found))) == (160, 160)


async def test_store_away_for_a_while_loses_nothing_and_keeps_the_order(schema_url, trader, proxied):
    url, proxy = proxied
    async with writing(url) as writer:
        await writer.write(LedgerEntry(audit=(draft("start"),)))
        proxy.down()
        outcomes = [Outcome() for _ in range(5)]
        for number, outcome in enumerate(outcomes):
            writer.append(outcome.entry(audit=(draft(str(number)),)))
            await trio.testing.wait_all_tasks_blocked(0.01)
        while writer.available:
            await trio.sleep(0.005)
        assert not await writer.barrier(timeout_s=0.05)
        await proxy.up()
        for outcome in outcomes:
            await outcome.wait()
        assert writer.available
    assert await subjects(schema_url) == ["start", "0", "1", "2", "3", "4"]


async def test_entry_without_audit_is_not_taken_for_written_while_the_store_is_away(schema_url, trader, proxied):
    url, proxy = proxied
    async with writing(url) as writer:
        await writer.write(LedgerEntry(audit=(draft("start"),)))
        proxy.down()
        outcome = Outcome()
        writer.append(outcome.entry(writes=(Write(sql=FLAG, args=("cursor",)),)))
        while writer.available:
            await trio.sleep(0.005)
        await proxy.up()
        await outcome.wait()
    assert await sql(schema_url, "SELECT name FROM system_flags") == [("cursor",)]


async def test_write_that_waits_too_long_is_taken_back(schema_url, trader, proxied):
    url, proxy = proxied
    proxy.down()
    async with writing(url) as writer:
        with pytest.raises(UnavailableError, match="nothing was changed"):
            await writer.write(LedgerEntry(audit=(draft("taken back"),)), timeout_s=0.1)
        await proxy.up()
        await writer.write(LedgerEntry(audit=(draft("kept"),)), timeout_s=20)
    assert await subjects(schema_url) == ["kept"]


async def test_write_in_doubt_cannot_be_taken_back(schema_url, trader, proxied, monkeypatch):
    monkeypatch.setattr("engine.actors.audit_writer._COMMIT_TIMEOUT_S", 0.2)
    url, proxy = proxied
    async with writing(url) as writer:
        await writer.write(LedgerEntry(audit=(draft("start"),)))
        proxy.stall()
        with pytest.raises(StoreUnavailable, match="read it back"):
            await writer.write(LedgerEntry(audit=(draft("in doubt"),)), timeout_s=0.1)
        proxy.flow()
        assert await writer.barrier(timeout_s=20)
    assert await subjects(schema_url) == ["start", "in doubt"]


async def test_doubt_outlives_a_restart_of_the_actor(schema_url, trader, proxied):
    url, proxy = proxied
    store = LedgerStore(url, role=APP_ROLE)
    writer = AuditWriter(store, epoch=1)
    outcome, order = Outcome(), trader.order()
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await writer.write(LedgerEntry(audit=(draft("start"),)))
        proxy.lose_reply_to = order.tag.encode()
        writer.append(outcome.entry(new_orders=(order,), audit=(draft("one"),)))
        while not proxy.lost:
            await trio.sleep(0.005)
        proxy.down()
        nursery.cancel_scope.cancel()
    await proxy.up()
    async with trio.open_nursery() as nursery:
        await nursery.start(writer.run)
        await outcome.wait()
        nursery.cancel_scope.cancel()
    assert (outcome.committed, outcome.error) == (1, None)
    assert await subjects(schema_url) == ["start", "one"]


async def test_superseded_epoch_writes_nothing(schema_url, trader):
    store = LedgerStore(schema_url, role=APP_ROLE)
    writer = AuditWriter(store, epoch=1)
    assert await take_lease(schema_url) == 2
    for more in ({}, {"writes": (Write(sql=FLAG, args=("f",)),)}):
        writer.append(LedgerEntry(new_orders=(trader.order(),), audit=(draft(),), **more))
        with pytest.raises(Fenced, match="epoch 1"):
            await writer.run()
    for table in ("orders", "audit_logs", "system_flags"):
        assert await sql(schema_url, f"SELECT * FROM {table}") == []
