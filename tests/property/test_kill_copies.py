"""What counts of the three copies of the kill state at a start: every combination of what they may hold."""

from datetime import UTC, datetime
from itertools import product

import msgspec
import pytest

from engine.domain.enums import KillMode, KillState
from engine.domain.killswitch import GLOBAL, KillRecord, settle
from engine.security.kill_seal import KillSeal

AT = datetime(2026, 11, 23, 4, tzinfo=UTC)
NOW = datetime(2026, 11, 23, 5, tzinfo=UTC)


def record(version, state=KillState.BLOCKED, **fields):
    return KillRecord(scope=GLOBAL, version=version, state=state, reason="why", actor="a", at=AT, **fields)


STALE_ARMED = {GLOBAL: record(4, KillState.ARMED)}
BLOCKED = {GLOBAL: record(5)}
ARMED = {GLOBAL: record(6, KillState.ARMED)}
EMPTY: dict[str, KillRecord] = {}


def is_on(*copies):
    held = settle(copies, NOW).get(GLOBAL)
    return held is not None and held.enabled


def test_stale_release_never_wins_over_a_block():
    for copies in product((STALE_ARMED, BLOCKED), repeat=3):
        assert is_on(*copies) is (BLOCKED in copies)


def test_block_that_any_readable_store_has_counts_and_nothing_readable_blocks():
    for copies in product((STALE_ARMED, BLOCKED, EMPTY, None), repeat=3):
        assert is_on(*copies) is (BLOCKED in copies or all(copy is None for copy in copies))


def test_release_counts_only_when_it_was_completed():
    for copies in product((ARMED, BLOCKED, STALE_ARMED, EMPTY, None), repeat=3):
        completed = sum(copy is ARMED for copy in copies) > 1 or BLOCKED not in copies
        assert is_on(*copies) is (not completed or all(copy is None for copy in copies))


def test_release_that_was_never_completed_is_overruled_for_good():
    (held,) = settle([ARMED, BLOCKED, EMPTY], NOW).values()
    assert held.version > 6
    assert (held.reason, held.enabled) == ("why", True)


def test_command_given_while_no_engine_ran_counts_alone():
    alone = {GLOBAL: record(6, KillState.ARMED, alone=True)}
    assert not is_on(alone, BLOCKED, BLOCKED)
    assert is_on(alone, {GLOBAL: record(7)}, BLOCKED)


def test_of_two_blocks_with_one_version_the_stronger_counts():
    strong = {GLOBAL: record(5, mode=KillMode.SQUARE_OFF)}
    for copies in ((BLOCKED, strong), (strong, BLOCKED)):
        assert settle(copies, NOW)[GLOBAL].square_off


@pytest.mark.parametrize(
    "forgery",
    [
        {"version": 7},
        {"scope": "user:1"},
        {"reason": "other"},
        {"alone": True},
        {"state": KillState.ARMED, "mac": "00"},
        {"mac": ""},
        {"mac": "ü"},
    ],
)
def test_forged_record_is_not_believed_when_it_arms_and_is_when_it_blocks(forgery):
    seal = KillSeal(b"k" * 32)
    good = seal.sign(record(6, KillState.ARMED))
    assert seal.believes(good)
    forged = msgspec.structs.replace(good, **forgery)
    assert not seal.believes(forged)
    assert seal.believes(msgspec.structs.replace(forged, state=KillState.BLOCKED))
    assert not KillSeal(b"x" * 32).believes(good)


def test_seal_outlives_a_store():
    seal = KillSeal(b"k" * 32)
    good = seal.sign(record(6, KillState.ARMED, day=AT.date()))
    assert seal.believes(msgspec.json.decode(msgspec.json.encode(good), type=KillRecord))
    assert seal.believes(msgspec.convert(msgspec.to_builtins(good), KillRecord))
