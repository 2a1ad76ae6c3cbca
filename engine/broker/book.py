"""A broker's book as one read showed it.

The order book of a busy day has thousands of rows, is read every second or so, and nearly all of it stands still. So
its rows come in blocks, and a block in which no byte has changed is the very object that it was in the read before:
who has dealt with all that it tells need not look into it again.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Generic, Protocol, TypeVar, overload


class Row(Protocol):
    """A row of the order book or of the trade book."""

    @property
    def broker_order_id(self) -> str:
        """The broker's id of the order that it is of."""


T_co = TypeVar("T_co", bound=Row, covariant=True)
R = TypeVar("R", bound=Row)


class Block(Generic[T_co]):
    """Some rows of a book that follow each other; equal to itself alone, and never changed.

    *again* reads the rows once more: with it they can be let go of while nobody needs them.
    """

    __slots__ = ("_again", "_names", "_rows", "is_named", "size")

    def __init__(self, rows: Sequence[T_co], again: Callable[[], Sequence[T_co]] | None = None) -> None:
        self._rows: tuple[T_co, ...] | None = tuple(rows)
        self._names = ""
        self._again = again
        self.size = len(self._rows)
        self.is_named = all(map(_is_named, self._rows))
        """Whether each row says which order it is of."""

    @property
    def rows(self) -> tuple[T_co, ...]:
        """The rows, in the broker's order; read anew each time once they were let go of."""
        if self._rows is None and self._again is not None:
            return tuple(self._again())
        return self._rows or ()

    @property
    def ids(self) -> frozenset[str]:
        """The broker's ids of the orders of its rows."""
        if self._rows is None:
            return frozenset(self._names.split("\n"))
        return frozenset(row.broker_order_id for row in self._rows)

    def named(self) -> "Block[T_co]":
        """Return the block without the rows that do not say it: one of those would be taken for another."""
        return Block([row for row in self.rows if _is_named(row)])

    @property
    def is_at_hand(self) -> bool:
        """Whether the rows are held, and need not be read again."""
        return self._rows is not None

    def let_go(self) -> None:
        """Hold the rows no more, if they can be read again: they have told everything."""
        if self._again is not None and self._rows and self.is_named:
            self._names = "\n".join(row.broker_order_id for row in self._rows)
            self._rows = None


def _is_named(row: Row) -> bool:
    return bool(row.broker_order_id) and row.broker_order_id.isprintable()


class Book(Sequence[T_co]):
    """The rows of a book in the broker's order, in *blocks*; as a sequence, the rows."""

    __slots__ = ("_size", "blocks")

    def __init__(self, blocks: Sequence[Block[T_co]]) -> None:
        self.blocks: tuple[Block[T_co], ...] = tuple(blocks)
        self._size = sum(block.size for block in self.blocks)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[T_co]:
        return chain.from_iterable(block.rows for block in self.blocks)

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, index: int) -> T_co: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T_co]: ...
    def __getitem__(self, index: int | slice) -> T_co | Sequence[T_co]:
        return list(self)[index]

    @property
    def ids(self) -> set[str]:
        """The broker's ids of all orders in it."""
        return set().union(*(block.ids for block in self.blocks))

    @property
    def is_at_hand(self) -> bool:
        """Whether all rows are held; others cost some 10 us each to read again."""
        return all(block.is_at_hand for block in self.blocks)

    def at_hand(self) -> "Book[T_co]":
        """Return the book with all its rows held."""
        return Book([block if block.is_at_hand else Block(block.rows) for block in self.blocks])

    def named(self) -> "tuple[Book[T_co], bool]":
        """Return the book without rows that do not say which order they are of, and whether there was none such.

        What such a row is of, it does not prove absent.
        """
        if all(block.is_named for block in self.blocks):
            return self, True
        return Book([block if block.is_named else block.named() for block in self.blocks]), False


def book_of(rows: Sequence[R]) -> Book[R]:
    """Return *rows* as a book: themselves where they are one, else in one new block."""
    if isinstance(rows, Book):
        return rows
    return Book((Block(rows),) if rows else ())
