"""Callers that have proven nothing: how many of them are served when they come in floods (SEC-096, SEC-098).

Whoever shows a living session, the key of a source or the bot's secret passes, unless the connection is one whose
keys came with wrong signatures before. All others enter one after the
other, a few milliseconds apart once a burst is used up, by address and in all: a crowd that enters at one moment
would stand between every step of a signal and its next. An address from which far more was refused than mistakes
and tests amount to is answered late and cheaply, 429 without a look at the request, but for a trickle.

There are three queues, so that a crowd from many addresses keeps nobody out: one for addresses where something was
proven before or that a list of an owner names, one for the first few requests of any address, one for the rest. A
sign-in from elsewhere and a signal whose secret is in its path or body wait in the first two.

Answering late bounds what one connection can ask for; one that waits is the first to give way when room is needed.
Nothing here decides who may do what: what a request proves is judged again where it counts.
"""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Mapping
from random import Random
from typing import Protocol

import trio

from engine.http.client_ip import rate_key, wide_key
from engine.http.page_cookie import page_authorization
from engine.http.ratelimit import MAX_KEYS, TokenBuckets

_LATE_S = (0.25, 1.25)
_REFUSED_PER_SECOND, _REFUSED_BURST = 30, 900
_LIMITED_PER_SECOND, _LIMITED_BURST = 2, 100
_TRICKLE_PER_SECOND = 10
_ENTER_PER_SECOND, _ENTER_BURST = 100, 20
_ALL_PER_SECOND, _ALL_BURST = 125, 40
_KNOWN_PER_SECOND, _KNOWN_BURST = 100, 40
_QUIET_PER_SECOND, _QUIET_BURST = 75, 40
_FEW_PER_MINUTE, _FEW_BURST = 30, 6
_KNOWN_FOR_S, _EXPECTED_FOR_S = 86_400.0, 5.0
_MAX_KNOWN = 4_096
_LONGEST_WAIT_S = 4.0
_ALL = "all"
_ALWAYS = frozenset({"/api/v1/system/health", "/api/v1/system/ready"})
_TOO_MANY = 429
_FOR_ITSELF = frozenset({401, _TOO_MANY})
_PROVING = frozenset({b"authorization", b"x-api-key", b"cookie"})
_PROVEN_S = 5.0
_MAX_PROVEN = 4_096


class Proofs(Protocol):
    """What a request can prove by its headers alone."""

    def is_session(self, authorization: str, client: str) -> bool:
        """Whether *authorization* is that of a living session, or of a token that is good from *client*."""

    def is_expected(self, client: str) -> bool:
        """Whether *client* is an address that an enabled source, or an API token, is listed for."""

    def is_source(self, key_hash: bytes) -> bool:
        """Whether an enabled source has the key whose SHA-256 is *key_hash*."""

    def is_bot(self, secret: str) -> bool:
        """Whether *secret* is the one that the bot's updates carry."""


class Turns:
    """Gives turns *per_second* apart to each key, the first *burst* of them at once (GCRA, ITU-T I.371)."""

    def __init__(self, per_second: float, burst: int, *, time: Callable[[], float], max_keys: int = MAX_KEYS) -> None:
        self._apart = 1.0 / per_second
        self._slack = burst * self._apart
        self._time = time
        self._max_keys = max_keys
        self._due: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str, *, longest_s: float) -> float | None:
        """Take the next turn; return the seconds until it, None (and take none) when that is over *longest_s*."""
        now = self._time()
        due = max(self._due.get(key, now), now) + self._apart
        wait = due - self._slack - now
        if wait > longest_s:
            return None
        self._due[key] = due
        self._due.move_to_end(key)
        if len(self._due) > self._max_keys:
            self._due.popitem(last=False)
        return max(0.0, wait)


class Strangers:
    """Counts and slows down; *time* gives seconds that only grow."""

    def __init__(self, proofs: Proofs, *, time: Callable[[], float] = trio.current_time) -> None:
        self._proofs = proofs
        self._time = time
        self._refused = TokenBuckets(_REFUSED_PER_SECOND * 60, time=time, burst=_REFUSED_BURST)
        self._limited = TokenBuckets(_LIMITED_PER_SECOND * 60, time=time, burst=_LIMITED_BURST)
        self._trickle = TokenBuckets(_TRICKLE_PER_SECOND * 60, time=time, burst=_TRICKLE_PER_SECOND)
        self._turns = Turns(_ENTER_PER_SECOND, _ENTER_BURST, time=time)
        self._few = TokenBuckets(_FEW_PER_MINUTE, time=time, burst=_FEW_BURST)
        self._turns_of_known = Turns(_KNOWN_PER_SECOND, _KNOWN_BURST, time=time, max_keys=1)
        self._turns_of_quiet = Turns(_QUIET_PER_SECOND, _QUIET_BURST, time=time, max_keys=1)
        self._turns_of_all = Turns(_ALL_PER_SECOND, _ALL_BURST, time=time, max_keys=1)
        self._known: OrderedDict[str, float] = OrderedDict()
        self._expected: OrderedDict[str, tuple[bool, float]] = OrderedDict()
        self._proven: OrderedDict[bytes, float] = OrderedDict()
        self._random = Random()  # noqa: S311 -- spreads, hides nothing

    def enters(
        self, client: str, path: str, headers: Mapping[bytes, bytes], *, is_doubted: bool = False
    ) -> float | None:
        """Return in how many seconds a request may enter; None when it is not to be looked at.

        With *is_doubted* the key of a source alone proves nothing: several requests of the same connection
        had one, and none a signature that fits.
        """
        if path in _ALWAYS or self._proves(client, headers, is_doubted=is_doubted):
            return 0.0
        address = rate_key(client)
        if self._refused.is_empty(address) and self._trickle.take(address) > 0:
            return None
        own = self._turns.take(address, longest_s=_LONGEST_WAIT_S)
        if own is None:
            return None
        common = self._common_turn(client, address)
        return None if common is None else max(own, common)

    def welcome(self, client: str) -> None:
        """Take note that something was proven from *client*: a sign-in, a signal that was taken."""
        address = rate_key(client)
        self._known[address] = self._time() + _KNOWN_FOR_S
        self._known.move_to_end(address)
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)

    def _common_turn(self, client: str, address: str) -> float | None:
        """Take a turn in the queue of those like the caller, or in the one for all when that is too long."""
        wait = None
        if self._known.get(address, float("-inf")) > self._time() or self._is_expected(client):
            wait = self._turns_of_known.take(_ALL, longest_s=_LONGEST_WAIT_S)
        elif self._few.take(wide_key(client)) == 0:
            wait = self._turns_of_quiet.take(_ALL, longest_s=_LONGEST_WAIT_S)
        return self._turns_of_all.take(_ALL, longest_s=_LONGEST_WAIT_S) if wait is None else wait

    def _is_expected(self, client: str) -> bool:
        # remembered for a moment, for a flood asks again and again
        now = self._time()
        held = self._expected.get(client)
        if held is None or held[1] <= now:
            held = self._expected[client] = (self._proofs.is_expected(client), now + _EXPECTED_FOR_S)
            self._expected.move_to_end(client)
            if len(self._expected) > _MAX_KNOWN:
                self._expected.popitem(last=False)
        return held[0]

    def late_by(self, client: str, status: int, headers: Mapping[bytes, bytes]) -> float:
        """Count an answer with an error; return how many seconds late it should be.

        A signed-in caller's own mistakes are its own affair: of those only 401 and 429 count. 429 is late after few
        of them: whoever goes on after so many does not read Retry-After. Not all are equally late, or a crowd of
        them would come back at one moment.
        """
        if status not in _FOR_ITSELF and not headers.keys().isdisjoint(_PROVING):
            return 0.0
        address = rate_key(client)
        spent = self._refused.take(address) > 0
        limited = status == _TOO_MANY and self._limited.take(address) > 0
        return self._random.uniform(*_LATE_S) if limited or (spent and status in _FOR_ITSELF) else 0.0

    def _proves(self, client: str, headers: Mapping[bytes, bytes], *, is_doubted: bool) -> bool:
        key = headers.get(b"x-api-key")
        if key is not None:
            return not is_doubted and self._proofs.is_source(hashlib.sha256(key).digest())
        authorization = headers.get(b"authorization")
        if authorization is not None:
            return self._is_session(authorization, client)
        shown = page_authorization(headers.get(b"cookie"))
        if shown is not None:
            return self._is_session(shown.encode(), client)
        secret = headers.get(b"x-telegram-bot-api-secret-token")
        return secret is not None and self._proofs.is_bot(secret.decode("latin-1"))

    def _is_session(self, authorization: bytes, client: str) -> bool:
        # remembered for a moment: nearly every request comes with the header of the one before
        digest, now = hashlib.sha256(client.encode() + b"\x00" + authorization).digest(), self._time()
        if self._proven.get(digest, float("-inf")) > now:
            return True
        if not self._proofs.is_session(authorization.decode("latin-1"), client):
            return False
        self._proven[digest] = now + _PROVEN_S
        if len(self._proven) > _MAX_PROVEN:
            self._proven.popitem(last=False)
        return True


def is_same(given: str, expected: str) -> bool:
    """Compare secrets in constant time; an empty one is nobody's."""
    return bool(expected) and hmac.compare_digest(given.encode("utf-8", "replace"), expected.encode())
