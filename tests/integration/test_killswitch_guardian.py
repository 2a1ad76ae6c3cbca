"""The guardian: on at once, off only once it is on disk, and nothing forgotten."""

import threading
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
import trio
import trio.testing

from engine.actors.audit_writer import AuditWriter
from engine.actors.killswitch_file import KillFile
from engine.actors.killswitch_guardian import KillSwitchGuardian
from engine.clock import SystemClock
from engine.domain.enums import KillMode, KillState
from engine.domain.killswitch import KillRecord, KillSwitches, unreadable
from engine.errors import EngineError
from engine.security.kill_seal import KillSeal
from engine.store import lease
from engine.store.database import APP_ROLE, Database
from engine.store.flags import all_flags, kill_records, write_kill_record
from engine.store.ledger import LedgerStore
from tests.support.ledger_rows import audit_chain

AT = datetime(2026, 11, 23, tzinfo=UTC)
SEAL = KillSeal(b"m" * 32)


class QuickLedger:
    """A ledger that has at once whatever it is handed, or holds it while it is down."""

    def __init__(self):
        self.is_down = False
        self.held = []

    def append(self, entry):
        self.held.append(entry)
        if not self.is_down:
            self.come_back()

    def come_back(self):
        self.is_down = False
        held, self.held = self.held, []
        for entry in held:
            entry.on_commit()


class Desk:
    """A guardian with its parts."""

    def __init__(self, folder, url=None, records=(), journal=None):
        self.path = folder / "state" / "kill.wal"
        self.file = KillFile(self.path)
        self.switches = KillSwitches(records)
        self.changes = 0
        self.ledger = QuickLedger() if url is None else AuditWriter(LedgerStore(url, role=APP_ROLE), epoch=1)
        self.guardian = KillSwitchGuardian(
            switches=self.switches,
            file=self.file,
            ledger=self.ledger,
            clock=SystemClock(),
            on_change=self._changed,
            seal=SEAL,
            journal=journal,
        )

    def _changed(self):
        self.changes += 1

    def is_on(self, scope="global"):
        held = self.switches.records.get(scope)
        return held is not None and held.enabled

    def on_file(self, scope="global"):
        return self.file.read()[scope]

    @asynccontextmanager
    async def running(self, *, ledger=False):
        async with trio.open_nursery() as nursery:
            if ledger:
                await nursery.start(self.ledger.run)
            await nursery.start(self.guardian.run)
            yield self
            nursery.cancel_scope.cancel()

    def break_disk(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.mkdir()

    def mend_disk(self):
        self.path.rmdir()


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


@pytest.fixture
async def stored(schema_url, aio, tmp_path):
    database = Database(schema_url)
    await database.open()
    await database.run(lambda c: lease.take(c, holder="t", seen=None))
    yield Desk(tmp_path, schema_url), database
    await database.close()


async def until(condition):
    with trio.fail_after(10):
        while not condition():
            await trio.sleep(0.01)


async def test_block_holds_before_anything_is_written(desk):
    # nothing runs: neither the disk nor the ledger has been touched
    record = desk.guardian.block_nowait("global", reason="r", actor="user:1")
    assert desk.is_on()
    assert desk.changes == 1
    assert not desk.path.exists()
    assert (record.state, record.reason, record.actor) == (KillState.BLOCKED, "r", "user:1")


async def test_block_returns_when_the_file_has_it(desk):
    async with desk.running():
        record = await desk.guardian.block("global", reason="r", actor="a", mode=KillMode.SQUARE_OFF)
        assert desk.on_file() == record
        assert record.square_off


async def test_block_holds_with_disk_and_ledger_down_and_is_written_once_the_disk_is_back(desk):
    desk.break_disk()
    async with desk.running():
        with trio.fail_after(2):
            record = await desk.guardian.block("global", reason="r", actor="a")
        assert desk.is_on()
        desk.mend_disk()
        await until(lambda: desk.path.is_file() and desk.file.read())
        assert desk.on_file() == record


async def test_release_is_refused_while_the_disk_is_down_and_does_not_come_later(desk):
    async with desk.running():
        await desk.guardian.block("global", reason="r", actor="a")
        kept = desk.path.read_bytes()
        desk.path.unlink()
        desk.break_disk()
        with pytest.raises(EngineError, match="stays on"):
            await desk.guardian.release("global", reason="ok", actor="a")
        assert desk.is_on()
        desk.mend_disk()
        desk.path.write_bytes(kept)
        # a later change goes through; the refused one never does
        await desk.guardian.block("user:1", reason="r", actor="a")
        assert desk.is_on()
        assert desk.on_file().enabled


async def test_release_holds_in_memory_only_after_the_file_has_it(desk, monkeypatch):
    async with desk.running():
        await desk.guardian.block("global", reason="r", actor="a")
        seen = []
        real = desk.file.append
        monkeypatch.setattr(desk.file, "append", lambda record: (seen.append(desk.is_on()), real(record)))
        record = await desk.guardian.release("global", reason="ok", actor="b")
        assert seen == [True]
        assert not desk.is_on()
        assert desk.on_file() == record


async def test_release_whose_caller_gave_up_does_not_take_place(desk, monkeypatch):
    monkeypatch.setattr("engine.actors.killswitch_guardian._PERSIST_TIMEOUT_S", 0.01)
    desk.guardian.block_nowait("global", reason="r", actor="a")
    with pytest.raises(EngineError, match="stays on"):  # nobody writes yet
        await desk.guardian.release("global", reason="ok", actor="a")
    async with desk.running():
        await desk.guardian.block("user:1", reason="r", actor="a")
        await until(lambda: not any(lane.waiting for lane in desk.guardian.lanes))
        assert desk.is_on()
        assert desk.on_file().enabled


async def test_release_that_reaches_the_file_too_late_is_followed_by_a_block(desk, monkeypatch):
    monkeypatch.setattr("engine.actors.killswitch_guardian._PERSIST_TIMEOUT_S", 0.05)
    real, slow = desk.file.append, []

    def append(record):
        while slow and not record.enabled:
            trio.from_thread.run(trio.sleep, 0.01)
        real(record)

    monkeypatch.setattr(desk.file, "append", append)
    async with desk.running():
        await desk.guardian.block("global", reason="r", actor="a")
        slow.append(True)
        with pytest.raises(EngineError, match="stays on"):
            await desk.guardian.release("global", reason="ok", actor="a")
        slow.clear()
        await until(lambda: desk.on_file().enabled)
        assert desk.is_on()
        assert desk.on_file().reason == "r", "it stays on for the reason that it was on for"


async def test_block_during_a_release_wins(desk, monkeypatch):
    real, slow, begun = desk.file.append, [True], []

    def append(record):
        while slow and not record.enabled:
            begun.append(True)
            trio.from_thread.run(trio.sleep, 0.01)
        real(record)

    monkeypatch.setattr(desk.file, "append", append)
    async with desk.running():
        await desk.guardian.block("global", reason="r", actor="a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: desk.guardian.release("global", reason="ok", actor="a"))
            await until(lambda: begun)
            desk.guardian.block_nowait("global", reason="again", actor="b")
            slow.clear()
        await until(lambda: desk.on_file().reason == "again")
    assert desk.is_on()
    assert desk.on_file().enabled


async def test_second_block_joins_the_first_and_may_only_widen_it(desk):
    running = KillRecord(
        scope="global", version=5, state=KillState.FLATTENING, reason="r", actor="a", at=AT, mode=KillMode.SQUARE_OFF
    )
    desk.switches.put(running)
    record = desk.guardian.block_nowait("global", reason="again", actor="b", mode=KillMode.BLOCK)
    assert (record.state, record.square_off) == (KillState.FLATTENING, True)
    assert record.version > 5


async def test_what_waits_at_the_stop_is_written(desk):
    async with trio.open_nursery() as nursery:
        await nursery.start(desk.guardian.run)
        for number in range(30):
            desk.guardian.block_nowait(f"user:{number}", reason="r", actor="a")
        nursery.cancel_scope.cancel()
    assert len(desk.file.read()) == 30


@pytest.mark.parametrize("reason", ["a\0b\nc", "\ud800", "x" * 5000, "₹ 5 loss"])
async def test_any_reason_can_be_kept_by_every_store(stored, reason):
    desk, database = stored
    async with desk.running(ledger=True):
        record = await desk.guardian.block("global", reason=reason, actor="a")
        assert await desk.ledger.barrier()
        assert desk.on_file() == record
        assert await database.run(kill_records) == [record]
    assert len(record.reason) <= 500
    assert record.reason.isprintable()


async def test_change_stands_in_the_ledger_with_its_audit_record(stored, schema_url):
    desk, database = stored
    async with desk.running(ledger=True):
        await desk.guardian.block("global", reason="r", actor="user:1")
        off = await desk.guardian.release("global", reason="fine", actor="user:2")
        assert await desk.ledger.barrier()
    assert await database.run(kill_records) == [off]
    (flag,) = await database.run(all_flags)
    assert (flag["name"], flag["version"]) == ("killswitch:global", off.version)
    chain = await audit_chain(schema_url)
    assert [(r.action, r.actor) for r in chain] == [
        ("KILLSWITCH_ENABLED", "user:1"),
        ("KILLSWITCH_DISABLED", "user:2"),
    ]


@pytest.mark.parametrize(
    ("first", "second", "enabled"),
    [
        ((5, True), (4, False), True),
        ((5, True), (5, False), True),
        ((5, False), (5, True), True),
        ((5, True), (6, False), False),
    ],
)
async def test_older_record_never_replaces_a_newer_one_in_the_store(stored, first, second, enabled):
    _, database = stored

    async def put(connection):
        for version, is_on in (first, second):
            state = KillState.BLOCKED if is_on else KillState.ARMED
            record = KillRecord(scope="global", version=version, state=state, reason="r", actor="a", at=AT)
            write = write_kill_record(record)
            await connection.execute(write.sql, *write.args)

    await database.run(put)
    (found,) = await database.run(kill_records)
    assert found.enabled is enabled


async def test_newer_record_of_another_program_is_adopted_and_older_ones_are_not(desk):
    held = desk.guardian.block_nowait("global", reason="r", actor="a")
    changes = desk.changes
    older = KillRecord(scope="global", version=1, state=KillState.ARMED, reason="r", actor="cli", at=AT)
    desk.guardian.adopt([older, held])
    assert (desk.is_on(), desk.changes) == (True, changes)
    newer = KillRecord(scope="global", version=held.version + 1, state=KillState.ARMED, reason="r", actor="cli", at=AT)
    desk.guardian.adopt([newer])
    assert desk.is_on(), "it bears no seal"
    newer = SEAL.sign(newer)
    desk.guardian.adopt([newer])
    assert (desk.is_on(), desk.changes) == (False, changes + 1)
    same = KillRecord(scope="global", version=newer.version, state=KillState.BLOCKED, reason="r", actor="cli", at=AT)
    desk.guardian.adopt([same])
    assert desk.is_on()


async def test_command_without_an_engine_counts_more_than_what_the_store_holds(desk, tmp_path):
    # the file was lost; the store still has the seventh change, which let trading go on
    stored = KillRecord(scope="global", version=7, state=KillState.ARMED, reason="r", actor="a", at=AT)
    commanded = desk.guardian.block_nowait("global", reason="r", actor="cli")
    assert KillSwitches([stored, commanded]).records["global"].enabled


async def test_damaged_file_blocks_and_is_mended_so_that_a_release_lasts(tmp_path):
    before = Desk(tmp_path)
    async with before.running():
        await before.guardian.block("user:1", reason="r", actor="a")
        await before.guardian.release("user:1", reason="r", actor="a")
    before.path.write_bytes(b"00000000 {}\n" + before.path.read_bytes())
    stored = KillRecord(scope="global", version=9, state=KillState.ARMED, reason="r", actor="a", at=AT)
    desk = Desk(tmp_path, records=[stored, unreadable(SystemClock().now() + timedelta(hours=1))])
    assert desk.is_on()
    async with desk.running():
        await until(lambda: desk.path.with_suffix(".damaged").exists())
        await until(lambda: desk.path.exists() and desk.file.read())
        assert desk.on_file().enabled
        await desk.guardian.release("global", reason="checked", actor="a")
    assert not desk.on_file().enabled


async def test_writing_does_not_run_on_the_event_loops_thread(desk, monkeypatch):
    threads = []
    real = desk.file.append
    monkeypatch.setattr(desk.file, "append", lambda record: (threads.append(threading.get_ident()), real(record)))
    async with desk.running():
        await desk.guardian.block("global", reason="r", actor="a")
    assert threads
    assert threading.get_ident() not in threads
