"""Secrets at rest: AES-256-GCM, bound to the row that holds them.

A record is ``version(1) | key id(4) | nonce(12) | ciphertext | tag(16)``. Table, column, row and row
version are authenticated with it, so a record opens only in its own place. Version 1 encrypts under
a key of the ring itself; later versions may put a wrapped data key after the key id.
"""

import hashlib
import os
from collections.abc import Iterable
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.errors import EngineError

VERSION = 1
KEY_BYTES = 32
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12
_TAG_BYTES = 16
_HEAD_BYTES = 1 + _KEY_ID_BYTES + _NONCE_BYTES
_DOMAIN = "engine secret"


class SecretUnreadable(EngineError):
    """A stored secret does not open: its key is missing, or the record was changed or moved."""

    def __init__(self) -> None:
        super().__init__(
            "a stored secret cannot be read: its key is missing, or the record was changed or moved; put back the "
            "keys that it was written with ([security] in engine.toml, or keys/ in the data directory)"
        )


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record stands; ``version`` is that of the row, so that an older record cannot come back."""

    table: str
    column: str
    row_id: UUID
    version: int


class KeyRing:
    """The keys of 32 bytes that open records; the first is the newest and the only one that seals."""

    def __init__(self, keys: Iterable[bytes]) -> None:
        self._keys: dict[bytes, AESGCM] = {}
        self._newest = b""
        for key in keys:
            if len(key) != KEY_BYTES:
                raise EngineError(f"an encryption key has {len(key)} bytes; {KEY_BYTES} are needed")
            identity = key_id(key)
            if identity in self._keys:
                raise EngineError("two encryption keys have the same id: give each key once")
            self._newest = self._newest or identity
            self._keys[identity] = AESGCM(key)
        if not self._keys:
            raise EngineError("there is no encryption key")

    @property
    def newest(self) -> bytes:
        """The id of the key that seals."""
        return self._newest

    def seal(self, plaintext: bytes, place: Place) -> bytes:
        """Return the record of *plaintext* for *place*, under the newest key and a fresh random nonce."""
        nonce = os.urandom(_NONCE_BYTES)
        head = bytes([VERSION]) + self._newest
        return head + nonce + self._keys[self._newest].encrypt(nonce, plaintext, _bound(head, place))

    def open(self, record: bytes, place: Place) -> bytes:
        """Return what was sealed in *place*. Raises SecretUnreadable, whatever the reason."""
        head = record[: 1 + _KEY_ID_BYTES]
        cipher = self._keys.get(head[1:])
        if len(record) < _HEAD_BYTES + _TAG_BYTES or head[0] != VERSION or cipher is None:
            raise SecretUnreadable
        try:
            return cipher.decrypt(record[len(head) : _HEAD_BYTES], record[_HEAD_BYTES:], _bound(head, place))
        except InvalidTag:
            raise SecretUnreadable from None

    def needs_reseal(self, record: bytes) -> bool:
        """Tell whether *record* was sealed under another key, or in another form, than today's."""
        return record[: 1 + _KEY_ID_BYTES] != bytes([VERSION]) + self._newest


def key_id(key: bytes) -> bytes:
    """Return the public name of *key*."""
    return hashlib.sha256(key).digest()[:_KEY_ID_BYTES]


def _bound(head: bytes, place: Place) -> bytes:
    # JSON of a list is injective: no two places share their authenticated bytes
    parts = [_DOMAIN, head.hex(), place.table, place.column, str(place.row_id), place.version]
    return msgspec.json.encode(parts)
