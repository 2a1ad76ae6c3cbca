"""Keep secrets inside the process: no core dumps, private files, no trace in its environment, memory for itself.

What a process is started with stays readable in ``/proc/PID/environ`` after ``os.environ`` has let go of
it, for its own user and for root; so it is blanked there as well (SEC-075, SEC-077).
"""

import ctypes
import os
import resource
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_PR_SET_DUMPABLE = 4  # prctl(2)
_ENV_START, _ENV_END = 49, 50  # fields of proc(5) stat, counted from 0


class ConsultedEnvironment(Mapping[str, str]):
    """A view of *environ* that notes which variables were looked up, so that they can be forgotten."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.consulted: set[str] = set()

    def __getitem__(self, name: str) -> str:
        value = self._environ[name]
        self.consulted.add(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)


def harden_process() -> None:
    """Write no core dump, which would hold every key, and make files that nobody else can read."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)


def deny_inspection() -> bool:
    """Keep every other process of this user from reading this one's memory and environment; root still may.

    Returns False where the system has no such thing. What this process does to itself (`forget_variables`) has to be
    done before.
    """
    try:
        return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
    except (OSError, AttributeError):
        return False


def forget_variables(names: Iterable[str]) -> bool:
    """Take *names* out of the environment; return whether the kernel's copy could be blanked too."""
    known = {os.fsencode(name) for name in names}
    for name in known:
        os.environb.pop(name, None)
    try:
        _blank(known)
    except (OSError, ValueError, IndexError):
        return False  # no /proc, or a kernel that forbids it: os.environ is clean all the same
    return True


def _blank(names: set[bytes]) -> None:
    stat = Path("/proc/self/stat").read_bytes()
    # the name in parentheses may hold blanks; what follows it begins with the third field
    fields = stat.rpartition(b")")[2].split()
    start, end = int(fields[_ENV_START - 2]), int(fields[_ENV_END - 2])
    memory = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
    try:
        at = start
        for entry in os.pread(memory, end - start, start).split(b"\0"):
            name, _, value = entry.partition(b"=")
            if name in names and value:
                os.pwrite(memory, b"*" * len(value), at + len(name) + 1)
            at += len(entry) + 1
    finally:
        os.close(memory)
