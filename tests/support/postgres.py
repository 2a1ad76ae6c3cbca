"""A PostgreSQL of a test's own, to be stopped, killed, filled and crowded."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

import trio

from engine.embedded.postgres import OWNER_ROLE, PORT, SOCKET_NAME, EmbeddedPostgres, binaries, database_url
from engine.embedded.server import EmbeddedServerDied
from engine.embedded.stale import marked_pid
from tests.support.trio_thread import TrioThread


class _WithSettings(EmbeddedPostgres):
    settings: dict[str, str] = {}

    def command(self) -> list[str]:
        extra = [word for key, value in self.settings.items() for word in ("-c", f"{key}={value}")]
        return [*super().command(), *extra]


class OwnPostgres:
    """A durable server in *folder*, with *settings* on top of the engine's own; runs on *thread*."""

    def __init__(self, thread: TrioThread, folder: Path, **settings: str) -> None:
        self._thread = thread
        self._server = _WithSettings(folder, durable=True)
        self._server.settings = settings
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    @property
    def socket(self) -> Path:
        """The unix socket."""
        return self.socket_dir / SOCKET_NAME

    @property
    def socket_dir(self) -> Path:
        """The folder of the unix socket."""
        return self._server.places.socket_dir()

    def url(self, socket_dir: Path | None = None) -> str:
        """Return the URL, by way of another folder's socket if given (a proxy's)."""
        return database_url(socket_dir or self.socket_dir)

    def start(self) -> Self:
        """Start it and wait until it answers."""
        self._scope, self._ended = trio.CancelScope(), trio.Event()
        self._thread.start(self._run)
        return self

    async def _run(self, *, task_status: trio.TaskStatus[Any]) -> None:
        try:
            with self._scope:
                await self._server.run(task_status=task_status)
        except EmbeddedServerDied:
            pass  # that is what it was killed for
        finally:
            self._ended.set()

    def stop(self) -> None:
        """A shutdown in good order."""
        self._thread.call_sync(self._scope.cancel)
        self._thread.call(self._ended.wait)

    def end(self, number: signal.Signals = signal.SIGQUIT) -> None:
        """End it without order: SIGQUIT as ``pg_ctl stop -m immediate`` does, or SIGKILL."""
        os.kill(self.pid, number)
        self._thread.call(self._ended.wait)

    @property
    def has_ended(self) -> bool:
        """Whether it is not running, by itself or not."""
        return self._ended.is_set()

    def grow(self) -> None:
        """Write until the server finds no room any more; what it refuses is no error here."""
        statement = "CREATE TABLE ballast AS SELECT repeat(md5(n::text), 20) FROM generate_series(1, 200000) n"
        subprocess.run(self._psql("engine", "-c", statement), capture_output=True, timeout=60)
        subprocess.run(self._psql("engine", "-c", "DROP TABLE IF EXISTS ballast"), capture_output=True, timeout=60)

    @property
    def pid(self) -> int:
        """The postmaster."""
        pid = marked_pid(self._server.places.mark)
        assert pid is not None
        return pid

    @property
    def home(self) -> Path:
        """The data directory."""
        return self._server.places.home

    def sql(self, statement: str, database: str = "engine") -> str:
        """Run *statement* through psql, blocking; return its unaligned output."""
        done = subprocess.run(self._psql(database, "-c", statement), capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def session(self, statements: str, database: str = "engine") -> subprocess.Popen[str]:
        """Start a psql session that runs *statements* and then stays until its input is closed.

        One that the server has no room for has ended already; it is returned all the same.
        """
        process = subprocess.Popen(
            self._psql(database), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdin is not None
        try:
            process.stdin.write(statements + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            assert process.wait(10) != 0
        return process

    def _psql(self, database: str, *words: str) -> list[str]:
        target = ["-h", str(self.socket_dir), "-p", str(PORT), "-U", OWNER_ROLE, "-d", database]
        return [str(binaries() / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *target, *words]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
