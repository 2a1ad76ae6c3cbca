"""Passwords: SEC-001 to SEC-005 and SEC-007."""

import argon2
import pytest
import trio
import trio.testing

from engine.errors import RateLimitError
from engine.security import passwords
from engine.security.passwords import PasswordHasher

GOOD = "correct horse battery"
STORED = passwords.hash_password(GOOD)


def test_hash_uses_argon2id_with_at_least_the_required_parameters() -> None:
    found = argon2.extract_parameters(STORED)
    assert STORED.startswith("$argon2id$")
    assert found.memory_cost >= 19456
    assert found.time_cost >= 2
    assert found.parallelism == 1


def test_verify_accepts_only_the_password_itself() -> None:
    assert passwords.verify_password(STORED, GOOD)
    for wrong in (GOOD.upper(), GOOD + " ", " " + GOOD, GOOD[:-1], "", "x" * 5000):
        assert not passwords.verify_password(STORED, wrong)


def test_verify_treats_both_forms_of_an_accent_alike() -> None:
    stored = passwords.hash_password("caf\u00e9 au lait 1234")
    assert passwords.verify_password(stored, "cafe\u0301 au lait 1234")


def test_verify_distinguishes_beyond_72_bytes() -> None:
    stored = passwords.hash_password("a" * 100 + "1")
    assert not passwords.verify_password(stored, "a" * 100 + "2")


@pytest.mark.parametrize("stored", ["", "x", "$2b$12$abcdefghijklmnopqrstuv", "$argon2id$v=19$m=1,t=1,p=1$$"])
def test_verify_of_an_unreadable_hash_matches_nothing(stored: str) -> None:
    assert not passwords.verify_password(stored, GOOD)
    assert passwords.needs_rehash(stored)


def test_needs_rehash_for_weaker_parameters_only() -> None:
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(GOOD)
    assert passwords.needs_rehash(weak)
    assert not passwords.needs_rehash(STORED)


def test_nobody_is_verified_with_the_same_parameters_and_never_matches() -> None:
    assert argon2.extract_parameters(passwords._NOBODY) == argon2.extract_parameters(STORED)
    for password in (GOOD, "", "x" * 5000, "\ud800"):
        assert passwords.verify_nobody(password) is False


@pytest.mark.parametrize("password", ["", "x" * 1025])
def test_hash_of_an_impossible_length_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="1024"):
        passwords.hash_password(password)


@pytest.mark.parametrize(
    "password", [GOOD, "Tr0ub4dor&3xyzzy", "пароль очень длинный", "horse 7 battery " * 60, "violet kite over the pier"]
)
def test_check_good_password_has_no_faults(password: str) -> None:
    assert passwords.check(password, "asha@example.com") == []


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "fourteen chars",
        "",
        "x" * 1025,
        "é" * 600,
        "aaaaaaaaaaaa",
        "abababababab",
        "abcdefghijklmnop",
        "passwordpassword",
        "PasswordPassword",
        "zerodha12345678",
        "nifty-banknifty-2026",
        "asha@example.com",
        "asha1234567890",
        "\ud800" * 12,
    ],
)
def test_check_poor_password_is_refused(password: str) -> None:
    assert passwords.check(password, "asha@example.com") != []


def test_check_beside_a_code_takes_eight_characters_and_still_no_common_one() -> None:
    assert passwords.check("plum7kit", "asha@example.com", alone=False) == []
    assert passwords.check("plum7kit", "asha@example.com") == ["must have at least 15 characters"]
    for poor in ("seven77", "password1", "sunshine", "asha2026"):
        assert passwords.check(poor, "asha@example.com", alone=False) != []


async def test_hasher_hashes_and_verifies_off_the_loop() -> None:
    hasher = PasswordHasher()
    stored = await hasher.hash(GOOD)
    assert await hasher.verify(stored, GOOD)
    assert not await hasher.verify(stored, "something else")
    assert not await hasher.verify(None, GOOD)


async def test_hasher_beyond_its_queue_refuses_at_once_and_recovers() -> None:
    hasher = PasswordHasher(threads=1, waiting=2)
    answers: list[bool] = []

    async def verify() -> None:
        answers.append(await hasher.verify(STORED, GOOD))

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(verify)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(RateLimitError) as caught:
            await hasher.verify(STORED, GOOD)
    assert caught.value.retry_after_s
    assert answers == [True, True, True]
    assert await hasher.verify(STORED, GOOD)


async def test_hasher_cancelled_while_waiting_gives_its_place_back() -> None:
    hasher = PasswordHasher(threads=1, waiting=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hasher.verify, STORED, GOOD)
        nursery.start_soon(hasher.verify, STORED, GOOD)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert await hasher.verify(STORED, GOOD)
