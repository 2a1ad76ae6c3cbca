"""Passwords: argon2id, off the event loop, with a bounded queue in front.

One hash costs tens of milliseconds and 19 MiB. Two run at a time, 32 may wait; beyond that the
caller hears 429, so that a flood of logins can never stall an order (SEC-001, SEC-007).
"""

import unicodedata
from collections.abc import Callable
from itertools import pairwise
from typing import TypeVar

import trio
from argon2 import PasswordHasher as Argon2
from argon2 import Type
from argon2.exceptions import InvalidHashError, VerificationError

from engine.errors import RateLimitError

T = TypeVar("T")
MEMORY_KIB = 19_456
PASSES = 2
LANES = 1
MIN_LENGTH = 12
MAX_BYTES = 1024
_WAITING = 32
_DEADLINE_S = 15.0

_argon2 = Argon2(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, hash_len=32, salt_len=16, type=Type.ID)

# Verified when there is no such user, so that the answer takes as long as for a wrong password.
_NOBODY = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

_STAND_IN = "-"
_COMMON = frozenset(
    {
        "123456789012",
        "1234567890123",
        "adminadminadmin",
        "administrator",
        "changemechangeme",
        "iloveyouiloveyou",
        "letmeinletmein",
        "passwordpassword",
        "password1234",
        "password12345",
        "password123456",
        "qwertyqwerty",
        "qwertyuiop12",
        "qwertyuiopasdf",
        "trustno1trustno1",
        "welcome12345",
    }
)
_CONTEXT = ("zerodha", "kite", "trading", "engine", "reliance", "infosys", "banknifty", "nifty", "sensex")
_MIN_OWN = 4


def hash_password(password: str) -> str:
    """Return the argon2id hash of *password*; takes tens of milliseconds. Raises ValueError on its length."""
    return _argon2.hash(_normal(password))


def verify_password(stored: str, password: str) -> bool:
    """Tell whether *password* is the one behind *stored*; an unreadable hash or length matches nothing."""
    try:
        return _argon2.verify(stored, _normal(password))
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
    """Tell whether *stored* was made with other parameters than today's."""
    try:
        return _argon2.check_needs_rehash(stored)
    except InvalidHashError:
        return True


def check(password: str, email: str) -> list[str]:
    """Return what speaks against *password* as a new one for *email*; an empty list accepts it.

    Length, size and a blocklist; no rules of composition (SP 800-63B).
    """
    try:
        text = unicodedata.normalize("NFC", password)
        size = len(text.encode())
    except UnicodeEncodeError:
        return ["must be text that UTF-8 can express"]
    faults = []
    if len(text) < MIN_LENGTH:
        faults.append(f"must have at least {MIN_LENGTH} characters")
    if size > MAX_BYTES:
        faults.append(f"must have at most {MAX_BYTES} bytes")
    if _is_guessable(text.casefold(), email.casefold()):
        faults.append("is too easy to guess")
    return faults


class PasswordHasher:
    """Hashes and verifies in worker threads, two at a time; raises RateLimitError when 32 already wait."""

    def __init__(self, *, threads: int = 2, waiting: int = _WAITING) -> None:
        self._limiter = trio.CapacityLimiter(threads)
        self._room = threads + waiting
        self._inside = 0

    async def hash(self, password: str) -> str:
        """Return the hash of *password*. Raises ValueError on its length."""
        return await self._run(lambda: hash_password(password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Tell whether *password* matches *stored*; None (no such user) takes as long and never does."""
        if stored is None:
            return await self._run(lambda: verify_nobody(password))
        return await self._run(lambda: verify_password(stored, password))

    async def _run(self, work: Callable[[], T]) -> T:
        if self._inside >= self._room:
            raise RateLimitError("too many sign-ins at once; try again", retry_after_s=1)
        self._inside += 1
        try:
            with trio.fail_after(_DEADLINE_S):
                return await trio.to_thread.run_sync(work, limiter=self._limiter)
        except trio.TooSlowError:
            raise RateLimitError("too many sign-ins at once; try again", retry_after_s=2) from None
        finally:
            self._inside -= 1


def _normal(password: str) -> bytes:
    encoded = unicodedata.normalize("NFC", password).encode()
    if not 1 <= len(encoded) <= MAX_BYTES:
        raise ValueError(f"a password has 1 to {MAX_BYTES} bytes")
    return encoded


def _is_guessable(text: str, email: str) -> bool:
    if not text or text in _COMMON or len(set(text)) <= 3:
        return True
    names = [part for part in (email, email.partition("@")[0]) if len(part) >= 3]
    own = text
    for word in (*names, *_CONTEXT):
        own = own.replace(word, "")
    # what is left after the words that anyone would try must still be worth guessing
    if own != text and len(own.strip("0123456789 .-_!@#$")) < _MIN_OWN:
        return True
    return _is_run(text)


def _is_run(text: str) -> bool:
    steps = {ord(after) - ord(before) for before, after in pairwise(text)}
    return len(steps) == 1 and next(iter(steps)) in {-1, 0, 1}
