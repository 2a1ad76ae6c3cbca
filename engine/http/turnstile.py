"""How many signals begin in one round of the event loop.

A round runs every task that is ready once, and a signal takes most of a millisecond of it. When fifty senders are
ready at one moment, each step of an order that is on its way, some ten from the decision to its wire, would wait for
fifty signals to be taken in, and orders would fall far behind the signals.
"""

import trio

_A_ROUND = 1
# The usher never stands still for long; should it ever, signals go on without it.
_LONGEST_S = 1.0


class Turnstile:
    """Lets *a_round* callers pass in each round, in the order of their coming; all of them while `run` does not run."""

    def __init__(self, a_round: int = _A_ROUND) -> None:
        self._a_round = self._left = a_round
        self._lot = trio.lowlevel.ParkingLot()
        self._used_up = trio.Event()
        self._runs = False

    async def passed(self) -> None:
        """Wait for a place in a round; no wait at all, and no other task runs, where there is one in this."""
        if not self._runs:
            return
        if self._left and not self._lot:
            self._take(1)
            return
        with trio.move_on_after(_LONGEST_S):
            await self._lot.park()

    async def run(self) -> None:
        """Usher until cancelled; whoever waits then passes."""
        self._runs = True
        try:
            while True:
                # one round later: a wait for what has happened is a turn of everybody else all the same
                await self._used_up.wait()
                self._used_up = trio.Event()
                self._left = self._a_round
                self._take(len(self._lot.unpark(count=self._a_round)))
        finally:
            self._runs = False
            self._lot.unpark_all()

    def _take(self, places: int) -> None:
        self._left -= places
        if not self._left:
            self._used_up.set()
