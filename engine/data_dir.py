"""The data directory and the lock that makes it one process's own.

The lock is the kernel's, so it goes with its process. What is written into the file names an engine that
holds it, and the file's time of change is that engine's beat: a standby on the same directory tells by it
whether the engine lives. Commands that hold the lock for a moment write nothing.
"""

import fcntl
import os
from pathlib import Path
from typing import Self

from engine.errors import StartupError
from engine.runtime import holder

_NAME = "engine.lock"
_NAME_BYTES = 1024


class DirectoryLock:
    """The lock on a data directory, held by this engine."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, data_dir: Path) -> Self | None:
        """Make *data_dir* and lock it for this engine; None while another process has it. Raises StartupError."""
        descriptor = lock_if_free(data_dir)
        if descriptor is None:
            return None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.own_name().encode(), 0)
        return cls(descriptor)

    def beat(self) -> None:
        """Say that this engine lives. Raises OSError."""
        os.utime(self._descriptor)

    def release(self) -> None:
        """Let the directory go."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def lock_data_dir(data_dir: Path) -> int:
    """Make *data_dir* and lock it for a command; return the descriptor that holds the lock.

    Raises StartupError when another process has it or it cannot be made.
    """
    descriptor = lock_if_free(data_dir)
    if descriptor is None:
        raise StartupError(f"another engine runs in {data_dir}; stop it first, or use --data-dir DIR for a second one")
    return descriptor


def locked_by(data_dir: Path) -> tuple[str, int]:
    """Return the name of the engine that locked *data_dir* last and its latest beat; "" when none is named.

    The beat is a number that changes while that engine lives, and says nothing else.
    """
    try:
        descriptor = os.open(data_dir / _NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return "", 0
    try:
        name = os.pread(descriptor, _NAME_BYTES, 0).decode("utf-8", errors="replace")
        return name, os.fstat(descriptor).st_mtime_ns
    finally:
        os.close(descriptor)


def lock_if_free(data_dir: Path) -> int | None:
    """Make *data_dir* and lock it; return the descriptor that holds the lock, None while another process has it.

    Raises StartupError when the directory cannot be made.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartupError(f"cannot use the data directory {data_dir}: {error.strerror}; use --data-dir DIR") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
