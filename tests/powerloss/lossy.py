"""A mounted disk that forgets what was not fsynced, for tests; and the power cut."""

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Self

import psutil

from tests.powerloss import wire

_ROOT = Path(__file__).resolve().parents[2]
_DEAD_WITHIN_S = 20.0
_ANSWER_WITHIN_S = 60.0


@cache
def why_not() -> str | None:
    """Return why no file system can be mounted here, None when one can."""
    if not sys.platform.startswith("linux") or not os.path.exists("/dev/fuse"):
        return "power loss is not simulated here: there is no /dev/fuse"
    with tempfile.TemporaryDirectory(prefix="lossy-try-") as folder:
        try:
            device = os.open("/dev/fuse", os.O_RDWR)
        except OSError as error:
            return f"power loss is not simulated here: /dev/fuse: {error.strerror}"
        try:
            wire.mount(device, folder)
        except OSError as error:
            return f"power loss is not simulated here: no right to mount ({error.strerror})"
        finally:
            os.close(device)
            wire.unmount(folder)
    return None


class LossyDisk:
    """A file system in a process of its own, mounted at ``path`` while the block runs.

    ``home`` is a folder beside it on the machine's own disk, for what must outlast everything.
    """

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="lossy-"))
        self.home.chmod(0o755)
        self.path = self.home / "disk"
        self.path.mkdir()
        self._server: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.powerloss.served", str(self.path)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        return self

    def __exit__(self, *_: object) -> None:
        server, self._server = self._server, None
        assert server is not None
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.close()
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait(5)
        server.stdout.close()
        wire.unmount(str(self.path))
        shutil.rmtree(self.home, ignore_errors=True)

    def _do(self, command: str, **arguments: Any) -> dict[str, Any]:
        assert self._server is not None
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps({"do": command} | arguments).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([self._server.stdout], [], [], _ANSWER_WITHIN_S)
            piece = self._server.stdout.read(65536) if readable else b""
            if not piece:
                raise RuntimeError(f"the file system does not answer to {command}")
            line += piece
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise OSError(answer["error"])
        return answer

    def mount(self) -> None:
        """Mount what the disk holds."""
        self._do("mount")

    def load(self, source: Path) -> None:
        """Copy the tree *source* into the root, all of it lasting."""
        self._do("load", **{"from": str(source)})

    def keep(self) -> None:
        """Let everything last, as sync(1) does."""
        self._do("keep")

    def stats(self) -> dict[str, int]:
        """Return how many writes, fsyncs and folder fsyncs were answered."""
        return self._do("stats")

    def cut(self, processes: Iterable[int], *, seed: int | None = None) -> dict[str, int]:
        """Cut the power of *processes* and all they started; return what was lost. The disk is not mounted then.

        No call is answered from the first instant on, so nothing that happens while the processes die
        counts as written. Without *seed* all that was not synced is lost, with it a part.
        """
        tree = family(processes)
        self._do("freeze")
        tree |= family(processes)
        for process in tree:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        lost = self._do("cut", seed=seed)
        deadline = time.monotonic() + _DEAD_WITHIN_S
        while alive := [process for process in tree if _lives(process)]:
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes outlive the power cut: {alive}")
            time.sleep(0.005)
        return lost


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def family(pids: Iterable[int]) -> set[psutil.Process]:
    """Return the processes *pids* and all that they started."""
    found: set[psutil.Process] = set()
    for pid in pids:
        try:
            process = psutil.Process(pid)
            found |= {process, *process.children(recursive=True)}
        except psutil.NoSuchProcess:
            continue
    return found
