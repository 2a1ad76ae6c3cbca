"""One real PostgreSQL and one real Valkey for a whole test session, in a folder of their own.

The servers are the engine's embedded ones, run by a trio program on a thread of its own. Their folder is in memory
where the machine has the room: tests ask for many databases and never for power cuts, and syncing is free there
with the very settings of production.
"""

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import redis
import trio

from engine.embedded import EmbeddedUrls, embedded_servers
from engine.embedded.places import Places
from engine.embedded.postgres import OWNER_ROLE, PORT, binaries, database_url
from engine.embedded.postgres import SOCKET_NAME as POSTGRES_SOCKET

_START_WITHIN_S = 60
_STOP_WITHIN_S = 30
_SQL_WITHIN_S = 60
_MEMORY = Path("/dev/shm")
_MEMORY_NEEDED = 4 << 30


class TestServers:
    """Start with ``start()`` or as a context manager; ``stop()`` ends the servers and removes their folder."""

    __test__ = False

    def __init__(self, *, durable: bool = False) -> None:
        self._durable = durable
        self._folder = Path(tempfile.mkdtemp(prefix="engine-tests-", dir=in_memory()))
        self._up = threading.Event()
        self._urls: EmbeddedUrls | None = None
        self._failure: BaseException | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._ending: trio.Event | None = None
        self._thread = threading.Thread(target=self._serve, name="test-servers", daemon=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Start both servers and wait until they answer; raises what went wrong."""
        self._thread.start()
        answered = self._up.wait(_START_WITHIN_S)
        if not answered or self._failure is not None:
            self.stop()
            raise self._failure or TimeoutError("the test servers did not start")
        return self

    def stop(self) -> None:
        """End both servers and remove their folder; calling it again does nothing."""
        if self._token is not None and self._ending is not None and self._thread.is_alive():
            try:
                self._token.run_sync_soon(self._ending.set)
            except trio.RunFinishedError:
                pass  # they ended by themselves
        if self._thread.ident is not None:
            self._thread.join(_STOP_WITHIN_S)
            if self._thread.is_alive():
                raise TimeoutError("the test servers do not stop")
        self._urls = None
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def redis_url(self) -> str:
        """The Valkey, as ``unix://PATH``. Shared: use keys of your own, or FLUSHALL when you are alone."""
        return self._running().redis_url

    def flush(self, url: str) -> None:
        """Empty the logical database that *url* names."""
        client = redis.Redis.from_url(url)
        try:
            client.flushdb()
        finally:
            client.close()

    @contextmanager
    def setting(self, name: str, value: str) -> Iterator[None]:
        """Run the Valkey with another setting for the length of a block."""
        client = redis.Redis.from_url(self.redis_url)
        try:
            before = client.config_get(name)[name]
            client.config_set(name, value)
            try:
                yield
            finally:
                client.config_set(name, before)
        finally:
            client.close()

    def database_url(self, dbname: str = "engine") -> str:
        """Return the asyncpg URL of a database, as the superuser ``engine_owner``."""
        return database_url(self._socket_dir(), dbname)

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, a copy of *template* if given (nobody may be connected to it); return its URL."""
        copied = f' TEMPLATE "{template}"' if template else ""
        self.sql(f'CREATE DATABASE "{name}"{copied}')
        return self.database_url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, its connections included; no error if it is not there."""
        self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def sql(self, statement: str, dbname: str = "postgres") -> str:
        """Run one statement through psql, blocking; return its unaligned output."""
        target = ["-h", str(self._socket_dir()), "-p", str(PORT), "-U", OWNER_ROLE, "-d", dbname]
        done = subprocess.run(
            [str(binaries() / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *target, "-c", statement],
            env={"PATH": os.defpath, "PGCLIENTENCODING": "UTF8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SQL_WITHIN_S,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{statement}: {done.stderr.strip()}")
        return done.stdout.strip()

    def psql_target(self, dbname: str) -> list[str]:
        """Return the command that opens a session on a database."""
        where = ["-h", str(self._socket_dir()), "-p", str(PORT), "-U", OWNER_ROLE, "-d", dbname]
        return [str(binaries() / "psql"), *where]

    def _running(self) -> EmbeddedUrls:
        if self._urls is None:
            raise RuntimeError("the test servers are not running")
        if self._failure is not None:
            raise RuntimeError("the test servers died") from self._failure
        return self._urls

    def _socket_dir(self) -> Path:
        self._running()
        return Places(self._folder / "engine", "postgres", POSTGRES_SOCKET).socket_dir()

    def _serve(self) -> None:
        try:
            trio.run(self._until_stopped)
        except BaseException as error:
            self._failure = error
        finally:
            self._up.set()

    async def _until_stopped(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._ending = trio.Event()
        async with embedded_servers(self._folder / "engine", durable=self._durable) as urls:
            self._urls = urls
            self._up.set()
            await self._ending.wait()


def in_memory() -> Path | None:
    """Return the file system in memory if it has room for the servers of a few workers."""
    if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _MEMORY_NEEDED:
        return _MEMORY
    return None
