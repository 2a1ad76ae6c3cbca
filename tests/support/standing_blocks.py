"""Books of a broker in memory, in blocks that stand still as those of a real one do."""

from collections.abc import Sequence
from typing import Generic, TypeVar

from engine.broker.book import Block, Book, Row

R = TypeVar("R", bound=Row)


class StandingBlocks(Generic[R]):
    """Makes books of blocks of *size* rows; a block whose rows are those of the book before is that block."""

    def __init__(self, size: int = 2) -> None:
        self._size = size
        self._blocks: dict[tuple[R, ...], Block[R]] = {}

    def book(self, rows: Sequence[R]) -> Book[R]:
        """Return *rows* as the next book."""
        cut = [tuple(rows[at : at + self._size]) for at in range(0, len(rows), self._size)]
        self._blocks = {some: self._blocks.get(some) or Block(some, lambda some=some: some) for some in cut}
        return Book([self._blocks[some] for some in cut])
