"""The name by which a process is known as the holder of something, and what can be told of it from here.

Host, boot, process-id namespace, process id and the process's start in clock ticks: enough to tell a
process from a later one of the same number, and to say of one on this very host that it has ended.
"""

import os
import signal
import socket
from pathlib import Path

import msgspec


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """A process anywhere; ``started`` is clock ticks since ``boot``."""

    host: str
    boot: str
    namespace: str
    process: int
    started: str

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this host and boot that can be seen from here."""
        here = _place()
        return (self.host, self.boot, self.namespace) == here

    @property
    def is_dead(self) -> bool:
        """Whether it is known to have ended; False when that cannot be told from here."""
        return self.is_here and started_at(self.process) != self.started


def own_name() -> str:
    """Return this process's name; no other process bears it, on this host or elsewhere."""
    return "|".join((*_place(), str(os.getpid()), started_at(os.getpid())))


def read(name: str) -> Holder | None:
    """Return the process that *name* names, None when it names none."""
    parts = name.split("|")
    if len(parts) != 5 or not parts[3].isdecimal():
        return None
    return Holder(host=parts[0], boot=parts[1], namespace=parts[2], process=int(parts[3]), started=parts[4])


def told(name: str) -> str:
    """Return a holder in words for a person."""
    holder = read(name)
    return name or "?" if holder is None else f"process {holder.process} on {holder.host}"


def is_dead(name: str) -> bool:
    """Whether *name* is that of a process known to have ended."""
    holder = read(name)
    return holder is not None and holder.is_dead


def started_at(pid: int) -> str:
    """Return when a process began, in clock ticks since boot; empty when it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    # the name in parentheses may hold spaces
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] in ("Z", "X") else fields[19]


def end(name: str) -> bool:
    """End the process *name* with SIGKILL; return whether there was one that could be ended.

    Nothing is signalled but the very process that is meant: its pidfd pins it before it is looked at again.
    """
    holder = read(name)
    if holder is None or not holder.is_here or holder.process == os.getpid():
        return False
    try:
        descriptor = os.pidfd_open(holder.process)
    except OSError:
        return False
    try:
        if holder.is_dead:
            return False
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    except OSError:  # another user's, or it has just ended
        return False
    finally:
        os.close(descriptor)
    return True


def _place() -> tuple[str, str, str]:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    # two containers can share host name and boot; a process of the other one would look dead from here
    return socket.gethostname(), boot, os.readlink("/proc/self/ns/pid")
