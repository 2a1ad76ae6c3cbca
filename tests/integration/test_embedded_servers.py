"""The embedded servers together: first and warm start, promises, privacy, shutdown."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import redis
import trio

from engine.embedded import EmbeddedPostgres, EmbeddedValkey, embedded_servers, running_urls
from engine.embedded.postgres import binaries
from engine.embedded.process import identity_of
from engine.embedded.stale import marked_pid
from engine.errors import StartupError
from tests.support.servers import TestServers

WITHIN_S = 60


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / ".engine"


def psql(url, statement):
    done = subprocess.run(
        [str(binaries() / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", statement],
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


def valkey(url):
    return redis.Redis(unix_socket_path=unquote(urlsplit(url).path), decode_responses=True)


def server_pids(data_dir):
    return [marked_pid(server(data_dir).places.mark) for server in (EmbeddedPostgres, EmbeddedValkey)]


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


async def test_servers_started_twice_keep_data_and_promises(data_dir):
    with trio.fail_after(WITHIN_S):
        async with embedded_servers(data_dir) as first:
            psql(first.database_url, "CREATE TABLE kept (v text); INSERT INTO kept VALUES ('₹')")
            with valkey(first.redis_url) as client:
                client.xadd("kept", {"v": "1"}, id="1-1")
        assert running_urls(data_dir) is None

        async with embedded_servers(data_dir) as second:
            assert second == first == running_urls(data_dir)
            assert psql(second.database_url, "SELECT v FROM kept") == "₹"
            promised = {
                "fsync": "on",
                "synchronous_commit": "on",
                "full_page_writes": "on",
                "data_checksums": "on",
                "listen_addresses": "",
                "server_encoding": "UTF8",
                "TimeZone": "UTC",
                "shared_buffers": "256MB",
                "max_connections": "50",
            }
            found = {name: psql(second.database_url, f"SHOW {name}") for name in promised}
            assert found == promised
            identity = "SELECT current_user, current_database(), rolsuper FROM pg_roles WHERE rolname = current_user"
            assert psql(second.database_url, identity) == "engine_owner|engine|t"
            locale = "SELECT datlocprovider, datlocale FROM pg_database WHERE datname = 'engine'"
            assert psql(second.database_url, locale) == "b|C.UTF-8"
            with valkey(second.redis_url) as client:
                assert client.xrange("kept") == [("1-1", {"v": "1"})]
                kept = {
                    "port": "0",
                    "appendonly": "yes",
                    "appendfsync": "always",
                    "no-appendfsync-on-rewrite": "no",
                    "aof-load-truncated": "yes",
                    "maxmemory": str(256 << 20),
                    "maxmemory-policy": "noeviction",
                    "save": "",
                }
                assert {name: client.config_get(name)[name] for name in kept} == kept


async def test_servers_below_locked_folder_are_private_and_leave_it_locked(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o700)
    data_dir = locked / ".engine"
    with trio.fail_after(WITHIN_S):
        async with embedded_servers(data_dir):
            places = EmbeddedPostgres(data_dir).places, EmbeddedValkey(data_dir).places
            pids = server_pids(data_dir)
            for place, pid in zip(places, pids, strict=True):
                assert os.stat(f"/proc/{pid}").st_uid != 0
                assert os.getsid(pid) == pid  # a Ctrl-C in the engine's terminal is not for them
                assert mode(place.home) == mode(place.socket_dir()) == mode(place.log_dir) == 0o700
                assert mode(place.socket()) == 0o700
                assert mode(place.log) == mode(place.mark) == 0o600
                assert os.lstat(place.home).st_uid == os.stat(f"/proc/{pid}").st_uid
    assert mode(locked) == mode(data_dir) == 0o700
    assert [identity_of(pid) for pid in pids] == [None, None]
    assert not any(place.socket().exists() or place.mark.exists() for place in places)


@pytest.mark.parametrize("name", ["long-" + "x" * 120, "odd , 'name\" %41 =&?"])
async def test_servers_unfit_path_use_short_socket_folder(tmp_path, name):
    data_dir = tmp_path / name
    with trio.fail_after(WITHIN_S):
        async with embedded_servers(data_dir, durable=False) as urls:
            folders = [server(data_dir).places.socket_dir() for server in (EmbeddedPostgres, EmbeddedValkey)]
            assert all(folder.parent == Path(tempfile.gettempdir()) and mode(folder) == 0o700 for folder in folders)
            assert psql(urls.database_url, "SELECT 1") == "1"
            with valkey(urls.redis_url) as client:
                assert client.ping()
            assert running_urls(data_dir) == urls
    assert not any(folder.exists() for folder in folders)


async def test_servers_squatted_socket_folder_is_refused(tmp_path, monkeypatch):
    shared = Path(tempfile.mkdtemp(prefix="t"))
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    try:
        server = EmbeddedValkey(tmp_path / ("x" * 120))
        victim = tmp_path / "victim"
        victim.mkdir()
        server.places.short_socket_dir().symlink_to(victim)
        with pytest.raises(StartupError, match="must be a directory"):
            await server.run()
        if os.geteuid() == 0:
            server.places.short_socket_dir().unlink()
            server.places.short_socket_dir().mkdir()
            os.chown(server.places.short_socket_dir(), 54321, 54321)
            with pytest.raises(StartupError, match="belongs to uid 54321"):
                await server.run()
        assert list(victim.iterdir()) == []
    finally:
        shutil.rmtree(shared)


async def test_servers_error_of_the_block_comes_out_as_it_is(data_dir):
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 -- the block is what is tested
        async with embedded_servers(data_dir, durable=False):
            pids = server_pids(data_dir)
            raise ZeroDivisionError
    assert all(pids)
    assert [identity_of(pid) for pid in pids] == [None, None]


async def test_servers_foreign_cluster_folder_is_refused_by_name(data_dir):
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "mine.txt").write_text("not a cluster")
    with pytest.raises(StartupError, match=r"postgres is in the way of a new cluster"):
        async with embedded_servers(data_dir, durable=False):
            pass
    assert (data_dir / "postgres" / "mine.txt").read_text() == "not a cluster"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")
def test_servers_run_by_a_normal_user_run_as_that_user(tmp_path):
    nobody = pwd.getpwnam("nobody")
    home = Path(tempfile.mkdtemp(prefix="t"))
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    program = textwrap.dedent(
        """
        import os, shutil, sys
        from pathlib import Path
        import trio
        from engine.embedded import EmbeddedPostgres, EmbeddedValkey, embedded_servers
        from engine.embedded.postgres import binaries
        from engine.embedded.stale import marked_pid

        home, uid, gid = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
        programs = binaries()
        os.setgroups([]); os.setresgid(gid, gid, gid); os.setresuid(uid, uid, uid)
        if not os.access(sys.executable, os.X_OK):
            sys.executable = shutil.which("python3", path=os.defpath) or sys.exit(77)
        if not os.access(programs / "postgres", os.X_OK):
            sys.exit(77)

        async def main():
            for _ in range(2):
                async with embedded_servers(home / ".engine"):
                    for server in (EmbeddedPostgres, EmbeddedValkey):
                        pid = marked_pid(server(home / ".engine").places.mark)
                        print(os.stat(f"/proc/{pid}").st_uid)

        trio.run(main)
        """
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", program, str(home), str(nobody.pw_uid), str(nobody.pw_gid)],
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
        )
        if done.returncode == 77:
            pytest.skip("this interpreter or its packages are below a folder that only root may enter")
        assert done.stderr == ""
        assert done.stdout.split() == [str(nobody.pw_uid)] * 4
    finally:
        shutil.rmtree(home)


def test_test_servers_make_copy_and_drop_databases_and_leave_nothing():
    with TestServers() as servers:
        servers.create_database("first")
        psql(servers.database_url("first"), "CREATE TABLE t AS SELECT 7 AS v")
        copy = servers.create_database("second", template="first")
        assert psql(copy, "SELECT v FROM t") == "7"
        servers.drop_database("second")
        servers.drop_database("second")
        assert servers.sql("SELECT count(*) FROM pg_database WHERE datname IN ('first', 'second')") == "1"
        with valkey(servers.redis_url) as client:
            assert client.ping()
            folder = Path(client.config_get("dir")["dir"]).parent.parent
        assert folder.is_dir()
    assert not folder.exists()
    with pytest.raises(RuntimeError, match="not running"):
        servers.database_url("first")
