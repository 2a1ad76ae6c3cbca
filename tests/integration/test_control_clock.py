"""What the clock actor does each tick: the journal's cursor, the kill file of another program, trimming."""

import os
from types import SimpleNamespace
from uuid import uuid4

import pytest

from engine.actors.audit_writer import AuditWriter
from engine.actors.clock import ClockActor
from engine.actors.journal_progress import JournalProgress, Mark
from engine.actors.kill_gate import KillFileLook
from engine.actors.killswitch_file import KillFile
from engine.actors.killswitch_guardian import KillSwitchGuardian
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import SystemClock
from engine.domain.enums import KillState
from engine.domain.killswitch import KillRecord, KillSwitches
from engine.journal import keys
from engine.journal.store import JournalStore
from engine.security.kill_seal import KillSeal
from engine.store.ledger import LedgerStore
from tests.support.valkey import OwnValkey

SEAL = KillSeal(b"m" * 32)


class Parts:
    """A clock actor with a ledger that only collects what it is handed."""

    def __init__(self, folder, url="unix:///none.sock"):
        self.ingest = SimpleNamespace(progress=JournalProgress())
        self.ledger = AuditWriter(LedgerStore("postgresql://none", role=None), epoch=1)
        self.ledger.available = True
        self.path = folder / "state" / "kill.wal"
        self.file = KillFile(self.path)
        self.switches = KillSwitches()
        self.epoch = uuid4()
        self.ingest.progress.begin(self.epoch, "0-0")
        guardian = KillSwitchGuardian(
            switches=self.switches,
            file=self.file,
            ledger=self.ledger,
            clock=SystemClock(),
            on_change=lambda: None,
            seal=SEAL,
        )
        self.look = KillFileLook(self.file, guardian.adopt)
        self.actor = ClockActor(
            clock=SystemClock(),
            ingest=self.ingest,
            ledger=self.ledger,
            journal=JournalStore(url),
            journal_epoch=self.epoch,
            kill_look=self.look,
            crew=SimpleNamespace(executors={}),
        )

    def reach(self, position):
        self.ingest.progress.add(Mark(position))
        self.ingest.progress.advance()

    def cursors(self):
        """What the cursor moves to in the transactions that the actor asked for, each then on disk."""
        moved = [self.ingest.progress.ahead([entry]) for entry in self.ledger.mailbox.take_all()]
        for cursor in moved:
            self.ingest.progress.reached(cursor)
        return [cursor.position for cursor in moved]

    def append(self, version, state):
        record = KillRecord(
            scope="global", version=version, state=state, reason="r", actor="cli", at=SystemClock().now()
        )
        self.file.append(SEAL.sign(record))


@pytest.fixture
def parts(tmp_path):
    return Parts(tmp_path)


async def test_cursor_is_written_when_it_moved_and_nothing_took_it_along(parts):
    parts.actor.write_cursor()
    assert parts.cursors() == []
    seen = []
    for position in ("5-1", "5-1", "6-0"):
        parts.reach(position)
        parts.actor.write_cursor()
        seen += parts.cursors()
    assert seen == ["5-1", "6-0"]


async def test_cursor_is_not_written_by_itself_while_entries_wait_that_take_it_along(parts):
    parts.reach("5-1")
    parts.ledger.append(LedgerEntry())
    parts.actor.write_cursor()
    assert parts.ledger.mailbox.depth == 1


async def test_cursor_waits_for_the_ledger(parts):
    parts.reach("5-1")
    parts.ledger.available = False
    parts.actor.write_cursor()
    assert parts.cursors() == []
    parts.ledger.available = True
    parts.actor.write_cursor()
    assert parts.cursors() == ["5-1"]


async def test_change_in_the_kill_file_is_adopted_even_within_one_tick_of_its_clock(parts, monkeypatch):
    parts.look.look()
    parts.append(1, KillState.BLOCKED)
    stamp = parts.path.stat()
    parts.look.look()
    assert parts.switches.records["global"].enabled
    parts.append(2, KillState.ARMED)
    os.utime(parts.path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    parts.look.look()
    assert not parts.switches.records["global"].enabled


async def test_unchanged_kill_file_is_not_read_again(parts, monkeypatch):
    parts.append(1, KillState.BLOCKED)
    parts.look.look()
    monkeypatch.setattr(parts.file, "read", lambda: pytest.fail("read again"))
    parts.look.look()


async def test_damaged_kill_file_changes_nothing_in_memory(parts):
    parts.append(1, KillState.BLOCKED)
    parts.look.look()
    parts.path.write_bytes(b"damage\n" + parts.path.read_bytes())
    parts.look.look()
    assert parts.switches.records["global"].enabled


async def test_trimming_drops_what_the_ledger_has_on_disk_and_survives_a_server_that_is_away(aio, tmp_path):
    with OwnValkey(tmp_path) as server:
        parts = Parts(tmp_path, server.url)
        with server.client() as client:
            for n in range(1, 500):
                client.xadd(keys.stream(str(parts.epoch)), {"e": "x"}, id=f"{n}-0")
            parts.reach("450-0")
            parts.actor.write_cursor()
            handed = parts.ingest.progress.ahead(parts.ledger.mailbox.take_all())
            await parts.actor._trim()
            assert client.xlen(keys.stream(str(parts.epoch))) == 499, "handed to the ledger is not on disk"
            parts.ingest.progress.reached(handed)
            await parts.actor._trim()
            assert 50 <= client.xlen(keys.stream(str(parts.epoch))) < 200
        parts.reach("499-0")
        parts.actor.write_cursor()
        assert parts.cursors() == ["499-0"]
    await parts.actor._trim()
