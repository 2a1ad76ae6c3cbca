"""Who leads: watching the lease of another engine, and taking it when it is free.

The grace. reliability.md 2.8 asks a new leader to wait for the send window, the broker's timeout and a
margin, 10 s in all, before it sends. Here a lease is taken only when it has not been renewed for its life
(10 s, after which the old leader's gate is shut by its own clock) and 2 s more, and there is no further wait,
because nothing depends on the old leader's requests having ended: whatever it may have sent stands in
the ledger as SUBMITTING, was committed before the taking (the taking waits for commits under way, later
ones are refused), and recovery makes it UNKNOWN. An UNKNOWN order is never sent again, holds back its
account, symbol and product, counts in full for risk, and is looked for by its tag for 180 s: a request that is on
the wire for another 7 s is found like any other.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import structlog
import trio

from engine.actors.lease_keeper import LIFE_S
from engine.clock import Clock
from engine.errors import StartupError, StoreUnavailable
from engine.runtime import holder
from engine.store import lease
from engine.store.database import Database
from engine.store.lease import Lease

_log = structlog.get_logger(__name__)

GRACE_S = 2.0
SILENT_S = LIFE_S + GRACE_S
SETTLE_S = 5.0
_LOOK_S = 0.5


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """The lease, taken: its epoch, and when it was asked for (nanoseconds on the boot-time clock)."""

    epoch: int
    asked_ns: int


class Silence:
    """Tells from looks at the lease whether its holder has fallen silent; seconds are monotonic and arguments.

    Silent means: seen unrenewed for `SILENT_S`, by the watcher's own clock, so that neither a step of the
    server's clock nor a suspended machine makes a living leader look dead. Only the first look of all believes
    the age that the server tells, or every start after a crash on another host would wait. After a
    look that failed the holder gets `SETTLE_S` to renew: it could not either.
    """

    def __init__(self) -> None:
        self._seen: tuple[int, Any] | None = None
        self._since_s = 0.0
        self._blind_s = float("-inf")

    def blind(self, now_s: float) -> None:
        """Note that the lease could not be read."""
        self._blind_s = now_s

    def is_silent(self, held: Lease, now_s: float) -> bool:
        """Take a look at the lease and tell whether its holder has been silent for long enough."""
        seen = (held.epoch, held.renewed_at)
        if seen != self._seen:
            credit_s = 0.0 if self._seen is not None else min(max(held.age_s, 0.0), SILENT_S)
            self._seen, self._since_s = seen, now_s - credit_s
        return now_s - self._since_s >= SILENT_S and now_s - self._blind_s >= SETTLE_S


class Candidate:
    """An engine on its way to the lease: waits for its turn, then takes it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._me = holder.own_name()
        self._silence = Silence()
        self._tried: Grant | None = None

    async def wait(
        self,
        database: Database,
        *,
        wait_s: float = float("inf"),
        on_wait: Callable[[Lease], Awaitable[None]] | None = None,
    ) -> Lease | None:
        """Wait until the lease is free: never held, given back, or its holder dead or silent; return it as read.

        *on_wait* is called with the lease at every look that finds it held. A store that cannot be read is
        tried again. Raises StartupError when it is still held after *wait_s* seconds, StoreUnavailable when
        it cannot be read then.
        """
        deadline = trio.current_time() + wait_s
        failures = 0
        while True:
            try:
                held = await database.run(lease.read, reserved=True)
            except StoreUnavailable as error:
                self._silence.blind(trio.current_time())
                if trio.current_time() > deadline:
                    raise
                if failures % 60 == 0:
                    _log.warning("lease.not_read", error=str(error))
                failures += 1
            else:
                failures = 0
                if held is None or self._is_mine(held) or self._is_free(held):
                    return held
                if trio.current_time() > deadline:
                    who = holder.told(held.holder)
                    mend = "stop it first, or give this one stores of its own"
                    raise StartupError(f"another engine works on these stores ({who}); {mend}")
                if on_wait is not None:
                    await on_wait(held)
            await trio.sleep(_LOOK_S)

    async def take(self, database: Database, seen: Lease | None) -> Grant | None:
        """Take the lease as it was *seen*; None when it has been renewed or taken since, or nobody can tell.

        Whether a taking without an answer went through is found at the next `wait` and `take`.
        """
        if seen is not None and self._is_mine(seen):
            return self._tried  # taken before, though the answer was lost
        asked = Grant(epoch=(0 if seen is None else seen.epoch) + 1, asked_ns=self._clock.boottime_ns())
        if self._tried is not None and self._tried.epoch == asked.epoch:
            asked = self._tried  # an earlier try, unanswered, may be the one that goes through
        self._tried = asked
        try:
            taken = await database.run(lambda c: lease.take(c, holder=self._me, seen=seen), shield=True)
        except StoreUnavailable as error:
            _log.warning("lease.taking_unanswered", error=str(error))
            return None
        if taken is None:
            return None
        _log.info("lease.taken", epoch=taken, before="" if seen is None else holder.told(seen.holder))
        return asked

    def _is_mine(self, held: Lease) -> bool:
        return self._tried is not None and (held.epoch, held.holder) == (self._tried.epoch, self._me)

    def _is_free(self, held: Lease) -> bool:
        # the look comes first: it must see every renewal
        silent = self._silence.is_silent(held, trio.current_time())
        return silent or held.released or holder.is_dead(held.holder)


async def take_lease(database: Database, *, clock: Clock, wait_s: float = float("inf")) -> Grant:
    """Wait for the lease and take it. Raises what `Candidate.wait` raises."""
    candidate = Candidate(clock)
    while True:
        grant = await candidate.take(database, await candidate.wait(database, wait_s=wait_s))
        if grant is not None:
            return grant
