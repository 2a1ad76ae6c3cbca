"""The kill switch's own file: JSON lines, each with a check sum, fsynced before the caller goes on.

It needs no store, so that blocking lasts with both stores down, and a command of the operator can
write it while no engine runs.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from engine.domain.killswitch import KillRecord, merge
from engine.errors import EngineError
from engine.runtime.durable import checked_body, checked_line, sync_folder

_LOCK_WITHIN_S = 1.0
_LOCK_EVERY_S = 0.02


class KillFileDamaged(EngineError):
    """A whole line of the kill switch file does not fit its check sum."""


def _line(record: KillRecord) -> bytes:
    return checked_line(msgspec.json.encode(record))


def _parse(line: bytes) -> KillRecord | None:
    body = checked_body(line)
    if body is None:
        return None
    try:
        return msgspec.json.decode(body, type=KillRecord)
    except msgspec.MsgspecError:
        return None


class KillFile:
    """Append and read the records of ``state/kill.wal`` in a data directory. All calls block; use a thread.

    What *believes* says False of is read as if it were not there.
    """

    def __init__(self, path: Path, *, believes: Callable[[KillRecord], bool] = lambda _record: True) -> None:
        self._path = path
        self._name = str(path)
        self._believes = believes

    def append(self, record: KillRecord) -> None:
        """Write one record and return when it is on disk. Raises OSError."""
        line = _line(record)
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, locked = self._open()
        try:
            size = os.fstat(descriptor).st_size
            torn = size - _end_of_lines(descriptor, size)
            if torn and locked:
                # what a crash cut short was never answered; a later line must not run into it
                os.ftruncate(descriptor, size - torn)
            elif torn:
                line = b"\n" + line
            if os.write(descriptor, line) != len(line):
                raise OSError("the kill switch file took only a part of a record: is the disk full?")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(self._path.parent)
        sync_folder(self._path.parent.parent)

    def stamp(self) -> tuple[int, int, int] | None:
        """Return what changes with every change of the file; None while there is none, or it cannot be seen."""
        try:
            # asked for every order: a Path looks its own name up for longer than the system does
            found = os.stat(self._name)
        except OSError:
            return None
        # two changes within one tick of the file system's clock differ in size at least
        return found.st_mtime_ns, found.st_size, found.st_ino

    def read(self) -> dict[str, KillRecord]:
        """Return the newest record of each scope; empty when there is no file.

        Raises KillFileDamaged, and OSError when the file cannot be read.
        """
        records, damaged = self._scan()
        if damaged is not None:
            raise KillFileDamaged(f"line {damaged} of {self._path} is damaged")
        return records

    def read_undamaged(self) -> dict[str, KillRecord]:
        """Return the newest readable record of each scope, whatever else the file holds. Raises OSError."""
        return self._scan()[0]

    def replace(self, records: Iterable[KillRecord]) -> None:
        """Put a file of just *records* in place of a damaged one, which is kept beside it. Raises OSError."""
        draft = self._path.with_suffix(".new")
        with draft.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(b"".join(map(_line, records)))
            file.flush()
            os.fsync(file.fileno())
        descriptor, _ = self._open()
        try:
            kept = self._path.with_suffix(".damaged")
            kept.unlink(missing_ok=True)
            os.link(self._path, kept)
            draft.replace(self._path)
        finally:
            os.close(descriptor)
        sync_folder(self._path.parent)

    def _scan(self) -> tuple[dict[str, KillRecord], int | None]:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return {}, None
        records: list[KillRecord] = []
        damaged: int | None = None
        # what follows the last line's end was torn by a crash while it was written, and never answered
        for number, line in enumerate(content.split(b"\n")[:-1], 1):
            record = _parse(line)
            if record is not None:
                if self._believes(record):
                    records.append(record)
            elif line and damaged is None:
                damaged = number
        return merge(records), damaged

    def _open(self) -> tuple[int, bool]:
        """Open the file and lock it; a holder that hangs is not waited for, for the record matters more."""
        deadline = time.monotonic() + _LOCK_WITHIN_S
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            locked = _lock(descriptor, deadline)
            # it may have been replaced while the lock was waited for
            if not locked or _is_same(descriptor, self._path):
                return descriptor, locked
            os.close(descriptor)


def _lock(descriptor: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOCK_EVERY_S)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    held = os.fstat(descriptor)
    return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)


def _end_of_lines(descriptor: int, size: int) -> int:
    """Return where the last whole line ends."""
    end = size
    while end:
        start = max(0, end - 4096)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
