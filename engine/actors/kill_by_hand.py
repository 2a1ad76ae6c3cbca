"""The operator's own ways to trip the kill switch on this box: SIGUSR2, and a file ``kill.now``.

Both work with the HTTP server stuck and with every store down. The signal blocks everything and squares off. The
file in the data directory is looked for every half second: its first line may name a scope (``account:ID``) and a
mode (``BLOCK``, ``CANCEL``, ``SQUARE_OFF``) before the reason; what cannot be read as a scope is a part of the reason
and everything is blocked. It is renamed ``kill.now.done``, and left behind by an engine that ran no more it counts
at the next start. No mailbox. Restart: permanent.
"""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import structlog
import trio

from engine.domain.enums import KillMode
from engine.domain.killswitch import GLOBAL, parse_scope
from engine.runtime.beat import beat

_log = structlog.get_logger(__name__)

NAME = "kill.now"
_LOOK_S = 0.5
_MOST_BYTES = 4096

Trip = Callable[[str, str, str, KillMode], object]
"""Trips a scope: scope, reason, actor, mode. Never waits."""


class Wish(NamedTuple):
    """What the file asks for."""

    scope: str
    mode: KillMode
    reason: str


def read_wish(text: str) -> Wish:
    """Read the content of the file; whatever it is, it stops something. Words: [scope] [mode] [reason]."""
    words = text.split()
    scope, mode = GLOBAL, KillMode.SQUARE_OFF
    if words:
        try:
            scope = parse_scope(words[0])
            del words[0]
        except ValueError:
            pass  # the reason begins here, and nobody said that less than everything should stop
    if words and words[0].upper() in KillMode.__members__:
        mode = KillMode(words.pop(0).upper())
    return Wish(scope, mode, " ".join(words) or f"the file {NAME}")


class KillFileWatch:
    """Looks for ``kill.now`` in *folder*."""

    def __init__(self, folder: Path, trip: Trip) -> None:
        self._path = folder / NAME
        self._trip = trip
        self._seen: tuple[int, int, int] | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look once before anything else starts, then until cancelled."""
        self.look()
        task_status.started()
        while True:
            await beat(_LOOK_S)
            self.look()

    def look(self) -> None:
        """Trip what the file asks for, if it is there, and put it aside."""
        try:
            found = self._path.lstat()
        except FileNotFoundError:
            return
        except OSError as error:
            _log.error("killswitch.now_unreadable", error=str(error))
            return
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp != self._seen:
            self._seen = stamp
            wish = read_wish(self._content())
            self._trip(wish.scope, wish.reason, f"file:{NAME}", wish.mode)
        try:
            self._path.replace(self._path.with_name(f"{NAME}.done"))
        except OSError as error:
            # where it cannot be put aside it counts once, and again after a restart
            _log.error("killswitch.now_stays", error=str(error))

    def _content(self) -> str:
        try:
            # not through a link, and not into a pipe that nobody writes
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            _log.error("killswitch.now_unreadable", error=str(error))
            return ""
        try:
            return os.read(descriptor, _MOST_BYTES).decode("utf-8", "replace")
        except OSError as error:
            _log.error("killswitch.now_unreadable", error=str(error))
            return ""
        finally:
            os.close(descriptor)


class KillSignal:
    """Turns every SIGUSR2 into a trip of everything."""

    def __init__(self, trip: Trip) -> None:
        self._trip = trip

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled."""
        with trio.open_signal_receiver(signal.SIGUSR2) as received:
            task_status.started()
            async for _ in received:
                self._trip(GLOBAL, "SIGUSR2", "signal", KillMode.SQUARE_OFF)
