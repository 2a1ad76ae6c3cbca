"""Secrets at rest: the attack list of SEC-070 to SEC-073."""

import os
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import EngineError
from engine.security.envelope import KeyRing, Place, SecretUnreadable, key_id

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
PLACE = Place(table="kite_accounts", column="api_secret", row_id=UUID(int=7), version=3)
RING = KeyRing([KEY])


@given(st.binary(max_size=300))
def test_open_in_its_place_gives_what_was_sealed(plaintext: bytes) -> None:
    record = RING.seal(plaintext, PLACE)
    assert RING.open(record, PLACE) == plaintext
    assert len(record) == 1 + 4 + 12 + len(plaintext) + 16
    assert record[0] == 1
    assert record[1:5] == key_id(KEY)


def test_seal_twice_shares_no_nonce_and_no_ciphertext() -> None:
    records = [RING.seal(b"the same", PLACE) for _ in range(2000)]
    assert len({record[5:17] for record in records}) == 2000
    assert len({record[17:] for record in records}) == 2000


def test_seal_hides_the_plaintext() -> None:
    assert b"canary-secret" not in RING.seal(b"canary-secret", PLACE)


@pytest.mark.parametrize(
    "change",
    [
        {"table": "signal_sources"},
        {"column": "access_token"},
        {"row_id": UUID(int=8)},
        {"version": 2},
        {"version": 4},
        {"table": "kite_account", "column": "sapi_secret"},
    ],
    ids=str,
)
def test_open_in_another_place_is_refused(change: dict[str, Any]) -> None:
    record = RING.seal(b"secret", PLACE)
    with pytest.raises(SecretUnreadable):
        RING.open(record, msgspec.structs.replace(PLACE, **change))


def test_open_with_any_byte_flipped_is_refused() -> None:
    record = RING.seal(b"secret", PLACE)
    for position in range(len(record)):
        for mask in (0x01, 0x80):
            flipped = bytearray(record)
            flipped[position] ^= mask
            with pytest.raises(SecretUnreadable):
                RING.open(bytes(flipped), PLACE)


def test_open_of_any_shortened_or_lengthened_record_is_refused() -> None:
    record = RING.seal(b"secret", PLACE)
    for size in range(len(record)):
        with pytest.raises(SecretUnreadable):
            RING.open(record[:size], PLACE)
    for longer in (record + b"\0", b"\0" + record):
        with pytest.raises(SecretUnreadable):
            RING.open(longer, PLACE)


def test_open_without_the_key_is_refused_in_the_same_words() -> None:
    record = RING.seal(b"secret", PLACE)
    tampered = record[:-1] + bytes([record[-1] ^ 1])
    texts = set()
    for ring, given_record in ((KeyRing([OTHER]), record), (RING, tampered), (RING, b"")):
        with pytest.raises(SecretUnreadable) as caught:
            ring.open(given_record, PLACE)
        texts.add(str(caught.value))
    assert len(texts) == 1
    assert caught.value.__cause__ is None


def test_key_id_exchanged_for_another_key_is_refused() -> None:
    ring = KeyRing([KEY, OTHER])
    record = ring.seal(b"secret", PLACE)
    with pytest.raises(SecretUnreadable):
        ring.open(record[:1] + key_id(OTHER) + record[5:], PLACE)


def test_ring_seals_with_the_newest_and_opens_with_all() -> None:
    old = RING.seal(b"secret", PLACE)
    ring = KeyRing([OTHER, KEY])
    assert ring.open(old, PLACE) == b"secret"
    assert ring.needs_reseal(old)
    new = ring.seal(b"secret", PLACE)
    assert new[1:5] == key_id(OTHER) == ring.newest
    assert not ring.needs_reseal(new)
    assert KeyRing([OTHER]).open(new, PLACE) == b"secret"


@pytest.mark.parametrize("keys", [[], [KEY, KEY], [KEY[:31]], [KEY + b"x"], [b""]])
def test_ring_of_unusable_keys_is_refused(keys: list[bytes]) -> None:
    with pytest.raises(EngineError):
        KeyRing(keys)


def test_open_of_random_bytes_never_raises_anything_else() -> None:
    for size in (0, 1, 5, 17, 32, 33, 100):
        with pytest.raises(SecretUnreadable):
            RING.open(os.urandom(size), PLACE)
