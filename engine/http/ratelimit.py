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

MAX_KEYS = 20_000
_IP_FACTOR = 20
_EMAIL_FACTOR = 10
_KILL_PER_MINUTE = 120


class RateClass(StrEnum):
    """Which bucket a call of an endpoint is taken from before its handler runs."""

    NONE = "none"
    API = "api"
    KILL_SWITCH = "kill_switch"


class TokenBuckets:
    """One bucket per key, *per_minute* tokens each; *time* gives seconds that only grow."""

    def __init__(self, per_minute: float, *, time: Callable[[], float], max_keys: int = MAX_KEYS) -> None:
        self._capacity = float(per_minute)
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
        self._login = TokenBuckets(login_per_minute, time=time)
        self._login_ip = TokenBuckets(login_per_minute * _IP_FACTOR, time=time)
        self._login_email = TokenBuckets(login_per_minute * _EMAIL_FACTOR, time=time)
        self._session_ip = TokenBuckets(login_per_minute * _IP_FACTOR, time=time)
        self._login_state = TokenBuckets(login_per_minute * _IP_FACTOR, time=time)
        self._webhook = TokenBuckets(webhook_per_minute, time=time)
        self._api = TokenBuckets(api_per_minute, time=time)
        self._kill = TokenBuckets(max(api_per_minute, _KILL_PER_MINUTE), time=time)

    def login(self, client_ip: str, email: str) -> None:
        """Count one try to sign in: per address and e-mail, and more widely per each alone.

        The narrow limit comes first: what it refuses takes nothing from the wide ones, so one address
        alone can never use up what a user may try from elsewhere (SEC-006).
        """
        address = rate_key(client_ip)
        _check(self._login.take(f"{address}\x00{email}"))
        _check(self._login_ip.take(address))
        _check(self._login_email.take(email))

    def login_succeeded(self, client_ip: str, email: str) -> None:
        """Take a successful try off the count: only failures add up."""
        address = rate_key(client_ip)
        self._login.give_back(f"{address}\x00{email}")
        self._login_ip.give_back(address)
        self._login_email.give_back(email)

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

    def charge(self, rate: RateClass, user_id: UUID | str) -> None:
        """Count one call of an endpoint of class *rate*."""
        if rate is RateClass.API:
            self.api(user_id)
        elif rate is RateClass.KILL_SWITCH:
            self.kill_switch(user_id)


def _check(wait: float) -> None:
    if wait > 0:
        raise RateLimitError("too many requests; try again later", retry_after_s=math.ceil(wait))
