"""Books that are read again and again: what stands there byte for byte as it did the last time is taken as read.

To read a row anew costs some 10 us of one core, at the expense of the orders that are on their way, and a busy day has
thousands of rows. So they are kept in blocks, each told by a digest of its bytes (BLAKE2b, 128 bits): the bytes
themselves, kept from look to look, would be most of what a busy day holds in memory. One digest over all blocks, taken
without the interpreter's lock, says mostly that nothing but the end of the book is new.
"""

import zlib
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from hashlib import blake2b
from typing import ClassVar, Generic, TypeVar

import msgspec

from engine.broker.book import Block, Book, Row
from engine.broker.kite import codec
from engine.clock import Clock
from engine.errors import BrokerUnavailable

T = TypeVar("T", bound=Row)

BLOCK_ROWS = 64
"""How many rows a block has when it is made; one that changed stays as large as it was."""
# A small book costs little, and thousands of accounts have one. A row that has been let go of takes some 80 bytes; one
# that may still change takes ten times that, and few do.
_LEAST_ROWS = 128
_MOST_ROWS = 500_000
_COMPRESSION = 1
# So many changed blocks are looked for; a book that has more is another one.
_MOST_CHANGED = 24
_DIGEST_BYTES = 16
_BLANKS = b" \t\r\n"


class _Kept(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """A block, and how it is told: ``size`` bytes with the comma after its last row, beginning with ``first``."""

    block: Block[T]
    size: int
    digest: bytes
    first: bytes


class Known(msgspec.Struct, Generic[T], frozen=True, gc=False):
    """What a read leaves to be known by the next: the bytes before the first row, and the blocks, with one digest."""

    head: bytes
    blocks: tuple[_Kept[T], ...]
    size: int
    digest: bytes

    @property
    def rows(self) -> int:
        """How many rows are known."""
        return sum(kept.block.size for kept in self.blocks)


def _always(_row: object, _now: datetime) -> bool:
    return True


class KeptBook(Generic[T]):
    """One book as last read; of all books together no more rows are kept than a process has room for.

    *read_row* reads the text of a row, given the time of reading; *lasts* tells of a row, given that time, whether the
    same bytes will mean the same the next time. `read` may run in a thread, all else is for the event loop's.
    """

    _rows_of_all: ClassVar[int] = 0

    def __init__(
        self,
        clock: Clock,
        read_row: Callable[[bytes, datetime], T],
        lasts: Callable[[T, datetime], bool] = _always,
    ) -> None:
        self._clock = clock
        self._read_row = read_row
        self._lasts = lasts
        self._known: Known[T] | None = None
        self._rows = 0
        self._is_over = False

    def read(self, body: bytes) -> tuple[Book[T], Known[T]]:
        """Return the book in *body*, and what to `keep` of it. Raises BrokerUnavailable."""
        if self._known is not None:
            try:
                return self._read(body, self._known)
            except BrokerUnavailable:
                # read as if nothing were known, it says itself what is wrong with it
                pass
        return self._read(body, None)

    def keep(self, known: Known[T]) -> None:
        """Know this from now on, and nothing else; nothing where there is no room for it, or after `forget`."""
        if self._is_over:
            return
        rows = known.rows
        has_room = rows >= _LEAST_ROWS and KeptBook._rows_of_all - self._rows + rows <= _MOST_ROWS
        self._known = known if has_room else None
        KeptBook._rows_of_all += (rows if has_room else 0) - self._rows
        self._rows = rows if has_room else 0

    def forget(self) -> None:
        """Know nothing any more: the book is read no further, but for a read that is under way."""
        self._is_over = True
        KeptBook._rows_of_all -= self._rows
        self._known, self._rows = None, 0

    def _read(self, body: bytes, known: Known[T] | None) -> tuple[Book[T], Known[T]]:
        now = self._clock.now()
        view = memoryview(body)
        parts: list[_Kept[T] | slice] = []
        head, at, told = b"", 0, None
        if known is not None and body.startswith(known.head):
            head = known.head
            parts, at, told = _standing(body, view, known)
        kept: list[_Kept[T]] = []
        for part in parts:
            if isinstance(part, slice):
                kept += self._between(body, view, part, now)
            else:
                kept.append(part)
        # what comes after them, as if it were the whole answer: its frame is read with it
        raws = codec.raw_rows(head + body[at:] if kept else body)
        if kept and not raws:
            raise BrokerUnavailable("the book ends with a comma")
        if not kept:
            at = body.find(raws[0]) if raws else len(body)
            head = body[:at]
        rows, fresh, end = self._cut(body, view, raws, at, None, now)
        kept += fresh
        rest = rows[sum(each.block.size for each in fresh) :]
        blocks = [each.block for each in kept]
        if rest:
            blocks.append(Block(rest))
        start = len(head)
        if told is None:
            told = _digest(view[start:end])
        else:
            told.update(view[at:end])
        return Book(blocks), Known(head=head, blocks=tuple(kept), size=end - start, digest=told.digest())

    def _between(self, body: bytes, view: memoryview, gap: slice, now: datetime) -> list[_Kept[T]]:
        """Read what stands between two blocks that are known. Raises BrokerUnavailable."""
        text = body[gap].rstrip(_BLANKS)
        if not text.endswith(b","):
            raise BrokerUnavailable("the book changed between its rows")
        raws = codec.raw_list(b"[" + text[:-1] + b"]")
        _, kept, end = self._cut(body, view, raws, gap.start, gap.stop, now)
        if end != gap.stop:
            raise BrokerUnavailable("a row of the book has no time")
        return kept

    def _cut(
        self, body: bytes, view: memoryview, raws: Sequence[msgspec.Raw], start: int, stop: int | None, now: datetime
    ) -> tuple[list[T], list[_Kept[T]], int]:
        """Read *raws*, the rows from byte *start* on; return them, the blocks that they fill, and where those end.

        Up to *stop* everything is a block; without it the last rows are none yet: more will follow them.
        """
        rows = [self._read_row(bytes(raw), now) for raw in raws]
        kept: list[_Kept[T]] = []
        last = len(raws) if stop is not None else (len(raws) - 1) // BLOCK_ROWS * BLOCK_ROWS
        at = start
        for first in range(0, last, BLOCK_ROWS):
            until = min(first + BLOCK_ROWS, last)
            some = rows[first:until]
            if not all(self._lasts(row, now) for row in some):
                break
            end = at
            for raw in raws[first:until]:
                # between rows there is nothing but a comma and blanks
                end = body.index(raw, end) + len(raw)
            end = body.index(raws[until], end) if until < len(raws) else stop or end
            block = Block(some, partial(self._again, zlib.compress(view[at:end], _COMPRESSION), now))
            digest = _digest(view[at:end]).digest()
            kept.append(_Kept(block=block, size=end - at, digest=digest, first=bytes(raws[first])))
            at = end
        return rows, kept, at

    def _again(self, compressed: bytes, now: datetime) -> list[T]:
        text = zlib.decompress(compressed).rstrip(_BLANKS)
        return [self._read_row(bytes(raw), now) for raw in codec.raw_list(b"[" + text[:-1] + b"]")]


def _standing(body: bytes, view: memoryview, known: Known[T]) -> tuple[list[_Kept[T] | slice], int, blake2b | None]:
    """Return the blocks of *known* that stand in *body*, with what is new between them, and where the last ends.

    With them comes the digest over all of them where nothing has changed.
    """
    at = len(known.head)
    end = at + known.size
    told = _digest(view[at:end])
    if told.digest() == known.digest:
        return list(known.blocks), end, told
    parts: list[_Kept[T] | slice] = []
    changed = 0
    for kept in known.blocks:
        place = body.find(kept.first, at)
        if place < 0 or _digest(view[place : place + kept.size]).digest() != kept.digest:
            changed += 1
            if changed > _MOST_CHANGED:
                break
            continue
        if place > at:
            parts.append(slice(at, place))
        parts.append(kept)
        at = place + kept.size
    return parts, at, None


def _digest(octets: memoryview) -> blake2b:
    return blake2b(octets, digest_size=_DIGEST_BYTES)
