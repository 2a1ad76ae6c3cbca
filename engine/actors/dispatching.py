"""Whose turn it is on one account: queue, lanes, call budget, and what ends before its turn comes."""

from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable
from datetime import UTC, date, datetime, timedelta
from math import inf
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.call_budget import BudgetView, CallBudget
from engine.actors.executor_context import ExecutorContext
from engine.actors.exit_orders import is_exit
from engine.actors.kill_gate import against_known_kill
from engine.actors.order_desk import AccountHistory, OrderDesk
from engine.actors.order_queue import OrderQueue
from engine.actors.sending import Sender
from engine.broker.base import Gate, NotSent, RefusalCode, Refused, WriteOutcome
from engine.clock import Clock, trading_day
from engine.domain.enums import Exchange, OrderStatus
from engine.domain.freshness import Freshness
from engine.domain.killswitch import KillRecord
from engine.domain.lanes import Lane
from engine.domain.order import Order
from engine.domain.pacing import Cap, calls_to_flatten

_log = structlog.get_logger(__name__)

_QUEUE_LOOK_S = 1.0
_SOON_S = 0.02
_LEAST_S = 0.005
# kite.trade forum 51478
COOL_DOWN_S = 10.0
"""How long a broker that answered 429 wants to see nothing."""
CALL_WAIT_S = 30.0
"""How long a cancel or a modification waits for a call of the budget."""
_LANES = (Lane.EXIT, Lane.ENTRY)
_LINE = "cancels"


class _Flattening:
    """How many orders would close what is held, by instrument, as of one number of `OrderDesk.stirs`."""

    __slots__ = ("_of", "as_of", "calls")

    def __init__(self) -> None:
        self.as_of = -1
        self.calls = 0
        self._of: dict[tuple[Exchange, str], int] = {}

    def put(self, key: tuple[Exchange, str], calls: int) -> None:
        self.calls += calls - self._of.get(key, 0)
        self._of[key] = calls


class Dispatcher:
    """Lets orders go in accepted order for each instrument, exits first, within the account's call budget."""

    def __init__(self, context: ExecutorContext, desk: OrderDesk) -> None:
        self._context = context
        self._clock: Clock = context.clock
        self._desk = desk
        self._limits = (context.orders_per_second, context.orders_per_minute, context.orders_per_day)
        self._has_lived = False
        self._sweep = True
        self._wake = trio.Event()
        self._freshness = Freshness(context.max_age_s)
        # of each order that was made in the life of this process: the turn of the kill switches then
        self._made_at: dict[UUID, int] = {}
        self._flattening = _Flattening()
        # of each order that waits or is on its way: its lane, as of a number of `OrderDesk.stirred_at`
        self._lanes: dict[UUID, tuple[int, Lane]] = {}
        # which head of each instrument was put into its lane, as of such a number
        self._sorted: dict[tuple[Exchange, str], tuple[UUID, int]] = {}
        self.queue = OrderQueue()

    def restart(self, history: AccountHistory) -> None:
        """Begin with an empty queue; *history* is what the ledger knows of the calls of the day and the last minute."""
        self.queue = OrderQueue()
        self._flattening = _Flattening()
        self._lanes.clear()
        self._sorted.clear()
        if not self._has_lived:
            # later lives go on with the budget they have: what was sent a moment ago counts
            self._has_lived = True
            now = self._clock.now()
            ages = [(now - at).total_seconds() for at in history.recent_calls]
            self._budget.pacer.restore(trio.current_time(), trading_day(now), history.sent_today, ages)
        self.wake(sweep=True)

    @property
    def _budget(self) -> CallBudget:
        # asked for each time: whose Zerodha account it is may become known with the first login
        account_id = self._desk.account_id
        key = self._context.pacer_key(account_id)
        return self._context.budgets.of(account_id, key, self._limits, self._calls_to_flatten)

    def budget(self) -> BudgetView:
        """Return the budget of the account's order calls as it is now."""
        return self._budget.view(self.today())

    def wake(self, *, sweep: bool = False) -> None:
        """Look at the queue again; with *sweep* at everything in it, behind busy instruments too."""
        self._sweep = self._sweep or sweep
        self._wake.set()

    def take_at_once(self, order: Order) -> Order | None:
        """Hold the order's instrument and return it in SUBMITTING, or None when it has to queue."""
        if not self.queue.is_free(order.key):
            return None
        lane = self._lane(order)
        # what waits for the call budget goes first, in its own lane and those before it
        if len(self.queue) and any(self.queue.next(before) is not None for before in _LANES if before <= lane):
            return None
        budget, today = self._budget, self.today()
        if lane is Lane.ENTRY and budget.against_entry(today) is not None:
            return None
        if not budget.try_take(lane, today, slot=order.id):
            return None
        now, boot_ns = self._instant()
        self._note_made(order, (now, boot_ns))
        self.queue.hold(order.key, order.id)
        return msgspec.structs.replace(order, status=OrderStatus.SUBMITTING, submitting_at=now, trading_day=today)

    def push(self, order: Order, *, recorded: bool = True, first: bool = False) -> None:
        """Queue an order behind those of its instrument, or *first*; until it is recorded it only keeps its place."""
        deadline_ns = self._note_made(order, self._instant())
        self.queue.push(order.key, order.id, deadline_ns, recorded=recorded, first=first)
        self._context.note_queued(self._desk.account_id)

    def push_restored(self, orders: Iterable[Order], unrecorded: Collection[UUID]) -> None:
        """Queue *orders*, in their order, which an earlier life had queued; *unrecorded* only keep their places."""
        instant = self._instant()
        for order in orders:
            deadline_ns = self._freshness.note(order, *instant)
            self.queue.push(order.key, order.id, deadline_ns, recorded=order.id not in unrecorded)
        self._context.note_queued(self._desk.account_id)

    def _note_made(self, order: Order, instant: tuple[datetime, int]) -> int:
        """Take note of when an order was made, in this life of the process, and return its deadline (boot time, ns)."""
        self._made_at.setdefault(order.id, self._context.kill.turn)
        return self._freshness.note(order, *instant)

    def today(self) -> date:
        """Return the IST date; a clock that is suspect does not turn the day."""
        held, day = self._desk.day, trading_day(self._clock.now())
        if day == held or held is None or self._context.clock_suspect() is None:
            return day
        return held

    # the budget

    def _lane(self, order: Order) -> Lane:
        # asked several times at each turn, and the answer walks through all that waits behind a busy instrument
        as_of = self._desk.stirred_at(order.key)
        known = self._lanes.get(order.id)
        if known is None or known[0] != as_of:
            known = (as_of, Lane.EXIT if is_exit(self._desk, order) else Lane.ENTRY)
            self._lanes[order.id] = known
        return known[1]

    def _forget(self, order: Order) -> None:
        self._freshness.forget(order.id)
        self._lanes.pop(order.id, None)
        self._made_at.pop(order.id, None)

    def take_slot(self, order: Order | None = None, *, urgent: bool = False) -> bool:
        """Take a call for another attempt of *order*, which then waits in its lane until it gets one.

        Without an order the call leaves now: a cancel or a modification if *urgent*.
        """
        if order is None:
            return self._budget.try_take(Lane.CANCEL if urgent else Lane.ENTRY, self.today())
        lane, budget = self._lane(order), self._budget
        if not budget.try_take(lane, self.today(), slot=order.id):
            budget.claims.claim(order.id, lane, trio.current_time())
            return False
        budget.claims.drop(order.id, lane)
        return True

    async def wait_exit(self, order: Order, *, until_s: float) -> bool:
        """Take a call in the lane of exits for *order*, and hold its instrument.

        False when none came free before *until_s* (monotonic). Entries get none while one waits here.
        """
        budget = self._budget
        try:
            while not budget.try_take(Lane.EXIT, self.today(), slot=order.id):
                now = trio.current_time()
                if now >= until_s:
                    return False
                budget.claims.claim(order.id, Lane.EXIT, now)
                await trio.sleep(min(self._delay(budget, Lane.EXIT, now), until_s - now))
        finally:
            budget.claims.drop(order.id, Lane.EXIT)
        self._note_made(order, self._instant())
        self.queue.hold(order.key, order.id)
        return True

    def departs(self, order: Order) -> bool:
        """The first byte of *order* leaves now; False when the call that it took has lapsed."""
        return self._departs(order.id)

    def _departs(self, slot: Hashable) -> bool:
        return self._budget.pacer.depart(slot, trio.current_time(), self.today())

    def landed(self, order: Order) -> None:
        """An attempt of *order* is over: if nothing of it left, its call is free again."""
        self._budget.pacer.give_back(order.id)

    def short(self, order: Order) -> str | None:
        """Return why *order* must not go because of the day's budget, None for an exit."""
        reason = self._budget.against_entry(self.today())
        return None if reason is None or self._lane(order) is Lane.EXIT else reason

    async def call(self, request: Callable[[Gate], Awaitable[WriteOutcome]]) -> WriteOutcome:
        """Make a cancel or a modification in its turn: *request* is given the gate that it must ask.

        Behind exits, before entries, within the budget; NotSent when no call came free in `CALL_WAIT_S`.
        What *request* raises is raised.
        """
        slot = object()
        if not await self._wait(slot):
            reason = f"ORDER_BUDGET: no order call of the account came free within {CALL_WAIT_S:g} s; try again"
            return NotSent(reason=reason, gated=True)

        def gate() -> str | None:
            return None if self._departs(slot) else "ORDER_BUDGET: the call came too late; try again"

        try:
            outcome = await request(gate)
        finally:
            self._budget.pacer.give_back(slot)
        if isinstance(outcome, Refused) and outcome.rate_limited:
            self.limited(outcome)
        return outcome

    async def _wait(self, slot: Hashable) -> bool:
        budget = self._budget
        with trio.move_on_after(CALL_WAIT_S):
            async with budget.cancels:
                try:
                    while not budget.try_take(Lane.CANCEL, self.today(), slot=slot):
                        now = trio.current_time()
                        budget.claims.claim(_LINE, Lane.CANCEL, now)
                        await trio.sleep(self._delay(budget, Lane.CANCEL, now))
                finally:
                    # one claim for the whole line: between two of it no entry slips in
                    if not budget.cancels.statistics().tasks_waiting:
                        budget.claims.drop(_LINE, Lane.CANCEL)
                return True
        return False

    @staticmethod
    def _delay(budget: CallBudget, lane: Lane, now: float) -> float:
        """Return the seconds after which *lane* may find a call."""
        at = budget.pacer.next_at(now, lane)
        # it is not the budget then but another lane whose turn it is
        return _SOON_S if at <= now else max(_LEAST_S, min(at - now, _QUEUE_LOOK_S))

    def limited(self, refused: Refused) -> None:
        """The broker refused a call for its rate: entries wait for the end of it, exits and cancels go more slowly."""
        budget, now = self._budget, self._clock.now()
        if refused.code is not RefusalCode.ORDER_CAP:
            budget.pacer.hold(trio.current_time() + COOL_DOWN_S)
            return
        turn = (now.astimezone(UTC) + timedelta(minutes=1)).replace(second=0, microsecond=0)
        cap = budget.cap(self.today(), (turn - now).total_seconds())
        if cap is None:
            return
        until = "the minute turns" if cap is Cap.MINUTE else "tomorrow"
        text = f"ORDER_CAP: the broker takes no more order calls ({refused.message}); entries wait until {until}"
        _log.error("account.order_cap", account=str(self._desk.account_id), cap=cap.value)
        self._context.alert(f"account:{self._desk.account_id}", text)
        self.wake()

    def _calls_to_flatten(self) -> int:
        desk = self._desk
        if self._flattening.as_of != desk.stirs:
            # of a thousand positions an order moves one
            since = self._flattening.as_of
            moved = desk.stirred_since(since) if since >= 0 else desk.holdings.instruments_listed()
            for exchange, symbol in moved:
                freeze = self._context.freeze_quantity(exchange, symbol)
                held = [(quantity, freeze) for quantity in desk.holdings.quantities_in(exchange, symbol)]
                self._flattening.put((exchange, symbol), calls_to_flatten(held, 0))
            self._flattening.as_of = desk.stirs
        return self._flattening.calls + len(desk.index.open) + len(desk.index.open_external)

    # staleness

    def outlived(self, order: Order) -> KillRecord | None:
        """Return the kill switch that is on, or was turned off since *order* was made, or None."""
        return self._context.kill.barring(
            self._made_at.get(order.id),
            order.created_at,
            user_id=order.user_id,
            account_id=order.account_id,
            strategy_id=order.strategy_id,
            source_id=order.source_id,
        )

    def stale(self, order: Order) -> str | None:
        """Return why an order is too old to be sent, or None."""
        return self._freshness.stale(order, *self._instant())

    def _instant(self) -> tuple[datetime, int]:
        # boot time first: a process that is stopped between the two readings must not gain an order time
        boot_ns = self._clock.boottime_ns()
        return self._clock.now(), boot_ns

    # the instruments

    def is_alone(self, order: Order) -> bool:
        """Whether *order* holds its instrument, and no other order does."""
        return self.queue.is_alone(order.key, order.id)

    def free(self, order: Order) -> None:
        """The order does not hold its instrument any more."""
        self._forget(order)
        self.landed(order)
        self.queue.free(order.key, order.id)
        self._wake.set()

    # the queue

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
        self._sort_heads()
        budget, who = self._budget, self._desk.account_id
        while True:
            heads: list[Lane] = []
            went = None
            for lane in _LANES:
                order = self._head(lane, sender)
                if order is None:
                    continue
                heads.append(lane)
                if budget.try_take(lane, self.today(), slot=order.id):
                    went = order
                    break
            if went is None:
                break
            self.queue.remove(went.key, went.id)
            self.queue.hold(went.key, went.id)
            sender.write_ahead(went, attempt=went.attempt)
        now = trio.current_time()
        for lane in _LANES:
            if lane in heads:
                budget.claims.claim(who, lane, now)
            else:
                budget.claims.drop(who, lane)
        if heads:
            return min(self._delay(budget, lane, now) for lane in heads)
        return _QUEUE_LOOK_S if len(self.queue) else None

    def _sort_heads(self) -> None:
        """Put what has become an exit while it waited into its lane."""
        positions, who = self._desk.holdings.positions, self._desk.account_id
        for key in self.queue.instruments():
            head = self.queue.head(key)
            if head is None or self._sorted.get(key) == (now := (head, self._desk.stirred_at(key))):
                continue
            self._sorted[key] = now
            order = self._desk.orders.get(head)
            held = None if order is None else positions.get((who, *key, order.product_type))
            if order is not None and held is not None and held.quantity:
                self.queue.sort(key, order.id, self._lane(order))

    def _head(self, lane: Lane, sender: Sender) -> Order | None:
        """Return the order of *lane* that may go next; what may not go is ended on the way."""
        while (head := self.queue.next(lane)) is not None:
            key, order_id = head
            order: Order | None = self._desk.orders.get(order_id)
            if order is None or order.status is not OrderStatus.PENDING:
                self.queue.remove(key, order_id)
                if order is not None:
                    self._forget(order)
                continue
            if lane is Lane.EXIT and self._lane(order) is not Lane.EXIT:
                self.queue.sort(key, order_id, Lane.ENTRY)
                continue
            stop = sender.against(order)
            if stop is None and lane is Lane.ENTRY:
                stop = self.short(order)
            if stop is None and self._budget.pacer.next_at(trio.current_time(), lane) == inf:
                limit = self._context.orders_per_day
                stop = f"ORDERS_PER_DAY: the account's {limit} order calls of today are used"
            if stop is None:
                return order
            self._end(order, stop, sender)
        return None

    def _end_what_may_not_go(self, sender: Sender) -> None:
        """End what is too old, or covered by a kill switch, behind busy instruments too."""
        late = self.queue.expired(self._clock.boottime_ns())
        if self._sweep:
            self._sweep = False
            late = self.queue.waiting()
        if late:
            # once for all of them: none goes before it has asked for itself
            self._context.look_at_kill_file()
        for _, order_id in late:
            order: Order | None = self._desk.orders.get(order_id)
            stop = None if order is None else sender.against(order, killed=against_known_kill)
            if order is not None and stop is not None and order.status is OrderStatus.PENDING:
                self._end(order, stop, sender)

    def _end(self, order: Order, reason: str, sender: Sender) -> None:
        self.queue.remove(order.key, order.id)
        self._forget(order)
        sender.end_unsent(order, reason)

    def forget(self, order: Order) -> bool:
        """Take an order out of the queue; False when it does not wait."""
        removed = self.queue.remove(order.key, order.id)
        if removed:
            self._forget(order)
        self._wake.set()
        return removed
