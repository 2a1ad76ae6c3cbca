"""Data keys: the attack list of SEC-070 to SEC-073 on records of version 2, and on wrapped keys."""

import os
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.security.envelope import KeyRing, Place, SealRefused, SecretUnreadable, WrappedKey
from engine.security.wrapping import DEPLOYMENT, Kek, KeyName

OLD, NEW = Kek(bytes(range(32))), Kek(bytes(range(1, 33)))
ANNA, BEN = UUID(int=11), UUID(int=12)
PLACE = Place(table="kite_accounts", column="api_secret", row_id=UUID(int=7), version=3, user_id=ANNA)
NAMES = {
    user: KeyName(key_id=bytes([number]) * 8, user_id=user) for number, user in enumerate((DEPLOYMENT, ANNA, BEN), 1)
}
KEYS = {name.key_id: bytes([number]) * 32 for number, name in enumerate(NAMES.values(), 1)}


def stored(*keks: Kek) -> list[WrappedKey]:
    return [
        WrappedKey(name=name, wraps={kek.id: kek.wrap(KEYS[name.key_id], name) for kek in keks}, is_active=True)
        for name in NAMES.values()
    ]


def ring(*keks: Kek, keys: list[WrappedKey] | None = None, uses: int = 100_000) -> KeyRing:
    made = KeyRing([kek.file_key for kek in keks], keks=keks)
    made.load(stored(*keks) if keys is None else keys)
    for key_id in made.data_keys:
        made.set_aside(key_id, uses)
    return made


RING = ring(OLD)


@given(st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_record_names_its_keys_and_opens_in_its_place(plaintext: bytes) -> None:
    record = RING.seal(plaintext, PLACE)
    assert record[:13] == b"\x02" + OLD.id + NAMES[ANNA].key_id
    assert len(record) == 1 + 4 + 8 + 12 + len(plaintext) + 16
    assert RING.open(record, PLACE) == plaintext


def test_user_without_a_key_gets_the_deployments() -> None:
    place = msgspec.structs.replace(PLACE, user_id=UUID(int=99))
    record = RING.seal(b"secret", place)
    assert record[5:13] == NAMES[DEPLOYMENT].key_id
    assert RING.open(record, place) == b"secret"


def test_sec_071_nonces_are_fresh_and_a_random_number_that_repeats_is_refused(monkeypatch: Any) -> None:
    fresh = ring(OLD)
    assert len({fresh.seal(b"the same", PLACE)[13:25] for _ in range(20_000)}) == 20_000
    monkeypatch.setattr(os, "urandom", lambda size: b"7" * size)
    fresh.seal(b"first", PLACE)
    with pytest.raises(SealRefused, match="repeat"):
        fresh.seal(b"second", PLACE)


def test_sec_071_uses_that_are_not_counted_are_refused() -> None:
    spent = ring(OLD, uses=2)
    spent.seal(b"a", PLACE), spent.seal(b"b", PLACE)
    assert spent.uses_left(NAMES[ANNA].key_id) == 0
    with pytest.raises(SealRefused, match="try again"):
        spent.seal(b"c", PLACE)
    spent.set_aside(NAMES[ANNA].key_id, 1)
    assert spent.open(spent.seal(b"c", PLACE), PLACE) == b"c"


@pytest.mark.parametrize(
    "change",
    [
        {"table": "signal_sources"},
        {"column": "access_token"},
        {"row_id": UUID(int=8)},
        {"version": 2},
        {"user_id": BEN},
        {"user_id": None},
        {"table": "kite_account", "column": "sapi_secret"},
    ],
    ids=str,
)
def test_sec_072_record_in_another_place_or_of_another_user_does_not_open(change: dict[str, Any]) -> None:
    for place in (PLACE, msgspec.structs.replace(PLACE, user_id=UUID(int=99))):
        record = RING.seal(b"secret", place)
        with pytest.raises(SecretUnreadable):
            RING.open(record, msgspec.structs.replace(place, **change))


def test_sec_073_any_flip_or_cut_gives_one_error_no_plaintext_and_one_report() -> None:
    reports: list[Place] = []
    watched = ring(OLD)
    watched.on_failure = reports.append
    record = watched.seal(b"canary", PLACE)
    attacks = [
        record[:at] + bytes([record[at] ^ mask]) + record[at + 1 :] for at in range(len(record)) for mask in (1, 128)
    ]
    attacks += [record[:size] for size in range(len(record))] + [record + b"\0", b"", record[:25], record[:-12]]
    words = set()
    for attack in attacks:
        with pytest.raises(SecretUnreadable) as caught:
            watched.open(attack, PLACE)
        words.add(str(caught.value))
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert len(words) == 1
    assert "canary" not in words.pop()
    assert reports == [PLACE] * len(attacks)


def test_sec_070_wrapped_keys_open_only_as_themselves_and_under_their_key() -> None:
    anna, ben = NAMES[ANNA], NAMES[BEN]
    wrapped = OLD.wrap(KEYS[anna.key_id], anna)
    assert OLD.unwrap(wrapped, anna) == KEYS[anna.key_id]
    assert NEW.unwrap(wrapped, anna) is None
    for name in (ben, msgspec.structs.replace(anna, user_id=BEN), msgspec.structs.replace(anna, purpose="root")):
        assert OLD.unwrap(wrapped, name) is None
    for at in range(len(wrapped)):
        assert OLD.unwrap(wrapped[:at] + bytes([wrapped[at] ^ 1]) + wrapped[at + 1 :], anna) is None
        assert OLD.unwrap(wrapped[:at], anna) is None


def test_sec_070_dump_of_the_store_opens_nothing_without_the_master_key() -> None:
    record = RING.seal(b"secret", PLACE)
    thief = KeyRing([b"t" * 32], keks=[NEW])
    assert len(thief.load(stored(OLD))) == 3
    with pytest.raises(SecretUnreadable):
        thief.open(record, PLACE)
    assert KEYS[NAMES[ANNA].key_id] not in b"".join(b"".join(key.wraps.values()) for key in stored(OLD))


def test_sec_074_records_open_under_either_key_until_the_old_one_is_gone() -> None:
    record = RING.seal(b"secret", PLACE)
    before = ring(OLD).seal(b"older", msgspec.structs.replace(PLACE, version=1))
    both = ring(NEW, OLD, keys=stored(OLD, NEW))
    assert both.open(record, PLACE) == b"secret"
    assert both.needs_reseal(record, ANNA)
    again = both.seal(b"secret", PLACE)
    assert not both.needs_reseal(again, ANNA)
    only_new = ring(NEW, keys=stored(NEW))
    assert only_new.open(again, PLACE) == b"secret"
    assert only_new.open(before, msgspec.structs.replace(PLACE, version=1)) == b"older"


def test_records_of_version_1_open_and_are_sealed_anew() -> None:
    old = KeyRing([OLD.file_key])
    record = old.seal(b"secret", PLACE)
    assert record[0] == 1
    assert RING.open(record, PLACE) == b"secret"
    assert RING.needs_reseal(record, ANNA)
    changed = ring(NEW, keys=stored(NEW))
    with pytest.raises(SecretUnreadable):
        changed.open(record, PLACE)
    changed.add(OLD)
    assert changed.open(record, PLACE) == b"secret"


def test_keys_of_a_ring_do_not_print() -> None:
    for thing in (RING, OLD, *stored(OLD)):
        assert KEYS[NAMES[ANNA].key_id].hex() not in repr(thing)
        assert OLD.file_key.hex() not in repr(thing)
