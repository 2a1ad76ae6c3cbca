"""The data directory and the lock that makes it one process's own."""

import fcntl
import os
from pathlib import Path

from engine.errors import StartupError


def lock_data_dir(data_dir: Path) -> int:
    """Make *data_dir* and lock it for this process; return the descriptor that holds the lock.

    Raises StartupError when another engine has it or it cannot be made.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "engine.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartupError(f"cannot use the data directory {data_dir}: {error.strerror}; use --data-dir DIR") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StartupError(
            f"another engine runs in {data_dir}; stop it first, or use --data-dir DIR for a second one"
        ) from error
    return descriptor
