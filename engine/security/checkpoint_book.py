"""The files of checkpoints in the data directory: ``audit/checkpoints-DAY.jsonl``, one a day, never deleted.

Signed with Ed25519; the private key is derived from the root key and is in no store in the clear. Whoever has the
public key can prove the audit log without any other key. All calls block: use a thread.
"""

import os
import re
import secrets
import socket
from datetime import UTC, date, datetime
from hashlib import sha256
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from engine.domain.checkpoints import NO_LINE, Checkpoint, Claim, Kind
from engine.errors import EngineError
from engine.runtime.durable import sync_folder

_NAME = re.compile(r"checkpoints-(\d{4}-\d{2}-\d{2})\.jsonl")


class CheckpointsDamaged(EngineError):
    """The last line of the files is not a checkpoint; `engine audit verify` says more."""


class CheckpointBook:
    """Writes the files of one data directory; *seed* is the 32 bytes that the signing key is made of."""

    def __init__(self, folder: Path, seed: bytes) -> None:
        self._folder = folder
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = public_key_of(seed)
        self._series = ""
        self._last: Checkpoint | None = None

    def open(self) -> None:
        """Find where the files end; a line that a crash cut short is taken off. Raises OSError, CheckpointsDamaged."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        files = checkpoint_files(self._folder)
        for path in reversed(files):
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                os.truncate(path, len(whole))
            if not whole:
                continue
            try:
                self._last = msgspec.json.decode(whole.splitlines()[-1], type=Checkpoint)
            except (msgspec.MsgspecError, ValueError):
                raise CheckpointsDamaged(f"the last line of {path} is no checkpoint: `engine audit verify`") from None
            self._series = self._last.series
            return
        self._series = secrets.token_hex(8)

    @property
    def last(self) -> Checkpoint | None:
        """The last line."""
        return self._last

    @property
    def claim(self) -> Claim:
        """What the audit log is to know of the files."""
        return Claim(
            series=self._series,
            number=0 if self._last is None else self._last.number,
            digest=NO_LINE if self._last is None else self._last.digest,
            place=place_of(self._folder),
            public_key=self.public_key,
        )

    def append(self, kind: Kind, *, day: date, at: datetime, size: int, head: bytes) -> Checkpoint:
        """Sign and write one line, on disk when this returns. Raises OSError; the line may be there half then."""
        checkpoint = Checkpoint(
            series=self._series,
            number=1 if self._last is None else self._last.number + 1,
            kind=kind,
            day=day.isoformat(),
            at=at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z",
            size=size,
            head=head.hex(),
            previous=NO_LINE if self._last is None else self._last.digest,
        )
        signature = self._key.sign(checkpoint.signed).hex()
        checkpoint = msgspec.structs.replace(checkpoint, signature=signature)
        path = self._folder / f"checkpoints-{checkpoint.day}.jsonl"
        is_new = not path.exists()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags, 0o600), "ab", buffering=0) as file:
            start = file.seek(0, os.SEEK_END)
            try:
                written = file.write(checkpoint.line + b"\n")
                if written != len(checkpoint.line) + 1:
                    raise OSError("the disk took part of a checkpoint")
                os.fsync(file.fileno())
            except OSError:
                # half a line must not be in the way of the next
                os.truncate(path, start)
                raise
        if is_new:
            sync_folder(self._folder)
        self._last = checkpoint
        return checkpoint


def checkpoint_files(folder: Path) -> list[Path]:
    """Return the files of checkpoints in *folder* by day, the oldest first; none for a folder that is not there."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def public_key_of(seed: bytes) -> str:
    """Return the public half of the signing key, 32 bytes in hex."""
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw().hex()


def is_signed_by(public_key: str, checkpoint: Checkpoint) -> bool:
    """Whether *checkpoint* bears the signature of the key whose public half is *public_key*, in hex."""
    if checkpoint.signature != checkpoint.signature.lower():
        return False  # one spelling of one signature
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(checkpoint.signature), checkpoint.signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def place_of(folder: Path) -> str:
    """Return what tells this folder of checkpoints from another's, without telling where it is."""
    return sha256(f"{socket.gethostname()}\0{folder.absolute()}".encode()).hexdigest()[:16]
