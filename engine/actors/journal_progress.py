"""How far the ledger is in the journal: the cursor, kept so that it is never ahead of what is on disk.

Holds what is in the journal and not yet decided, in the order of the journal. Ingest adds to it and tells
what the journal answered; the audit writer asks where the cursor will stand once a batch is on disk.
"""

from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Protocol
from uuid import UUID

from engine.actors.ledger_entry import LedgerEntry
from engine.journal.keys import order_of
from engine.store.ledger import JournalCursor

Position = tuple[int, int]
_BEGIN: Position = (0, 0)


class Tracked(Protocol):
    """One entry of the journal on its way into the ledger.

    ``journal_id`` is its position once the journal has answered, ``journal_failed`` says that it is not
    durable there, ``entry`` is what the ledger was handed of it, ``is_settled`` that the ledger has decided.
    """

    journal_id: str | None
    journal_failed: bool
    entry: LedgerEntry | None

    @property
    def is_settled(self) -> bool:
        """Whether the ledger has it, or never will."""


class Mark:
    """An entry of the journal that makes no passage: known to the ledger already, or a dead letter."""

    def __init__(self, journal_id: str, *, is_settled: bool = True) -> None:
        self.journal_id: str | None = journal_id
        self.journal_failed = False
        self.entry: LedgerEntry | None = None
        self._settled = is_settled

    @property
    def is_settled(self) -> bool:
        """Whether the ledger has it."""
        return self._settled

    def settle(self) -> None:
        """The ledger has it."""
        self._settled = True
        self.entry = None


class JournalProgress:
    """The cursor in memory, as handed to the ledger, and as it stands on disk.

    Appends are answered in order, so what waits is in the order of the journal, with one exception: an
    entry that an earlier try left there without its answer being heard. Such a stray holds the cursor back
    before its place, and where the cursor may have gone past that already, it does not count as durable.
    """

    def __init__(self) -> None:
        self.epoch: UUID | None = None
        self._waiting: deque[Tracked] = deque()
        self._strays: list[Tracked] = []
        self._passed = _BEGIN
        self._reached = _BEGIN
        self._handed = _BEGIN
        self._on_disk = _BEGIN
        self._last_answer = _BEGIN

    def begin(self, epoch: UUID, position: str) -> None:
        """Start with the journal named *epoch*, decided up to *position* as the ledger has it on disk."""
        self.epoch = epoch
        self._passed = self._reached = self._handed = self._on_disk = self._last_answer = order_of(position)

    @property
    def position(self) -> str:
        """Up to here everything in the journal is decided."""
        return _text(self._reached)

    @property
    def on_disk(self) -> str:
        """Up to here the ledger's own cursor stands, committed: what is older may be dropped."""
        return _text(self._on_disk)

    @property
    def is_behind(self) -> bool:
        """Whether the cursor on disk is older than it need be."""
        return self._reached > self._on_disk

    def add(self, item: Tracked) -> None:
        """Follow *item*, which has just been handed to the journal or read from it."""
        self._waiting.append(item)
        if item.journal_id is not None:
            self._last_answer = max(self._last_answer, order_of(item.journal_id))

    def answer(self, item: Tracked, entry_id: str | None) -> str | None:
        """Take the journal's answer for *item*; return it, or None when it cannot be relied on.

        An id that is older than one answered before is that of an earlier try. Is the cursor beyond it, then
        nobody will read that entry again.
        """
        if entry_id is None:
            return None
        position = order_of(entry_id)
        if position > self._last_answer:
            self._last_answer = position
        elif position <= max(self._reached, self._handed):
            return None
        elif not item.is_settled:
            self._strays.append(item)
        return entry_id

    def advance(self) -> None:
        """Look again how far everything is decided: something was answered or settled."""
        waiting = self._waiting
        while waiting and waiting[0].is_settled and _is_answered(waiting[0]):
            self._passed = max(self._passed, _position(waiting.popleft()))
        if self._strays:
            self._strays = [stray for stray in self._strays if not stray.is_settled]
        self._reached = self._held_back(self._passed, ())

    def ahead(self, entries: Sequence[LedgerEntry]) -> JournalCursor | None:
        """Return where the cursor stands once *entries* are on disk; None when they do not move it."""
        if self.epoch is None:
            return None
        best = self._passed
        batch: Collection[LedgerEntry] = frozenset(entries) if self._waiting else ()
        for item in self._waiting:
            if not (_is_in(item, batch) and _is_answered(item)):
                break
            best = max(best, _position(item))
        best = self._held_back(best, batch)
        if best <= self._on_disk:
            return None
        self._handed = max(self._handed, best)
        return JournalCursor(epoch=self.epoch, position=_text(best))

    def reached(self, cursor: JournalCursor) -> None:
        """The ledger has *cursor* on disk."""
        if cursor.epoch == self.epoch:
            self._on_disk = max(self._on_disk, order_of(cursor.position))

    def lost(self, forget: Callable[[Tracked], None]) -> list[Tracked]:
        """The journal was wiped: return what only it had, in order, each told by *forget* to be there no more."""
        only_there = [item for item in self._waiting if item.journal_id is not None and not item.is_settled]
        for item in only_there:
            forget(item)
        self._strays.clear()
        return only_there

    def _held_back(self, best: Position, batch: Collection[LedgerEntry]) -> Position:
        for stray in self._strays:
            if not _is_in(stray, batch) and _position(stray) <= best:
                return self._reached
        return max(best, self._reached)


def _is_in(item: Tracked, batch: Collection[LedgerEntry]) -> bool:
    return item.is_settled or item.entry in batch


def _is_answered(item: Tracked) -> bool:
    return item.journal_failed or item.journal_id is not None


def _position(item: Tracked) -> Position:
    return _BEGIN if item.journal_id is None else order_of(item.journal_id)


def _text(position: Position) -> str:
    return f"{position[0]}-{position[1]}"
