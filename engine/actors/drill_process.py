"""`engine drill` as a child of the engine: low priority, a deadline, bounded output, and an end with the engine's."""

import os
import signal
from collections.abc import Sequence

import trio

from engine.domain.drill import DrillEnd, read_report
from engine.embedded.process import Process, spawn
from engine.errors import StartupError
from engine.runtime.own_program import engine_command

DEADLINE_S = 240.0
_MOST_BYTES = 262_144
_CHUNK_BYTES = 16_384
_NICENESS = 10
_MOST_WHY = 500
# once it is told to stop it removes what it made; the kernel ends one that outlives the engine
_AT_SHUTDOWN = ((signal.SIGTERM, 1.5),)
_OVERDUE = ((signal.SIGTERM, 30.0), (signal.SIGKILL, 5.0))


async def run_drill() -> DrillEnd:
    """Run a drill and return what it came to; never raises for a drill that could not be run."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    stream = trio.lowlevel.FdStream(reading)
    try:
        with os.fdopen(writing, "wb", buffering=0) as log:
            process = spawn(
                engine_command(("drill", "--json"), niceness=_NICENESS),
                user=None,
                reads=(),
                death_signal=signal.SIGKILL,
                log=log,
            )
    except StartupError as error:
        await stream.aclose()
        return DrillEnd(why=str(error))
    steps: Sequence[tuple[signal.Signals, float]] = _AT_SHUTDOWN
    try:
        with trio.move_on_after(DEADLINE_S) as deadline:
            said = await _read(stream)
            if said is not None:
                await process.wait()
                return _end(said, process)
        steps = _OVERDUE
        took = f"it took longer than {DEADLINE_S:.0f} s" if deadline.cancelled_caught else "it said too much"
        return DrillEnd(why=took)
    finally:
        # bounded by its steps
        with trio.CancelScope(shield=True):
            if process.exit_code() is None:
                await process.stop(steps)
            await stream.aclose()
        process.close()


async def _read(stream: trio.lowlevel.FdStream) -> str | None:
    """Return everything that it says; None when that is more than a drill ever says."""
    said = bytearray()
    while len(said) <= _MOST_BYTES:
        octets = await stream.receive_some(_CHUNK_BYTES)
        if not octets:
            return said.decode("utf-8", "replace")
        said += octets
    return None


def _end(said: str, process: Process) -> DrillEnd:
    report = read_report(said)
    if report is not None:
        return DrillEnd(report=report)
    last = said.strip().splitlines()[-1:] or [f"it ended with {process.exit_code()} and said nothing"]
    return DrillEnd(why=last[0][:_MOST_WHY])
