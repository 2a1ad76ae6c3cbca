"""Identifiers: time-ordered random ones, and deterministic ones that make a replay harmless."""

import os
import time
from collections.abc import Callable
from hashlib import sha1
from uuid import UUID


def _standard(octets: bytes) -> UUID:
    return UUID(bytes=octets)


_make: Callable[[bytes], UUID] = _standard


def make_by(make: Callable[[bytes], UUID]) -> None:
    """Have identifiers made by *make* from their 16 octets: a kind of UUID that costs less to hash, compare and print.

    Dictionaries are keyed by them some hundred times a signal. Whatever is made is equal to the standard library's.
    """
    global _make
    _make = make


def uuid7() -> UUID:
    """Return a version 7 UUID (RFC 9562): 48 bits of Unix milliseconds, then random bits."""
    milliseconds = time.time_ns() // 1_000_000
    return _marked(milliseconds.to_bytes(6) + os.urandom(10), 7)


def intent_id(source_id: UUID, dedupe_key: str, index: int) -> UUID:
    """Return the id of the *index*-th signal of a delivery.

    A version 5 UUID of source and dedupe key: the same delivery, replayed from the journal or sent
    again by its source, names the same intent.
    """
    return _named(source_id, f"{index}\x00{dedupe_key}")


def order_id(intent: UUID, account_id: UUID, leg: int = 0) -> UUID:
    """Return the id of the order that *intent* causes on an account; *leg* counts slices and exits."""
    return _named(intent, f"{account_id}\x00{leg}")


def retry_id(order: UUID) -> UUID:
    """Return the id of the order that is *order* tried again: one, however often that is decided."""
    return _named(order, "retry")


def unwind_id(intent: UUID) -> UUID:
    """Return the id of the intent that closes what *intent* filled: one, however often that is decided."""
    return _named(intent, "unwind")


def _named(namespace: UUID, name: str) -> UUID:
    """Return the version 5 UUID (RFC 9562) of *name*; the standard library's, at half of its cost."""
    return _marked(sha1(namespace.bytes + name.encode(), usedforsecurity=False).digest()[:16], 5)


def _marked(octets: bytes, version: int) -> UUID:
    """Return *octets* as a UUID with the marks of its version and variant (RFC 9562, section 4)."""
    marked = bytearray(octets)
    marked[6] = (marked[6] & 0x0F) | (version << 4)
    marked[8] = (marked[8] & 0x3F) | 0x80
    return _make(bytes(marked))
