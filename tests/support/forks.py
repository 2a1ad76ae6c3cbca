"""Programs of the engine started as forks of a prepared process, with the face of `subprocess`."""

import atexit
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

_ROOT = Path(__file__).resolve().parents[2]
_START_S = 60.0
# what a process must be born with: a fork cannot take it on
_BORN_WITH = ("LD_PRELOAD", "PYTHONPATH", "PYTHONHASHSEED", "PYTHONDEVMODE", "PYTHONMALLOC", "PYTHONASYNCIODEBUG")


class Fork:
    """One program that runs, as `subprocess.Popen` shows it; its pipes are text."""

    def __init__(self, args: Sequence[str], stdout: IO[str] | None, stderr: IO[str] | None) -> None:
        self.args = list(args)
        self.pid = 0
        self.returncode: int | None = None
        self.stdin = None
        self.stdout = stdout
        self.stderr = stderr
        self._ended = threading.Event()

    def ended(self, code: int) -> None:
        """It has ended with *code*, negative for a signal."""
        self.returncode = code
        self._ended.set()

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raises subprocess.TimeoutExpired."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Signal it, if it runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class _Server:
    """The prepared process, and the thread that hears of its forks."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._jobs = ours
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._starting = threading.Lock()
        self._started: queue.Queue[int | None] = queue.Queue()
        self._running: dict[int, Fork] = {}
        self._early: dict[int, int] = {}
        self._known = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                text = self._jobs.recv(65536)
            except ConnectionError:
                text = b""
            if not text:
                self._started.put(None)
                return
            word = json.loads(text)
            if "code" not in word:
                self._started.put(word["pid"])
                continue
            with self._known:
                fork = self._running.pop(word["pid"], None)
                if fork is None:
                    self._early[word["pid"]] = word["code"]
            if fork is not None:
                fork.ended(word["code"])

    def start(self, job: dict[str, Any], descriptors: list[int], fork: Fork) -> None:
        """Start *job* as *fork*."""
        with self._starting:
            socket.send_fds(self._jobs, [json.dumps(job).encode()], descriptors)
            pid = self._started.get(timeout=_START_S)
            if pid is None:
                self._started.put(None)
                raise RuntimeError("the process that engines are forks of has ended: does the engine import?")
            fork.pid = pid
            with self._known:
                code = self._early.pop(pid, None)
                if code is None:
                    self._running[pid] = fork
            if code is not None:
                fork.ended(code)

    def close(self) -> None:
        """End the prepared process."""
        self._jobs.shutdown(socket.SHUT_RDWR)
        self._reader.join(5)
        self._jobs.close()
        self._process.wait(10)


_server: _Server | None = None


def _the_server() -> _Server:
    global _server
    if _server is None:
        _server = _Server()
        atexit.register(_server.close)
    return _server


def popen(
    program: Sequence[str],
    arguments: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stderr: int | None = None,
    stdin: int | None = None,
) -> Any:
    """Start ``python PROGRAM ARGUMENTS`` with its output in pipes, and *stderr* as for Popen; return a Popen or a Fork.

    *stdin* is a descriptor to read, /dev/null without.

    A fork of the prepared process where one will do: *program* is ``-m MODULE``, and its environment asks for nothing
    that a process must be born with.
    """
    environment = dict(os.environ if env is None else env)
    born = any(environment.get(name) != os.environ.get(name) for name in _BORN_WITH)
    if born or program[0] != "-m" or not hasattr(os, "pidfd_open"):
        return subprocess.Popen(
            [sys.executable, *program, *arguments],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    nothing = os.open(os.devnull, os.O_RDWR)
    read_out, write_out = os.pipe()
    read_err, write_err = os.pipe() if stderr == subprocess.PIPE else (-1, os.dup(nothing if stderr else 2))
    try:
        pipe = open(read_out, encoding="utf-8", errors="replace")  # noqa: SIM115 -- whoever holds the fork closes it
        errors = open(read_err, encoding="utf-8", errors="replace") if read_err >= 0 else None  # noqa: SIM115
        fork = Fork([*program, *arguments], pipe, errors)
        job = {
            "module": program[1],
            "arguments": [*program[2:], *arguments],
            "folder": str(cwd),
            "environment": environment,
        }
        _the_server().start(job, [nothing if stdin is None else stdin, write_out, write_err], fork)
    finally:
        for descriptor in (nothing, write_out, write_err):
            os.close(descriptor)
    return fork


def command(
    *words: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    text: str | None = None,
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run ``engine WORDS`` to its end with *text* as its input. Raises subprocess.TimeoutExpired."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        file.write(text or "")
        file.flush()
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        process = popen(("-m", "engine"), words, cwd=cwd, env=env, stderr=subprocess.PIPE, stdin=file.fileno())
    return _finished(process, timeout)


def _finished(process: Any, timeout: float) -> subprocess.CompletedProcess[str]:
    texts = ["", ""]

    def read(place: int, pipe: IO[str]) -> None:
        with pipe:
            texts[place] = pipe.read()

    threads = [
        threading.Thread(target=read, args=(place, pipe), daemon=True)
        for place, pipe in enumerate((process.stdout, process.stderr))
    ]
    for thread in threads:
        thread.start()
    try:
        code = process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
        raise
    finally:
        for thread in threads:
            thread.join(10)
    return subprocess.CompletedProcess(process.args, code, *texts)
