"""Sending the orders that flatten an account: written ahead in the ledger or, when it is away, in a file; then once.

They pass the gate that a kill switch has closed because the account's flattener has named each of them, and only
while it still wants it. They take calls of the budget in the lane of exits and wait for no other order.
"""

from typing import Any
from uuid import UUID

import structlog
import trio

from engine.actors.dispatching import Dispatcher
from engine.actors.executor_context import ExecutorContext, Send
from engine.actors.flattener import TICKET_LIFE_S, StillWanted
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.order_desk import OrderDesk
from engine.actors.sending import Sender
from engine.broker.base import NotSent, PlaceOutcome, Unknown
from engine.clock import Clock
from engine.domain.audit import AuditDraft
from engine.domain.enums import OrderStatus
from engine.domain.flatten import Ticket
from engine.domain.order import Order, OrderEvent
from engine.domain.tickets import order_of
from engine.errors import MailboxFull
from engine.runtime.crashpoint import crashpoint

_log = structlog.get_logger(__name__)

# A ledger that works answers in milliseconds; a ticket lives for two seconds.
_LEDGER_WAIT_S = 1.0
_LEDGER_AWAY_S = 0.05


class ExitSender:
    """Sends tickets for one account."""

    def __init__(
        self, context: ExecutorContext, desk: OrderDesk, *, user_id: UUID, turns: Dispatcher, sender: Sender
    ) -> None:
        self._context = context
        self._clock: Clock = context.clock
        self._ledger: Any = context.ledger
        self._desk = desk
        self._user_id = user_id
        self._turns = turns
        self._sender = sender

    async def place(self, ticket: Ticket, still_wanted: StillWanted) -> PlaceOutcome:
        """Write *ticket* ahead and send it, once."""
        if not await self._context.still_leads():
            return NotSent(reason="FENCED: another engine leads", gated=True)
        order = order_of(
            ticket,
            account_id=self._desk.account_id,
            user_id=self._user_id,
            epoch=self._context.epoch,
            trading_day=self._turns.today(),
            now=self._clock.now(),
        )
        if not await self._turns.wait_exit(order, until_s=trio.current_time() + TICKET_LIFE_S):
            return NotSent(reason="ORDER_BUDGET: no order call of the account came free", gated=True)
        stop = still_wanted() or self._sender.against_square_off(order)
        if stop is not None:
            self._turns.free(order)
            return NotSent(reason=stop, gated=True)
        incarnation, written_ns = self._sender.incarnation, self._clock.boottime_ns()
        self._desk.put(order)
        self._sender.permits[order.id] = still_wanted
        try:
            failure = await self._write_ahead(order, ticket)
            if failure is not None:
                self._desk.forget(order.id)
                self._turns.free(order)
                return NotSent(reason=f"NOT_RECORDED: {failure}")
            self._desk.made(order)
            crashpoint("K4.written_ahead")
            message = Send(
                order=order, incarnation=incarnation, written_ns=written_ns, committed_ns=self._clock.boottime_ns()
            )
            outcome = await self._sender.send(message)
        finally:
            self._sender.permits.pop(order.id, None)
        now = self._desk.orders.get(order.id)
        if outcome is None or (now is not None and now.status is OrderStatus.UNKNOWN):
            return Unknown(reason="the order book will tell")
        return outcome

    async def _write_ahead(self, order: Order, ticket: Ticket) -> Exception | None:
        """Make the row durable; return why it is not, when nothing may be sent."""
        done = trio.Event()
        failures: list[Exception] = []
        in_file = False

        def failed(error: Exception) -> None:
            failures.append(error)
            if in_file:
                # it may be at the broker, and only the file has it
                text = f"order {order.id} was sent and the ledger refuses it: {error}; it is in state/flatten.wal"
                self._context.alert(f"account:{order.account_id}", text)
            done.set()

        entry = self._entry(order, ticket)
        entry.on_commit, entry.on_fail = done.set, failed
        try:
            self._ledger.append(entry)
            with trio.move_on_after(_LEDGER_WAIT_S if self._ledger.available else _LEDGER_AWAY_S):
                await done.wait()
        except MailboxFull as error:
            _log.error("flatten.ledger_full", order=str(order.id), error=str(error))
        if failures or done.is_set():
            return failures[0] if failures else None
        in_file = True
        file = self._context.flatten_file
        if file is None:
            return failures[0] if failures else self._taken_back(entry)
        try:
            await trio.to_thread.run_sync(file.append, order, abandon_on_cancel=False)
        except OSError as error:
            _log.error("flatten.file_unwritable", order=str(order.id), error=str(error))
            return self._taken_back(entry) or error
        return None

    @staticmethod
    def _taken_back(entry: LedgerEntry) -> Exception:
        entry.withdraw()
        return TimeoutError("neither the ledger nor the file took it")

    def _entry(self, order: Order, ticket: Ticket) -> LedgerEntry:
        detail = f"{ticket.demand}: round {ticket.round}, slice {ticket.slice}; attempt 1, tag {order.tag}"
        event = OrderEvent(
            order_id=order.id,
            at=order.created_at,
            from_status=OrderStatus.PENDING,
            to_status=OrderStatus.SUBMITTING,
            filled_quantity=0,
            detail=detail,
        )
        draft = AuditDraft(
            at=order.created_at,
            actor="system",
            action="SQUARE_OFF_ORDER",
            subject=f"order:{order.id}",
            content={
                "demand": ticket.demand,
                "version": ticket.version,
                "round": ticket.round,
                "slice": ticket.slice,
                "accountId": order.account_id,
                "strategyId": order.strategy_id,
                "exchange": order.exchange.value,
                "symbol": order.symbol,
                "productType": order.product_type.value,
                "transactionType": order.transaction_type.value,
                "quantity": order.quantity,
                "marketProtection": str(ticket.protection),
                "tag": order.tag,
            },
        )
        return LedgerEntry(new_orders=(order,), order_events=(event,), audit=(draft,))
