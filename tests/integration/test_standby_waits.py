"""The parts of waiting for one's turn that need a real store or a real process, without whole engines."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from engine import standby as standby_module
from engine.clock import SystemClock
from engine.config import ServerConfig
from engine.data_dir import DirectoryLock, lock_data_dir, locked_by
from engine.errors import StartupError
from engine.journal.store import JournalStore
from engine.leadership import Candidate
from engine.runtime import holder
from engine.standby import Standby
from engine.store import lease
from engine.store.database import Database
from engine.store.lease import Lease
from engine.store.migrate import applied, latest_version, migrate, migrations_folder
from tests.support.ledger_rows import sql
from tests.support.valkey import OwnValkey

HOLDER = """
import sys, time
from pathlib import Path
from engine.data_dir import DirectoryLock, lock_data_dir
lock = DirectoryLock.take(Path(sys.argv[1])) if sys.argv[2] == "engine" else lock_data_dir(Path(sys.argv[1]))
print("locked", flush=True)
while True:
    if sys.argv[2] == "engine":
        lock.beat()
    time.sleep(0.1)
"""
FAR = "far|away|pid:[1]|1|1"


@asynccontextmanager
async def standing_by(data_dir):
    """A standby on *data_dir* and the lines that it prints."""
    lines: list[str] = []
    async with trio.open_nursery() as nursery:
        waiting = Standby(ServerConfig(port=0), data_dir, clock=SystemClock(), announce=lines.append)
        waiting.nursery = nursery
        try:
            yield waiting, lines
        finally:
            waiting.close()
            nursery.cancel_scope.cancel()


@pytest.fixture
def held(tmp_path):
    """Start a process that holds the lock of a data directory as an engine or as a command does."""
    started = []

    def start(kind="engine"):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path / "data"), kind],
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout.readline() == b"locked\n"
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(standby_module, "_SILENT_LOOKS", 4)
    monkeypatch.setattr(standby_module, "_LOOK_S", 0.2)
    monkeypatch.setattr(standby_module, "_FORMER_STOPS_S", 1.0)


# the data directory


def test_lock_names_its_engine_while_it_lives_and_nobody_afterwards(tmp_path):
    lock = DirectoryLock.take(tmp_path)
    name, first = locked_by(tmp_path)
    assert name == holder.own_name()
    os.utime(tmp_path / "engine.lock", (1, 1))
    lock.beat()
    assert locked_by(tmp_path)[1] >= first
    with pytest.raises(StartupError, match="another engine runs in"):
        lock_data_dir(tmp_path)
    lock.release()
    assert locked_by(tmp_path)[0] == ""
    os.close(lock_data_dir(tmp_path))
    assert locked_by(tmp_path / "nowhere") == ("", 0)


async def test_stopped_holder_of_the_directory_is_ended_and_a_living_one_is_not(tmp_path, held, quick):
    process = held()
    async with standing_by(tmp_path / "data") as (waiting, lines):
        # as many looks as would end a silent one, twice over
        with trio.move_on_after(2.0):
            await waiting.wait_for_directory()
        assert waiting.lock is None
        assert process.poll() is None
        assert lines[0].startswith("engine standby http://127.0.0.1:")
        os.kill(process.pid, signal.SIGSTOP)
        with trio.fail_after(20):
            await waiting.wait_for_directory()
        assert process.wait(10) == -signal.SIGKILL
        assert locked_by(tmp_path / "data")[0] == holder.own_name()
    assert len(lines) == 1


async def test_command_that_holds_the_directory_is_waited_for_and_never_ended(tmp_path, held, quick):
    process = held("command")
    async with standing_by(tmp_path / "data") as (waiting, _):
        with trio.move_on_after(2.0):
            await waiting.wait_for_directory()
        assert waiting.lock is None
        assert process.poll() is None
        process.kill()
        with trio.fail_after(20):
            await waiting.wait_for_directory()


def former(name, *, released=False):
    return Lease(epoch=1, holder=name, renewed_at=SystemClock().now(), age_s=13.0, released=released)


async def test_leader_whose_lease_was_taken_is_ended_before_its_directory_is_shared(tmp_path, held, quick):
    process = held()
    os.kill(process.pid, signal.SIGSTOP)
    async with standing_by(tmp_path / "data") as (waiting, _):
        await waiting.follow_into_directory(former(locked_by(tmp_path / "data")[0]))
        assert waiting.lock is not None
    assert process.wait(10) == -signal.SIGKILL


async def test_leader_that_cannot_be_ended_is_worked_beside(tmp_path, held, quick, monkeypatch):
    process = held()
    monkeypatch.setattr(holder, "end", lambda _name: False)  # another user's
    async with standing_by(tmp_path / "data") as (waiting, _):
        await waiting.follow_into_directory(former(locked_by(tmp_path / "data")[0]))
        assert waiting.lock is None
        waiting.nursery.start_soon(waiting.keep_beating)
        process.kill()
        with trio.fail_after(20):
            while waiting.lock is None:
                await trio.sleep(0.01)


@pytest.mark.parametrize("before", [None, former(FAR), former(FAR, released=True)])
async def test_directory_of_an_engine_on_other_stores_is_refused_and_that_one_left_alone(tmp_path, held, quick, before):
    process = held()
    async with standing_by(tmp_path / "data") as (waiting, _):
        with pytest.raises(StartupError, match="another engine runs in"):
            await waiting.follow_into_directory(before)
    assert process.poll() is None


# the stores


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


async def put(url, name, *, released=False):
    await sql(
        url, "INSERT INTO engine_lease (epoch, holder, renewed_at, released) VALUES (1, $1, now(), $2)", name, released
    )


async def release(url):
    await sql(url, "UPDATE engine_lease SET released = true, renewed_at = clock_timestamp()")


async def test_candidate_whose_connections_are_cut_goes_on_waiting(database, schema_url):
    await put(schema_url, FAR)
    looks = []

    async def see(held):
        looks.append(held.epoch)
        if len(looks) < 3:
            await sql(
                schema_url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
        else:
            await release(schema_url)

    candidate = Candidate(SystemClock())
    with trio.fail_after(30):
        seen = await candidate.wait(database, on_wait=see)
    assert seen.released
    assert len(looks) == 3
    assert (await candidate.take(database, seen)).epoch == 2


async def test_lease_renewed_between_look_and_taking_stays_with_its_holder(database, schema_url):
    await put(schema_url, FAR, released=True)
    candidate = Candidate(SystemClock())
    seen = await candidate.wait(database)
    await sql(schema_url, "UPDATE engine_lease SET released = false, renewed_at = clock_timestamp()")
    assert await candidate.take(database, seen) is None
    assert (await database.run(lease.read)).holder == FAR


async def test_earlier_schema_stays_as_it_is_while_its_engine_lives(servers, own, tmp_path, database_url, aio):
    old = tmp_path / "migrations"
    old.mkdir()
    for path in sorted(migrations_folder().glob("*.sql"))[:-1]:
        shutil.copy(path, old)
    await migrate(database_url, folder=old)
    await put(database_url, FAR)
    versions, led = [], []

    async with standing_by(tmp_path / "data") as (waiting, lines):

        async def lead():
            led.append(await waiting.lead(database_url, JournalStore(own.url), wait_s=5, prove=nothing_to_prove))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lead)
            with trio.fail_after(20):
                while not lines:
                    await trio.sleep(0.01)
            versions.append(len(await applied(database_url)))
            await release(database_url)
        versions.append(len(await applied(database_url)))
        assert versions == [latest_version() - 1, latest_version()]
        assert led[0].grant.epoch == 2
        await led[0].database.close()


async def nothing_to_prove(_database):
    pass


async def test_standby_waits_for_the_journal_before_it_takes_the_lease(own, tmp_path, schema_url, aio):
    await put(schema_url, FAR)
    led = []
    async with standing_by(tmp_path / "data") as (waiting, lines):

        async def lead():
            led.append(await waiting.lead(schema_url, JournalStore(own.url), wait_s=5, prove=nothing_to_prove))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lead)
            with trio.fail_after(20):
                while not lines:
                    await trio.sleep(0.01)
            own.kill()
            await release(schema_url)
            with trio.fail_after(20):
                while "Start the server" not in waiting._why:
                    await trio.sleep(0.01)
            assert led == []
            assert (await sql(schema_url, "SELECT epoch FROM engine_lease"))[0][0] == 1
            own.start()
        assert led[0].grant.epoch == 2
        await led[0].database.close()


async def test_standby_refuses_the_schema_of_a_newer_engine_and_leaves_the_lease(own, tmp_path, schema_url, aio):
    await put(schema_url, FAR)
    async with standing_by(tmp_path / "data") as (waiting, lines):
        caught = []

        async def lead():
            with pytest.raises(StartupError, match="newer"):
                await waiting.lead(schema_url, JournalStore(own.url), wait_s=5, prove=nothing_to_prove)
            caught.append(True)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(lead)
            with trio.fail_after(20):
                while not lines:
                    await trio.sleep(0.01)
            await sql(
                schema_url,
                "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, '9999_newer', 'x')",
                latest_version() + 1,
            )
            await release(schema_url)
        assert caught == [True]
    assert (await sql(schema_url, "SELECT epoch FROM engine_lease"))[0][0] == 1
