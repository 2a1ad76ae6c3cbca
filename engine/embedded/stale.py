"""Servers of this data directory that an engine left behind.

Nothing is signalled unless it is proved to be ours: by the mark written at its start (pid, start time in
ticks, boot), by PostgreSQL's own pid file together with the command line and start time of that pid, or
by a working directory that is this very folder. A pid that went to another process proves nothing.
"""

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import trio

from engine.embedded.process import Identity, Process, command_line, identity_of, started_at, working_in
from engine.errors import StartupError

# postmaster.pid notes whole seconds, some time after the process began; clocks may be stepped a little
_START_TOLERANCE_S = 10.0
_NOTICE_WITHIN_S = 1.0

Steps = Sequence[tuple[signal.Signals, float]]


def write_mark(mark: Path, pid: int) -> None:
    """Record which process serves, so that a later engine can tell it from a recycled pid."""
    identity = identity_of(pid)
    if identity is None:
        return
    draft = mark.with_name(f"{mark.name}.new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(handle, "wb") as file:
        file.write(msgspec.json.encode(identity))
    os.replace(draft, mark)


def marked_pid(mark: Path) -> int | None:
    """Return the pid in *mark* if that very process still lives."""
    try:
        identity = msgspec.json.decode(mark.read_bytes(), type=Identity)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    return identity.pid if identity_of(identity.pid) == identity else None


def postmaster_pid(cluster: Path) -> int | None:
    """Return the pid in PostgreSQL's own pid file if that process serves *cluster*."""
    try:
        lines = (cluster / "postmaster.pid").read_text(errors="replace").splitlines()
        pid, began = abs(int(lines[0])), float(lines[2])
    except (FileNotFoundError, IndexError, ValueError):
        return None
    identity = identity_of(pid)
    arguments = command_line(pid)
    if identity is None or len(arguments) < 3:
        return None
    same_program = os.path.basename(arguments[0]) == "postgres"
    same_cluster = arguments[1] == "-D" and arguments[2] == str(cluster)
    same_start = abs(started_at(identity) - began) <= _START_TOLERANCE_S
    return pid if same_program and same_cluster and same_start else None


async def clear_stale(*, mark: Path, home: Path, comm: str, polite: Steps) -> None:
    """End what still serves *home*, its orphaned workers included.

    The main process gets the *polite* steps; what is left without it gets a moment to notice, then the
    same steps. Raises StartupError when a process cannot be ended.
    """
    leaders = {pid for pid in (marked_pid(mark), postmaster_pid(home)) if pid is not None}
    for pid in leaders:
        await _end(pid, polite, still_ours=lambda candidate: candidate in (marked_pid(mark), postmaster_pid(home)))
    with trio.move_on_after(_NOTICE_WITHIN_S):
        while any(working_in(home, comm)):  # noqa: ASYNC110 -- nothing tells when a stranger's child ends
            await trio.sleep(0.05)
        return
    for pid in sorted(working_in(home, comm)):
        await _end(pid, polite, still_ours=lambda candidate: candidate in working_in(home, comm))


async def _end(pid: int, steps: Steps, *, still_ours: Callable[[int], bool]) -> None:
    try:
        process = Process(pid)
    except ProcessLookupError:
        return
    try:
        # proved again now that the pidfd pins the process
        if still_ours(pid) and not await process.stop(steps):
            raise StartupError(f"the stale server with pid {pid} does not end: end it, then start again")
    finally:
        process.close()
