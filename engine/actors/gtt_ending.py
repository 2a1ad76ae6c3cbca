"""Ending and shrinking triggers (GTT): for a person, for what is held, and where one stands too many."""

from collections.abc import Callable
from math import inf
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.gtt_book import GttBook
from engine.actors.gtt_follower import GttFollower
from engine.actors.gtt_watch import GttWatch
from engine.actors.gtt_wire import GttWire
from engine.broker.base import Accepted, NotSent, Refused, WriteOutcome
from engine.domain.gtt import Gtt, GttStatus
from engine.errors import ConflictError, MailboxFull, NotFoundError, OrderExecutionError, UnavailableError
from engine.runtime.mailbox import Reply

_log = structlog.get_logger(__name__)

_ASK_AGAIN_S = 3.0
_ANSWER_TIMEOUT_S = 45.0
_SETTLE_S = 3.0


class GttEnder:
    """Asks the broker to end and to shrink triggers of one account; none is asked about twice at once."""

    def __init__(self, book: GttBook, wire: GttWire, watch: GttWatch, follower: GttFollower) -> None:
        self._book = book
        self._wire = wire
        self._watch = watch
        self._follower = follower
        # those to be ended as soon as they stand, and who wants that
        self._doomed: dict[UUID, str] = {}
        self._asked: dict[str, float] = {}
        self.nursery: trio.Nursery | None = None

    def restore(self) -> None:
        """Begin anew: what was asked of the broker is shown by its list."""
        self._asked.clear()

    async def cancel(self, gtt_id: UUID, *, by: str) -> Gtt:
        """End a trigger for *by*, who is not overruled: it is not placed again.

        The request is made in the executor's own nursery, for whoever asks may go away meanwhile. Raises
        NotFoundError, ConflictError, OrderExecutionError, UnavailableError.
        """
        gtt, nursery = self._book.gtts.get(gtt_id), self.nursery
        if nursery is None:
            raise UnavailableError("the account's orders are being read; try again", retry_after_s=2)
        if gtt is None:
            raise NotFoundError("no live trigger of that id")
        if gtt.status.is_unresolved:
            raise ConflictError("the broker has not confirmed the trigger yet; try again", code="ORDER_IN_FLIGHT")
        if gtt.status is not GttStatus.ACTIVE:
            raise ConflictError(f"the trigger is {gtt.status} already", code="ORDER_FINISHED")
        reply: Reply[Gtt] = Reply()
        nursery.start_soon(self._cancel_for, gtt, by, reply)
        with trio.move_on_after(_ANSWER_TIMEOUT_S):
            return await reply.wait()
        raise UnavailableError("the broker does not answer; read the trigger again", retry_after_s=5)

    async def _cancel_for(self, gtt: Gtt, by: str, reply: Reply[Gtt]) -> None:
        try:
            self._book.note(gtt, "GTT_CANCEL_REQUESTED", f"by {by}")
            outcome = await self._wire.cancel(gtt)
            latest = self._ended(gtt, outcome, by=by)
            if isinstance(outcome, Refused):
                reply.fail(OrderExecutionError(f"the broker refused to end the trigger: {outcome.message}"))
            elif isinstance(outcome, NotSent):
                reply.fail(OrderExecutionError(f"the request could not be sent: {outcome.reason}"))
            elif isinstance(outcome, Accepted):
                reply.answer(latest)
            else:
                # what became of it is told by the list
                self._doomed[gtt.id] = by
                with trio.move_on_after(_SETTLE_S):
                    await self._watch.wait_looked()
                reply.answer(self._book.gtts.get(gtt.id, gtt))
        except MailboxFull as error:
            reply.fail(UnavailableError(f"the ledger takes no more now: {error}", retry_after_s=5))

    async def cancel_all(self, *, by: str) -> tuple[Gtt, ...]:
        """End every trigger of the account for *by*, those in doubt as soon as they are found.

        Returns them as they stand then, 45 seconds later at most; one that the broker did not end is still live.
        """
        wanted = self._book.live
        self._doomed |= {gtt.id: by for gtt in wanted}
        if self.nursery is not None:
            self.end_doomed(self.nursery)
        ids = {gtt.id for gtt in wanted if gtt.status is GttStatus.ACTIVE}
        with trio.move_on_after(_ANSWER_TIMEOUT_S):
            while any(gtt.id in ids and gtt.status is GttStatus.ACTIVE for gtt in self._book.live):
                await self._watch.wait_looked()
        return tuple(self._book.gtts.get(gtt.id, gtt) for gtt in wanted)

    def doom(self, wanted: Callable[[Gtt], bool], *, by: str) -> None:
        """Have every live trigger that *wanted* picks ended for *by*, those in doubt as soon as they are found."""
        self._doomed |= {gtt.id: by for gtt in self._book.live if wanted(gtt)}
        if self.nursery is not None:
            self.end_doomed(self.nursery)

    def end_doomed(self, nursery: trio.Nursery) -> None:
        """Ask for the end of what was to be ended, as far as it stands by now."""
        for gtt_id, by in list(self._doomed.items()):
            gtt = self._book.gtts.get(gtt_id)
            if gtt is not None and gtt.status is GttStatus.FAILED:
                # it never stood, and must not be placed anew
                self._book.move(gtt, GttStatus.CANCELLED, f"cancelled by {by}: {gtt.status_message}")
            if gtt is None or not gtt.status.is_live:
                del self._doomed[gtt_id]
            elif gtt.status is GttStatus.ACTIVE:
                self.end(gtt, nursery, by=by)

    def end(self, gtt: Gtt, nursery: trio.Nursery, *, by: str) -> None:
        """Ask for the end of an active trigger, unless that was asked a moment ago."""
        if self._may_ask(gtt.trigger_id):
            nursery.start_soon(self._cancel, gtt, by)

    async def _cancel(self, gtt: Gtt, by: str) -> None:
        self._ended(gtt, await self._wire.cancel(gtt), by=by)

    def _ended(self, gtt: Gtt, outcome: WriteOutcome, *, by: str) -> Gtt:
        latest = self._book.gtts.get(gtt.id, gtt)
        if isinstance(outcome, Accepted) and latest.status is GttStatus.ACTIVE:
            return self._book.move(latest, GttStatus.CANCELLED, f"cancelled by {by}")
        if not isinstance(outcome, Accepted):
            _log.warning("gtt.not_cancelled", gtt=str(gtt.id), outcome=str(outcome))
        return latest

    def shrink(self, gtt: Gtt, quantity: int, nursery: trio.Nursery) -> None:
        """Ask for a smaller quantity (units), unless something was asked about the trigger a moment ago."""
        if self._may_ask(gtt.trigger_id):
            nursery.start_soon(self._resize, gtt, quantity)

    async def _resize(self, gtt: Gtt, quantity: int) -> None:
        outcome = await self._wire.replace(msgspec.structs.replace(gtt, quantity=quantity))
        latest = self._book.gtts.get(gtt.id)
        if isinstance(outcome, Accepted) and latest is not None and latest.status is GttStatus.ACTIVE:
            self._book.move(latest, GttStatus.ACTIVE, f"made smaller: {quantity} of {gtt.quantity}", quantity=quantity)
        elif isinstance(outcome, Refused):
            text = (
                f"EXIT_TOO_LARGE: the GTT {gtt.trigger_id} of {gtt.exchange}:{gtt.symbol} stands for {gtt.quantity} "
                f"where {quantity} are held, and the broker does not change it: {outcome.message}; change it by hand"
            )
            self._follower.tell(gtt, "resize", text)

    def end_excess(self, gtt: Gtt, trigger_id: str) -> None:
        """End a second trigger of what *gtt* is for: the broker took one request twice, or one late."""
        if self.nursery is not None and self._may_ask(trigger_id):
            text = f"GTT_DOUBLED: trigger {trigger_id} of {gtt.exchange}:{gtt.symbol} stands beside ours; it is ended"
            self._follower.tell(gtt, trigger_id, text)
            self.nursery.start_soon(self._cancel_excess, gtt, trigger_id)

    async def _cancel_excess(self, gtt: Gtt, trigger_id: str) -> None:
        outcome = await self._wire.cancel(gtt, trigger_id=trigger_id)
        latest = self._book.gtts.get(gtt.id)
        if latest is not None:
            self._book.note(latest, "GTT_EXCESS_CANCELLED", f"{trigger_id}: {outcome}")

    def _may_ask(self, trigger_id: str | None) -> bool:
        """Whether the broker can be asked about a trigger now: not while an answer about it may be under way."""
        if trigger_id is None or trio.current_time() < self._asked.get(trigger_id, -inf):
            return False
        self._asked[trigger_id] = trio.current_time() + _ASK_AGAIN_S
        return True
