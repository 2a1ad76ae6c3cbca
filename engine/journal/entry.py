"""A journal entry: a delivery in bytes, sealed with a MAC.

The MAC means that write access to the journal's server gives no power to trade, and that a damaged
entry is noticed. Entries hold no secret.
"""

import hashlib
import hmac

import msgspec

from engine.domain.delivery import Delivery
from engine.errors import EngineError

_VERSION = b"\x01"
_MAC_BYTES = 32
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Delivery)


class EntryDamaged(EngineError):
    """An entry of the journal is not one that this deployment wrote, or not whole."""


def encode(delivery: Delivery, key: bytes) -> bytes:
    """Return version, MAC and MessagePack of *delivery*."""
    body = _encoder.encode(delivery)
    return _VERSION + hmac.digest(key, _VERSION + body, hashlib.sha256) + body


def decode(entry: bytes, key: bytes) -> Delivery:
    """Return the delivery of an entry. Raises EntryDamaged."""
    version, mac, body = entry[:1], entry[1 : 1 + _MAC_BYTES], entry[1 + _MAC_BYTES :]
    if version != _VERSION:
        raise EntryDamaged("unknown version of a journal entry")
    if not hmac.compare_digest(mac, hmac.digest(key, version + body, hashlib.sha256)):
        raise EntryDamaged("the MAC of a journal entry does not fit: it was damaged or not written by this engine")
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError as exc:
        raise EntryDamaged(f"a journal entry cannot be read: {exc}") from exc


def peek(entry: bytes) -> Delivery | None:
    """Return what an entry says without looking at its seal, None when it says nothing: to be shown, never executed."""
    try:
        return _decoder.decode(entry[1 + _MAC_BYTES :])
    except msgspec.MsgspecError:
        return None
