"""Which order call of an account goes first: exits before cancels, cancels before entries, and nobody starves.

A claim says that somebody waits for a call of a lane. It lapses unless it is made again, so that a claimant
that died keeps nobody back. Pure: seconds (monotonic) are handed in.
"""

from collections.abc import Hashable
from enum import IntEnum
from math import inf

CLAIM_S = 1.5
"""How long a claim holds unless it is made again; whoever waits looks every second at least."""

STARVED_S = 3.0
"""A lane that has waited so long without a call gets the next one, whatever else waits."""


class Lane(IntEnum):
    """The lanes, first one first. Modifications go with the cancels."""

    EXIT = 0
    CANCEL = 1
    ENTRY = 2


class Claims:
    """Who waits for a call of one account."""

    def __init__(self) -> None:
        # since when, and until when unless it is made again
        self._waiting: dict[Lane, dict[Hashable, tuple[float, float]]] = {lane: {} for lane in Lane}
        self._last_call = dict.fromkeys(Lane, -inf)

    def claim(self, who: Hashable, lane: Lane, now_s: float) -> None:
        """*who* waits for a call of *lane*."""
        held = self._waiting[lane].get(who)
        since = held[0] if held is not None and now_s < held[1] else now_s
        self._waiting[lane][who] = (since, now_s + CLAIM_S)

    def drop(self, who: Hashable, lane: Lane) -> None:
        """*who* waits no more; harmless when it did not."""
        self._waiting[lane].pop(who, None)

    def called(self, lane: Lane, now_s: float) -> None:
        """A call of *lane* was made."""
        self._last_call[lane] = now_s

    def waiting(self, lane: Lane, now_s: float) -> int:
        """Return how many wait for a call of *lane*."""
        claims = self._waiting[lane]
        for who in [who for who, (_, until) in claims.items() if now_s >= until]:
            del claims[who]
        return len(claims)

    def starved(self, now_s: float, *, entries_held: bool = False) -> Lane | None:
        """Return the lane that has waited too long, the longest waiting one; held entries do not count."""
        if not any(self._waiting.values()):
            return None
        found, waited = None, STARVED_S
        for lane in Lane:
            if not self.waiting(lane, now_s) or (entries_held and lane is Lane.ENTRY):
                continue
            begun = min(since for since, _ in self._waiting[lane].values())
            wait = now_s - max(begun, self._last_call[lane])
            if wait >= waited:
                found, waited = lane, wait
        return found

    def may_go(self, lane: Lane, now_s: float, *, entries_held: bool = False) -> bool:
        """Whether nobody else has the right to the next call before *lane*."""
        if not any(self._waiting.values()):
            return True
        starved = self.starved(now_s, entries_held=entries_held)
        if starved is not None:
            return lane is starved
        return not any(self.waiting(before, now_s) for before in Lane if before < lane)
