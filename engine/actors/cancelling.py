"""Cancelling at the broker: what somebody asks for, and what must not be there.

A cancel only reduces what is at risk: no gate stops it, and it goes before entries, which leave a part
of the call budget to it.
"""

from collections.abc import Sequence
from uuid import UUID

import structlog
import trio

from engine.actors.account_session import AccountSession
from engine.actors.dispatching import Dispatcher
from engine.actors.executor_context import ExecutorContext
from engine.actors.order_desk import OrderDesk
from engine.actors.order_watch import OrderWatch
from engine.broker.base import Accepted, Broker, BrokerAuthError, Gate, NotSent, Refused, Unknown, WriteOutcome
from engine.broker.values import BrokerOrder
from engine.domain.enums import Variety
from engine.domain.order import Order
from engine.errors import BrokerUnavailable, ConflictError, MailboxFull, OrderExecutionError, UnavailableError
from engine.runtime.crashpoint import crashpoint
from engine.runtime.mailbox import Reply

_log = structlog.get_logger(__name__)

_TIMEOUT_S = 20.0
_ANSWER_TIMEOUT_S = 45.0
_WATCH_S = 2.0
_TRIES = 10


class _Followed:
    """An order that somebody waits for, as it was last seen: one that fills leaves the books at once."""

    def __init__(self, order: Order) -> None:
        self.order = order


class Canceller:
    """Sends cancel requests of one account; *turns* has its budget of calls."""

    def __init__(
        self,
        context: ExecutorContext,
        desk: OrderDesk,
        session: AccountSession,
        watch: OrderWatch,
        *,
        turns: Dispatcher,
    ) -> None:
        self._context = context
        self._desk = desk
        self._session = session
        self._watch = watch
        self._turns = turns
        self._tries: dict[str, int] = {}
        self._under_way: set[str] = set()
        self._followed: set[_Followed] = set()

    async def cancel(self, order: Order, *, by: str, nursery: trio.Nursery) -> Order:
        """Cancel an order that was sent, and wait up to two seconds for the broker's word.

        The request is made in *nursery*, for whoever asks may go away while it is on the wire. Raises
        ConflictError, OrderExecutionError, UnavailableError.
        """
        broker_order_id = self._desk.index.wire_id(order)
        if broker_order_id is None:
            raise ConflictError("the broker has not confirmed the order yet; try again", code="ORDER_IN_FLIGHT")
        try:
            self._desk.note(order, f"cancel requested by {by}")
        except MailboxFull as error:
            # a ledger that takes no more must not keep an order at the broker
            _log.error("cancel.not_noted", order=str(order.id), error=str(error))
        reply: Reply[None] = Reply()
        nursery.start_soon(self._answer, broker_order_id, order.variety, reply)
        followed = _Followed(order)
        self._followed.add(followed)
        try:
            return await self._outcome(reply, followed)
        finally:
            self._followed.discard(followed)

    async def _outcome(self, reply: Reply[None], followed: _Followed) -> Order:
        try:
            with trio.move_on_after(_ANSWER_TIMEOUT_S) as scope:
                await reply.wait()
        except OrderExecutionError:
            # the broker refuses to cancel what has ended: by another cancel, or a fill, of the same moment
            await self._until_ended(followed)
            if not followed.order.status.is_terminal:
                raise
            return followed.order
        if scope.cancelled_caught:
            raise UnavailableError("the broker does not answer; read the order again", retry_after_s=5)
        await self._until_ended(followed)
        return followed.order

    def order_changed(self, order: Order) -> None:
        """Take in an order as it is now."""
        for followed in self._followed:
            if followed.order.id == order.id:
                followed.order = order

    async def _until_ended(self, followed: _Followed) -> None:
        """Wait until the order's end is known here, two seconds at most."""
        with trio.move_on_after(_WATCH_S):
            while not followed.order.status.is_terminal:
                await self._watch.wait_looked()

    async def _answer(self, broker_order_id: str, variety: Variety, reply: Reply[None]) -> None:
        try:
            outcome = await self.ask(broker_order_id, variety)
        except BrokerAuthError as error:
            reply.fail(OrderExecutionError(f"the broker wants a new login: {error}"))
            return
        except BrokerUnavailable as error:
            reply.fail(UnavailableError(f"the broker cannot be asked now: {error}", retry_after_s=2))
            return
        finally:
            self._watch.look_soon()
        if isinstance(outcome, Refused):
            reply.fail(OrderExecutionError(f"the broker refused to cancel: {outcome.message}"))
        elif isinstance(outcome, NotSent):
            reply.fail(OrderExecutionError(f"the cancel request could not be sent: {outcome.reason}"))
        else:
            reply.answer(None)

    async def ask(self, broker_order_id: str, variety: Variety) -> WriteOutcome:
        """Ask the broker to cancel, in its turn. Raises BrokerUnavailable when there is no session."""
        asked: list[Broker] = []

        async def request(gate: Gate) -> WriteOutcome:
            broker = await self._session.broker()
            asked.append(broker)
            if not await self._context.still_leads():
                return NotSent(reason="FENCED: another engine leads; ask it", gated=True)
            crashpoint("C.before_request")
            with trio.move_on_after(_TIMEOUT_S):
                # the leg of a cover order is exited by naming what it belongs to (Kite Connect v3, orders)
                parent = self._desk.index.parents.get(broker_order_id) if variety is Variety.CO else None
                return await broker.cancel(broker_order_id, variety, parent_order_id=parent, gate=gate)
            return Unknown(reason=f"no answer within {_TIMEOUT_S:g} s")

        outcome = await self._turns.call(request)
        crashpoint("C.after_answer")
        if isinstance(outcome, Refused) and asked:
            self._session.refused(asked[0], outcome)
        return outcome

    def start_excess(self, excess: Sequence[tuple[Order, BrokerOrder]], nursery: trio.Nursery) -> None:
        """Cancel orders that work at the broker and must not, again at later looks until they are gone."""
        for order, row in excess:
            tries = self._tries.get(row.broker_order_id, 0)
            if row.broker_order_id in self._under_way or tries >= _TRIES:
                continue
            self._tries[row.broker_order_id] = tries + 1
            if not tries:
                text = f"order {order.id} is {order.status} here and works at the broker as {row.broker_order_id}"
                self._context.alert(f"order:{order.id}", f"LATE_FOUND: {text}; cancelling it")
            self._under_way.add(row.broker_order_id)
            nursery.start_soon(self._cancel_excess, order.id, row, order.variety)

    async def _cancel_excess(self, order_id: UUID, row: BrokerOrder, variety: Variety) -> None:
        try:
            outcome = await self.ask(self._desk.index.live_legs.get(order_id, row.broker_order_id), variety)
            detail = "the broker took the request" if isinstance(outcome, Accepted) else f"{outcome}"
        except (BrokerAuthError, BrokerUnavailable) as error:
            detail = f"no session: {error}"
        finally:
            self._under_way.discard(row.broker_order_id)
        _log.error("order.excess_cancelled", order=str(order_id), broker_order=row.broker_order_id, detail=detail)
        order = self._desk.orders.get(order_id)
        if order is not None:
            self._desk.note(order, f"LATE_FOUND: cancelling {row.broker_order_id}: {detail}", anomaly=True)
