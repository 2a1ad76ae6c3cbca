"""Pacing of reads: Kite counts them for each API key, apart from order calls (kite.trade forum 52882, 7791).

Quotes 1, historical candles 3, everything else 10 in a second. Reads of the order book and the trade book go
before the others, because orders in doubt wait for them; the others leave them a part and are not starved.
After a 429 the kind of read that got it rests; order calls are not touched by that.
"""

from enum import StrEnum
from math import inf

import trio

from engine.domain.pacing import Window
from engine.errors import BrokerUnavailable

# Longer than a calendar second by what a new connection may delay one read more than another.
_SPAN_S = 1.25
_KEPT = 3
_PATIENCE_S = 3.0
_LOOK_S = 0.02
READ_WAIT_S = 8.0
"""How long a read waits for its turn."""
REST_S = 10.0
"""How long a kind of read rests after a 429; the books are asked for every `BOOK_REST_S` meanwhile."""
BOOK_REST_S = 2.0


class ReadKind(StrEnum):
    """What Kite counts apart."""

    QUOTE = "quote"
    HISTORICAL = "historical"
    OTHER = "other"


PER_SECOND = {ReadKind.QUOTE: 1, ReadKind.HISTORICAL: 3, ReadKind.OTHER: 10}


def kind_of(path: str) -> ReadKind:
    """Return how a read of *path* is counted."""
    if path == "/quote" or path.startswith("/quote/"):
        return ReadKind.QUOTE
    return ReadKind.HISTORICAL if path.startswith("/instruments/historical/") else ReadKind.OTHER


def is_book(path: str) -> bool:
    """Whether *path* is of the order book or the trade book."""
    return path.split("/", 2)[1:2] in (["orders"], ["trades"])


class _Bucket:
    def __init__(self, limit: int) -> None:
        self.window = Window(limit, _SPAN_S)
        self.kept = _KEPT if limit > 2 * _KEPT else 0
        self.rests_until = -inf
        self.last = -inf
        # in each, only the first in line looks for its turn
        self.books = trio.Lock()
        self.others = trio.Lock()

    def wait_s(self, now: float, *, book: bool, patience: bool) -> float:
        """Return the seconds until it may go, 0 when it may now."""
        if now < self.rests_until:
            return max(0.0, self.last + BOOK_REST_S - now) if book else self.rests_until - now
        if not book and patience and self.books.locked():
            return _LOOK_S
        room = self.window.limit - 1 - (self.kept if not book and patience else 0)
        return self.window.next_at(now, room) - now

    def take(self, now: float) -> None:
        self.window.take(now)
        self.last = now


class ReadPacer:
    """The reads of one API key."""

    def __init__(self) -> None:
        self._buckets = {kind: _Bucket(limit) for kind, limit in PER_SECOND.items()}

    async def turn(self, path: str) -> None:
        """Wait until *path* may be read. Raises BrokerUnavailable when that would take over `READ_WAIT_S`."""
        bucket, book = self._buckets[kind_of(path)], is_book(path)
        asked = trio.current_time()
        with trio.move_on_after(READ_WAIT_S):
            async with bucket.books if book else bucket.others:
                while True:
                    now = trio.current_time()
                    wait = bucket.wait_s(now, book=book, patience=now < asked + _PATIENCE_S)
                    if wait <= 0:
                        bucket.take(now)
                        return
                    if now + wait > asked + READ_WAIT_S:
                        break  # no use in waiting for what cannot come in time
                    await trio.sleep(wait)
        if trio.current_time() < bucket.rests_until:
            raise BrokerUnavailable(f"{path}: the broker answered 429; reads of this kind rest {REST_S:g} s")
        raise BrokerUnavailable(f"{path}: no turn within {READ_WAIT_S:g} s; too many reads of this API key wait")

    def limited(self, path: str) -> None:
        """The broker answered 429 to a read of *path*."""
        bucket = self._buckets[kind_of(path)]
        bucket.rests_until = trio.current_time() + REST_S
