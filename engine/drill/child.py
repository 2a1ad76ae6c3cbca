"""A program of the drill, run as a child: what it prints goes to a file that is read along."""

import re
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from engine.embedded.process import Process, spawn
from engine.errors import EngineError
from engine.runtime.own_program import engine_command

_LOOK_S = 0.05
_TOLD_LINES = 5
# an engine stops within 15 s; the kernel ends what is left when this process ends
_STOP = ((signal.SIGTERM, 16.0), (signal.SIGKILL, 5.0))


class DrillError(EngineError):
    """The drill could not be run to its end; the message says how far it came."""


class Child:
    """A running program; *log* holds what it has printed."""

    def __init__(self, name: str, process: Process, log: Path, whose: str = "drill") -> None:
        self.name = name
        self._whose = whose
        self._process = process
        self._log = log

    async def said(self, pattern: str, *, within_s: float) -> re.Match[str]:
        """Return the first line that begins with *pattern*. Raises DrillError when it ends first or takes too long."""
        compiled = re.compile(pattern, re.MULTILINE)
        with trio.move_on_after(within_s):
            while True:
                # whether it has ended is asked before its last words are read
                has_ended = self._process.exit_code() is not None
                text = self._log.read_text(errors="replace")
                found = compiled.search(text)
                # a line is whole once the next one may begin
                if found is not None and text.find("\n", found.end()) >= 0:
                    return found
                if has_ended:
                    raise DrillError(f"the {self.name} of the {self._whose} ended: {self._last_words(text)}")
                await trio.sleep(_LOOK_S)
        raise DrillError(f"the {self.name} of the {self._whose} was not ready within {within_s:.0f} s")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def kill(self) -> None:
        """SIGKILL."""
        self._process.send(signal.SIGKILL)

    @property
    def has_ended(self) -> bool:
        """Whether it runs no more."""
        return self._process.exit_code() is not None

    def _last_words(self, text: str) -> str:
        return " | ".join(text.strip().splitlines()[-_TOLD_LINES:]) or "without a word"


@asynccontextmanager
async def running(name: str, arguments: Sequence[str], folder: Path, *, whose: str = "drill") -> AsyncIterator[Child]:
    """Run ``engine *arguments*`` while the block runs; its output goes to a file in *folder*. Raises StartupError."""
    log = folder / f"{name}.log"
    with log.open("wb") as file:
        process = spawn(engine_command(tuple(arguments)), user=None, reads=(), death_signal=signal.SIGTERM, log=file)
    try:
        yield Child(name, process, log, whose)
    finally:
        # bounded by its steps, and what was started must not outlive the drill
        with trio.CancelScope(shield=True):
            await process.stop(_STOP)
        process.close()
