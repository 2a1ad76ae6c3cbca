"""How many orders of all accounts are on their way to the wire: while many are, everything else stands back.

One signal may send orders on a thousand accounts. What the answers of the first cost (books, records, reads of order
books) would stand between the last orders and the wire.
"""

import trio

MANY = 32
"""So many orders on their way are a rush."""

_LONGEST_S = 0.4
_LONGEST_ANSWER_S = 0.3
# the answers of a rush are taken in by so many at a time: a cancel or a kill gets its turn between them
_AT_ONCE = 32


class Departure:
    """One order on its way: it leaves, once, and its answer comes, or it ends without either."""

    __slots__ = ("_has_begun", "_has_left", "_rush")

    def __init__(self, rush: "Rush") -> None:
        self._rush = rush
        self._has_begun = self._has_left = False

    def begins(self) -> None:
        """Nothing but its turn on the wire is waited for; one whose broker is being logged in to counts for none."""
        self._has_begun = True
        self._rush.one_began()

    def leaves(self) -> None:
        """Its first byte leaves now; may be said again."""
        if self._has_begun and not self._has_left:
            self._has_left = True
            self._rush.one_left()

    def ends(self) -> None:
        """Its answer is here, or it did not leave."""
        self.leaves()
        if self._has_begun:
            self._rush.one_ended()


class Rush:
    """Counts orders between their commit, their first byte and the broker's answer."""

    def __init__(self) -> None:
        self._orders = 0
        self._over = trio.Event()
        self._waiting = 0
        self._all_left = trio.Event()
        self._answered = trio.lowlevel.ParkingLot()
        self._is_watched = False

    def departure(self) -> Departure:
        """Return what counts one order from when it begins until it ends; its maker has to say both."""
        return Departure(self)

    def one_began(self) -> None:
        """One more order waits for its first byte."""
        self._orders += 1
        self._waiting += 1

    def one_left(self) -> None:
        """One order fewer waits for its first byte."""
        self._waiting -= 1
        if self._waiting == MANY and self._is_watched:
            self._all_left.set()

    def one_ended(self) -> None:
        """One order fewer is on its way."""
        self._orders -= 1
        if self._orders == MANY:
            over, self._over = self._over, trio.Event()
            over.set()

    async def stand_back(self) -> None:
        """Wait for the end of a rush, 0.4 s at most: what has filled must be known soon, too."""
        if self._orders > MANY:
            with trio.move_on_after(_LONGEST_S):
                await self._over.wait()

    async def let_others_leave(self) -> None:
        """Wait with an answer until few orders wait for their first byte, 0.3 s at most."""
        if self._waiting <= MANY:
            return
        if self._is_watched:
            await self._answered.park()
            return
        # the first to come has the deadline for all
        self._is_watched, self._all_left = True, trio.Event()
        try:
            with trio.move_on_after(_LONGEST_ANSWER_S):
                await self._all_left.wait()
            while self._answered:
                self._answered.unpark(count=_AT_ONCE)
                await trio.lowlevel.checkpoint()
        finally:
            self._is_watched = False
            self._answered.unpark_all()
