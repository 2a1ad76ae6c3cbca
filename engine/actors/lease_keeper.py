"""The lease keeper: renews this engine's lease and says whether it may still send.

Owns one fact, `holds`, that every send gate reads. The lease is believed for as long as the last
renewal that succeeded was asked for within its life on the boot-time clock: an engine that was
suspended wakes up without it. A lease that another engine has taken escalates.

Why a resumed leader sends nothing: another engine takes the lease only when it has not been renewed for
`LIFE_S` and a grace, and what counts here is when the renewal was *asked for*, which is never later
than when the server recorded it. So `holds` is false before the lease can be another's, whatever the
process slept through between two of its instructions; only the write that the gate has already let
through can be under way then. That one, and every write-ahead committed before the taking, is a row
that the new leader finds SUBMITTING and has to settle by the order book before it sends anything for
its symbol: a second attempt cannot exist, and a late arrival is found by its tag.
"""

import structlog
import trio

from engine.clock import Clock
from engine.errors import Fenced, StoreUnavailable
from engine.runtime.beat import beat
from engine.store import lease
from engine.store.database import Database

_log = structlog.get_logger(__name__)

LIFE_S = 10.0
_RENEW_S = 2.0


class LeaseKeeper:
    """Keeps the lease of one epoch. No mailbox. Restart: by its supervisor, but never after Fenced."""

    def __init__(self, database: Database, *, epoch: int, clock: Clock, asked_ns: int) -> None:
        """Keep the lease of *epoch*, taken by a request made at *asked_ns* on the boot-time clock."""
        self._database = database
        self.epoch = epoch
        self._clock = clock
        # not the time of now: the process may have slept between the taking and this line
        self._renewed_ns = asked_ns
        self._asked_ns = asked_ns
        self._asked = trio.Event()
        self._fenced = False
        self._given_back = False

    def holds(self) -> bool:
        """Whether this engine may send: nobody took the lease, as far as can be known now.

        While PostgreSQL is away no engine can take it either, and no order can be written ahead; what
        this guards against is a process that slept through its lease.
        """
        given_up = self._fenced or self._given_back
        return not given_up and self._clock.boottime_ns() - self._renewed_ns < LIFE_S * 1e9

    async def confirm(self, *, timeout_s: float = 4.0) -> bool:
        """Whether this engine may still take signals in; after a sleep of the process it asks the store first.

        While PostgreSQL is away the answer is yes: nobody can take the lease then, and the journal keeps
        what comes in.
        """
        if not self._has_slept():
            return not self._fenced
        with trio.move_on_after(timeout_s):
            # an answer that was under way when the process fell asleep tells nothing of the time since
            while not self._fenced and self._has_slept():
                await self._asked.wait()
        return not self._fenced

    def _has_slept(self) -> bool:
        return self._clock.boottime_ns() - self._asked_ns >= LIFE_S * 1e9

    async def give_back(self) -> None:
        """Send nothing any more, and let another engine lead at once. Raises StoreUnavailable."""
        self._given_back = True
        await self._database.run(lambda c: lease.release(c, epoch=self.epoch), timeout_s=1.0, reserved=True)

    def _note_asked(self, asked_ns: int) -> None:
        self._asked_ns = asked_ns
        self._asked.set()
        self._asked = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Renew until cancelled. Raises Fenced when the lease is gone."""
        task_status.started()
        while True:
            if self._given_back:
                await trio.sleep_forever()
            asked_ns = self._clock.boottime_ns()
            try:
                await self._database.run(lambda c: lease.renew(c, epoch=self.epoch), timeout_s=3.0, reserved=True)
            except StoreUnavailable as error:
                _log.warning("lease.not_renewed", error=str(error))
                self._note_asked(asked_ns)
                await trio.sleep(0.5)
                continue
            except Fenced:
                # for good: an epoch never comes back. Any other end of this task leaves the lease as it is
                self._fenced = True
                self._note_asked(asked_ns)
                raise
            self._renewed_ns = asked_ns
            self._note_asked(asked_ns)
            await beat(_RENEW_S)
