"""Key-encryption keys: what wraps the keys that data are sealed under, and is itself never in a store.

A wrapped key is ``version(1) | nonce(12) | ciphertext | tag(16)``; which key it is, whose, what for and under
which key-encryption key is authenticated with it, so that no wrapped key can stand in for another (SEC-070, 072).
"""

import hmac
import os
from uuid import UUID

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.security.derivation import derive

KEY_BYTES = 32
KEK_ID_BYTES = 4
KEY_ID_BYTES = 8
DEPLOYMENT = UUID(int=0)
"""Stands for the user of keys that belong to no one person."""

_VERSION = b"\x02"
_NONCE_BYTES = 12
_DOMAIN = "engine data key"


class KeyName(msgspec.Struct, frozen=True, kw_only=True):
    """Which wrapped key: its id, its user, and what it is for (``data`` or ``root``)."""

    key_id: bytes
    user_id: UUID = DEPLOYMENT
    purpose: str = "data"


class Kek:
    """A key-encryption key, made of a master key; ``id`` may be known to all."""

    __slots__ = ("_cipher", "file_key", "id")

    def __init__(self, master: bytes) -> None:
        self._cipher = AESGCM(derive(master, "key encryption"))
        self.id = derive(master, "key encryption id")[:KEK_ID_BYTES]
        # seals what must be read while no store is there, and opens what was sealed before there were data keys
        self.file_key = derive(master, "vault")

    def __repr__(self) -> str:
        return f"Kek({self.id.hex()})"

    def __eq__(self, other: object) -> bool:
        return hmac.compare_digest(self.file_key, other.file_key) if isinstance(other, Kek) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def wrap(self, key: bytes, name: KeyName) -> bytes:
        """Return *key* wrapped, as the one of *name*."""
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._cipher.encrypt(nonce, key, self._bound(name))

    def unwrap(self, wrapped: bytes, name: KeyName) -> bytes | None:
        """Return the key of *name*, None when *wrapped* is not it, was changed, or is another key's work."""
        if wrapped[:1] != _VERSION:
            return None
        nonce, body = wrapped[1 : 1 + _NONCE_BYTES], wrapped[1 + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, body, self._bound(name))
        except (InvalidTag, ValueError):
            return None

    def _bound(self, name: KeyName) -> bytes:
        # JSON of a list is injective: no two names share their authenticated bytes
        return msgspec.json.encode([_DOMAIN, 2, self.id.hex(), name.key_id.hex(), str(name.user_id), name.purpose])
