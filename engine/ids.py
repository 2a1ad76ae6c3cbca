"""Identifiers: time-ordered random ones, and deterministic ones that make a replay harmless."""

import os
import time
import uuid
from uuid import UUID


def uuid7() -> UUID:
    """Return a version 7 UUID (RFC 9562): 48 bits of Unix milliseconds, then random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds << 80) | int.from_bytes(os.urandom(10))
    value = (value & ~(0xF << 76)) | (0x7 << 76)
    value = (value & ~(0x3 << 62)) | (0x2 << 62)
    return UUID(int=value)


def intent_id(source_id: UUID, dedupe_key: str, index: int) -> UUID:
    """Return the id of the *index*-th signal of a delivery.

    A version 5 UUID of source and dedupe key: the same delivery, replayed from the journal or sent
    again by its source, names the same intent.
    """
    return uuid.uuid5(source_id, f"{index}\x00{dedupe_key}")


def order_id(intent: UUID, account_id: UUID, leg: int = 0) -> UUID:
    """Return the id of the order that *intent* causes on an account; *leg* counts slices and exits."""
    return uuid.uuid5(intent, f"{account_id}\x00{leg}")


def retry_id(order: UUID) -> UUID:
    """Return the id of the order that is *order* tried again: one, however often that is decided."""
    return uuid.uuid5(order, "retry")


def unwind_id(intent: UUID) -> UUID:
    """Return the id of the intent that closes what *intent* filled: one, however often that is decided."""
    return uuid.uuid5(intent, "unwind")
