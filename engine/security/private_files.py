"""Files that hold keys: read only when nobody else can, made whole or not at all (SEC-077)."""

import os
import secrets
import stat
from pathlib import Path

from engine.errors import StartupError
from engine.runtime.durable import sync_folder

FOLDER_MODE = 0o700
FILE_MODE = 0o600
_MAX_FILE_BYTES = 64 * 1024


def make_folder(folder: Path) -> None:
    """Make *folder* for its owner alone, or see that it is. Raises StartupError that names the mend."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    except OSError as exc:
        raise StartupError(f"cannot make {folder}: {exc.strerror}") from None
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise StartupError(f"{folder} is not a folder: move it away")
    check_private(folder, status, FOLDER_MODE)


def read(path: Path) -> bytes:
    """Return the content of *path*.

    Raises FileNotFoundError when there is none; StartupError, with the mend, for a link, for what is no file, and for
    a file that is another user's or that others can read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise StartupError(f"cannot read the key file {path}: {exc.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise StartupError(f"{path} is not a file: move it away")
        check_private(path, status, FILE_MODE)
        return file.read(_MAX_FILE_BYTES)


def create(path: Path, content: bytes) -> None:
    """Make *path* with *content*; one that is there stays, also when it came meanwhile. Raises StartupError."""
    draft = _draft(path, content)
    try:
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # another program was faster: its file counts
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as exc:
        raise StartupError(f"cannot write {path}: {exc.strerror}") from None


def replace(path: Path, content: bytes) -> None:
    """Put a file with *content* in place of *path*; at no moment is there half of it. Raises StartupError."""
    draft = _draft(path, content)
    try:
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as exc:
        draft.unlink(missing_ok=True)
        raise StartupError(f"cannot write {path}: {exc.strerror}") from None


def _draft(path: Path, content: bytes) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        draft.unlink(missing_ok=True)
        raise StartupError(f"cannot write {path}: {exc.strerror}") from None
    return draft


def check_private(path: Path, status: os.stat_result, mode: int) -> None:
    """Raise StartupError, with the mend, unless *path* is this user's and nobody else's."""
    if status.st_uid != os.geteuid():
        raise StartupError(f"{path} belongs to another user: chown {os.geteuid()} {path}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise StartupError(f"{path} can be read by others: chmod {mode:o} {path}")
