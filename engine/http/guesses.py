"""Tries that may be guesses: a few are free, then each failure doubles the wait for the next (SEC-006).

In memory: it holds while every store is down. The number of keys is bounded; the one that was used longest ago
is forgotten first.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

MAX_KEYS = 20_000
LONGEST_WAIT_S = 900.0
FORGOTTEN_AFTER_S = 3600.0
"""A key that nothing was tried on for this long begins anew, once its wait is over."""


class _Tries(NamedTuple):
    made: int
    next_at: float
    last_at: float


class Guesses:
    """Counts tries by key; *time* gives seconds that only grow.

    The first *free* tries in a row go at once; from then on the wait is *wait_s*, doubled by every try that is
    made, up to a quarter of an hour. What is refused meanwhile does not make the wait longer. A try is counted
    when it begins, so that many at once are no way around the count.
    """

    def __init__(self, *, free: int, wait_s: float, time: Callable[[], float], max_keys: int = MAX_KEYS) -> None:
        self._free = free
        self._wait_s = wait_s
        self._time = time
        self._max_keys = max_keys
        self._tries: OrderedDict[str, _Tries] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tries)

    def take(self, key: str) -> float:
        """Begin one try; return 0, or the seconds until one may be made."""
        now = self._time()
        held = self._tries.pop(key, None)
        if held is None or now >= max(held.next_at, held.last_at + FORGOTTEN_AFTER_S):
            held = _Tries(0, now, now)
        if now < held.next_at:
            self._tries[key] = held
            return held.next_at - now
        made = held.made + 1
        self._tries[key] = _Tries(made, now + self._wait_after(made), now)
        if len(self._tries) > self._max_keys:
            self._tries.popitem(last=False)
        return 0.0

    def succeeded(self, key: str) -> None:
        """Forget *key*: what came before a success was no guessing."""
        self._tries.pop(key, None)

    def give_back(self, key: str) -> None:
        """Take back the last try of *key*, as if it had not been made."""
        held = self._tries.get(key)
        if held is not None:
            self._tries[key] = held._replace(made=max(0, held.made - 1), next_at=held.last_at)

    def _wait_after(self, made: int) -> float:
        beyond = made - self._free
        if beyond < 0:
            return 0.0
        # the exponent is bounded: 2.0 to the power of a long row of failures is no number any more
        return min(LONGEST_WAIT_S, self._wait_s * 2.0 ** min(beyond, 32))
