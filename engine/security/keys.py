"""The engine's keys: from the configuration, or made once and kept in the data directory."""

import base64
import os
import secrets
import stat
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engine.config import decode_key
from engine.errors import ConfigError, StartupError
from engine.runtime.durable import sync_folder
from engine.secret import Secret

_FOLDER_MODE = 0o700
_FILE_MODE = 0o600
_MAX_FILE_BYTES = 4096


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """Every key of the engine; all but ``master`` and ``jwt`` are derived from the master key.

    ``vault`` encrypts secrets at rest, ``journal`` signs journal entries, ``tag`` order tags and
    ``audit`` the audit log's checkpoints.
    """

    master: bytes
    jwt: bytes
    vault: bytes
    journal: bytes
    tag: bytes
    audit: bytes

    def __repr__(self) -> str:
        return "Keys(***)"


def load_or_create(*, master_key: Secret | None, jwt_secret: Secret | None, data_dir: Path) -> Keys:
    """Return the keys; one that is not configured is read from, or made in, ``<data_dir>/keys``.

    Raises StartupError that names the mend for a key file that others can read or that holds no key,
    ConfigError for a configured key that is too short or a placeholder.
    """
    folder = data_dir / "keys"
    master = _configured(master_key, "security.master_key") or _kept(folder, "master.key")
    jwt = _configured(jwt_secret, "security.jwt_secret") or _kept(folder, "jwt.key")
    return Keys(
        master=master,
        jwt=jwt,
        vault=derive(master, "vault"),
        journal=derive(master, "journal"),
        tag=derive(master, "tag"),
        audit=derive(master, "audit"),
    )


def derive(master: bytes, purpose: str) -> bytes:
    """Return the 32-byte key for *purpose*: knowing one says nothing of the others (HKDF-SHA256)."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=f"engine {purpose} v1".encode()).derive(master)


def _configured(secret: Secret | None, name: str) -> bytes | None:
    if secret is None:
        return None
    try:
        return decode_key(secret.reveal())
    except ConfigError as exc:
        raise ConfigError(f"{name} {exc}") from None


def _kept(folder: Path, name: str) -> bytes:
    path = folder / name
    _make_folder(folder)
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    _create(path)
    return _read(path)


def _make_folder(folder: Path) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=_FOLDER_MODE, exist_ok=True)
    except OSError as exc:
        raise StartupError(f"cannot make {folder}: {exc.strerror}") from None
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise StartupError(f"{folder} is not a folder: move it away")
    _check_private(folder, status, _FOLDER_MODE)


def _create(path: Path) -> None:
    # complete before it has its name: a crash leaves no half key, and of two makers one wins
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(base64.urlsafe_b64encode(secrets.token_bytes(32)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)
            except FileExistsError:
                pass  # another engine was faster: its key counts
        finally:
            draft.unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as exc:
        raise StartupError(f"cannot write {path}: {exc.strerror}") from None


def _read(path: Path) -> bytes:
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
        _check_private(path, status, _FILE_MODE)
        content = file.read(_MAX_FILE_BYTES)
    try:
        return decode_key(content.decode().strip())
    except (ConfigError, UnicodeDecodeError):
        raise StartupError(f"{path} holds no key of 32 bytes: put it back from a backup") from None


def _check_private(path: Path, status: os.stat_result, mode: int) -> None:
    if status.st_uid != os.geteuid():
        raise StartupError(f"{path} belongs to another user: chown {os.geteuid()} {path}")
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise StartupError(f"{path} can be read by others: chmod {mode:o} {path}")
