"""The executor of one account: takes approved orders in, lets each go in its turn, follows it to its end.

Owns the account's books (`OrderDesk`), its queue, its call budget and its broker session; sending is
`Sender`, looking is `OrderWatch`. Asked by the user's risk actor in the same step that approved
(`admit`), told by the ledger what is on disk (`committed`), asked by HTTP to cancel. Mailbox: bounded;
what is told here is one message for each order, whose number is bounded upstream, so a full one is a
fault. Restart: permanent; the books are rebuilt from the ledger and what was on the wire becomes
UNKNOWN, never sent again.
"""

from collections.abc import Sequence
from math import inf
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.account_session import AccountSession
from engine.actors.attached_exits import AttachedExits
from engine.actors.audit_writer import AuditWriter
from engine.actors.call_budget import BudgetView
from engine.actors.cancel_all import CancelAll, Ended
from engine.actors.cancelling import Canceller
from engine.actors.comparing import Comparisons
from engine.actors.dispatching import Dispatcher
from engine.actors.executor_context import ExecutorContext, Send
from engine.actors.exit_orders import is_exit
from engine.actors.modifying import Modifier, Terms
from engine.actors.order_desk import AccountHistory, OrderDesk
from engine.actors.order_queue import OrderQueue
from engine.actors.order_watch import OrderWatch
from engine.actors.reconcile_report import ReconcileReport
from engine.actors.reconciler import Reconciler
from engine.actors.sending import Sender
from engine.actors.slicing import Slicer
from engine.actors.spawning import Spawner
from engine.actors.square_off import SquareOff
from engine.broker.base import BrokerAuthError
from engine.broker.values import BrokerOrder
from engine.clock import Clock, trading_day
from engine.domain.enums import Exchange, OrderStatus
from engine.domain.gtt import Gtt
from engine.domain.order import Order
from engine.errors import (
    BrokerUnavailable,
    ConflictError,
    EngineError,
    MailboxFull,
    NotFoundError,
    StoreUnavailable,
    UnavailableError,
)
from engine.runtime.crashpoint import crashpoint
from engine.runtime.mailbox import Mailbox, Overflow, Reply

__all__ = ["Executor", "ExecutorContext", "Send"]

_log = structlog.get_logger(__name__)

_MAILBOX = 100_000
_BARRIER_S = 30.0
_STRANGERS_APART_S = 5.0
_FIRST_READ_S = 3.0
_OPENING_S = 5.0
_OPENING_LOOK_S = 0.05
_REBUILD_RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)


class _Admitted(msgspec.Struct, frozen=True, kw_only=True):
    incarnation: int
    written_ns: int


class Executor:
    """Executes for one account."""

    def __init__(self, account_id: UUID, user_id: UUID, context: ExecutorContext) -> None:
        self.account_id = account_id
        self.user_id = user_id
        self.mailbox: Mailbox[Send] = Mailbox(f"execution:{account_id}", capacity=_MAILBOX, overflow=Overflow.REFUSE)
        self.context = context
        self._clock: Clock = context.clock
        self._ledger: AuditWriter = context.ledger
        self.desk = OrderDesk(
            account_id,
            clock=self._clock,
            ledger=self._ledger,
            tell=lambda message: context.tell_risk(user_id, message),
            multiplier=context.multiplier,
            live=context.live_price,
        )
        self._session = AccountSession(account_id, context)
        self._turns = Dispatcher(context, self.desk)
        self._watch = OrderWatch(
            context, self.desk, self._session, free=self._turns.free, cancel_excess=self._cancel_excess
        )
        self._sender = Sender(
            context,
            self.desk,
            self._session,
            turns=self._turns,
            doubts=self._watch,
            committed=self._send_soon,
            reslice=lambda order, refused: self._slicer.reslice(order, refused),
        )
        self._reconciler = Reconciler(context, self.desk, self._session, self._watch, user_id=user_id)
        self._canceller = Canceller(context, self.desk, self._session, self._watch, turns=self._turns)
        self._spawner = Spawner(context, self.desk, admit=self.admit, committed=self.committed, withdraw=self.withdraw)
        self._slicer = Slicer(
            context,
            spawn=lambda part, detail: self._spawner.spawn(part, action="ORDER_SLICED", detail=detail, in_place=True),
        )
        self._modifier = Modifier(
            context,
            self.desk,
            self._session,
            self._watch,
            turns=self._turns,
            canceller=self._canceller,
            spawner=self._spawner,
        )
        self._exits = AttachedExits(
            context,
            self.desk,
            self._session,
            turns=self._turns,
            sender=self._sender,
            watch=self._watch,
            reconciler=self._reconciler,
            canceller=self._canceller,
            modifier=self._modifier,
            spawner=self._spawner,
        )
        self.square_off = SquareOff(
            context,
            self.desk,
            self._session,
            user_id=user_id,
            turns=self._turns,
            sender=self._sender,
            watch=self._watch,
            canceller=self._canceller,
            give_up=self._modifier.give_up,
            gtts=lambda: self.gtts,
            end_gtts=self._exits.end_gtts,
        )
        self.desk.on_order = self._order_changed
        self._comparisons = Comparisons(self._reconciler)
        self._cancel_everything = CancelAll(
            self.desk,
            cancel=lambda order_id, by: self.cancel(order_id, by=by),
            triggers=lambda: self.gtts,
            end=lambda gtt_id, by: self.cancel_gtt(gtt_id, by=by),
        )
        # admitted, and not yet known to be in the ledger
        self._unrecorded: dict[UUID, _Admitted] = {}
        # admitted while the books were not ready, perhaps too late for what was read of the ledger
        self._unready: dict[UUID, Order] = {}
        self._incarnation = 0
        self._ready = False
        self._stranger_at = -inf
        self._nursery: trio.Nursery | None = None

    # the public face

    @property
    def queue(self) -> OrderQueue:
        """The orders that wait for their turn."""
        return self._turns.queue

    def budget(self) -> BudgetView:
        """Return the budget of order calls, which other accounts of the same login share."""
        return self._turns.budget()

    @property
    def in_flight(self) -> int:
        """Orders that are written ahead or on the wire and whose answer is not known yet."""
        return len(self.desk.index.submitting)

    @property
    def tally(self) -> tuple[int, int]:
        """How many orders were handed to the broker, and how many it refused, since the process began."""
        return self._sender.sent, self._sender.refused

    @property
    def unreachable_s(self) -> float:
        """For how many seconds every read of the order book failed; 0 when the last one did not."""
        return self._watch.unreachable_s

    @property
    def witnesses_at(self) -> tuple[float, float]:
        """When (trio's clock) the order book and the trade book were read last; -inf for never."""
        return self._watch.read_at, self._watch.trades_at

    @property
    def is_ready(self) -> bool:
        """Whether the books are rebuilt and orders go out."""
        return self._ready

    def admit(self, order: Order, *, in_place: bool = False) -> Order:
        """Take an approved order in: SUBMITTING when it may go as soon as it is on disk, else PENDING.

        One that goes *in_place* of an order on the wire waits before all others of its instrument.
        """
        if order.id in self._unrecorded or order.id in self.desk.orders or order.id in self._unready:
            # the ledger has this order, and refuses it a second time; what is here of it stays as it is
            return order
        self._unrecorded[order.id] = _Admitted(incarnation=self._incarnation, written_ns=self._clock.boottime_ns())
        may_go = self._ready and not self._sender.is_draining
        admitted = self._turns.take_at_once(order) if may_go else None
        if admitted is None:
            admitted = order
            self._turns.push(order, recorded=False, first=in_place)
            if not self._ready:
                self._unready[order.id] = order
        self.desk.put(admitted)
        return admitted

    def committed(self, order: Order) -> None:
        """The ledger has the order as `admit` returned it."""
        admitted = self._unrecorded.pop(order.id, None)
        if admitted is None:
            return
        crashpoint("S5.told")
        if order.status is OrderStatus.SUBMITTING:
            self._send_soon(order, admitted.incarnation, admitted.written_ns)
            return
        self.queue.record(order.key, order.id)
        self._turns.wake(sweep=self._sender.against(order) is not None)

    def withdraw(self, order: Order) -> None:
        """The ledger never will have the order."""
        if self._unrecorded.pop(order.id, None) is None:
            return
        self._unready.pop(order.id, None)
        self._turns.forget(order)
        self.desk.forget(order.id)
        self._turns.free(order)

    def disown(self, order: Order) -> None:
        """Forget an order that was ended without this executor."""
        self._unrecorded.pop(order.id, None)
        self._unready.pop(order.id, None)
        self._turns.forget(order)
        self.desk.forget(order.id)

    def wake(self) -> None:
        """Look at everything that waits again: a kill switch, the day or the session changed."""
        self._turns.wake(sweep=True)

    def drain(self) -> None:
        """Start no further order; what waits stays PENDING in the ledger."""
        self._sender.is_draining = True

    def reset_session(self) -> None:
        """Use the account's new credentials from the next call on."""
        broker = self._session.take()
        if broker is not None and self._nursery is not None:
            self._nursery.start_soon(self._session.close, broker)
        self._turns.wake()
        self._watch.look_soon()
        self._exits.look_soon()

    def order_update(self, broker_order_id: str | None = None) -> None:
        """Read the order book soon: the broker has told of a change of this order, or may have of any (None).

        A change of an order that is none of ours is left to reconciliation, which adopts it; asked for that
        once in a few seconds at most, so that a flood of such updates costs the broker no flood of reads.
        """
        if not self._ready:
            return  # the book is read before the first order goes
        self._watch.look_soon()
        # one whose answer is on its way has no id yet: the push has overtaken it
        if broker_order_id is not None and (self.knows(broker_order_id) or self.in_flight):
            return
        if trio.current_time() - self._stranger_at >= _STRANGERS_APART_S:
            self._stranger_at = trio.current_time()
            self._reconciler.ask()

    def knows(self, broker_order_id: str) -> bool:
        """Whether the broker's order is in the books of today."""
        return broker_order_id in self.desk.known_broker_ids or broker_order_id in self.desk.index.by_broker_id

    @property
    def has_business(self) -> bool:
        """Whether the account has orders today, or holds anything."""
        return bool(self.desk.orders) or self.desk.holdings.has_open

    def instruments(self) -> set[tuple[Exchange, str]]:
        """Return the instruments that are held or have an order that works at the broker, or may."""
        index = self.desk.index
        found = {self.desk.orders[order_id].key for order_id in index.open | index.open_external}
        return found | self.desk.holdings.instruments()

    def session_refused(self, error: BrokerAuthError) -> None:
        """Somebody who read with the account's session found it dead."""
        self._session.died(None, str(error), error.code)
        self._watch.look_soon()

    async def reconcile(self) -> ReconcileReport:
        """Compare orders, trades and positions with the broker's now, and say what was found.

        Raises BrokerAuthError when somebody must log in, BrokerUnavailable when the broker cannot be read,
        UnavailableError before the books are rebuilt.
        """
        with trio.move_on_after(_OPENING_S):
            # an account that nobody used so far has an executor only since this call
            while self._nursery is None:  # noqa: ASYNC110 -- bounded; restarts make a new nursery each
                await trio.sleep(_OPENING_LOOK_S)
        if self._nursery is None:
            raise UnavailableError("the account's orders are being read; try again", retry_after_s=2)
        # in this life of the executor, whose books it compares; the caller sets the deadline
        return await self._comparisons.ask(self._nursery).wait()

    @property
    def last_reconciliation(self) -> ReconcileReport | None:
        """What the last comparison with the broker found, None before the first."""
        return self._reconciler.last

    def close_day(self) -> None:
        """A day close is due: compare everything with the broker once more."""
        self._reconciler.ask()

    async def cancel(self, order_id: UUID, *, by: str) -> Order:
        """Cancel an order, wherever it is, and wait up to two seconds for the broker's word.

        One that was left in doubt by an earlier day is closed: nothing of it can happen any more.

        Raises NotFoundError, ConflictError, OrderExecutionError, UnavailableError.
        """
        nursery, order = self._nursery, self._live(order_id)
        if nursery is None:
            raise UnavailableError("the account's orders are being read; try again", retry_after_s=2)
        self._modifier.give_up(order.id)
        if order.status is OrderStatus.PENDING and not self._ledger.mailbox.has_room:
            # it cannot leave either; taken out of the queue without a record it would be back after a restart
            raise UnavailableError("the ledger takes no more now; try again", retry_after_s=2)
        if order.status is OrderStatus.PENDING and self._turns.forget(order):
            return self.desk.move(order, OrderStatus.CANCELLED, message=f"cancelled by {by} before it was sent")
        closed = self._watch.close_parked(order, by=by)
        return closed or await self._canceller.cancel(order, by=by, nursery=nursery)

    async def modify(self, order_id: UUID, terms: Terms, *, by: str) -> Order:
        """Change an order that works at the broker, and wait up to two seconds until its book shows it.

        Returns the order as it is then, or the one that replaces it. That the change may be made is for the
        caller to have asked risk. Raises NotFoundError, ConflictError, OrderExecutionError, UnavailableError.
        """
        try:
            nursery, order = self._nursery, self._live(order_id)
            if nursery is None:
                raise UnavailableError("the account's orders are being read; try again", retry_after_s=2)
            return await self._modifier.modify(order, terms, by=by, nursery=nursery)
        except EngineError:
            # risk holds the larger of both, and shall know what came of it
            self.desk.tell_again(order_id)
            raise

    async def shown(self, order: Order) -> Order:
        """Return an order of the account as it is once the broker's book shows it, or as it is after five seconds."""
        return await self._modifier.shown(self.desk.orders.get(order.id, order))

    @property
    def gtts(self) -> Sequence[Gtt]:
        """The triggers (GTT) of the account that stand at the broker, or may."""
        return self._exits.gtts

    async def cancel_gtt(self, gtt_id: UUID, *, by: str) -> Gtt:
        """End a trigger for *by*, and return it as it is then; it is not placed again.

        Raises NotFoundError, ConflictError, OrderExecutionError, UnavailableError.
        """
        return await self._exits.cancel_gtt(gtt_id, by=by)

    async def cancel_gtts(self, by: str) -> Sequence[Gtt]:
        """End every trigger of the account, those in doubt as soon as they are found; return them as they are then.

        None of them is placed again. One that the broker did not end within 45 seconds is ACTIVE among them and is
        asked about again and again.
        """
        return await self._exits.cancel_gtts(by)

    def start_cancel_all(
        self,
        *,
        by: str,
        symbol: str | None = None,
        strategy_id: UUID | None = None,
        intent_id: UUID | None = None,
    ) -> Reply[Ended]:
        """Begin to end every live order and trigger (GTT) of the account, or those of one symbol, strategy or intent.

        The reply says of each what became of it.
        """
        reply: Reply[Ended] = Reply()
        if self._nursery is None:
            reply.answer(Ended(orders=[], gtts=[]))
        else:
            self._nursery.start_soon(self._cancel_everything.run, by, symbol, strategy_id, intent_id, reply)
        return reply

    def _live(self, order_id: UUID) -> Order:
        if not self._ready:
            raise UnavailableError("the account's orders are being read; try again", retry_after_s=2)
        order = self.desk.orders.get(order_id)
        if order is None:
            raise NotFoundError("no live order of that id")
        if order.status.is_terminal:
            raise ConflictError(f"the order is {order.status} already", code="ORDER_FINISHED")
        return order

    # the actor

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Rebuild the books as soon as the ledger can be read, then execute until cancelled."""
        self._incarnation += 1
        self._ready = False
        task_status.started()
        try:
            self._restore(await self._history())
            crashpoint("R4.executor_restored")
            # what the broker knows of the time that nobody watched comes before the first order of this life
            await self._reconciler.first(timeout_s=_FIRST_READ_S)
            self._open()
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._turns.run, self._sender)
                nursery.start_soon(self._watch.run_looks)
                nursery.start_soon(self._reconciler.run)
                nursery.start_soon(self._log_in)
                nursery.start_soon(self._exits.run)
                nursery.start_soon(self.square_off.run)
                async for message in self.mailbox:
                    nursery.start_soon(self._sender.send, message)
        finally:
            self._ready = False
            self._nursery = None
            self._comparisons.give_up()
            await self._session.aclose()

    async def _history(self) -> AccountHistory:
        """Read what the ledger knows, once it knows all that this account handed it."""
        tries = 0
        while True:
            try:
                if await self._ledger.barrier(timeout_s=_BARRIER_S):
                    return await self.context.load(self.account_id, trading_day(self._clock.now()))
                reason = "the ledger has not caught up"
            except StoreUnavailable as error:
                reason = str(error)
            _log.warning("executor.waits_for_ledger", account=str(self.account_id), reason=reason)
            await trio.sleep(_REBUILD_RETRY_S[min(tries, len(_REBUILD_RETRY_S) - 1)])
            tries += 1

    def _restore(self, history: AccountHistory) -> None:
        crashpoint("R4.history_read")
        self._turns.restart(history)
        self._sender.restart(self._incarnation)
        self.desk.restore(history)
        self._session.restore()
        waiting = [order for order in history.live_orders if order.status is OrderStatus.PENDING]
        for order in history.live_orders:
            if order.status.is_unresolved:
                self.queue.hold(order.key, order.id)
        self._turns.push_restored(waiting, self._unrecorded)
        self._watch.restore()
        self._reconciler.restore()
        self._exits.restore(history)
        self.square_off.restore(history)
        for order in self._unready.values():
            if order.id not in self.desk.orders:
                self.desk.put(order)
                self._turns.push(order, recorded=order.id not in self._unrecorded)

    def _order_changed(self, order: Order) -> None:
        if order.status is OrderStatus.COMPLETE:
            self.context.stages.filled(order.id)
        self._canceller.order_changed(order)
        self._exits.order_changed(order)
        self.square_off.order_changed(order)

    def _open(self) -> None:
        # those that came since the books were rebuilt are in them
        self._unready.clear()
        self._ready = True
        self._watch.look_soon()

    async def _log_in(self) -> None:
        """Have a session before the first order needs one."""
        try:
            await self._session.broker()
        except BrokerUnavailable as error:
            _log.info("account.no_session", account=str(self.account_id), reason=str(error))
            self._watch.look_soon()

    def _cancel_excess(self, excess: Sequence[tuple[Order, BrokerOrder]]) -> None:
        if self._nursery is not None:
            self._canceller.start_excess(excess, self._nursery)

    # between the parts

    def _send_soon(self, order: Order, incarnation: int, written_ns: int) -> None:
        message = Send(
            order=order,
            incarnation=incarnation,
            written_ns=written_ns,
            committed_ns=self._clock.boottime_ns(),
        )
        nursery = self._nursery
        if nursery is not None and self.mailbox.is_waited_on:
            # the actor waits and would do no more than this
            nursery.start_soon(self._sender.send, message)
            return
        try:
            # exits have a lane of their own: entries that fill the mailbox stop none
            tell = self.mailbox.tell_urgent_nowait if is_exit(self.desk, order) else self.mailbox.tell_nowait
            tell(message)
        except MailboxFull as error:
            if incarnation == self._incarnation:
                self._sender.end_unsent(order, f"NOT_SENT: {error}")
                self._turns.free(order)
