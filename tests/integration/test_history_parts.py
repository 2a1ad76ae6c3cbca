"""History in parts on a real PostgreSQL: what was there stays, nothing is refused, no read looks through all of it."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from engine.actors.history_keeper import HistoryKeeper
from engine.actors.ledger_entry import pack
from engine.clock import SystemClock, trading_day
from engine.errors import StoreUnavailable
from engine.store import audit_pages, history, late, lease, source_watch
from engine.store.database import APP_ROLE, Database
from engine.store.ledger import LedgerStore
from engine.store.migrate import migrate
from engine.store.parts import drop_months, keep_parts
from engine.store.queries import audit_log, holdings, intents, orders, placed, verdicts
from engine.store.queries.filters import Visible
from tests.support.history import fill
from tests.support.ledger_rows import Trader, audit_chain, sql
from tests.support.signal_entries import SignalEntries

BEFORE = 19
HELD = "SELECT tableoid::regclass::text, count(*) FROM {} GROUP BY 1 ORDER BY 1"
LARGE = (
    "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relpages > 10"
)


async def write_signals(url: str, trader: Trader, count: int) -> None:
    """As the ledger writes them."""
    database, store = Database(url), LedgerStore(url, role=APP_ROLE)
    await database.open()
    try:
        seen = await database.run(lease.read)
        epoch = await database.run(lambda c: lease.take(c, holder="test", seen=seen))
        for number in range(count):
            signal = SignalEntries(trader, number, SystemClock().now())
            for entries in (signal.on_the_path, signal.afterwards):
                batch, _ = pack(entries, await store.head())
                await store.commit(batch, epoch=epoch or 0, timeout_s=10)
    finally:
        await store.close()
        await database.close()


class Recorder:
    def __init__(self) -> None:
        self.drafts: list[Any] = []

    def record(self, *drafts: Any) -> None:
        self.drafts += drafts


@pytest.fixture
async def as_engine(schema_url: str, aio: None) -> Any:
    database = Database(schema_url, role=APP_ROLE)
    await database.open()
    yield database
    await database.close()


async def test_rows_of_before_stay_where_they_are_and_numbers_go_on(database_url: str, aio: None) -> None:
    await migrate(database_url, up_to=BEFORE)
    trader = await Trader().seed(database_url)
    await write_signals(database_url, trader, 3)
    chain = await audit_chain(database_url)
    newest = await sql(database_url, "SELECT max(id) FROM order_events")
    await migrate(database_url)
    assert await audit_chain(database_url) == chain
    await write_signals(database_url, trader, 2)
    assert len(await audit_chain(database_url)) == len(chain) // 3 * 5
    numbers = [number for (number,) in await sql(database_url, "SELECT id FROM order_events ORDER BY id")]
    assert len(numbers) == len(set(numbers)) == newest[0][0] // 3 * 5
    assert {name for name, _ in await sql(database_url, HELD.format("order_events"))} == {"order_events_before"}
    # to the end of their last month; the next has a part of its own already
    month = f"{(SystemClock().now().replace(day=1) + timedelta(days=32)):%Y%m}"
    assert await sql(database_url, f"SELECT to_regclass('order_events_{month}') IS NOT NULL") == [(True,)]


async def test_a_row_that_no_part_was_made_for_is_taken_and_finds_its_part_later(
    schema_url: str, as_engine: Database
) -> None:
    far = datetime(2031, 5, 17, tzinfo=UTC)
    for at in (far, far - timedelta(days=4000)):
        await sql(
            schema_url,
            "INSERT INTO order_events (order_id, at, from_status, to_status, filled_quantity)"
            " VALUES (gen_random_uuid(), $1, 'PENDING', 'OPEN', 0)",
            at,
        )
    numbers = (9_000_000, 9_000_001)
    for number in numbers:
        await sql(schema_url, f"INSERT INTO audit_logs SELECT {number}, now(), '', '', '', '{{}}', '', ''")
    assert {name for name, _ in await sql(schema_url, HELD.format("order_events"))} == {"order_events_default"}
    assert await keep_parts(as_engine) > 0
    assert await sql(schema_url, HELD.format("order_events")) == [
        ("order_events_202006", 1),
        ("order_events_203105", 1),
    ]
    assert await sql(schema_url, HELD.format("audit_logs")) == [("audit_logs_from_9000000", 2)]
    assert await keep_parts(as_engine) == 0
    for statement in ("UPDATE audit_logs SET actor = 'x'", "DELETE FROM audit_logs", "TRUNCATE audit_logs_default"):
        with pytest.raises(asyncpg.RaiseError, match="append-only"):
            await sql(schema_url, statement)


async def test_months_that_are_old_enough_go_and_nothing_else(schema_url: str, as_engine: Database) -> None:
    trader = await Trader().seed(schema_url)
    owner = Database(schema_url)
    await owner.open()
    await owner.run(lambda c: fill(c, trader, 1, 400, days=2000), timeout_s=60)
    await owner.close()
    record = Recorder()
    keeper = HistoryKeeper(
        12,
        keep=lambda: keep_parts(as_engine),
        drop=lambda before: drop_months(schema_url, before),
        ledger=record,  # type: ignore[arg-type]
        clock=SystemClock(),
    )
    assert await keeper.look()
    today = trading_day(SystemClock().now())
    first = date(today.year - 1, today.month, 1)
    (draft,) = record.drafts
    assert draft.action == "HISTORY_DROPPED"
    for table in ("intent_events", "order_events", "risk_verdicts"):
        ((oldest,),) = await sql(schema_url, f"SELECT (min(at) AT TIME ZONE 'UTC')::date FROM {table}")
        assert first <= oldest < first + timedelta(days=32)
    for table, count in (("trade_intents", 400), ("orders", 400), ("fills", 400), ("audit_logs", 1600)):
        assert await sql(schema_url, f"SELECT count(*) FROM {table}") == [(count,)]
    assert await keeper.look()
    assert len(record.drafts) == 1


async def test_the_engines_role_can_drop_nothing(schema_url: str, as_engine: Database) -> None:
    for statement in (
        "SELECT engine_drop_months(now())",
        "DROP TABLE order_events_default",
        "SELECT * FROM audit_logs_default",
        "INSERT INTO audit_logs_default SELECT 1, now(), '', '', '', '', '', ''",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_engine.run(lambda c, s=statement: c.execute(s))  # type: ignore[misc]


async def test_parts_that_cannot_be_made_now_are_tried_again(schema_url: str, aio: None) -> None:
    async def keep() -> int:
        raise StoreUnavailable("the store is away")

    async def drop(_before: date) -> list[str]:
        raise AssertionError("not reached")

    keeper = HistoryKeeper(12, keep=keep, drop=drop, ledger=Recorder(), clock=SystemClock())  # type: ignore[arg-type]
    assert not await keeper.look()


class Explaining:
    """A connection that notes which large tables each read goes through from end to end."""

    def __init__(self, connection: Any, large: set[str]) -> None:
        self._connection = connection
        self._large = large
        self.scanned: list[str] = []

    async def fetch(self, query: str, *args: Any) -> Any:
        plan = "\n".join(row[0] for row in await self._connection.fetch(f"EXPLAIN {query}", *args))
        if self._large & set(re.findall(r"Seq Scan on (\w+)", plan)):
            self.scanned.append(f"{query}\n{plan}")
        return await self._connection.fetch(query, *args)

    async def fetchrow(self, query: str, *args: Any) -> Any:
        rows = await self.fetch(query, *args)
        return rows[0] if rows else None

    async def fetchval(self, query: str, *args: Any) -> Any:
        row = await self.fetchrow(query, *args)
        return None if row is None else row[0]


async def test_no_read_of_the_api_or_of_a_start_goes_through_a_whole_table(schema_url: str, aio: None) -> None:
    many, one = await Trader().seed(schema_url), await Trader().seed(schema_url)
    owner = Database(schema_url)
    await owner.open()

    async def seed(connection: Any) -> None:
        await fill(connection, many, 1, 6000, days=90)
        await fill(connection, one, 6001, 6100, days=90)

    try:
        await owner.run(seed, timeout_s=60)
        await sql(schema_url, "ANALYZE")
        large = {name for (name,) in await sql(schema_url, LARGE)}
        assert {"orders", "trade_intents", "fills", "audit_logs_0"} < large
        now = SystemClock().now()
        day = trading_day(now)
        (intent_id, order_id, at) = (
            await sql(schema_url, "SELECT intent_id, id, created_at FROM orders ORDER BY created_at DESC LIMIT 1")
        )[0]
        page = {"limit": 50, "after": (at, order_id)}

        async def read(connection: Any) -> list[str]:
            # so few rows are read from end to end as fast as by an index, where there is one
            await connection.execute("SET LOCAL enable_seqscan = off")
            seen = Explaining(connection, large)
            for who in (many, one):
                mine = Visible((who.user_id,))
                await intents.list_intents(seen, intents.IntentFilter(limit=50, visible=mine))
                await intents.list_intents(seen, intents.IntentFilter(user_id=who.user_id, **page))
                await orders.list_orders(seen, orders.OrderFilter(limit=50, visible=mine))
                await orders.list_orders(seen, orders.OrderFilter(user_id=who.user_id, **page))
                await orders.list_orders(seen, orders.OrderFilter(limit=50, account_id=who.account_id))
                trades = holdings.TradeFilter(limit=50, visible=mine, start=now - timedelta(days=1))
                await holdings.list_trades(seen, trades)
                await history.account(seen, who.account_id, day)
                await history.user(seen, who.user_id, day)
                await late.ended_short(seen, who.user_id, day)
                await placed.orders_of_day(
                    seen, who.user_id, [who.account_id], day, since=now - timedelta(days=7), limit=100
                )
                await source_watch.rows_taken(seen, who.source_id, ["a", "b"])
            await intents.list_intents(seen, intents.IntentFilter(**page))
            await intents.find_intent(seen, intent_id)
            await orders.list_orders(seen, orders.OrderFilter(**page))
            await orders.list_orders(seen, orders.OrderFilter(limit=50, intent_id=intent_id))
            await orders.find_order(seen, order_id)
            await placed.placed(seen, [intent_id])
            await holdings.list_trades(seen, holdings.TradeFilter(limit=50))
            await holdings.list_trades(seen, holdings.TradeFilter(limit=50, order_id=order_id))
            await verdicts.of_intent(seen, intent_id)
            await audit_log.list_records(seen, audit_log.AuditFilter(limit=50))
            await audit_log.list_records(seen, audit_log.AuditFilter(limit=50, subject=f"order:{order_id}"))
            await audit_pages.newest(seen)
            await history.busy(seen)
            await history.delivered_since(seen, now, 3600)
            await late.users_ended_short(seen)
            return seen.scanned

        scanned = await owner.run(read, timeout_s=60)
        assert not scanned, "\n\n".join(scanned)
    finally:
        await owner.close()
