"""The kill switch at the gate: asked in the instant before the first byte, the file that commands write included.

`engine killswitch on` writes the file itself where no engine answers it: one that hangs, or is on its way up. Read
once a second, that file would let through what goes before the next look, after the command has said that nothing does.
No task and no mailbox.
"""

from collections.abc import Callable, Iterable

import structlog

from engine.actors.executor_context import ExecutorContext
from engine.actors.killswitch_file import KillFile, KillFileDamaged
from engine.domain.killswitch import KillRecord
from engine.domain.order import Order

_log = structlog.get_logger(__name__)


class KillFileLook:
    """Hands what another program wrote to the file to *adopt*, which must not wait; a look costs a system call."""

    def __init__(self, file: KillFile, adopt: Callable[[Iterable[KillRecord]], None]) -> None:
        self._file = file
        self._adopt = adopt
        self._seen: tuple[int, int, int] | None = None

    def look(self) -> None:
        """Read the file if it is another than at the last look."""
        stamp = self._file.stamp()
        if stamp is None or stamp == self._seen:
            return
        self._seen = stamp
        try:
            records = self._file.read()
        except (KillFileDamaged, OSError) as error:
            _log.error("killswitch.file_damaged", error=str(error))
            return
        self._adopt(records.values())


def against_kill(context: ExecutorContext, order: Order) -> str | None:
    """Return which kill switch stops *order* now, or None."""
    context.look_at_kill_file()
    return against_known_kill(context, order)


def against_known_kill(context: ExecutorContext, order: Order) -> str | None:
    """Return which kill switch stops *order* by what the file said at the last look, or None."""
    killed = context.kill.covering_order(order)
    return None if killed is None else f"KILL_SWITCH: {killed.scope} is blocked: {killed.reason}"
