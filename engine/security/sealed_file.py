"""A file that only a key opens, written and read as a stream: AES-256-GCM in chunks (the STREAM construction).

``MAGIC | length of header | header (JSON) | chunk | chunk | …``. Every chunk is sealed under a key of the file's own,
with its number and whether it is the last in the nonce, and the header as associated data: none can be changed, left
out, doubled, moved or cut off unnoticed. The file key comes from the engine's master key, or from a passphrase by
argon2id, and a random salt, so no two files share one.
"""

import base64
import hashlib
import os
from collections.abc import Iterator
from typing import BinaryIO

import msgspec
from argon2.exceptions import HashingError
from argon2.low_level import Type, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engine.errors import EngineError
from engine.security.keys import derive

MAGIC = b"engine backup\x00\x01\n"
CHUNK_BYTES = 1 << 20
MIN_PASSPHRASE = 12
_TAG_BYTES = 16
_MAX_HEADER = 4096
_SALT_BYTES = 32
_PREFIX_BYTES = 7
# RFC 9106, second recommended option: for machines without much memory
_PASSES, _MEMORY_KIB, _LANES = 3, 65_536, 4
_MAX_PASSES, _MAX_MEMORY_KIB, _MAX_LANES = 16, 1 << 20, 16


class SealedFileError(EngineError):
    """A sealed file does not open; the message says why and what to do."""


class WrongKey(SealedFileError):
    """The file was sealed under another key than the one given."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What is readable without the key: how to make it. Binary fields are base64.

    ``root_sealed`` is the key that *key_id* names, wrapped under the master keys of when the file was made: after a
    change of keys whoever has only the present one of the configuration finds it there.
    """

    kind: str
    salt: str
    prefix: str
    key_id: str = ""
    root_sealed: str = ""
    passes: int = 0
    memory_kib: int = 0
    lanes: int = 0
    chunk_bytes: int = CHUNK_BYTES

    @property
    def root(self) -> bytes:
        """The wrapped root key, empty when the file brings none. Raises ValueError."""
        return base64.b64decode(self.root_sealed, validate=True)


class FileKey(msgspec.Struct, frozen=True, kw_only=True):
    """What opens the file: one of the engine's root keys, the newest first (it seals), or a passphrase.

    ``root_sealed`` is the first of them as `engine.security.root_key` keeps it, for the header.
    """

    masters: tuple[bytes, ...] = ()
    root_sealed: bytes = b""
    passphrase: str | None = None

    def __repr__(self) -> str:
        return "FileKey(***)"


def master_key_id(master: bytes) -> str:
    """Return the public name of a master key, which tells two of them apart and nothing more."""
    return derive(master, "backup key name")[:8].hex()


def _new_header(key: FileKey) -> Header:
    salt, prefix = _text(os.urandom(_SALT_BYTES)), _text(os.urandom(_PREFIX_BYTES))
    if key.passphrase is not None:
        if len(key.passphrase) < MIN_PASSPHRASE:
            raise SealedFileError(f"the passphrase must have at least {MIN_PASSPHRASE} characters")
        kind = "passphrase"
        return Header(kind=kind, salt=salt, prefix=prefix, passes=_PASSES, memory_kib=_MEMORY_KIB, lanes=_LANES)
    if not key.masters:
        raise SealedFileError("there is neither a key nor a passphrase to seal the file with")
    return Header(
        kind="master",
        salt=salt,
        prefix=prefix,
        key_id=master_key_id(key.masters[0]),
        root_sealed=_text(key.root_sealed),
    )


def _file_key(header: Header, key: FileKey) -> bytes:
    try:
        return _derived(header, key, base64.b64decode(header.salt))
    except (ValueError, HashingError) as error:
        raise SealedFileError(f"the file is damaged: its header cannot be used ({error})") from None


def _derived(header: Header, key: FileKey, salt: bytes) -> bytes:
    if header.kind == "passphrase":
        if key.passphrase is None:
            raise WrongKey("the file was sealed with a passphrase: give it (--passphrase-stdin reads it)")
        if not (header.passes <= _MAX_PASSES and header.memory_kib <= _MAX_MEMORY_KIB and header.lanes <= _MAX_LANES):
            raise SealedFileError("the file is damaged: its header asks for more work than any file of an engine")
        secret = hash_secret_raw(
            key.passphrase.encode(),
            salt,
            time_cost=header.passes,
            memory_cost=header.memory_kib,
            parallelism=header.lanes,
            hash_len=32,
            type=Type.ID,
        )
    elif header.kind == "master":
        found = next((master for master in key.masters if master_key_id(master) == header.key_id), None)
        if found is None:
            have = f"the one here is {master_key_id(key.masters[0])}" if key.masters else "none is here"
            raise WrongKey(
                f"the file was sealed under the master key {header.key_id}, {have}: put back the keys of the engine "
                "that made it ([security] master_key, or keys/ in the data directory)"
            )
        secret = found
    else:
        raise SealedFileError("the file is of a newer engine: its kind of key is not known here")
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"engine backup file v1").derive(secret)


class SealedWriter:
    """Writes a sealed file to *file*; what is written counts once `close` has put the last chunk there."""

    def __init__(self, file: BinaryIO, key: FileKey) -> None:
        header = _new_header(key)
        encoded = msgspec.json.encode(header)
        self._file = file
        self._cipher = AESGCM(_file_key(header, key))
        self._prefix = base64.b64decode(header.prefix)
        self._bound = hashlib.sha256(MAGIC + encoded).digest()
        self._number = 0
        self._held = bytearray()
        file.write(MAGIC + len(encoded).to_bytes(4, "big") + encoded)

    def write(self, content: bytes) -> None:
        """Take *content* in."""
        self._held += content
        # the last chunk is marked as such, so one is always kept back
        while len(self._held) > CHUNK_BYTES:
            self._put(bytes(self._held[:CHUNK_BYTES]), is_last=False)
            del self._held[:CHUNK_BYTES]

    def close(self) -> None:
        """Write what is left as the last chunk."""
        self._put(bytes(self._held), is_last=True)
        self._held.clear()

    def _put(self, content: bytes, *, is_last: bool) -> None:
        nonce = _nonce(self._prefix, self._number, is_last=is_last)
        self._file.write(self._cipher.encrypt(nonce, content, self._bound))
        self._number += 1


def read_header(file: BinaryIO) -> tuple[Header, bytes]:
    """Return the header of *file* and its bytes. Raises SealedFileError."""
    try:
        start = file.read(len(MAGIC) + 4)
        size = int.from_bytes(start[len(MAGIC) :], "big")
        if start[: len(MAGIC)] != MAGIC or not 0 < size <= _MAX_HEADER:
            raise SealedFileError("the file is no backup of an engine, or of a newer one")
        encoded = file.read(size)
        header = msgspec.json.decode(encoded, type=Header)
        if header.chunk_bytes != CHUNK_BYTES or len(base64.b64decode(header.prefix)) != _PREFIX_BYTES:
            raise SealedFileError("the file is of a newer engine: its form is not known here")
    except (msgspec.MsgspecError, ValueError) as error:
        raise SealedFileError(f"the file is damaged: its header cannot be read ({error})") from None
    return header, encoded


def read_sealed(file: BinaryIO, key: FileKey) -> Iterator[bytes]:
    """Yield the content of *file*, chunk by chunk, each authenticated before it is yielded.

    The whole content is proven only once the iterator has ended by itself. Raises WrongKey, and SealedFileError for a
    file that was changed or cut short.
    """
    header, encoded = read_header(file)
    cipher = AESGCM(_file_key(header, key))
    prefix = base64.b64decode(header.prefix)
    bound = hashlib.sha256(MAGIC + encoded).digest()
    number, ahead = 0, file.read(CHUNK_BYTES + _TAG_BYTES)
    while True:
        sealed, ahead = ahead, file.read(CHUNK_BYTES + _TAG_BYTES)
        is_last = not ahead
        try:
            content = cipher.decrypt(_nonce(prefix, number, is_last=is_last), sealed, bound)
        except (InvalidTag, ValueError):
            if header.kind == "passphrase" and not number:
                raise SealedFileError("the passphrase is wrong, or the file is damaged or cut short") from None
            raise SealedFileError(
                f"the file is damaged or cut short: chunk {number + 1} is not what was written; use another backup"
            ) from None
        yield content
        if is_last:
            return
        number += 1


def _nonce(prefix: bytes, number: int, *, is_last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([is_last])


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
