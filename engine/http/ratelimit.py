"""Token buckets in memory: they hold while every store is down.

A bucket holds one minute's worth and refills evenly. The number of buckets is bounded; the one that
was used longest ago is forgotten first, which a full bucket survives without harm.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from enum import StrEnum
from uuid import UUID

import trio

from engine.errors import RateLimitError
from engine.http.client_ip import rate_key
from engine.http.guesses import Guesses

MAX_KEYS = 20_000
_IP_FACTOR = 20
_KILL_PER_MINUTE = 120
_CANCEL_PER_MINUTE = 600


class RateClass(StrEnum):
    """Which bucket a call of an endpoint is taken from before its handler runs.

    What ends risk has buckets of its own: the kill switch one, cancelling and squaring off another (SEC-096).
    """

    NONE = "none"
    API = "api"
    KILL_SWITCH = "kill_switch"
    CANCEL = "cancel"


class TokenBuckets:
    """One bucket per key, *per_minute* tokens each; *time* gives seconds that only grow.

    A bucket holds *burst* tokens, a minute's worth when it is not given.
    """

    def __init__(
        self, per_minute: float, *, time: Callable[[], float], max_keys: int = MAX_KEYS, burst: float | None = None
    ) -> None:
        self._capacity = float(per_minute if burst is None else burst)
        self._rate = per_minute / 60.0
        self._time = time
        self._max_keys = max_keys
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: str) -> float:
        """Take one token; return 0, or the seconds until there is one."""
        now = self._time()
        level, at = self._buckets.pop(key, (self._capacity, now))
        level = min(self._capacity, level + (now - at) * self._rate)
        wait = 0.0 if level >= 1.0 else (1.0 - level) / self._rate
        self._buckets[key] = (level if wait else level - 1.0, now)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)
        return wait

    def is_empty(self, key: str) -> bool:
        """Tell whether there is no token now, without taking one."""
        level, at = self._buckets.get(key, (self._capacity, 0.0))
        return level < 1.0 and level + (self._time() - at) * self._rate < 1.0

    def give_back(self, key: str) -> None:
        """Return a token that turned out not to be owed."""
        if key in self._buckets:
            level, at = self._buckets[key]
            self._buckets[key] = (min(self._capacity, level + 1.0), at)


class RateLimits:
    """The limits of ``[limits]``; each method raises RateLimitError with Retry-After."""

    def __init__(
        self,
        *,
        login_per_minute: int,
        webhook_per_minute: int,
        api_per_minute: int,
        time: Callable[[], float] = trio.current_time,
    ) -> None:
        self._guesses = Guesses(free=login_per_minute, wait_s=60.0 / login_per_minute, time=time)
        self._login_ip = TokenBuckets(login_per_minute * _IP_FACTOR, time=time)
        self._session_ip = TokenBuckets(login_per_minute * _IP_FACTOR, time=time)
        self._login_state = TokenBuckets(login_per_minute * _IP_FACTOR, time=time)
        self._webhook = TokenBuckets(webhook_per_minute, time=time)
        self._api = TokenBuckets(api_per_minute, time=time)
        self._kill = TokenBuckets(max(api_per_minute, _KILL_PER_MINUTE), time=time)
        self._cancel = TokenBuckets(max(api_per_minute, _CANCEL_PER_MINUTE), time=time)

    def login(self, client_ip: str, email: str, *, device: UUID | None = None) -> None:
        """Count one try to sign in: of an e-mail address from a client address, and of the latter for all e-mails.

        The narrow limit comes first: what it refuses takes nothing from the wide one. Nothing is counted for an
        e-mail address from everywhere together, so nobody can use up what its owner may try (SEC-006). A *device*
        that showed that it was signed in before counts for itself, however its address was used by others.
        """
        pair, address = _login_keys(client_ip, email, device)
        _check(self._guesses.take(pair))
        _check(self._login_ip.take(address))

    def login_succeeded(self, client_ip: str, email: str, *, device: UUID | None = None) -> None:
        """Take a successful try off the count, and those before it: only failures in a row add up."""
        pair, address = _login_keys(client_ip, email, device)
        self._guesses.succeeded(pair)
        self._login_ip.give_back(address)

    def login_undecided(self, client_ip: str, email: str, *, device: UUID | None = None) -> None:
        """Take one try off the count that was neither a success nor a failure: its code is still to come."""
        pair, address = _login_keys(client_ip, email, device)
        self._guesses.give_back(pair)
        self._login_ip.give_back(address)

    def proof(self, session_id: UUID) -> None:
        """Count one password or code that a signed-in person gives again; each session counts for itself."""
        _check(self._guesses.take(f"session:{session_id}"))

    def proof_succeeded(self, session_id: UUID) -> None:
        """Take a right one off the count, and those before it."""
        self._guesses.succeeded(f"session:{session_id}")

    def session(self, client_ip: str) -> None:
        """Count one refresh token that an address presents; each costs the store a look."""
        _check(self._session_ip.take(rate_key(client_ip)))

    def session_known(self, client_ip: str) -> None:
        """Take a refresh token that was known off the count: only guesses add up."""
        self._session_ip.give_back(rate_key(client_ip))

    def login_state(self, client_ip: str) -> None:
        """Count one state of a broker login that an address presents and that is not good."""
        _check(self._login_state.take(rate_key(client_ip)))

    def webhook(self, source: UUID | str) -> None:
        """Count one delivery of a source."""
        _check(self._webhook.take(str(source)))

    def api(self, user_id: UUID | str) -> None:
        """Count one call of a user."""
        _check(self._api.take(str(user_id)))

    def kill_switch(self, user_id: UUID | str) -> None:
        """Count one call of the kill switch: a bucket of its own, so that no flood stands in its way."""
        _check(self._kill.take(str(user_id)))

    def cancel(self, user_id: UUID | str) -> None:
        """Count one call that cancels or squares off: no flood of reads, or of the kill switch, stands in its way."""
        _check(self._cancel.take(str(user_id)))

    def charge(self, rate: RateClass, user_id: UUID | str) -> None:
        """Count one call of an endpoint of class *rate*."""
        if rate is RateClass.API:
            self.api(user_id)
        elif rate is RateClass.KILL_SWITCH:
            self.kill_switch(user_id)
        elif rate is RateClass.CANCEL:
            self.cancel(user_id)


def _login_keys(client_ip: str, email: str, device: UUID | None) -> tuple[str, str]:
    if device is not None:
        return f"device:{device}", f"device:{device}"
    address = rate_key(client_ip)
    return f"{address}\x00{email}", address


def _check(wait: float) -> None:
    if wait > 0:
        raise RateLimitError("too many requests; try again later", retry_after_s=math.ceil(wait))
