"""How many orders of all accounts are on their way to the wire: while many are, reads of order books stand back.

One signal may send orders on a thousand accounts. Each answer is a reason to read that account's order book, and the
reads of the first accounts would stand between the last orders and the wire.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import trio

MANY = 32
"""So many orders on their way are a rush."""

_LONGEST_S = 0.4


class Rush:
    """Counts orders between their commit and the broker's answer."""

    def __init__(self) -> None:
        self._orders = 0
        self._over = trio.Event()

    @contextmanager
    def order(self) -> Iterator[None]:
        """Count one order for as long as this is entered."""
        self._orders += 1
        try:
            yield
        finally:
            self._orders -= 1
            if self._orders == MANY:
                over, self._over = self._over, trio.Event()
                over.set()

    async def stand_back(self) -> None:
        """Wait for the end of a rush, 0.4 s at most: what has filled must be known soon, too."""
        if self._orders > MANY:
            with trio.move_on_after(_LONGEST_S):
                await self._over.wait()
