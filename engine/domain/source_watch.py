"""What was heard of a source, and what should have been: numbers that never came, and silence.

A sender may number its signals 0, 1, 2 and so on. A number above the next one leaves a gap; a late arrival closes it;
one that was seen already, or lies below everything that is missing, is a repeat. Pure: the instants are arguments.
"""

from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

MAX_SEQUENCE = 2**53 - 1
"""The largest number that every JSON reader keeps exactly."""
MAX_GAPS = 100
"""Gaps that are remembered; of more the oldest are dropped, after they were told."""

Gap = tuple[int, int]


class Arrival(StrEnum):
    """What a number turned out to be."""

    NEXT = "NEXT"
    AFTER_GAP = "AFTER_GAP"
    LATE = "LATE"
    REPEAT = "REPEAT"


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What was heard of one source; instants are aware UTC.

    ``heard_at`` counts heartbeats and lists of rows too, ``last_signal_at`` signals only. ``missing`` are the gaps
    below ``last_sequence``, each its first and last number, in order. ``silent_since`` is set while it is silent.
    """

    heard_at: datetime | None = None
    last_signal_at: datetime | None = None
    last_sequence: int | None = None
    missing: tuple[Gap, ...] = ()
    silent_since: datetime | None = None


def arrive(heard: Heard, number: int) -> tuple[Heard, Arrival, Gap | None]:
    """Return what is known once *number* has come, what it was, and the gap that it opened (AFTER_GAP only).

    The first number of all begins the count: nothing is missing before it.
    """
    last = heard.last_sequence
    if last is None or number == last + 1:
        return msgspec.structs.replace(heard, last_sequence=number), Arrival.NEXT, None
    if number > last:
        gap = (last + 1, number - 1)
        missing = (*heard.missing, gap)[-MAX_GAPS:]
        return msgspec.structs.replace(heard, last_sequence=number, missing=missing), Arrival.AFTER_GAP, gap
    for place, (first, end) in enumerate(heard.missing):
        if first <= number <= end:
            left = tuple(part for part in ((first, number - 1), (number + 1, end)) if part[0] <= part[1])
            missing = (*heard.missing[:place], *left, *heard.missing[place + 1 :])[-MAX_GAPS:]
            return msgspec.structs.replace(heard, missing=missing), Arrival.LATE, None
    return heard, Arrival.REPEAT, None


def announced(heard: Heard, number: int) -> tuple[Heard, Gap | None]:
    """Return what is known once the sender has said that *number* was the last one it sent, and the gap this opened.

    A loss at the very end has no later signal to show it. A sender that was never heard to number has nothing missing.
    """
    last = heard.last_sequence
    if last is None:
        return msgspec.structs.replace(heard, last_sequence=number), None
    if number <= last:
        return heard, None
    gap = (last + 1, number)
    return msgspec.structs.replace(heard, last_sequence=number, missing=(*heard.missing, gap)[-MAX_GAPS:]), gap


def missing_count(heard: Heard) -> int:
    """Return how many numbers are missing."""
    return sum(end - first + 1 for first, end in heard.missing)


def silent_since(
    heard: Heard, *, every_s: int, watched_since: datetime, opened_at: datetime | None, now: datetime
) -> datetime | None:
    """Return since when a source that should be heard every *every_s* seconds is silent, None when it is not.

    Outside the market's hours (*opened_at* None, else when they began) nothing is expected, and what was before they
    began or before *watched_since* (the engine's start, the wish to watch) counts for nothing.
    """
    if opened_at is None:
        return None
    begun = max(watched_since, opened_at)
    last = begun if heard.heard_at is None else max(heard.heard_at, begun)
    return last if now - last > timedelta(seconds=every_s) else None


def shown(gaps: tuple[Gap, ...], *, most: int = 10) -> str:
    """Return *gaps* for a person: ``4, 7 to 9``, shortened after *most*."""
    words = [str(first) if first == end else f"{first} to {end}" for first, end in gaps[:most]]
    return ", ".join(words) + (" and more" if len(gaps) > most else "")
