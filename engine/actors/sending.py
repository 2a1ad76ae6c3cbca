"""Sending an order, once: the row written ahead, the gate, the wire, and what came of it.

The only caller of `Broker.place`, and it hands over the row that the ledger committed. Whatever is
not proven is doubt, and doubt is for the order book to settle.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.account_session import AccountSession
from engine.actors.executor_context import Doubts, ExecutorContext, Send, Turns
from engine.actors.exit_orders import is_exit
from engine.actors.kill_gate import against_kill
from engine.actors.order_desk import OrderDesk
from engine.actors.rush import Departure
from engine.broker.base import Accepted, BrokerAuthError, NotSent, PlaceOutcome, Refused, Unknown
from engine.clock import Clock
from engine.domain.enums import AccountStatus, OrderStatus
from engine.domain.order import Order, OrderReport
from engine.errors import BrokerUnavailable
from engine.observability.logs import IDS
from engine.observability.measures import QUEUED
from engine.runtime.crashpoint import crashpoint

_log = structlog.get_logger(__name__)

SEND_WINDOW_S = 1.0
_SEND_WINDOW_NS = 1_000_000_000
# A row that took the ledger long is written again: when exactly it came on disk is not known then.
_WRITE_WINDOW_NS = 5_000_000_000
_MAX_ATTEMPTS = 8
_RETRY_S = (0.2, 0.4, 0.8, 1.6, 3.2, 5.0)
# An exit does not sit out a whole cool-down: once within it, then after it.
_LIMITED_REST_S = (3.0, 8.0, 10.0)
_TURN_LOOK_S = 0.05
_PLACE_TIMEOUT_S = 30.0
_CONFIRM_S = 15.0

_Killed = Callable[[ExecutorContext, Order], str | None]


class Sender:
    """Sends for one account; *committed* is told when a row is on disk, with when it was handed over.

    *reslice* places an order that was refused for its size in slices, and says so.
    """

    def __init__(
        self,
        context: ExecutorContext,
        desk: OrderDesk,
        session: AccountSession,
        *,
        turns: Turns,
        doubts: Doubts,
        committed: Callable[[Order, int, int], None],
        reslice: Callable[[Order, Refused], str | None],
    ) -> None:
        self._context = context
        self._clock: Clock = context.clock
        self._desk = desk
        self._session = session
        self._turns = turns
        self._doubts = doubts
        self._committed = committed
        self._reslice = reslice
        self._handed: dict[UUID, int] = {}
        self._incarnation = 0
        self.is_draining = False
        self.sent = 0
        """Orders handed to the broker since this object was made."""
        self.refused = 0
        """Those of them that the broker refused."""
        # the orders that flatten, each by who asked for it and may still take it back: nothing else passes a kill
        self.permits: dict[UUID, Callable[[], str | None]] = {}
        # says why an order must wait for a position that is being squared off
        self.hold_back: Callable[[Order], str | None] = _free_to_go

    def restart(self, incarnation: int) -> None:
        """Begin a new life: nothing that an earlier one wrote ahead may go any more."""
        self._incarnation = incarnation
        self._handed.clear()

    @property
    def incarnation(self) -> int:
        """Number of the executor's present life."""
        return self._incarnation

    @property
    def on_wire(self) -> int:
        """Orders handed to the broker whose answer has not been settled."""
        return len(self._handed)

    def against(self, order: Order, *, killed: _Killed = against_kill) -> str | None:
        """Return why an order must not go to the wire now, or None; *killed* says which kill switch stops it."""
        return self._stopped(order, killed) or self._outlived(order) or self._turns.stale(order) or self._refused(order)

    def against_now(self, order: Order) -> str | None:
        """Return why an order made at this instant must not go to the wire, or None."""
        return self._stopped(order, against_kill) or self._refused(order)

    def against_square_off(self, order: Order) -> str | None:
        """Return why an order that flattens and is about to be written ahead must not go, or None."""
        return "STOPPING: the engine stops" if self.is_draining else self._refused(order)

    def _stopped(self, order: Order, killed: _Killed) -> str | None:
        if order.is_square_off:
            # it only reduces what is at risk: a kill switch lets it pass, and PostgreSQL may be away
            permit = self.permits.get(order.id)
            if permit is None or self.is_draining:
                return "NOT_WANTED: no flattening is under way for it"
            return permit()
        if not self._context.holds_lease():
            return "FENCED: the lease is not held"
        return killed(self._context, order) or self.hold_back(order)

    def _outlived(self, order: Order) -> str | None:
        """Return the kill switch that was on while *order* waited, or None: what it found is not made up for."""
        if order.is_square_off:
            return None
        record = self._turns.outlived(order)
        if record is None or record.enabled:
            return None  # one that is on has been asked about
        return f"KILL_SWITCH: {record.scope} was blocked while it waited: {record.reason}"

    def _refused(self, order: Order) -> str | None:
        if self._session.is_dead:
            return "LOGIN_REQUIRED: the broker's session is dead; log in again"
        if self._context.account_status_now(order.account_id) is AccountStatus.ORDERS_BLOCKED:
            return "ORDERS_BLOCKED: the broker takes no orders of this account now"
        suspect = self._context.clock_suspect()
        if suspect is not None and not is_exit(self._desk, order):
            return f"CLOCK_SUSPECT: {suspect}"
        vanishing = self._context.session_window(order.account_id)
        if vanishing is not None and not is_exit(self._desk, order):
            return f"SESSION_WINDOW: {vanishing}"
        return None

    def end_unsent(self, order: Order, reason: str) -> None:
        """End an order of which not one byte left, in the state that the reason names."""
        if reason.startswith(("KILL_SWITCH", "SQUARE_OFF")):
            status = OrderStatus.CANCELLED
        elif reason.startswith("SIGNAL_TOO_OLD"):
            status = OrderStatus.EXPIRED
        else:
            status = OrderStatus.FAILED
        self._desk.move(order, status, message=reason)

    # writing ahead

    def write_ahead(self, order: Order, *, attempt: int, detail: str = "") -> None:
        """Have the ledger record that *order* goes now, under a tag of its own for each attempt."""
        now, incarnation, written_ns = self._clock.now(), self._incarnation, self._clock.boottime_ns()
        if order.status is not OrderStatus.SUBMITTING:
            QUEUED.observe_ns(int((now - order.created_at).total_seconds() * 1e9))
        epoch = self._context.epoch
        same = attempt == order.attempt and epoch == order.epoch
        changes: dict[str, Any] = {
            "tag": order.tag if same else self._context.tag(order.id, attempt),
            "attempt": attempt,
            "epoch": epoch,
            "submitting_at": now,
            "trading_day": self._turns.today(),
        }

        def on_commit(row: Order) -> None:
            self._committed(row, incarnation, written_ns)

        def on_fail(row: Order, error: Exception) -> None:
            self._not_recorded(row, incarnation, error)

        if order.status is OrderStatus.SUBMITTING:
            ready = msgspec.structs.replace(order, updated_at=now, **changes)
            self._desk.resubmit(ready, detail, on_commit=on_commit, on_fail=on_fail)
        else:
            self._desk.move(order, OrderStatus.SUBMITTING, on_commit=on_commit, on_fail=on_fail, **changes)

    def _not_recorded(self, row: Order, incarnation: int, error: Exception) -> None:
        """The ledger refused the write-ahead row: nothing has left, and nothing will."""
        order = self._desk.orders.get(row.id)
        if incarnation != self._incarnation or order is None or not _is_same(order, row):
            return
        self.end_unsent(order, f"NOT_RECORDED: the ledger refused the order: {error}")
        self._turns.free(order)

    # the wire

    async def send(self, message: Send) -> PlaceOutcome | None:
        """Send a committed row, if it still is to go, and settle what comes of it; None when it was not to go."""
        row = message.order
        order = self._desk.orders.get(row.id)
        if message.incarnation != self._incarnation or order is None or not _is_same(order, row):
            return None  # written ahead by an earlier life, taken back, or overtaken
        if row.id in self._handed:
            _log.error("order.send_repeated", order=str(row.id), attempt=row.attempt)
            return None
        self._handed[row.id] = row.attempt
        self.sent += 1
        departure = self._context.rush.departure()

        def gate() -> str | None:
            # asked right before the first byte: plain reads of memory and clocks, nothing that waits
            stop = self.against(row)
            # read last: it also tells of a process that was stopped while all else was asked
            now_ns = self._clock.boottime_ns()
            if stop is None and now_ns - message.committed_ns > _SEND_WINDOW_NS:
                stop = "LATE: more than 1 s since the write-ahead"
            if stop is None and now_ns - message.written_ns > _WRITE_WINDOW_NS:
                stop = "LATE: the ledger took more than 5 s"
            if stop is None and not row.is_square_off and not self._turns.is_alone(row):
                stop = "BUSY: another order of its instrument is not settled"
            if stop is None and not self._turns.departs(row):
                stop = "LATE: its call of the budget has lapsed"
            if stop is None:
                departure.leaves()
                self._context.stages.sent(row.id)
            return stop

        token = IDS.set({"intent_id": row.intent_id, "order_id": row.id})
        try:
            outcome = await self._place(row, gate, departure)
        except BaseException:
            # also when cancelled: a new life of the executor makes it UNKNOWN from the ledger's row
            self._handed.pop(row.id, None)
            raise
        finally:
            departure.ends()
            IDS.reset(token)
            self._turns.landed(row)
        crashpoint("S8.answer_parsed")
        if isinstance(outcome, Accepted):
            note = self._context.stages.answered(row.id, row.intent_id)
            try:
                # what taking in an answer costs, an order that has not left yet would wait for
                if not row.is_square_off:
                    await self._context.rush.let_others_leave()
            finally:
                # until now it counts as handed over: nothing may send it once more meanwhile
                self._handed.pop(row.id, None)
                self._accepted(row, outcome.broker_order_id, note)
        else:
            self._handed.pop(row.id, None)
            await self._settle(row, outcome)
        return outcome

    async def _place(self, order: Order, gate: Callable[[], str | None], departure: Departure) -> PlaceOutcome:
        try:
            broker = await self._session.broker()
        except BrokerAuthError as error:
            return NotSent(reason=f"LOGIN_REQUIRED: {error}", gated=True)
        except BrokerUnavailable as error:
            return NotSent(reason=str(error))
        departure.begins()
        try:
            crashpoint("S6.before_gate")
            outcome: PlaceOutcome | None = None
            with trio.move_on_after(_PLACE_TIMEOUT_S):
                outcome = await broker.place(order, gate)
        except Exception as fault:
            # whatever it was, it does not prove that nothing left
            _log.exception("order.send_fault", order=str(order.id))
            return Unknown(reason=f"{type(fault).__name__} while sending")
        if outcome is None:
            _log.error("order.send_fault", order=str(order.id), seconds=_PLACE_TIMEOUT_S)
            return Unknown(reason=f"no answer within {_PLACE_TIMEOUT_S:g} s while sending")
        if isinstance(outcome, Refused):
            if outcome.rate_limited:
                self._turns.limited(outcome)
            self._session.refused(broker, outcome)
        return outcome

    async def _settle(self, sent: Order, outcome: Refused | Unknown | NotSent) -> None:
        order = self._desk.orders.get(sent.id)
        if order is None:
            # the order book overtook the answer, and has closed the order
            return self._turns.free(sent)
        overtaken = not _is_same(order, sent) or order.broker_order_id is not None
        match outcome:
            case _ if overtaken:
                # the book has the order, so it was placed, whatever the answer says
                self._desk.note(order, f"the answer was {outcome}, the order book has the order", anomaly=True)
            case Refused(rate_limited=True):
                if await self._limited(order, outcome):
                    return None
            case Refused():
                self.refused += 1
                said = self._reslice(order, outcome) or f"{outcome.code}: {outcome.message}"
                self._desk.move(order, OrderStatus.REJECTED, message=said)
            case Unknown():
                return self._doubts.doubt(order, outcome.reason)
            case NotSent():
                if await self._again(order, outcome):
                    return None
        return self._turns.free(sent)

    def _accepted(self, sent: Order, broker_order_id: str, note: str) -> None:
        order = self._desk.orders.get(sent.id)
        if order is not None:
            self._take_id(order, broker_order_id, note)
        # one that is gone the order book has closed: it overtook the answer
        self._turns.free(sent)

    def _take_id(self, order: Order, broker_order_id: str, note: str) -> None:
        if order.broker_order_id not in (None, broker_order_id):
            text = f"SECOND_AT_BROKER: answered as {broker_order_id}, found as {order.broker_order_id}"
            self._desk.note(order, text, anomaly=True)
            self._context.alert(f"order:{order.id}", text)
        else:
            report = OrderReport(
                broker_order_id=broker_order_id,
                status=OrderStatus.SUBMITTED,
                filled_quantity=0,
                average_price=Decimal(0),
            )
            self._desk.report(order, report, note=note)
        self._doubts.look_soon()

    async def _limited(self, order: Order, refused: Refused) -> bool:
        """The broker answered 429: return True when the order goes on, as a new attempt or in doubt.

        That nothing was placed is believed after one look at the order book only (reliability.md 2.2); the
        new attempt takes a call of the budget: an entry once the cool-down is over, an exit also during it.
        """
        rest_s = _LIMITED_REST_S[min(order.attempt, len(_LIMITED_REST_S)) - 1]
        not_before = trio.current_time() + rest_s
        absent = await self._doubts.confirm_absent(order, timeout_s=_CONFIRM_S)
        while self._is_held(order):
            if not absent:
                self._doubts.doubt(order, f"{refused.message}, and the order book cannot be read")
                return True
            stop = self.against(order) or self._turns.short(order)
            if stop is not None or self.is_draining or order.attempt >= _MAX_ATTEMPTS or order.is_square_off:
                self._end_limited(order, stop, refused)
                return False
            if trio.current_time() >= not_before and self._turns.take_slot(order):
                self.write_ahead(order, attempt=order.attempt + 1, detail=f"not placed: {refused.message}")
                return True
            await trio.sleep(_TURN_LOOK_S)  # the budget has no event; until the deadline at most
        return False  # it was placed after all, and the book has it

    def _end_limited(self, order: Order, stop: str | None, refused: Refused) -> None:
        if stop is None or stop.startswith("FENCED"):
            self._desk.move(order, OrderStatus.REJECTED, message=f"{refused.code}: {refused.message}")
        else:
            self.end_unsent(order, f"{stop}; the broker had answered: {refused.message}")

    def _is_held(self, order: Order) -> bool:
        """Whether the books still have *order* as it was sent: neither adopted from the order book nor ended."""
        held = self._desk.orders.get(order.id)
        return held is not None and _is_same(held, order)

    async def _again(self, order: Order, outcome: NotSent) -> bool:
        """Zero bytes left: write a new attempt ahead and return True, or end the order."""
        late = outcome.reason.startswith(("LATE", "FENCED"))
        # one that flattens is made anew, from what is held then
        if (late or not outcome.gated) and order.attempt < _MAX_ATTEMPTS and not order.is_square_off:
            if not outcome.reason.startswith("LATE"):
                await trio.sleep(_RETRY_S[min(order.attempt, len(_RETRY_S)) - 1])
            while self._is_held(order):
                stop = self.against(order)
                if self.is_draining or not (stop is None or stop.startswith("FENCED")):
                    self.end_unsent(order, stop or f"NOT_SENT: {outcome.reason}")
                    return False
                if self._turns.take_slot(order):
                    # the ledger checks the lease itself: without it nothing is written, so nothing goes
                    self.write_ahead(order, attempt=order.attempt + 1, detail=f"not sent: {outcome.reason}")
                    return True
                if (spent := self._turns.short(order) or self._turns.stale(order)) is not None:
                    self.end_unsent(order, spent)
                    return False
                await trio.sleep(_TURN_LOOK_S)  # the budget has no event; until the deadline at most
            return False
        self.end_unsent(order, outcome.reason if outcome.gated else f"NOT_SENT: {outcome.reason}")
        return False


def _free_to_go(_order: Order) -> None:
    return None


def _is_same(order: Order, row: Order) -> bool:
    return order.status is OrderStatus.SUBMITTING and (order.attempt, order.tag) == (row.attempt, row.tag)
