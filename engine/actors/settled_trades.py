"""The trades of the trade book that are in the books for good, by the blocks in which they are read."""

from collections.abc import Callable
from datetime import date

from engine.broker.book import Block, Book
from engine.broker.values import BrokerTrade
from engine.clock import trading_day


class SettledTrades:
    """Which blocks of the last read of the trade book hold nothing new; *is_booked* says it of a trade."""

    def __init__(self, is_booked: Callable[[BrokerTrade], bool]) -> None:
        self._is_booked = is_booked
        # with how many trades each has of the day that was asked for
        self._blocks: dict[Block[BrokerTrade], int] = {}
        self._day: date | None = None

    def clear(self) -> None:
        """Hold nothing for settled: another day, or other books."""
        self._blocks.clear()

    def of_day(self, book: Book[BrokerTrade], day: date | None) -> int:
        """Return how many trades of *book* were made on the IST *day*."""
        if day != self._day:
            self._day = day
            self.clear()
        return sum(self._blocks[block] if block in self._blocks else self._count(block) for block in book.blocks)

    def others(self, book: Book[BrokerTrade]) -> list[BrokerTrade]:
        """Return the trades of *book* that are not in a settled block."""
        return [trade for block in book.blocks if block not in self._blocks for trade in block.rows]

    def note(self, book: Book[BrokerTrade]) -> None:
        """Take note, after all of *book* was taken, of which blocks are settled now; forget all others."""
        blocks: dict[Block[BrokerTrade], int] = {}
        for block in book.blocks:
            if block in self._blocks:
                blocks[block] = self._blocks[block]
            elif all(map(self._is_booked, block.rows)):
                blocks[block] = self._count(block)
                block.let_go()
        self._blocks = blocks

    def _count(self, block: Block[BrokerTrade]) -> int:
        return sum(trading_day(trade.filled_at) == self._day for trade in block.rows)
