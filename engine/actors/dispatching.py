"""Whose turn it is on one account: queue, call budget, and what ends before its turn comes."""

from datetime import date, datetime
from math import inf

import msgspec
import trio

from engine.actors.executor_context import ExecutorContext
from engine.actors.order_desk import OrderDesk
from engine.actors.order_queue import OrderQueue
from engine.actors.sending import Sender
from engine.clock import Clock, trading_day
from engine.domain.enums import OrderStatus
from engine.domain.freshness import Freshness
from engine.domain.order import Order
from engine.domain.pacing import Pacer

_QUEUE_LOOK_S = 1.0
# Calls of every window that entries leave to cancels.
_RESERVE = 2
_RESERVE_FROM = 5


class Dispatcher:
    """Lets orders go in accepted order for each instrument, within the account's call budget."""

    def __init__(self, context: ExecutorContext, desk: OrderDesk, pacer: Pacer) -> None:
        self._context = context
        self._clock: Clock = context.clock
        self._desk = desk
        self._pacer = pacer
        self._reserve = _RESERVE if context.orders_per_second >= _RESERVE_FROM else 0
        self._has_lived = False
        self._sweep = True
        self._wake = trio.Event()
        self._freshness = Freshness(context.max_age_s)
        self.queue = OrderQueue()

    def restart(self, sent_today: int) -> None:
        """Begin with an empty queue; *sent_today* is what the ledger knows of the day's calls."""
        self.queue = OrderQueue()
        if not self._has_lived:
            # later lives go on with the budget they have: what was sent a moment ago counts
            self._has_lived = True
            self._pacer.restore(trading_day(self._clock.now()), sent_today)
        self.wake(sweep=True)

    def wake(self, *, sweep: bool = False) -> None:
        """Look at the queue again; with *sweep* at everything in it, behind busy instruments too."""
        self._sweep = self._sweep or sweep
        self._wake.set()

    def take_at_once(self, order: Order) -> Order | None:
        """Hold the order's instrument and return it in SUBMITTING, or None when it has to queue."""
        # what waits for the call budget goes first
        if not self.queue.is_free(order.key) or self.queue.next() is not None or not self.take_slot():
            return None
        self._freshness.note(order, *self._instant())
        self.queue.hold(order.key, order.id)
        now, today = self._clock.now(), self.today()
        return msgspec.structs.replace(order, status=OrderStatus.SUBMITTING, submitting_at=now, trading_day=today)

    def push(self, order: Order, *, recorded: bool = True) -> None:
        """Queue an order behind those of its instrument; until it is recorded it only keeps its place."""
        deadline_ns = self._freshness.note(order, *self._instant())
        self.queue.push(order.key, order.id, deadline_ns, recorded=recorded)

    def today(self) -> date:
        """Return the IST date; a clock that is suspect does not turn the day."""
        held = self._desk.day
        if held is not None and self._context.clock_suspect() is not None:
            return held
        return trading_day(self._clock.now())

    def take_slot(self, *, urgent: bool = False) -> bool:
        """Take one call of the budget; an urgent one may take what entries leave over."""
        reserve = 0 if urgent else self._reserve
        return self._pacer.try_take(trio.current_time(), self.today(), reserve=reserve, urgent=urgent)

    def hold_calls(self, seconds: float) -> None:
        """The broker wants to see nothing for *seconds*; cancels go on, at half their rate."""
        self._pacer.hold(trio.current_time() + seconds)

    def stale(self, order: Order) -> str | None:
        """Return why an order is too old to be sent, or None."""
        return self._freshness.stale(order, *self._instant())

    def _instant(self) -> tuple[datetime, int]:
        # boot time first: a process that is stopped between the two readings must not gain an order time
        boot_ns = self._clock.boottime_ns()
        return self._clock.now(), boot_ns

    def is_alone(self, order: Order) -> bool:
        """Whether *order* holds its instrument, and no other order does."""
        return self.queue.is_alone(order.key, order.id)

    def free(self, order: Order) -> None:
        """The order does not hold its instrument any more."""
        self._freshness.forget(order.id)
        self.queue.free(order.key, order.id)
        self._wake.set()

    async def run(self, sender: Sender) -> None:
        """Dispatch until cancelled."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            delay = self._dispatch(sender)
            if delay is not None:
                with trio.move_on_after(delay):
                    await self._wake.wait()
                self._wake.set()

    def _dispatch(self, sender: Sender) -> float | None:
        """Write ahead what may go now; return the seconds to the next try, None when nothing waits."""
        self._desk.roll_day(self.today())
        if sender.is_draining:
            return None
        if not self._context.holds_lease():
            # nothing may go, and nothing is ended either: it may be another engine's by now
            return _QUEUE_LOOK_S
        self._end_what_may_not_go(sender)
        while (head := self.queue.next()) is not None:
            key, order_id = head
            order = self._desk.orders.get(order_id)
            if order is None or order.status is not OrderStatus.PENDING:
                self.queue.remove(key, order_id)
            elif (stop := sender.against(order)) is not None:
                self._end(order, stop, sender)
            elif self.take_slot():
                self.queue.remove(key, order_id)
                self.queue.hold(key, order_id)
                sender.write_ahead(order, attempt=order.attempt)
            else:
                now = trio.current_time()
                at = self._pacer.next_at(now, reserve=self._reserve)
                if at < inf:
                    return max(0.005, min(at - now, _QUEUE_LOOK_S))
                limit = self._context.orders_per_day
                self._end(order, f"ORDERS_PER_DAY: the account's {limit} order calls of today are used", sender)
        return _QUEUE_LOOK_S if len(self.queue) else None

    def _end_what_may_not_go(self, sender: Sender) -> None:
        """End what is too old, or covered by a kill switch, behind busy instruments too."""
        late = self.queue.expired(self._clock.boottime_ns())
        if self._sweep:
            self._sweep = False
            late = self.queue.waiting()
        for _, order_id in late:
            order: Order | None = self._desk.orders.get(order_id)
            stop = None if order is None else sender.against(order)
            if order is not None and stop is not None and order.status is OrderStatus.PENDING:
                self._end(order, stop, sender)

    def _end(self, order: Order, reason: str, sender: Sender) -> None:
        self.queue.remove(order.key, order.id)
        self._freshness.forget(order.id)
        sender.end_unsent(order, reason)

    def forget(self, order: Order) -> bool:
        """Take an order out of the queue; False when it does not wait."""
        removed = self.queue.remove(order.key, order.id)
        if removed:
            self._freshness.forget(order.id)
        self._wake.set()
        return removed
