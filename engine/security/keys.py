"""The engine's keys: from the configuration, or made once and kept in the data directory.

The master key wraps (`engine.security.wrapping`) and can be changed with `engine keys rotate`; what everything else
is derived from is the root key (`engine.security.root_key`), which outlives that.
"""

import base64
import os
import secrets
from pathlib import Path

import msgspec

from engine.config import decode_key
from engine.errors import ConfigError, StartupError
from engine.runtime.durable import sync_folder
from engine.secret import Secret
from engine.security import private_files
from engine.security.derivation import derive
from engine.security.envelope import KeyRing
from engine.security.root_key import read_root
from engine.security.wrapping import Kek

MASTER, NEXT_MASTER, JWT = "master.key", "master.next.key", "jwt.key"


class Keys(msgspec.Struct, frozen=True, kw_only=True):
    """Every key of the engine.

    ``master`` is the root key, which ``journal`` (signs journal entries), ``tag`` (order tags) and ``audit`` (the audit
    log's checkpoints) are derived from; ``keks`` wrap data keys, the newest first; ``jwt`` signs access tokens.
    """

    master: bytes
    jwt: bytes
    journal: bytes
    tag: bytes
    audit: bytes
    keks: tuple[Kek, ...]

    def __repr__(self) -> str:
        return "Keys(***)"

    def ring(self) -> KeyRing:
        """Return a fresh ring; the data keys of what the stores hold come with `KeyRing.load`."""
        return KeyRing([kek.file_key for kek in self.keks], keks=self.keks)

    def with_root(self, root: bytes) -> "Keys":
        """Return the same keys around another root key."""
        return _around(root, self.jwt, self.keks)


def load_or_create(
    *, master_key: Secret | None, jwt_secret: Secret | None, data_dir: Path, previous: Secret | None = None
) -> Keys:
    """Return the keys; one that is not configured is read from, or made in, ``<data_dir>/keys``.

    *previous* is the master key before *master_key*, as long as something is wrapped under it. Raises StartupError
    that names the mend for a key file that others can read or that holds no key, ConfigError for a configured key
    that is too short or a placeholder.
    """
    folder = data_dir / "keys"
    given = _configured(master_key, "security.master_key")
    before = _configured(previous, "security.master_key_previous")
    if given is None and before is not None:
        raise ConfigError("security.master_key_previous does nothing without security.master_key; set both or neither")
    if given is None:
        masters = _kept_masters(folder)
    else:
        masters = [given] if before is None or before == given else [given, before]
    jwt = _configured(jwt_secret, "security.jwt_secret") or _kept(folder, JWT)
    keks = tuple(Kek(master) for master in masters)
    root = read_root(folder, keks) if folder.exists() else None
    # without a root that was kept the deployment has had one master key so far: the oldest of these
    return _around(root or masters[-1], jwt, keks)


def make_next(folder: Path) -> Kek:
    """Make the key that takes the kept one's place in *folder*, or return the one that was made before."""
    return Kek(_kept(folder, NEXT_MASTER))


def has_next(folder: Path) -> bool:
    """Whether a change of the kept key has begun and not ended."""
    return (folder / NEXT_MASTER).exists()


def put_next_in_place(folder: Path) -> None:
    """End the change: the next key is the kept one, the old one is gone. Nothing may be wrapped under it any more."""
    try:
        os.replace(folder / NEXT_MASTER, folder / MASTER)
        sync_folder(folder)
    except OSError as exc:
        raise StartupError(f"cannot put {folder / NEXT_MASTER} in place: {exc.strerror}") from None


def kek_of_file(path: Path) -> Kek:
    """Return the key-encryption key that the file at *path* holds, as ``file:PATH`` would. Raises StartupError."""
    try:
        return Kek(_read(path))
    except FileNotFoundError:
        raise StartupError(f"there is no key file {path}") from None


def create_key_file(path: Path) -> bool:
    """Make a file with a fresh key at *path*; False when there is one already. Raises StartupError."""
    if path.exists():
        return False
    private_files.create(path, _fresh())
    return True


def _around(root: bytes, jwt: bytes, keks: tuple[Kek, ...]) -> Keys:
    return Keys(
        master=root,
        jwt=jwt,
        journal=derive(root, "journal"),
        tag=derive(root, "tag"),
        audit=derive(root, "audit"),
        keks=keks,
    )


def previous_jwt_key(secret: Secret | None, data_dir: Path) -> bytes | None:
    """Return the key that signed access tokens before the present one; None when none is configured or kept.

    Kept is ``<data_dir>/keys/jwt.previous.key``: what ``jwt.key`` was before a new one was put in its place. Raises
    StartupError and ConfigError as `load_or_create`.
    """
    configured = _configured(secret, "security.jwt_secret_previous")
    if configured is not None:
        return configured
    try:
        return _read(data_dir / "keys" / "jwt.previous.key")
    except FileNotFoundError:
        return None


def _configured(secret: Secret | None, name: str) -> bytes | None:
    if secret is None:
        return None
    try:
        return decode_key(secret.reveal())
    except ConfigError as exc:
        raise ConfigError(f"{name} {exc}") from None


def _kept_masters(folder: Path) -> list[bytes]:
    private_files.make_folder(folder)
    # the next one first: it may be put in the other's place in between
    try:
        following = _read(folder / NEXT_MASTER) if has_next(folder) else None
    except FileNotFoundError:
        following = None
    master = _kept(folder, MASTER)
    return [master] if following is None or following == master else [following, master]


def _kept(folder: Path, name: str) -> bytes:
    path = folder / name
    private_files.make_folder(folder)
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    private_files.create(path, _fresh())
    return _read(path)


def _fresh() -> bytes:
    return base64.urlsafe_b64encode(secrets.token_bytes(32)) + b"\n"


def _read(path: Path) -> bytes:
    content = private_files.read(path)
    try:
        return decode_key(content.decode().strip())
    except (ConfigError, UnicodeDecodeError):
        raise StartupError(f"{path} holds no key of 32 bytes: put it back from a backup") from None


__all__ = [
    "Keys",
    "create_key_file",
    "derive",
    "has_next",
    "kek_of_file",
    "load_or_create",
    "make_next",
    "put_next_in_place",
]
