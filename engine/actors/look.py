"""One read of an account's order book, as those see it who compare it with the account's own books."""

from collections.abc import Sequence
from datetime import datetime

import msgspec
import trio

from engine.broker.book import Book
from engine.broker.values import BrokerOrder, BrokerTrade

# So many rows take milliseconds to read again, which is for a worker thread.
_THREAD_FROM_ROWS = 256


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A read of the order book that was folded in.

    ``trades`` is None when the trade book was not read or could not be. ``foreign`` are rows of today that
    are of no order in the ledger. ``is_whole`` is told by a full read: the book has every order known of today.
    """

    started_at: datetime
    book: Book[BrokerOrder]
    trades: Book[BrokerTrade] | None
    foreign: Sequence[BrokerOrder]
    is_whole: bool

    async def at_hand(self) -> "Look":
        """Return the same with every row of its books held: those that were let go of are read again."""
        if self.book.is_at_hand and (self.trades is None or self.trades.is_at_hand):
            return self
        if len(self.book) + len(self.trades or ()) < _THREAD_FROM_ROWS:
            return self._at_hand()
        return await trio.to_thread.run_sync(self._at_hand)

    def _at_hand(self) -> "Look":
        trades = None if self.trades is None else self.trades.at_hand()
        return msgspec.structs.replace(self, book=self.book.at_hand(), trades=trades)
