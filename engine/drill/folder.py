"""The folder of a drill: made for it, gone after it; what a drill that was killed left behind goes with the next."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.drill.child import DrillError

_PREFIX = "engine-drill-"
_LOCK = "drill.lock"


@contextmanager
def drill_folder(parent: Path | None) -> Iterator[Path]:
    """Make a folder in *parent* (None: the system's for temporary files) for the block. Raises DrillError."""
    home = Path(tempfile.gettempdir()) if parent is None else parent.absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
        _sweep(home)
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DrillError(f"cannot make a folder in {home}: {error.strerror}; use --data-dir DIR") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _sweep(home: Path) -> None:
    """Remove what is ours and whose drill is no more; the kernel has let go of its lock."""
    for folder in home.glob(f"{_PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue  # being made, or being removed by its own drill
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(lock)
