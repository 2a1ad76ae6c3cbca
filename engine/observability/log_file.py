"""One kind of log file of one day at a time: opened, moved on by size, and looked after when somebody renames it."""

import os
import re
from datetime import date, timedelta
from pathlib import Path

KINDS = ("app", "error", "audit")
# what a day's file may be called by now: the engine's own numbers, and what logrotate makes of it
_FILE_NAME = re.compile(r"(?:app|error|audit)-(\d{4}-\d{2}-\d{2})(?:\.\d+)?\.log(?:[.-]\d+)?(?:\.(?:gz|zst|xz|bz2))?")
_NUMBERED = re.compile(r"\.(\d+)\.log")


class LogFile:
    """Appends to ``<kind>-<day>.log`` in *folder*; what does not fit in *max_bytes* begins a new file.

    The full one becomes ``<kind>-<day>.1.log``, ``.2.log`` and so on. A file that was renamed or removed is begun
    anew; one that was emptied in place is appended to. Used by the writer's thread alone.
    """

    def __init__(self, kind: str, folder: Path, *, max_bytes: int) -> None:
        self._kind = kind
        self.folder = folder
        self._max_bytes = max_bytes
        self._day: date | None = None
        self._fd: int | None = None
        self._is_torn = False

    def append(self, day: date, payload: bytes) -> None:
        """Append whole lines. Raises OSError: a part may be on disk then, and the next call begins a new line."""
        try:
            fd = self._open(day, len(payload))
            if self._is_torn:
                payload = b"\n" + payload
            write_all(fd, payload)
        except OSError:
            self._is_torn = True
            self.close()
            raise
        self._is_torn = False

    def close(self) -> None:
        """Close what is open; a delayed write error shows nowhere, its lines are few and on the terminal."""
        fd, self._fd = self._fd, None
        if fd is not None:
            try:
                os.close(fd)
            except OSError:
                pass  # the lines count as lost where the write itself failed

    def _open(self, day: date, size: int) -> int:
        path = self.folder / f"{self._kind}-{day.isoformat()}.log"
        if self._fd is not None and self._day == day:
            held = os.fstat(self._fd)
            try:
                named = os.stat(path)
                is_same = (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)
            except FileNotFoundError:
                is_same = False
            if is_same and (held.st_size == 0 or held.st_size + size <= self._max_bytes):
                return self._fd
            if is_same:
                self._number(path, day)
        self.close()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._fd, self._day = fd, day
        return fd

    def _number(self, path: Path, day: date) -> None:
        try:
            path.rename(self._next_number(day))
        except FileNotFoundError:
            pass  # somebody else has moved it this very moment

    def _next_number(self, day: date) -> Path:
        stem = f"{self._kind}-{day.isoformat()}"
        taken = [int(found[1]) for path in self.folder.glob(f"{stem}.*.log") if (found := _NUMBERED.search(path.name))]
        return self.folder / f"{stem}.{max(taken, default=0) + 1}.log"


def prune(folder: Path, oldest: date) -> None:
    """Delete the log files in *folder* of days before *oldest*. Raises OSError."""
    for path in folder.iterdir():
        found = _FILE_NAME.fullmatch(path.name)
        if found is not None and found[1] < oldest.isoformat():
            path.unlink(missing_ok=True)


def first_kept(today: date, retention_days: int) -> date:
    """Return the first day whose files are kept."""
    return today - timedelta(days=min(retention_days, (today - date.min).days))


def write_all(fd: int, payload: bytes) -> None:
    """Write all of *payload*. Raises OSError."""
    view = memoryview(payload)
    while view:
        view = view[os.write(fd, view) :]
