"""A bounded memory of the latest events: each has a number, and a reader asks for those after one.

An event's id is ``EPOCH-NUMBER``. The epoch is that of the engine's lease, so it grows with every start: an id
of an earlier life is told from one of this, and its reader is told to begin anew (`Resume`).
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")

# Longer than any id that is ever given out.
_MAX_ID = 41


class Resume(StrEnum):
    """Why a reader cannot go on where it was, and has to load the state anew."""

    NEW_ENGINE = "NEW_ENGINE"
    """Its place is of another life of the engine."""
    TOO_OLD = "TOO_OLD"
    """What came after its place is no longer remembered."""
    UNKNOWN_ID = "UNKNOWN_ID"
    """Its place was never given out."""


class Place(msgspec.Struct, frozen=True):
    """How far a reader is: ``number`` is that of the last event it has; ``reset`` says why it begins anew there."""

    number: int
    reset: Resume | None = None


class EventRing(Generic[T]):
    """The last *capacity* events of one life of the engine, numbered from 1."""

    def __init__(self, epoch: int, capacity: int) -> None:
        self.epoch = epoch
        self._capacity = capacity
        self._slots: list[T | None] = [None] * capacity
        self._newest = 0

    @property
    def newest(self) -> int:
        """The number of the newest event; 0 before there is one."""
        return self._newest

    @property
    def oldest(self) -> int:
        """The number of the oldest event that is still held; one more than `newest` while there is none."""
        return max(1, self._newest - self._capacity + 1)

    def add(self, event: T) -> int:
        """Keep *event* in place of the oldest and return its number."""
        self._newest += 1
        self._slots[self._newest % self._capacity] = event
        return self._newest

    def kept(self) -> Iterator[T]:
        """Yield everything that is still held, oldest first."""
        for at in range(self.oldest, self._newest + 1):
            event = self._slots[at % self._capacity]
            if event is not None:
                yield event

    def after(self, number: int, limit: int) -> list[tuple[int, T]] | None:
        """Return up to *limit* events after *number*, oldest first; None when one of them is no longer held."""
        if number + 1 < self.oldest:
            return None
        last = min(self._newest, number + limit)
        found: list[tuple[int, T]] = []
        for at in range(number + 1, last + 1):
            event = self._slots[at % self._capacity]
            assert event is not None  # noqa: S101 -- every number up to the newest has been filled
            found.append((at, event))
        return found

    def id_of(self, number: int) -> str:
        """Return the id of the event *number*."""
        return f"{self.epoch}-{number}"

    def place(self, last_event_id: str | None) -> Place:
        """Return where a reader goes on that had *last_event_id* last; without one, after the newest event."""
        if not last_event_id:
            return Place(self._newest)
        read = _read_id(last_event_id)
        if read is None:
            return Place(self._newest, Resume.UNKNOWN_ID)
        epoch, number = read
        if epoch != self.epoch:
            return Place(self._newest, Resume.NEW_ENGINE)
        if number > self._newest:
            return Place(self._newest, Resume.UNKNOWN_ID)
        if number + 1 < self.oldest:
            return Place(self._newest, Resume.TOO_OLD)
        return Place(number)


def _read_id(text: str) -> tuple[int, int] | None:
    epoch, mark, number = text.partition("-")
    if len(text) > _MAX_ID or not mark or not (epoch.isascii() and epoch.isdigit()):
        return None
    if not (number.isascii() and number.isdigit()):
        return None
    return int(epoch), int(number)
