"""Secrets at rest: AES-256-GCM, bound to the row that holds them.

A record is ``version(1) | key-encryption key(4) | data key(8) | nonce(12) | ciphertext | tag(16)``, version 2.
Table, column, row, row version, user and both key ids are authenticated with it, so a record opens only in its own
place. Data keys are each user's own, or the deployment's for whoever has none yet; they are unwrapped once and
held, so that opening and sealing touch no store.

Version 1, ``version(1) | key id(4) | nonce(12) | ciphertext | tag(16)``, is sealed straight under a key of the ring:
what older engines wrote, and what must be readable while no store is there (``creds.enc``). A ring that was given
data keys writes version 2 only.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from uuid import UUID

import msgspec
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from engine.errors import EngineError, Unavailable
from engine.security.wrapping import DEPLOYMENT, KEK_ID_BYTES, KEY_BYTES, KEY_ID_BYTES, Kek, KeyName

_log = structlog.get_logger(__name__)

VERSION = 2
MAX_USES = 1 << 28
"""Records under one data key: SP 800-38D allows 2^32 with random nonces, this engine stops far before (SEC-071)."""

_OLD = 1
_OLD_ID_BYTES = 4
_NONCE_BYTES = 12
_TAG_BYTES = 16
_OLD_HEAD = 1 + _OLD_ID_BYTES
_HEAD = 1 + KEK_ID_BYTES + KEY_ID_BYTES
_DOMAIN = "engine secret"
_REMEMBERED_NONCES = 1 << 16


class SecretUnreadable(EngineError):
    """A stored secret does not open: its key is missing, or the record was changed or moved."""

    def __init__(self) -> None:
        super().__init__(
            "a stored secret cannot be read: its key is missing, or the record was changed or moved; put back the "
            "keys that it was written with ([security] in engine.toml, or keys/ in the data directory)"
        )


class SealRefused(Unavailable):
    """Nothing can be sealed now: the key is used up, or the random numbers of this machine repeat."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record stands; ``version`` is that of the row, so that an older record cannot come back.

    ``user_id`` is whose secret it is, and chooses the data key; None is the deployment's.
    """

    table: str
    column: str
    row_id: UUID
    version: int
    user_id: UUID | None = None


class WrappedKey(msgspec.Struct, frozen=True, kw_only=True):
    """A data key as the store has it: ``wraps`` by the id of the key-encryption key."""

    name: KeyName
    wraps: Mapping[bytes, bytes]
    is_active: bool = False


class _DataKey:
    __slots__ = ("cipher", "nonces", "user_id")

    def __init__(self, key: bytes, user_id: UUID) -> None:
        self.cipher = AESGCM(key)
        self.user_id = user_id
        self.nonces: set[bytes] = set()


def _log_failure(place: Place) -> None:
    _log.error("secret.unreadable", table=place.table, column=place.column, row=str(place.row_id))


class KeyRing:
    """The keys that open records: of 32 bytes each for version 1, the first being the newest, and data keys.

    *keks* are the key-encryption keys, the newest first; what they wrap comes in with `load`.
    """

    def __init__(self, keys: Iterable[bytes], *, keks: Iterable[Kek] = ()) -> None:
        self._plain: dict[bytes, _DataKey] = {}
        self._newest = b""
        for key in keys:
            if len(key) != KEY_BYTES:
                raise EngineError(f"an encryption key has {len(key)} bytes; {KEY_BYTES} are needed")
            identity = key_id(key)
            if identity in self._plain:
                raise EngineError("two encryption keys have the same id: give each key once")
            self._newest = self._newest or identity
            self._plain[identity] = _DataKey(key, DEPLOYMENT)
        if not self._plain:
            raise EngineError("there is no encryption key")
        self._keks: dict[bytes, Kek] = {kek.id: kek for kek in keks}
        self._data: dict[bytes, _DataKey] = {}
        self._active: dict[UUID, bytes] = {}
        self._left: dict[bytes, int] = {}
        self.on_failure: Callable[[Place], None] = _log_failure
        """Told of every record that did not open, and where it stands; the caller learns only that it did not."""

    # the keys

    @property
    def newest(self) -> bytes:
        """The id of the key that seals records of version 1."""
        return self._newest

    @property
    def keks(self) -> list[Kek]:
        """The key-encryption keys, the newest first."""
        return list(self._keks.values())

    @property
    def data_keys(self) -> frozenset[bytes]:
        """The ids of the data keys that are held."""
        return frozenset(self._data)

    def add(self, kek: Kek) -> None:
        """Take *kek* as the newest key-encryption key."""
        self._keks = {kek.id: kek} | {known: old for known, old in self._keks.items() if known != kek.id}
        identity = key_id(kek.file_key)
        self._plain.setdefault(identity, _DataKey(kek.file_key, DEPLOYMENT))
        self._newest = identity

    def keep_only_newest(self) -> None:
        """Forget every key-encryption key but the newest, and what opens records of version 1 under the others."""
        self._keks = dict(list(self._keks.items())[:1])
        self._plain = {self._newest: self._plain[self._newest]}

    def load(self, keys: Iterable[WrappedKey]) -> list[KeyName]:
        """Hold *keys*, and none but them; return those that no key-encryption key of this ring opens.

        Data keys that are held already keep what is known of their use.
        """
        held: dict[bytes, _DataKey] = {}
        active: dict[UUID, bytes] = {}
        shut = []
        for wrapped in keys:
            name = wrapped.name
            known = self._data.get(name.key_id)
            if known is None:
                key = self.unwrap(name, wrapped.wraps)
                if key is None:
                    shut.append(name)
                    continue
                known = _DataKey(key, name.user_id)
            held[name.key_id] = known
            if wrapped.is_active:
                active[name.user_id] = name.key_id
        self._data, self._active = held, active
        self._left = {identity: left for identity, left in self._left.items() if identity in held}
        return shut

    def unwrap(self, name: KeyName, wraps: Mapping[bytes, bytes]) -> bytes | None:
        """Return the key of *name* by any of *wraps*, None when none of them opens."""
        for kek in self._keks.values():
            if kek.id in wraps and (key := kek.unwrap(wraps[kek.id], name)) is not None:
                return key
        return None

    def wrap(self, key: bytes, name: KeyName) -> dict[bytes, bytes]:
        """Return *key* wrapped under every key-encryption key of the ring."""
        return {kek.id: kek.wrap(key, name) for kek in self._keks.values()}

    # their use

    def set_aside(self, identity: bytes, uses: int) -> None:
        """Allow *uses* more records under a data key; the store has counted them already."""
        self._left[identity] = self._left.get(identity, 0) + uses

    def uses_left(self, identity: bytes) -> int:
        """How many more records may be sealed under a data key before the store must count more."""
        return self._left.get(identity, 0)

    def users_without_key(self, users: Iterable[UUID]) -> list[UUID]:
        """Return which of *users* have no data key of their own that seals."""
        return [user_id for user_id in users if user_id not in self._active]

    def is_low_on_uses(self, below: int) -> bool:
        """Whether a data key that seals has fewer than *below* uses left."""
        return any(self.uses_left(identity) < below for identity in self._active.values())

    # records

    def seal(self, plaintext: bytes, place: Place) -> bytes:
        """Return the record of *plaintext* for *place*, under a fresh random nonce. Raises SealRefused."""
        user_id = place.user_id or DEPLOYMENT
        identity = self._active.get(user_id) or self._active.get(DEPLOYMENT)
        if identity is None:
            head = bytes([_OLD]) + self._newest
            return head + _encrypted(self._plain[self._newest], plaintext, _bound(head, place))
        left = self._left.get(identity, 0)
        if left <= 0:
            raise SealRefused("a secret cannot be stored now: the uses of its key are not counted yet; try again")
        self._left[identity] = left - 1
        head = bytes([VERSION]) + next(iter(self._keks)) + identity
        return head + _encrypted(self._data[identity], plaintext, _bound(head, place, user_id))

    def open(self, record: bytes, place: Place) -> bytes:
        """Return what was sealed in *place*. Raises SecretUnreadable, whatever the reason."""
        opened = self._opened(record, place)
        if opened is None:
            self.on_failure(place)
            raise SecretUnreadable
        return opened

    def _opened(self, record: bytes, place: Place) -> bytes | None:
        user_id = place.user_id or DEPLOYMENT
        if record[:1] == bytes([_OLD]):
            head = record[:_OLD_HEAD]
            key, bound = self._plain.get(head[1:]), _bound(head, place)
        elif record[:1] == bytes([VERSION]):
            head = record[:_HEAD]
            key, bound = self._data.get(head[1 + KEK_ID_BYTES :]), _bound(head, place, user_id)
            if key is not None and key.user_id not in (user_id, DEPLOYMENT):
                return None
        else:
            return None
        nonce, body = record[len(head) : len(head) + _NONCE_BYTES], record[len(head) + _NONCE_BYTES :]
        if key is None or len(body) < _TAG_BYTES:
            return None
        try:
            return key.cipher.decrypt(nonce, body, bound)
        except InvalidTag:
            return None

    def needs_reseal(self, record: bytes, user_id: UUID | None = None) -> bool:
        """Tell whether *record* was sealed under another key, or in another form, than one of today would be."""
        identity = self._active.get(user_id or DEPLOYMENT) or self._active.get(DEPLOYMENT)
        if identity is None:
            return record[:_OLD_HEAD] != bytes([_OLD]) + self._newest
        return record[:_HEAD] != bytes([VERSION]) + next(iter(self._keks)) + identity


def key_id(key: bytes) -> bytes:
    """Return the public name of a key that seals records of version 1."""
    return hashlib.sha256(key).digest()[:_OLD_ID_BYTES]


def _encrypted(key: _DataKey, plaintext: bytes, bound: bytes) -> bytes:
    nonce = os.urandom(_NONCE_BYTES)
    if nonce in key.nonces:
        raise SealRefused("the random numbers of this machine repeat: nothing is encrypted with them")
    if len(key.nonces) >= _REMEMBERED_NONCES:
        key.nonces.clear()
    key.nonces.add(nonce)
    return nonce + key.cipher.encrypt(nonce, plaintext, bound)


def _bound(head: bytes, place: Place, user_id: UUID | None = None) -> bytes:
    # JSON of a list is injective: no two places share their authenticated bytes
    parts = [_DOMAIN, head.hex(), place.table, place.column, str(place.row_id), place.version]
    if user_id is not None:
        parts.append(str(user_id))
    return msgspec.json.encode(parts)
