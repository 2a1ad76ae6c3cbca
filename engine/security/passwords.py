"""Passwords stored: argon2id, off the event loop, with a bounded queue in front.

One hash costs tens of milliseconds and 19 MiB. Two run at a time, 32 may wait; beyond that the
caller hears 429, so that a flood of logins can never stall an order (SEC-001, SEC-007).
"""

import re
import unicodedata
from collections.abc import Callable
from typing import TypeVar

import bcrypt
import trio
from argon2 import PasswordHasher as Argon2
from argon2 import Type
from argon2.exceptions import InvalidHashError, VerificationError

from engine.errors import RateLimitError
from engine.security.low_priority import run_low
from engine.security.password_rules import MAX_BYTES
from engine.security.password_rules import check as check

T = TypeVar("T")
MEMORY_KIB = 19_456
PASSES = 2
LANES = 1
_WAITING = 32
_DEADLINE_S = 15.0

_argon2 = Argon2(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, hash_len=32, salt_len=16, type=Type.ID)

# Verified when there is no such user, so that the answer takes as long as for a wrong password.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

_STAND_IN = "-"
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}", re.ASCII)
_BCRYPT_MIN_COST = 10
_BCRYPT_MAX_BYTES = 72


def hash_password(password: str) -> str:
    """Return the argon2id hash of *password*; takes tens of milliseconds. Raises ValueError on its length."""
    return _argon2.hash(_normal(password))


def verify_password(stored: str, password: str) -> bool:
    """Tell whether *password* is the one behind *stored*; an unreadable hash or length matches nothing.

    Hashes of bcrypt, from before argon2id, are verified from cost 10 on. bcrypt sees 72 bytes only: a longer
    password would be told apart by its beginning alone, so it matches nothing (SEC-001, SEC-002).
    """
    try:
        encoded = _normal(password)
        if found := _BCRYPT.fullmatch(stored):
            readable = int(found[1]) >= _BCRYPT_MIN_COST and len(encoded) <= _BCRYPT_MAX_BYTES
            return readable and bcrypt.checkpw(encoded, stored.encode())
        return _argon2.verify(stored, encoded)
    except (VerificationError, InvalidHashError, ValueError):
        return False


def verify_nobody(password: str) -> bool:
    """Spend the time of a verification and answer False."""
    try:
        _normal(password)
    except ValueError:
        password = _STAND_IN
    verify_password(_NOBODY, password)
    return False


def needs_rehash(stored: str) -> bool:
    """Tell whether *stored* was made with another algorithm or other parameters than today's."""
    try:
        return _argon2.check_needs_rehash(stored)
    except InvalidHashError:
        return True


class PasswordHasher:
    """Hashes and verifies in worker threads, two at a time; raises RateLimitError when 32 already wait.

    Whoever is known, by a session or by where it signed in before, has a thread and a queue apart: a flood of tries by
    strangers must not keep an administrator from signing in.
    """

    def __init__(self, *, threads: int = 2, waiting: int = _WAITING) -> None:
        self._strangers = _Queue(threads, waiting)
        self._known = _Queue(1, waiting)

    async def hash(self, password: str, *, is_known: bool = False) -> str:
        """Return the hash of *password*. Raises ValueError on its length."""
        return await self._queue(is_known).run(lambda: hash_password(password))

    async def verify(self, stored: str | None, password: str, *, is_known: bool = False) -> bool:
        """Tell whether *password* matches *stored*; None (no such user) takes as long and never does."""
        if stored is None:
            return await self._queue(is_known).run(lambda: verify_nobody(password))
        return await self._queue(is_known).run(lambda: verify_password(stored, password))

    def _queue(self, is_known: bool) -> "_Queue":
        return self._known if is_known else self._strangers


class _Queue:
    """So many at a time, so many that wait."""

    def __init__(self, threads: int, waiting: int) -> None:
        self._limiter = trio.CapacityLimiter(threads)
        self._room = threads + waiting
        self._inside = 0

    async def run(self, work: Callable[[], T]) -> T:
        """Return what *work* does in a thread. Raises RateLimitError when too many are before it."""
        if self._inside >= self._room:
            raise RateLimitError("too many sign-ins at once; try again", retry_after_s=1)
        self._inside += 1
        try:
            with trio.fail_after(_DEADLINE_S):
                return await run_low(work, limiter=self._limiter)
        except trio.TooSlowError:
            raise RateLimitError("too many sign-ins at once; try again", retry_after_s=2) from None
        finally:
            self._inside -= 1


def _normal(password: str) -> bytes:
    encoded = unicodedata.normalize("NFC", password).encode()
    if not 1 <= len(encoded) <= MAX_BYTES:
        raise ValueError(f"a password has 1 to {MAX_BYTES} bytes")
    return encoded
