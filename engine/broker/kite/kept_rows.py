"""Books that are read again and again: a row that stands there byte for byte as it did the last time is taken as read.

Told by a digest of its bytes (BLAKE2b, 128 bits): the bytes of all rows, kept from look to look, are most of what a
busy day would hold in memory, and break it up.

The order book of a busy day has thousands of rows, is read every second or so, and nearly all of it is over and stands
still. To read all of it anew costs 8 us a row of one core, at the expense of the orders that are on their way.
"""

from collections.abc import Callable, Mapping
from typing import ClassVar, Generic, TypeVar

T = TypeVar("T")

Read = Callable[[bytes, Mapping[bytes, T]], tuple[list[T], dict[bytes, T]]]
"""Reads a body, taking rows from those known; returns all rows in order, and those to know the next time."""

# A small book costs little, and thousands of accounts have one; 50,000 rows are some 50 MB.
_LEAST_ROWS = 128
_MOST_ROWS = 50_000


class KeptRows(Generic[T]):
    """The rows of one book as last read; of all books together no more are kept than a process has room for.

    `read` may run in a thread, all else is for the event loop's.
    """

    _rows_of_all: ClassVar[int] = 0

    def __init__(self, read: Read[T]) -> None:
        self._read = read
        self._known: dict[bytes, T] = {}

    def read(self, body: bytes) -> tuple[list[T], dict[bytes, T]]:
        """Return the rows of *body*, and what to `keep` of them. Raises BrokerUnavailable."""
        return self._read(body, self._known)

    def keep(self, rows: dict[bytes, T]) -> None:
        """Know *rows* from now on, and no others; none where there is no room for them."""
        before = len(self._known)
        is_kept = len(rows) >= _LEAST_ROWS and KeptRows._rows_of_all - before + len(rows) <= _MOST_ROWS
        self._known = rows if is_kept else {}
        KeptRows._rows_of_all += len(self._known) - before

    def forget(self) -> None:
        """Know nothing any more: the book is read no further."""
        self.keep({})
