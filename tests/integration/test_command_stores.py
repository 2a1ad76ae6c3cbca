"""Where a command finds its stores: those of an engine, also one that is just coming up, or servers of its own."""

import os

import pytest
import trio

from engine.cli import places
from engine.cli.places import open_stores
from engine.config import Config
from engine.data_dir import DirectoryLock, lock_data_dir, lock_if_free
from engine.embedded import embedded_servers, running_urls
from engine.errors import StartupError

WITHIN_S = 60


def refused(match):
    return pytest.RaisesGroup(pytest.RaisesExc(StartupError, match=match), flatten_subgroups=True)


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / ".engine"


async def test_command_beside_an_engine_that_has_just_been_started_waits_for_its_servers(data_dir):
    lock = DirectoryLock.take(data_dir)
    done = trio.Event()

    async def command():
        async with open_stores(Config(), data_dir) as stores:
            running = running_urls(data_dir)
            assert (stores.database_url, stores.redis_url) == (running.database_url, running.redis_url)
        done.set()

    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(command)
            # it has looked by then, and found the lock and nothing behind it
            await trio.sleep(0.3)
            assert not done.is_set()
            async with embedded_servers(data_dir, durable=False):
                await done.wait()
    lock.release()


async def test_command_waits_for_the_end_of_another_and_then_has_servers_of_its_own(data_dir):
    first = lock_data_dir(data_dir)
    # the name of an engine that was killed says nothing of who has the directory now
    os.pwrite(first, b"gone|gone|gone|1|1", 0)
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_close_soon, first)
            async with open_stores(Config(), data_dir) as stores:
                assert stores.database_url == running_urls(data_dir).database_url
                assert lock_if_free(data_dir) is None
    os.close(lock_data_dir(data_dir))


async def _close_soon(lock):
    await trio.sleep(0.3)
    os.close(lock)


async def test_wait_has_an_end_that_says_who_has_the_directory(data_dir, monkeypatch):
    monkeypatch.setattr(places, "_WAIT_S", 0.3)
    first = lock_data_dir(data_dir)
    with refused(r"another command works in .*\.engine: wait for its end"):
        async with open_stores(Config(), data_dir):
            pass
    os.close(first)
    lock = DirectoryLock.take(data_dir)
    with refused(r"an engine runs in .*, but PostgreSQL .* took no connection"):
        async with open_stores(Config(), data_dir):
            pass
    lock.release()
