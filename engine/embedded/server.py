"""What PostgreSQL and Valkey have in common as children: clear, start, watch, stop."""

import importlib.util
import os
import re
import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import trio

from engine.embedded.identity import MEND, ServerUser, private_directory, server_user
from engine.embedded.places import Places
from engine.embedded.process import Process, spawn
from engine.embedded.stale import Steps, clear_stale, write_mark
from engine.errors import EngineError, StartupError

_READY_WITHIN_S = 30.0
_PROBE_WITHIN_S = 2.0
_PROBE_EVERY_S = 0.02
_LOG_TAIL_BYTES = 8192
_TELLING_LINE = re.compile(r"FATAL|PANIC|ERROR|Fatal|launch:|initdb: error", re.IGNORECASE)


class EmbeddedServerDied(EngineError):
    """An embedded server that was up ended by itself; starting it again is the remedy."""


def package_folder(package: str) -> Path:
    """Return the folder of an installed package without importing it. Raises StartupError if it is missing.

    Both packages import clients and lock libraries of no use here, and one warns about it.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise StartupError(f"the Python package {package} is not installed: install the engine again, or {MEND}")
    return Path(found.submodule_search_locations[0])


class EmbeddedServer(ABC):
    """One server of a data directory. The caller must hold the directory's lock.

    ``run`` may be called again after it ended in whatever way.
    """

    name: str
    title: str
    comm: str
    stop_steps: Steps

    def __init__(self, data_dir: Path, *, socket_name: str) -> None:
        self.places = Places(data_dir, self.name, socket_name)

    async def run(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; reports the URL once connections are accepted, at most 30 s after the start.

        Raises StartupError when the server cannot be brought up, EmbeddedServerDied when it ends after
        that. On cancellation the server is shut down in good order, within 11 s.
        """
        places = self.places
        try:
            user = await trio.to_thread.run_sync(self._prepare)
            await clear_stale(mark=places.mark, home=places.home, comm=self.comm, polite=self.stop_steps)
            await self.initialise(user)
        except OSError as error:
            raise StartupError(f"{self.title} cannot be kept in {places.data_dir} ({error}): {MEND}") from error
        with self._fresh_log() as log:
            process = spawn(self.command(), user=user, reads=self.reads(), death_signal=self.stop_steps[0][0], log=log)
        try:
            write_mark(places.mark, process.pid)
            await self._wait_ready(process)
            task_status.started(self.url())
            await process.wait()
            raise EmbeddedServerDied(f"{self.title} ended by itself ({process.exit_code()}): {self._last_words()}")
        finally:
            with trio.CancelScope(shield=True):
                ended = process.exit_code() is not None or await process.stop(self.stop_steps)
            process.close()
            if ended:
                self._tidy_up()

    @abstractmethod
    def url(self) -> str:
        """Return the URL under which the engine reaches the server."""

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Return the server's argv."""

    @abstractmethod
    def reads(self) -> Sequence[Path]:
        """Return paths, programs and libraries included, that the server has to reach."""

    @abstractmethod
    async def answers(self) -> bool:
        """Return whether the server takes connections. Raises OSError when nobody listens."""

    async def is_up(self) -> bool:
        """Return whether the server takes connections, for somebody else's process to know: nothing is made.

        Raises OSError when nobody listens.
        """
        return await self.answers()

    @abstractmethod
    async def initialise(self, user: ServerUser | None) -> None:
        """Make what must be there before the first start."""

    async def run_tool(self, argv: Sequence[str], *, user: ServerUser | None, within_s: float) -> None:
        """Run a program of the server's package to its end. Raises StartupError when it fails or takes too long."""
        with self._fresh_log() as log:
            tool = spawn(
                argv,
                user=user,
                programs=[Path(self.command()[0])],  # which initdb runs
                reads=self.reads(),
                death_signal=signal.SIGTERM,
                log=log,
            )
        try:
            write_mark(self.places.mark, tool.pid)
            with trio.move_on_after(within_s):
                await tool.wait()
            if tool.exit_code() != 0:
                raise StartupError(f"{self.title} cannot be set up: {self._last_words()}")
        finally:
            if tool.exit_code() is None:
                with trio.CancelScope(shield=True):
                    await tool.stop([(signal.SIGTERM, 2), (signal.SIGKILL, 2)])
            tool.close()

    def _prepare(self) -> ServerUser | None:
        places = self.places
        places.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        user = server_user(places.cluster)
        private_directory(places.log_dir, None)
        socket_dir = places.socket_dir()
        private_directory(socket_dir, user, adopt=socket_dir.is_relative_to(places.data_dir))
        if not os.access(socket_dir, os.R_OK | os.W_OK | os.X_OK):
            raise StartupError(f"this root lacks the right to enter {socket_dir}, a folder of its own servers: {MEND}")
        return user

    def _fresh_log(self) -> IO[bytes]:
        log = self.places.log
        try:
            log.replace(log.with_suffix(".log.1"))
        except FileNotFoundError:
            pass  # the first start
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        return open(os.open(log, flags, 0o600), "ab")

    async def _wait_ready(self, process: Process) -> None:
        with trio.move_on_after(_READY_WITHIN_S):
            while process.exit_code() is None:
                try:
                    with trio.move_on_after(_PROBE_WITHIN_S):
                        if await self.answers():
                            return
                except OSError:
                    pass  # not listening yet
                await trio.sleep(_PROBE_EVERY_S)
            raise StartupError(f"{self.title} did not start: {self._last_words()}")
        raise StartupError(f"{self.title} did not answer within {_READY_WITHIN_S:.0f} s: {self._last_words()}")

    def _last_words(self) -> str:
        log = self.places.log
        try:
            lines = log.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        telling = [line for line in lines if _TELLING_LINE.search(line)] or [line for line in lines if line.strip()]
        last = telling[-1].strip() if telling else "it wrote nothing"
        mend = f": {MEND}" if last.startswith("launch:") else ""
        return f"{last} (see {log}){mend}"

    def _tidy_up(self) -> None:
        places = self.places
        places.mark.unlink(missing_ok=True)
        places.socket().unlink(missing_ok=True)
        short = places.short_socket_dir()
        if short == places.socket_dir():
            try:
                short.rmdir()
            except OSError:
                pass  # a lock file of a killed server lies there; the next start uses the folder again
