"""Sending the requests about triggers (GTT) of one account, each once, and what came of it.

As for orders: the row is on disk before its request, the gate is asked right before the first byte, and what is
not proven is doubt. Doubt is for the broker's list to settle, never for a second request.
"""

from collections.abc import Awaitable, Callable

import structlog
import trio

from engine.actors.account_session import AccountSession
from engine.actors.dispatching import Dispatcher
from engine.actors.executor_context import ExecutorContext
from engine.actors.gtt_book import GttBook
from engine.actors.sending import SEND_WINDOW_S
from engine.broker.base import Accepted, Broker, BrokerAuthError, NotSent, Refused, Unknown, WriteOutcome
from engine.domain.gtt import Gtt, GttStatus
from engine.errors import BrokerUnavailable

_log = structlog.get_logger(__name__)

_TIMEOUT_S = 30.0
_SLOT_WAIT_S = 2.0
_SLOT_LOOK_S = 0.05


class GttWire:
    """The write side; *turns* has the account's budget of calls, *look_soon* has the broker's list read."""

    def __init__(
        self,
        context: ExecutorContext,
        book: GttBook,
        session: AccountSession,
        *,
        turns: Dispatcher,
        look_soon: Callable[[], None],
    ) -> None:
        self._context = context
        self._book = book
        self._session = session
        self._turns = turns
        self._look_soon = look_soon

    def take_slot(self) -> bool:
        """Take one call of the account's budget; False when there is none now."""
        return self._turns.take_slot(urgent=True)

    async def place(self, row: Gtt, *, committed_ns: int, against: Callable[[], str | None]) -> None:
        """Send the committed *row* and settle what comes of it; *against* says why it must not go, or None."""

        def gate() -> str | None:
            stop = against()
            # read last: it also tells of a process that was stopped while all else was asked
            if stop is None and self._context.clock.boottime_ns() - committed_ns > SEND_WINDOW_S * 1e9:
                stop = f"LATE: more than {SEND_WINDOW_S:g} s since the write-ahead"
            return stop

        outcome = await self._send(lambda broker: broker.place_gtt(row, gate), row)
        self._look_soon()
        gtt = self._book.gtts.get(row.id)
        if gtt is None or gtt.status is not GttStatus.SUBMITTING:
            return  # another life of the executor has it
        match outcome:
            case Accepted(broker_order_id=trigger_id):
                self._book.move(gtt, GttStatus.ACTIVE, "taken by the broker", trigger_id=trigger_id)
            case Refused(rate_limited=True) | Unknown():
                why = outcome.message if isinstance(outcome, Refused) else outcome.reason
                self._book.move(gtt, GttStatus.UNKNOWN, f"outcome not known: {why}")
            case Refused(auth_blocked=True):
                self._book.move(gtt, GttStatus.FAILED, f"NOT_SENT: LOGIN_REQUIRED: {outcome.message}")
            case Refused():
                self._book.move(gtt, GttStatus.REJECTED, f"{outcome.code}: {outcome.message}")
            case NotSent():
                self._book.move(gtt, GttStatus.FAILED, f"NOT_SENT: {outcome.reason}")

    async def replace(self, gtt: Gtt) -> WriteOutcome:
        """Ask the broker to give the trigger of *gtt* its terms."""

        def gate() -> str | None:
            return None if self._context.holds_lease() else "FENCED: the lease is not held"

        return await self._change(gtt, lambda broker: broker.replace_gtt(gtt.trigger_id or "", gtt, gate))

    async def cancel(self, gtt: Gtt, *, trigger_id: str | None = None) -> WriteOutcome:
        """Ask the broker to end the trigger of *gtt*, or a second one of it: no gate stops what only reduces risk."""
        return await self._change(gtt, lambda broker: broker.cancel_gtt(trigger_id or gtt.trigger_id or ""))

    async def _change(self, gtt: Gtt, ask: Callable[[Broker], Awaitable[WriteOutcome]]) -> WriteOutcome:
        with trio.move_on_after(_SLOT_WAIT_S):
            while not self.take_slot():  # noqa: ASYNC110 -- bounded; the budget has no event
                await trio.sleep(_SLOT_LOOK_S)
        if not await self._context.still_leads():
            return NotSent(reason="FENCED: another engine leads; ask it", gated=True)
        outcome = await self._send(ask, gtt)
        self._look_soon()
        return outcome

    async def _send(self, ask: Callable[[Broker], Awaitable[WriteOutcome]], gtt: Gtt) -> WriteOutcome:
        try:
            broker = await self._session.broker()
        except BrokerAuthError as error:
            return NotSent(reason=f"LOGIN_REQUIRED: {error}", gated=True)
        except BrokerUnavailable as error:
            return NotSent(reason=str(error))
        outcome: WriteOutcome = Unknown(reason=f"no answer within {_TIMEOUT_S:g} s")
        try:
            with trio.move_on_after(_TIMEOUT_S):
                outcome = await ask(broker)
        except Exception as fault:
            # whatever it was, it does not prove that nothing left
            _log.exception("gtt.send_fault", gtt=str(gtt.id))
            return Unknown(reason=f"{type(fault).__name__} while sending")
        if isinstance(outcome, Refused):
            if outcome.rate_limited:
                self._turns.limited(outcome)
            self._session.refused(broker, outcome)
        return outcome
