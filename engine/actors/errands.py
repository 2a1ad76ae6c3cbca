"""Errands: what was asked for in a chat and takes longer than an update may.

Squaring off waits many seconds for the broker; the next update, a kill switch perhaps, must not wait behind it.
Mailbox: bounded, refuses: the chat is told. A few run at once, each with a deadline. Restart: permanent; what waits
outlives it, what ran is over.
"""

from collections.abc import Awaitable, Callable

import structlog
import trio

from engine.runtime.mailbox import Mailbox, Overflow

_log = structlog.get_logger(__name__)

_CAPACITY = 32
_AT_ONCE = 8

Errand = Callable[[], Awaitable[None]]


class Errands:
    """Runs errands, each for at most *within_s* seconds."""

    def __init__(self, *, within_s: float = 30.0) -> None:
        self._within_s = within_s
        self.mailbox: Mailbox[Errand] = Mailbox("errands", capacity=_CAPACITY, overflow=Overflow.REFUSE)

    def send(self, errand: Errand) -> None:
        """Queue an errand; never waits. Raises MailboxFull."""
        self.mailbox.tell_nowait(errand)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run errands until cancelled."""
        limiter = trio.CapacityLimiter(_AT_ONCE)
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                await limiter.acquire_on_behalf_of(token := object())
                try:
                    errand = await self.mailbox.receive()
                except BaseException:
                    limiter.release_on_behalf_of(token)
                    raise
                nursery.start_soon(self._run, errand, limiter, token)

    async def _run(self, errand: Errand, limiter: trio.CapacityLimiter, token: object) -> None:
        try:
            with trio.move_on_after(self._within_s) as scope:
                await errand()
            if scope.cancelled_caught:
                _log.warning("errand.too_slow", within_s=self._within_s)
        except Exception:
            # one errand's fault must not end the others
            _log.exception("errand.fault")
        finally:
            limiter.release_on_behalf_of(token)
