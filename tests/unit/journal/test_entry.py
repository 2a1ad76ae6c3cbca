"""Sealed journal entries: back as they were, or refused."""

from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from engine.domain.delivery import Item
from engine.journal.entry import EntryDamaged, decode, encode
from tests.support.ledger_rows import SIGNAL, Trader

KEY = b"k" * 32


@pytest.fixture
def delivery():
    priced = msgspec.structs.replace(SIGNAL, price=Decimal("2450.0500"), account="a ß")
    return Trader().delivery("key-1", items=(Item(position=0, signal=SIGNAL), Item(position=2, signal=priced)))


def test_entry_comes_back_as_it_went(delivery):
    back = decode(encode(delivery, KEY), KEY)
    assert back == delivery
    assert str(back.items[1].signal.price) == "2450.0500"
    assert back.received_at.utcoffset() == delivery.received_at.utcoffset()
    assert isinstance(back.source_id, UUID)
    assert back.intents() == delivery.intents()


def test_every_changed_byte_is_noticed(delivery):
    entry = encode(delivery, KEY)
    for place in range(len(entry)):
        for flip in (0x01, 0x80):
            damaged = bytearray(entry)
            damaged[place] ^= flip
            with pytest.raises(EntryDamaged):
                decode(bytes(damaged), KEY)


def test_every_shortened_or_lengthened_entry_is_noticed(delivery):
    entry = encode(delivery, KEY)
    for length in range(len(entry)):
        with pytest.raises(EntryDamaged):
            decode(entry[:length], KEY)
    with pytest.raises(EntryDamaged):
        decode(entry + b"\0", KEY)


def test_entry_of_another_key_is_refused(delivery):
    with pytest.raises(EntryDamaged, match="not written by this engine"):
        decode(encode(delivery, KEY), b"other" * 8)


def test_entry_that_is_sealed_but_no_delivery_is_refused():
    import hashlib
    import hmac

    body = msgspec.msgpack.encode({"source_id": 5})
    sealed = b"\x01" + hmac.digest(KEY, b"\x01" + body, hashlib.sha256) + body
    with pytest.raises(EntryDamaged, match="cannot be read"):
        decode(sealed, KEY)
