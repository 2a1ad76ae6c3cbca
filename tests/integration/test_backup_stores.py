"""The stores' part of a backup on a real PostgreSQL and Valkey: what comes back is what was, and safe to start on."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from engine.actors.killswitch_file import KillFile
from engine.actors.ledger_entry import LedgerEntry, pack
from engine.backup import making
from engine.backup.checking import Checked, check
from engine.backup.making import BackupError, Source, kill_store_name, make_backup
from engine.backup.restoring import Restorer
from engine.clock import SystemClock
from engine.domain.audit import GENESIS
from engine.domain.enums import KillMode, KillState, OrderStatus
from engine.domain.killswitch import KillRecord
from engine.errors import JournalUnavailable, StartupError
from engine.journal import keys as journal_keys
from engine.journal.store import JournalStore
from engine.security.sealed_file import FileKey
from engine.store import history, lease
from engine.store.database import APP_ROLE, Database
from engine.store.dump import dump
from engine.store.flags import kill_records, write_kill_record
from engine.store.ledger import Head, LedgerStore
from engine.store.restored import LEASES_AHEAD
from tests.support.ledger_rows import NOW, Trader, audit_chain, draft, sql
from tests.support.servers import TestServers

S = OrderStatus
MASTER = b"k" * 32
KEY = FileKey(masters=(MASTER,))
EPOCH = UUID(int=77)


def silent(*_: Any) -> None:
    return None


async def proven(_database: Database) -> None:
    return None


@pytest.fixture
async def database(schema_url, aio):
    opened_database = Database(schema_url, max_connections=3)
    await opened_database.open()
    await opened_database.run(lambda c: lease.take(c, holder="test", seen=None))
    yield opened_database
    await opened_database.close()


@pytest.fixture
def place(servers: TestServers, tmp_path: Path):
    """An empty database, an empty Valkey and an empty data directory."""
    name = f"restored_{uuid4().hex[:8]}"
    redis_url = f"{servers.redis_url}?db=14"
    servers.flush(redis_url)
    yield servers.create_database(name), redis_url, tmp_path / "new"
    servers.drop_database(name)


def source(database_url: str, redis_url: str, data_dir: Path) -> Source:
    return Source(
        database_url=database_url,
        redis_url=redis_url,
        data_dir=data_dir,
        root=MASTER,
        master=MASTER,
        key_files={},
        mode="paper",
        config={"server": {"port": 8080}},
    )


async def seeded(url: str, trader: Trader) -> dict[str, Any]:
    """Write orders in every state that a backup can meet; return their ids by name."""
    intents = [trader.intent() for _ in range(6)]
    made = {
        "sent": trader.order(intents[0], status=S.SUBMITTING, submitting_at=NOW),
        "behind": trader.order(intents[1], status=S.PENDING, created_at=NOW + timedelta(seconds=1)),
        "first": trader.order(intents[2], status=S.PENDING, symbol="SBIN"),
        "second": trader.order(intents[3], status=S.PENDING, symbol="SBIN", created_at=NOW + timedelta(seconds=1)),
        "open": trader.order(intents[4], status=S.OPEN, symbol="TCS", broker_order_id="1", submitting_at=NOW),
        "done": trader.order(intents[5], status=S.COMPLETE, symbol="TCS", broker_order_id="2", submitting_at=NOW),
    }
    entry = LedgerEntry(new_intents=intents, new_orders=list(made.values()), audit=[draft("a"), draft("b")])
    batch, _ = pack([entry], Head(seq=0, hash=GENESIS))
    store = LedgerStore(url, role=APP_ROLE)
    await store.commit(batch, epoch=1, timeout_s=10)
    await store.close()
    await sql(url, history.CURSOR, EPOCH, "5-0", NOW)
    return {name: order.id for name, order in made.items()}


async def rows_of(url: str) -> dict[str, list[str]]:
    names = await sql(
        url,
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        " AND NOT relispartition",
    )
    return {
        name: sorted(row for (row,) in await sql(url, f'SELECT t::text FROM "{name}" t'))
        for (name,) in names
        if name != "schema_migrations"
    }


async def test_a_backup_comes_back_whole_and_safe_to_start_on(
    schema_url, database, redis_url, place, tmp_path: Path
) -> None:
    trader = await Trader().seed(schema_url)
    ids = await seeded(schema_url, trader)
    kept = KillRecord(
        scope=f"account:{trader.account_id}",
        version=9,
        state=KillState.BLOCKED,
        reason="a person said so",
        actor="cli",
        at=NOW,
        mode=KillMode.BLOCK,
    )
    old = tmp_path / "old"
    KillFile(old / "state" / "kill.wal").append(kept)
    journal = JournalStore(redis_url, deployment=kill_store_name(MASTER))
    entries = [("4-0", b"decided"), ("5-0", b"decided too"), ("6-0", b"waits"), ("7-1", b"waits too")]
    await journal.load(str(EPOCH), entries, position="3-0")
    only_there = KillRecord(
        scope=f"user:{trader.user_id}", version=3, state=KillState.BLOCKED, reason="x", actor="cli", at=NOW
    )
    await journal.put_kill(only_there)
    before = await rows_of(schema_url)
    file = tmp_path / "a.backup"
    await make_backup(
        file, source(schema_url, redis_url, old), KEY, with_keys=False, clock=SystemClock(), progress=silent
    )
    assert file.stat().st_mode & 0o777 == 0o600
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
    with pytest.raises(BackupError, match="there already"):
        await make_backup(
            file, source(schema_url, redis_url, old), KEY, with_keys=False, clock=SystemClock(), progress=silent
        )

    checked = check(file, KEY)
    new_url, new_redis, data_dir = place
    said: list[str] = []
    restorer = Restorer(
        file, KEY, checked, data_dir=data_dir, root=MASTER, prove=proven, clock=SystemClock(), say=said.append
    )
    restored = await restorer.run(new_url, new_redis)

    after = await rows_of(new_url)
    changed = {"orders", "order_events", "audit_logs", "system_flags", "users", "engine_lease", "refresh_tokens"}
    assert {name: rows for name, rows in after.items() if name not in changed} == {
        name: rows for name, rows in before.items() if name not in changed
    }
    found = dict(await sql(new_url, "SELECT id, status FROM orders"))
    assert {name: found[order_id] for name, order_id in ids.items()} == {
        "sent": "UNKNOWN",
        "behind": "EXPIRED",
        "first": "UNKNOWN",
        "second": "EXPIRED",
        "open": "OPEN",
        "done": "COMPLETE",
    }
    assert (restored.in_doubt, restored.given_up, restored.working) == (2, 2, 1)
    # what was given up is heard of at the broker all the same: only what was sent is looked for
    given_up = "SELECT status_message FROM orders WHERE status = 'EXPIRED' AND submitting_at IS NOT NULL"
    looked_for = await sql(new_url, given_up)
    assert len(looked_for) == 2
    assert all(message.startswith("UNPLACED: RESTORED") for (message,) in looked_for)
    chain = await audit_chain(new_url)
    assert [record.action for record in chain] == ["TESTED", "TESTED", "RESTORED"]

    flags = {record.scope: record for record in await _kills(new_url)}
    on_file = KillFile(data_dir / "state" / "kill.wal").read()
    in_journal = {r.scope: r for r in await JournalStore(new_redis, deployment=kill_store_name(MASTER)).kill_records()}
    for copy in (flags, on_file, in_journal):
        assert copy["global"].enabled
        assert copy["global"].reason.startswith("RESTORED")
    assert on_file[kept.scope] == kept
    assert on_file[only_there.scope].enabled

    there = JournalStore(new_redis)
    assert journal_keys.read_name(await there.epoch() or "")[0] == str(EPOCH)
    assert await there.read_after(str(EPOCH), "0-0") == entries[2:]
    ((epoch, released),) = await sql(new_url, "SELECT epoch, released FROM engine_lease")
    assert (epoch, released) == (1 + LEASES_AHEAD, True)
    # the next row gets the next number
    later = "INSERT INTO intent_events (intent_id, at, event) SELECT id, now(), 'X' FROM trade_intents LIMIT 1"
    await sql(new_url, later)

    # neither the stores nor the folder are empty now
    with pytest.raises(StartupError, match="not empty"):
        await restorer.run(new_url, new_redis)


async def _kills(url: str) -> list[KillRecord]:
    database = Database(url, max_connections=1)
    await database.open()
    try:
        return await database.run(kill_records)
    finally:
        await database.close()


async def test_a_broken_audit_chain_leaves_the_place_empty(
    schema_url, database, redis_url, place, tmp_path: Path
) -> None:
    trader = await Trader().seed(schema_url)
    await seeded(schema_url, trader)
    await sql(schema_url, "ALTER TABLE audit_logs DISABLE TRIGGER ALL")
    await sql(schema_url, "UPDATE audit_logs SET actor = 'somebody else' WHERE seq = 1")
    file = tmp_path / "a.backup"
    await make_backup(
        file, source(schema_url, redis_url, tmp_path), KEY, with_keys=False, clock=SystemClock(), progress=silent
    )
    new_url, new_redis, data_dir = place
    restorer = Restorer(
        file, KEY, check(file, KEY), data_dir=data_dir, root=MASTER, prove=proven, clock=SystemClock(), say=silent
    )
    with pytest.raises(StartupError, match="broken at record 1"):
        await restorer.run(new_url, new_redis)
    assert not any((await rows_of(new_url)).values())
    assert await JournalStore(new_redis).epoch() is None
    assert await JournalStore(new_redis).read_after(str(EPOCH), "0-0") == []
    # it failed for the backup's fault, so the place can still be used
    await sql(schema_url, "UPDATE audit_logs SET actor = 'system' WHERE seq = 1")


async def test_a_place_in_use_is_refused_before_anything_is_touched(
    schema_url, database, redis_url, place, tmp_path: Path
) -> None:
    await Trader().seed(schema_url)
    file = tmp_path / "a.backup"
    await make_backup(
        file, source(schema_url, redis_url, tmp_path), KEY, with_keys=False, clock=SystemClock(), progress=silent
    )
    new_url, new_redis, data_dir = place
    checked: Checked = check(file, KEY)

    def restorer() -> Restorer:
        return Restorer(
            file, KEY, checked, data_dir=data_dir, root=MASTER, prove=proven, clock=SystemClock(), say=silent
        )

    before = await rows_of(schema_url)
    with pytest.raises(StartupError, match="not empty"):
        await restorer().run(schema_url, new_redis)
    assert await rows_of(schema_url) == before
    await JournalStore(new_redis).set_epoch(str(uuid4()))
    with pytest.raises(StartupError, match="in use by another engine"):
        await restorer().run(new_url, new_redis)
    assert await rows_of(new_url) == {}
    assert not data_dir.exists()
    with pytest.raises(JournalUnavailable, match="holds a journal"):
        await JournalStore(new_redis).load(str(EPOCH), [], position="0-0")
    await sql(new_url, "CREATE TABLE theirs (x integer)")
    with pytest.raises(StartupError, match="somebody else"):
        await restorer().run(new_url, new_redis)


async def test_a_kill_switch_that_is_on_keeps_its_mode_and_its_reason(
    schema_url, database, redis_url, place, tmp_path: Path
) -> None:
    await Trader().seed(schema_url)
    held = KillRecord(
        scope="global",
        version=5,
        state=KillState.FLATTENING,
        reason="MAX_DAILY_LOSS_PCT: lost",
        actor="system",
        at=NOW,
        mode=KillMode.SQUARE_OFF,
        tripped_at=NOW,
    )
    write = write_kill_record(held)
    await database.run(lambda c: c.execute(write.sql, *write.args))
    file = tmp_path / "a.backup"
    await make_backup(
        file, source(schema_url, redis_url, tmp_path), KEY, with_keys=False, clock=SystemClock(), progress=silent
    )
    new_url, new_redis, data_dir = place
    await Restorer(
        file, KEY, check(file, KEY), data_dir=data_dir, root=MASTER, prove=proven, clock=SystemClock(), say=silent
    ).run(new_url, new_redis)
    (record,) = await _kills(new_url)
    assert (record.state, record.mode, record.tripped_at) == (held.state, held.mode, NOW)
    assert record.reason.startswith("RESTORED")
    assert held.reason in record.reason
    assert KillFile(data_dir / "state" / "kill.wal").read()["global"] == record


async def test_what_comes_while_a_backup_is_made_is_in_the_journal_part_or_in_the_tables(
    schema_url, database, redis_url, place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger goes on and the journal is trimmed between the two reads: nothing falls between, nothing is twice."""
    trader = await Trader().seed(schema_url)
    await seeded(schema_url, trader)
    journal = JournalStore(redis_url)
    await journal.load(str(EPOCH), [("6-0", b"decided meanwhile"), ("7-0", b"waits")], position="5-0")

    async def dump_later(url: str, sink: Any, *, timeout_s: float) -> None:
        await sql(schema_url, "UPDATE journal_cursor SET position = '6-0'")
        await journal.trim(str(EPOCH), "6-0")
        await dump(url, sink, timeout_s=timeout_s)

    monkeypatch.setattr(making, "dump", dump_later)
    file = tmp_path / "a.backup"
    await make_backup(
        file, source(schema_url, redis_url, tmp_path), KEY, with_keys=False, clock=SystemClock(), progress=silent
    )
    checked = check(file, KEY)
    assert (checked.manifest.epoch, checked.manifest.position) == (str(EPOCH), "6-0")
    new_url, new_redis, data_dir = place
    await Restorer(
        file, KEY, checked, data_dir=data_dir, root=MASTER, prove=proven, clock=SystemClock(), say=silent
    ).run(new_url, new_redis)
    assert await JournalStore(new_redis).read_after(str(EPOCH), "0-0") == [("7-0", b"waits")]
