"""When an order that may have been sent is found, still looked for, or proven never placed.

This is rule R of reliability.md 2.4. The broker has no idempotency key, so absence is proved by its
order book alone: three clean reads in a row without the tag, the last begun when the longest known
delay of the broker (83 s, kite.trade forum 41029) is twice over.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from datetime import datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

import msgspec

from engine.clock import IST, trading_day
from engine.domain.enums import Exchange, OrderStatus, ProductType, TransactionType

HORIZON_S = 180
MIN_HORIZON_S = 120
CLEAN_READS = 3
# The read that is due at the horizon may be under way when somebody asks: its timeout, twice.
PARK_GRACE_S = 20

_POLLS_AT_S = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0)
_LATER_POLLS_S = 10.0


DAY_CLOSES = (time(15, 35), time(23, 55))
"""When (IST) the books are compared for the day: after the shares' close, and before Kite's book is cleared."""


def next_day_close(now: datetime) -> datetime:
    """Return the first instant (UTC) after *now* at which a day-close reconciliation is due."""
    day = now.astimezone(IST).date()
    days = (day, day + timedelta(days=1))
    return min(due for day in days for at in DAY_CLOSES if (due := datetime.combine(day, at, tzinfo=IST)) > now)


class BookRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the broker's order book; ``filled`` is units, ``avg`` rupees, both cumulative.

    The tag may stand in ``tag`` or among ``tags``, next to the broker's own (Kite Connect v3 orders).
    """

    broker_order_id: str
    tag: str | None
    status: OrderStatus
    filled: int
    avg: Decimal
    exchange: Exchange
    symbol: str
    transaction_type: TransactionType
    quantity: int
    product: ProductType
    tags: tuple[str, ...] = ()
    message: str | None = None


class Verdict(StrEnum):
    """What is known of an order that may have been sent."""

    FOUND = "FOUND"
    WAIT = "WAIT"
    NOT_PLACED = "NOT_PLACED"
    PARKED = "PARKED"


class BookRead(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to find the order: when it began (UTC), whether it was clean, whether the tag was there."""

    started_at: datetime
    clean: bool
    found: bool = False


class AbsenceProof:
    """The search for one order: what its reads of the book add up to so far.

    ``sent_at`` (UTC) is when the last byte may have left; after a restart that is not known, so pass the
    latest it can have been: the write-ahead's instant plus the send window and the request's timeout.

    Raises:
        ValueError: the horizon is under 120 s, less than the broker's known delays allow.
    """

    def __init__(self, sent_at: datetime, *, horizon_s: float = HORIZON_S) -> None:
        if horizon_s < MIN_HORIZON_S:
            raise ValueError(f"a horizon of {horizon_s} s is too short to prove absence; use at least {MIN_HORIZON_S}")
        self.sent_at = sent_at
        self._provable_at = sent_at + timedelta(seconds=horizon_s)
        self._clean_in_row = 0
        self._last_clean_at = sent_at
        self._found = False

    def add(self, read: BookRead) -> None:
        """Take in the next read, in the order in which they began."""
        self._found = self._found or read.found
        if read.clean:
            self._clean_in_row += 1
            self._last_clean_at = max(self._last_clean_at, read.started_at)
        else:
            self._clean_in_row = 0

    def found(self) -> None:
        """Take in a push or postback that bears the tag."""
        self._found = True

    def verdict(self, now: datetime) -> Verdict:
        """Return FOUND, NOT_PLACED (proven), PARKED (the book cannot be read; keep polling) or WAIT."""
        if self._found:
            return Verdict.FOUND
        if self._clean_in_row >= CLEAN_READS and self._last_clean_at >= self._provable_at:
            return Verdict.NOT_PLACED
        if now >= self._provable_at + timedelta(seconds=PARK_GRACE_S):
            return Verdict.PARKED
        return Verdict.WAIT


def verdict(reads: Iterable[BookRead], sent_at: datetime, now: datetime, horizon_s: float = HORIZON_S) -> Verdict:
    """Return the verdict on an order after *reads* of the book, given in the order in which they began.

    Raises:
        ValueError: as `AbsenceProof`.
    """
    proof = AbsenceProof(sent_at, horizon_s=horizon_s)
    for read in reads:
        proof.add(read)
    return proof.verdict(now)


class KnownIds(Protocol):
    """The broker's ids of the orders that are known of a day."""

    def __le__(self, others: AbstractSet[str], /) -> bool:
        """Whether all of them are among *others*."""


def clean_read(known_broker_ids: KnownIds, book_ids: AbstractSet[str], started_at: datetime, sent_at: datetime) -> bool:
    """Return whether a well-formed answer of the order book counts as evidence of absence.

    It must have been asked for after the order can have left, on the same trading day, and hold every
    order known of that day: a book that lacks those is cached or cut short. An answer that was not a
    200 or did not fit its schema is no book and never clean; that is for the caller to see.
    """
    same_day = trading_day(started_at) == trading_day(sent_at)
    return started_at > sent_at and same_day and clean_book(known_broker_ids, book_ids)


def clean_book(known_broker_ids: KnownIds, book_ids: AbstractSet[str]) -> bool:
    """Return whether a book is whole: it holds every order known of its day, ours and everybody else's."""
    return known_broker_ids <= book_ids


def next_poll_delay(n: int) -> float:
    """Return how many seconds to wait before the *n*-th read (from 0), counted from the one before it.

    Raises:
        ValueError: *n* is negative.
    """
    if n < 0:
        raise ValueError(f"there is no read number {n}")
    if n >= len(_POLLS_AT_S):
        return _LATER_POLLS_S
    return _POLLS_AT_S[n] - (_POLLS_AT_S[n - 1] if n else 0.0)


def match_by_tag(book: Iterable[BookRow], tag: str) -> tuple[BookRow, ...]:
    """Return the rows that bear *tag*, in any case, in the order of the book.

    More than one is for the caller to judge: slices share the tag of their order, else it is a duplicate.
    """
    wanted = tag.upper()
    return tuple(
        row for row in book if (row.tag or "").upper() == wanted or any(other.upper() == wanted for other in row.tags)
    )
