"""What the engine remembers of its last backup, for `engine doctor`: a small file in the data directory."""

import os
from datetime import datetime
from pathlib import Path

import msgspec

from engine.runtime.durable import sync_folder

_NAME = "last-backup.json"


class LastBackup(msgspec.Struct, frozen=True, kw_only=True):
    """When the last backup was made (UTC) and where it was put.

    ``proved_at`` is when it was restored as a trial, ``copy_fault`` why it could not be taken off the box.
    """

    at: datetime
    file: str
    proved_at: datetime | None = None
    copy_fault: str = ""


def note(data_dir: Path, file: Path, at: datetime) -> None:
    """Remember a backup that was made at *at* (UTC). Raises OSError."""
    _keep(data_dir, LastBackup(at=at, file=str(file.absolute())))


def proved(data_dir: Path, file: Path, at: datetime) -> None:
    """Remember that *file* was restored as a trial, where it is the last backup. Raises OSError."""
    known = last(data_dir)
    if known is not None and known.file == str(file.absolute()):
        _keep(data_dir, msgspec.structs.replace(known, proved_at=at))


def copied(data_dir: Path, fault: str) -> None:
    """Remember whether the last backup was taken off the box: *fault* is empty, or why not. Raises OSError."""
    known = last(data_dir)
    if known is not None:
        _keep(data_dir, msgspec.structs.replace(known, copy_fault=fault))


def _keep(data_dir: Path, known: LastBackup) -> None:
    draft = data_dir / f".{_NAME}.new"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(msgspec.json.encode(known) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(data_dir / _NAME)
    sync_folder(data_dir)


def last(data_dir: Path) -> LastBackup | None:
    """Return the last backup that is remembered, None when there is none or the note cannot be read."""
    try:
        return msgspec.json.decode((data_dir / _NAME).read_bytes(), type=LastBackup)
    except (OSError, msgspec.MsgspecError):
        return None
