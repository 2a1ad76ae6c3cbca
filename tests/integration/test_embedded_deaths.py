"""Servers that die, owners that die, and what the next start finds."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
import trio

from engine.embedded import EmbeddedPostgres, EmbeddedServerDied, EmbeddedValkey
from engine.embedded.identity import server_user
from engine.embedded.process import Process, identity_of, spawn
from engine.embedded.stale import marked_pid, postmaster_pid, write_mark
from engine.errors import StartupError

WITHIN_S = 60
OWNER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import trio
    from engine.embedded import embedded_servers

    async def main():
        async with embedded_servers(Path(sys.argv[1]), durable=False):
            print("up", flush=True)
            await trio.sleep_forever()

    trio.run(main)
    """
)


@pytest.fixture(params=["postgres", "valkey"])
def server(request):
    # a short path: with a long one the sockets are elsewhere, which is another test's business
    with tempfile.TemporaryDirectory(prefix="deaths-") as folder:
        data_dir = Path(folder) / ".engine"
        yield EmbeddedPostgres(data_dir, durable=False) if request.param == "postgres" else EmbeddedValkey(data_dir)


async def run_once(server):
    """Start and stop the server in good order."""
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        nursery.cancel_scope.cancel()


async def ended(pid):
    try:
        process = Process(pid)
    except ProcessLookupError:
        return
    try:
        with trio.fail_after(20):
            await process.wait()
    finally:
        process.close()


def popen(argv, **options):
    return subprocess.Popen(argv, **options)


def leave_behind(server):
    """Start the server as an engine would whose death goes unnoticed."""
    with server.places.log.open("ab") as log:
        return spawn(
            server.command(),
            user=server_user(server.places.cluster),
            reads=server.reads(),
            death_signal=0,
            log=log,
        )


async def until_up(server):
    with trio.fail_after(20):
        while True:
            try:
                if await server.answers():
                    return
            except OSError:
                pass
            await trio.sleep(0.02)


async def test_server_killed_raises_died_and_starts_again(server):
    with trio.fail_after(WITHIN_S):
        for _ in range(2):
            with pytest.RaisesGroup(EmbeddedServerDied):
                async with trio.open_nursery() as nursery:
                    await nursery.start(server.run)
                    os.kill(marked_pid(server.places.mark), signal.SIGKILL)
            assert not server.places.mark.exists()
        await run_once(server)


async def test_server_cancelled_while_starting_leaves_no_process(server, monkeypatch):
    started = []

    async def never():
        started.append(marked_pid(server.places.mark))
        nursery.cancel_scope.cancel()
        await trio.sleep_forever()

    monkeypatch.setattr(server, "answers", never)
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.run)
    assert len(started) == 1
    assert identity_of(started[0]) is None
    assert not server.places.mark.exists()


async def test_server_unnoticed_stale_one_is_replaced(server):
    with trio.fail_after(WITHIN_S):
        await run_once(server)
        stale = leave_behind(server)
        try:
            if server.name == "valkey":
                write_mark(server.places.mark, stale.pid)
            await until_up(server)
            if server.name == "postgres":
                assert postmaster_pid(server.places.home) == stale.pid
            async with trio.open_nursery() as nursery:
                await nursery.start(server.run)
                assert stale.exit_code() == 0
                assert marked_pid(server.places.mark) not in (None, stale.pid)
                nursery.cancel_scope.cancel()
        finally:
            await stale.stop([(signal.SIGKILL, 5)])
            stale.close()


async def test_server_stale_without_any_record_is_found_by_its_folder(server):
    with trio.fail_after(WITHIN_S):
        await run_once(server)
        stale = leave_behind(server)
        try:
            await until_up(server)
            (server.places.home / "postmaster.pid").unlink(missing_ok=True)
            await run_once(server)
            assert stale.exit_code() is not None
        finally:
            await stale.stop([(signal.SIGKILL, 5)])
            stale.close()


async def test_owner_killed_leaves_no_server_and_next_start_recovers(tmp_path):
    data_dir = tmp_path / ".engine"
    owner = popen([sys.executable, "-c", OWNER, str(data_dir)], stdout=subprocess.PIPE)
    with owner:
        try:
            assert owner.stdout.readline() == b"up\n"
            servers = [EmbeddedPostgres(data_dir, durable=False), EmbeddedValkey(data_dir)]
            pids = [marked_pid(server.places.mark) for server in servers]
        finally:
            owner.kill()
    with trio.fail_after(WITHIN_S):
        try:
            for pid, server in zip(pids, servers, strict=True):
                await ended(pid)
                assert server.places.mark.exists()
        finally:
            for server in servers:
                await run_once(server)


async def test_server_recycled_pid_is_left_alone(server):
    with trio.fail_after(WITHIN_S):
        await run_once(server)
        user = server_user(server.places.cluster)
        account = {} if user is None else {"user": user.uid, "group": user.gid, "extra_groups": []}
        bystander = popen(["sleep", "600"], **account)
        try:
            write_mark(server.places.mark, bystander.pid)
            recorded = server.places.mark.read_bytes()
            ticks = str(identity_of(bystander.pid).start_ticks).encode()
            server.places.mark.write_bytes(recorded.replace(ticks, b"1"))
            lines = [str(bystander.pid), str(server.places.home), "1", "5432", str(server.places.socket_dir()), ""]
            for name in ("postmaster.pid", "../postgres-run/.s.PGSQL.5432.lock"):
                if server.name == "postgres":
                    path = server.places.home / name
                    path.write_text("\n".join(lines))
                    path.chmod(0o600)
                    if user is not None:
                        os.chown(path, user.uid, user.gid)
            await run_once(server)
            assert bystander.poll() is None
        finally:
            bystander.kill()
            bystander.wait()


async def test_postgres_damaged_cluster_names_the_log(tmp_path):
    server = EmbeddedPostgres(tmp_path / ".engine", durable=False)
    with trio.fail_after(WITHIN_S):
        await run_once(server)
        (server.places.home / "PG_VERSION").write_text("11\n")
        with pytest.raises(StartupError, match=r"PostgreSQL did not start: .*incompatible.*postgres\.log"):
            await server.run()
    assert not server.places.mark.exists()
