"""Processes by pidfd: started from here or found in /proc, waited for and signalled without pid races.

A child is started on the thread that runs trio, not through ``trio.lowlevel.open_process``, which forks
on a worker thread: the kernel ties the parent-death signal to the thread that forked, and a worker
thread that idles away would take the database with it.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import trio

from engine.embedded import launch
from engine.embedded.identity import MEND, ServerUser
from engine.errors import StartupError
from engine.runtime.own_program import launcher

_SERVER_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What makes a process itself and not a later one of the same pid."""

    pid: int
    start_ticks: int
    boot_id: str


def identity_of(pid: int) -> Identity | None:
    """Return the identity of the live process *pid*, None if there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    if fields[0] in ("Z", "X"):
        return None
    return Identity(pid=pid, start_ticks=int(fields[19]), boot_id=boot_id)


def started_at(identity: Identity) -> float:
    """Return when the process began, in seconds since the epoch, by the machine's present notion of time."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1]) + identity.start_ticks / os.sysconf("SC_CLK_TCK")
    raise StartupError(f"/proc/stat has no btime line: {MEND}")


def command_line(pid: int) -> list[str]:
    """Return the arguments of *pid*, none if it is gone."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [os.fsdecode(part) for part in raw.rstrip(b"\0").split(b"\0")]


def working_in(folder: Path, comm: str) -> Iterator[int]:
    """Yield the pids of processes named *comm* whose working directory is *folder*, as far as we may look."""
    try:
        wanted = os.stat(folder)
    except FileNotFoundError:
        return
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            cwd = os.stat(f"/proc/{entry}/cwd")
            name = Path(f"/proc/{entry}/comm").read_text(errors="replace").strip()
        except OSError:
            continue  # gone meanwhile, or another user's
        if name == comm and os.path.samestat(cwd, wanted) and identity_of(int(entry)) is not None:
            yield int(entry)


class Process:
    """One process, held by its pidfd. Close it when done; that does not end the process."""

    def __init__(self, pid: int, child: "subprocess.Popen[bytes] | None" = None) -> None:
        try:
            self._fd = os.pidfd_open(pid)
        except ProcessLookupError:
            raise
        except OSError as error:
            if child is not None:
                child.kill()
                child.wait()
            raise StartupError(f"this system cannot watch processes (pidfd_open: {error.strerror}): {MEND}") from error
        self.pid = pid
        self._child = child

    def close(self) -> None:
        """Let go of the pidfd."""
        os.close(self._fd)

    async def wait(self) -> None:
        """Wait until the process has ended, and reap it if it is ours."""
        await trio.lowlevel.wait_readable(self._fd)
        self.exit_code()

    def exit_code(self) -> int | None:
        """Return the exit code of a child that has ended, else None."""
        return None if self._child is None else self._child.poll()

    def send(self, signal_number: signal.Signals) -> None:
        """Send a signal; a process that has ended already is no error."""
        try:
            signal.pidfd_send_signal(self._fd, signal_number)
        except ProcessLookupError:
            pass
        except PermissionError as error:
            raise StartupError(
                f"process {self.pid} is a server of this data directory but belongs to another user:"
                " stop it, or run the engine as that user"
            ) from error

    async def stop(self, steps: Sequence[tuple[signal.Signals, float]]) -> bool:
        """Send each signal in turn and give it its seconds; return whether the process has ended."""
        for signal_number, seconds in steps:
            self.send(signal_number)
            with trio.move_on_after(seconds):
                await self.wait()
                return True
        return False


def spawn(
    argv: Sequence[str],
    *,
    user: ServerUser | None,
    programs: Sequence[Path] = (),
    reads: Sequence[Path],
    death_signal: signal.Signals,
    log: IO[bytes],
    stdin: IO[bytes] | None = None,
) -> Process:
    """Start *argv* through the launcher, its output into *log*; it ends with *death_signal* when the engine dies.

    Call it on the thread that runs trio. *programs* are files that *argv* will execute and
    *reads* paths that it will read: root given up, it must still reach them.
    Raises StartupError when no process can be made.
    """
    order: dict[str, object] = {
        "argv": list(argv),
        "parent": os.getpid(),
        "death_signal": int(death_signal),
        "programs": [str(path) for path in programs],
        "paths": [str(path) for path in reads],
    }
    if user is not None:
        order |= {"uid": user.uid, "gid": user.gid, "may_keep_capability": user.service}
    environment = dict(_SERVER_ENVIRONMENT)
    if "LD_LIBRARY_PATH" in os.environ:
        environment["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    try:
        child = subprocess.Popen(  # noqa: S603 -- our own launcher with our own arguments
            launcher(launch.__file__, json.dumps(order)),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        raise StartupError(f"cannot start {os.path.basename(argv[0])}: {error}") from error
    return Process(child.pid, child)
