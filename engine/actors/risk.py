"""The risk actor of one user: decides about intents and keeps everything that limits are held against.

Owns the user's `RiskState` (the only writer, so that checking and reserving are one step) and the
state of the user's live intents. Told by ingest (deliveries) and by the user's executors (orders,
positions, prices); hands approved orders to executors by calling `admit`, in the same step.
Mailbox: bounded; ingest's own bound keeps deliveries far below it, and what executors tell is never
refused short of a fault. Restart: permanent; state is rebuilt from the ledger.
"""

from collections.abc import Sequence
from datetime import date, datetime
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.approvals import Approvals
from engine.actors.audit_writer import AuditWriter, DuplicateIntent
from engine.actors.change_verdict import judge_change
from engine.actors.day_keeper import DayKeeper
from engine.actors.decision import count_signal, too_old
from engine.actors.exits import Exits
from engine.actors.group_keeper import GroupKeeper
from engine.actors.intake import Passage
from engine.actors.late_found import LateFound
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.live_intents import LiveIntents
from engine.actors.placing import Placer
from engine.actors.risk_messages import (
    Decide,
    Message,
    OrderChanged,
    Orders,
    PositionsChanged,
    PricesChanged,
    PricesWait,
    RiskContext,
    UserHistory,
)
from engine.actors.risk_prices import RiskPrices
from engine.actors.risk_records import Verdicts, audit_of, left_out, notes_of, timeline
from engine.actors.risk_watch import RiskWatch
from engine.clock import Clock, trading_day
from engine.domain.books import RoundTrip
from engine.domain.decided import Decision, refused, take_back
from engine.domain.delivery import Delivery
from engine.domain.denial import Denial
from engine.domain.directory import Directory
from engine.domain.enums import IntentStatus
from engine.domain.intent import Intent
from engine.domain.killswitch import KillSwitches
from engine.domain.marks import Priced
from engine.domain.order import Order
from engine.domain.risk_state import RiskState
from engine.errors import MailboxFull, StoreUnavailable, UnavailableError
from engine.observability.logs import IDS, note_intents
from engine.runtime.crashpoint import crashpoint
from engine.runtime.mailbox import Mailbox, Overflow

__all__ = [
    "Decide",
    "Message",
    "OrderChanged",
    "Orders",
    "PositionsChanged",
    "PricesChanged",
    "PricesWait",
    "RiskActor",
    "RiskContext",
    "UserHistory",
]

_log = structlog.get_logger(__name__)

_MAILBOX = 100_000
_BARRIER_S = 30.0
_REBUILD_RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_MAX_TRIES = 2
_ROOM_LOOK_S = 0.5
_MARKS_AT_ONCE = 1000


class RiskActor:
    """Decides for one user."""

    def __init__(self, user_id: UUID, context: RiskContext) -> None:
        self.user_id = user_id
        self.mailbox: Mailbox[Message] = Mailbox(f"risk:{user_id}", capacity=_MAILBOX, overflow=Overflow.REFUSE)
        self._context = context
        self._clock: Clock = context.clock
        self._ledger: AuditWriter = context.ledger
        self._directory: Directory = context.directory
        self.kill: KillSwitches = context.kill
        self._orders: Orders = context.orders
        self._prices = RiskPrices(user_id, context)
        self._exits = Exits(user_id, context)
        self._late = LateFound(
            user_id, clock=context.clock, ledger=context.ledger, load=context.load_late, alert=context.alert
        )
        self.state = RiskState()
        # the delivery being decided about, and how often that was begun
        self._in_hand: Passage | None = None
        self._tries = 0
        self._is_ready = False
        # in this life messages are taken; a caretaker who reads the mailbox of a dead one decides otherwise
        self._is_taking = False
        self._restored_trips: frozenset[object] = frozenset()
        # of the intents of the life before this one: when this process saw them begin
        self._turns: dict[UUID, int | None] = {}
        self._day_keeper = DayKeeper(user_id, context, lambda: self.state)
        self.watch = RiskWatch(user_id, context, lambda: self.state)
        self._placer = Placer(context, lambda: self.state)
        self._groups = GroupKeeper(context, self._placer, look=lambda intent_id: self._live.look(intent_id))
        self._live = LiveIntents(context, self._exits, self._late, self._groups)
        self.approvals = Approvals(context, self._placer, self._exits, follow=self._live.add, forget=self._live.forget)

    @property
    def is_ready(self) -> bool:
        """Whether the state has been rebuilt from the ledger."""
        return self._is_ready

    def tell(self, message: Message) -> None:
        """Hand the actor a message. Raises MailboxFull."""
        self.mailbox.tell_nowait(message)

    def decide(self, passage: Passage) -> bool:
        """Decide about a delivery in its turn: at once (True) where nothing is before it and nothing is waited for.

        Raises MailboxFull.
        """
        if self._is_taking and self.mailbox.is_waited_on and self._ledger.has_room_for_entries:
            # the actor waits for its next message, and this is it: no other step lies between
            try:
                self._day_keeper.roll(self.state)
                if self._prices.knows(passage, self.state):
                    self._decide(passage)
                    return True
            except Exception:
                # the actor's own to fail by: it takes the same steps, if they were not taken
                _log.exception("delivery.not_at_once")
        self.mailbox.tell_nowait(Decide(passage=passage))
        return False

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Rebuild as soon as the ledger can be read, then decide until cancelled."""
        task_status.started()
        self._is_ready = False
        self.approvals.pause()
        self._restore(*await self._history())
        self._is_ready = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._late.run)
            nursery.start_soon(self._day_keeper.run)
            nursery.start_soon(self._groups.run)
            nursery.start_soon(self.approvals.run)
            nursery.start_soon(self.watch.run)
            if self._in_hand is not None:
                # it was taken out of the mailbox when the life before this one ended
                await self._handle(self._in_hand)
            await self._take_messages()

    async def _handle(self, passage: Passage) -> None:
        self._tries = self._tries + 1 if passage is self._in_hand else 1
        self._in_hand = passage
        if self._tries > _MAX_TRIES:
            self.fail(passage, f"INTERNAL_ERROR: deciding failed {_MAX_TRIES} times; nothing was sent")
        elif not passage.decided:
            await self._prices.know(passage, self.state)
            # what was promised cannot be given up for want of room; its turn comes when the store is back
            while not self._ledger.has_room_for_entries:  # noqa: ASYNC110 -- ends with the outage or this actor
                await trio.sleep(_ROOM_LOOK_S)
            self._decide(passage)
        self._in_hand = None

    def cancel_requested(self, intent_id: UUID) -> None:
        """A person has cancelled an intent: nothing of it is tried again."""
        self._live.stop(intent_id)

    def give_up(self, reason: str) -> None:
        """This actor has failed too often: tell a person, and end the delivery that it had in hand."""
        self._context.alert(f"user:{self.user_id}", reason)
        passage, self._in_hand = self._in_hand, None
        if passage is not None:
            self.fail(passage, reason)

    async def _take_messages(self) -> None:
        self._is_taking = True
        try:
            await self._take_each()
        finally:
            self._is_taking = False

    async def _take_each(self) -> None:
        async for message in self.mailbox:
            # before anything of the new day is taken in: rolling twice would forget the day's loss
            self._day_keeper.roll(self.state)
            match message:
                case Decide(passage=passage):
                    note_intents(passage.intents, passage.delivery.request_id)
                    token = IDS.set({"intent_id": next(iter(passage.intents), None)})
                    try:
                        await self._handle(passage)
                    finally:
                        IDS.reset(token)
                case OrderChanged(order=order, larger=larger):
                    if order.is_attached:
                        # it only reduces what its entry filled, and must not stand in the way of others that do
                        self.state.track_exit(order)
                    else:
                        counted = order if larger <= order.quantity else msgspec.structs.replace(order, quantity=larger)
                        self.state.track(counted)
                    self._live.order_changed(order, self.state)
                    self.watch.order_changed(order)
                    if order.filled_quantity:
                        self.watch.changed((order.account_id,))
                case PositionsChanged(positions=positions, books=books, trips=trips):
                    # what was told to the life before this one, and is in the ledger, must not count twice
                    new = [trip for trip in trips if _trip_key(trip) not in self._restored_trips]
                    self.state.take_positions(positions, books, new)
                    self.watch.changed({position.account_id for position in positions})
                case PricesChanged(prices=prices):
                    await self._take_prices(prices)
                case PricesWait(take=take):
                    await self._take_prices(take())

    async def _take_prices(self, prices: Sequence[Priced]) -> None:
        """Mark at *prices*, in one step unless a thousand accounts hold them: others have their turn then between."""
        part: list[Priced] = []
        marks = 0
        for exchange, symbol, price in prices:
            held = self.state.marked(exchange, symbol)
            if part and marks + held > _MARKS_AT_ONCE:
                self.state.set_prices(part)
                part, marks = [], 0
                await trio.lowlevel.checkpoint()
            part.append((exchange, symbol, price))
            marks += held
        self.state.set_prices(part)
        # what the price of a decision moved is among them
        moved = self.state.take_moved()
        if moved:
            self.watch.changed(moved)

    async def _history(self) -> tuple[UserHistory, date]:
        """Read what the ledger knows, once it knows all that this user's actors handed it."""
        tries = 0
        while True:
            today = trading_day(self._clock.now())
            try:
                if await self._ledger.barrier(timeout_s=_BARRIER_S):
                    return await self._context.load(self.user_id, today), today
                reason = "the ledger has not caught up"
            except StoreUnavailable as error:
                reason = str(error)
            _log.warning("risk.waits_for_ledger", user=str(self.user_id), reason=reason)
            await trio.sleep(_REBUILD_RETRY_S[min(tries, len(_REBUILD_RETRY_S) - 1)])
            tries += 1

    def _restore(self, history: UserHistory, today: date) -> None:
        self.state = RiskState(today)
        self._late.look(today)
        self._day_keeper.restore(history, self.state)
        self._restored_trips = frozenset(map(_trip_key, history.trips))
        for account, at, strategy in history.orders_today:
            self.state.count_order(account, at, strategy)
            self._placer.made_until(at)
        strategies = self._context.directory.strategies
        for at, strategy_id in history.latest_signals:
            named = strategies.get(strategy_id)
            accounts = frozenset() if named is None else {target.account_id for target in named.targets}
            count_signal(self.state, strategy_id, accounts, at)
        for order in history.live_orders:
            if order.is_attached:
                self.state.track_exit(order)
            else:
                self.state.track(order)
            self._placer.made_until(order.created_at)
        # what this process saw begin, in an earlier life of this actor, was after the kills of before
        self._turns |= {each.id: each.kill_turn for each in (*self._live.intents, *self.approvals.intents)}
        intents = [
            (msgspec.structs.replace(intent, kill_turn=self._turns.get(intent.id)), orders)
            for intent, orders in history.live_intents
        ]
        self._live.restore(intents, self.state, history.order_accounts)
        self.approvals.restore(intent for intent, _ in intents)
        self._turns.clear()
        self.watch.restore(history.latest_orders)

    # deciding

    def _decide(self, passage: Passage) -> None:
        """Decide about a delivery and hand the whole of it to the ledger, or end it in a named state."""
        if passage.error is not None:
            return  # its sender has been told that it is not executed
        now = self._clock.now()
        made = Verdicts()

        def committed() -> None:
            self._context.stages.committed(passage.intents)
            passage.commit()
            self._orders.committed(made.orders)
            self.approvals.committed(made.intents)
            for subject, text in made.alerts:
                self._context.alert(subject, text)

        def failed(error: Exception) -> None:
            self._take_back(made.intents, made.orders)
            if isinstance(error, DuplicateIntent | UnavailableError):
                passage.fail(error)
            else:
                self._record_failure(passage, error)

        try:
            passage.entry = self._verdict(passage, now, made)
            passage.entry.on_commit, passage.entry.on_fail = committed, failed
            passage.decided = True
            self._context.stages.decided(passage.intents)
            crashpoint("S4.decided")
            self._ledger.append(passage.entry)
        except MailboxFull as full:
            failed(UnavailableError(f"the ledger takes no more now: {full}", retry_after_s=5))
        except Exception as fault:
            _log.exception("delivery.fault")
            failed(fault)

    def _verdict(self, passage: Passage, now: datetime, made: Verdicts) -> LedgerEntry:
        for written in list(passage.intents.values()):
            if written.id in self._live or written.id in self.approvals:
                continue  # the ledger has it, and will say so of the delivery
            decided, caused, decision, resolved = self._judge_safely(passage, written, now, made)
            passage.intents[decided.id] = decided
            notes = notes_of(decision) if caused else ()
            made.add(decided, caused, left_out(decision), now, resolved=resolved, notes=notes)
            self._live.add(decided, caused)
        return made.entry(list(passage.intents.values()), now)

    def _take_back(self, intents: Sequence[Intent], orders: Sequence[Order]) -> None:
        """Forget a decision that is not in the ledger: the same signal, sent again, is a new one."""
        for intent in intents:
            self._live.forget(intent.id)
            self.approvals.withdraw(intent.id)
        self._placer.take_back(orders)

    def _record_failure(self, passage: Passage, error: Exception) -> None:
        """What could not be recorded as decided is recorded as failed, and nothing of it is sent."""
        _log.error("intent.not_recorded", error=str(error), intents=[str(i) for i in passage.intents])
        passage.decided = False
        self.fail(passage, f"INTERNAL_ERROR: {type(error).__name__} while recording the decision; nothing was sent")

    def fail(self, passage: Passage, reason: str) -> None:
        """End a delivery about which nothing was decided, on the record and in a state that says why."""
        if passage.error is not None or passage.decided:
            return
        passage.decided = True
        now = self._clock.now()
        for intent in list(passage.intents.values()):
            passage.intents[intent.id] = self._ended(intent, IntentStatus.FAILED, reason, now)
            self._context.alert(f"intent:{intent.id}", reason)
        intents = list(passage.intents.values())
        passage.entry = LedgerEntry(
            new_intents=intents,
            intent_events=[event for intent in intents for event in timeline(intent, [], [], now)],
            audit=[draft for intent in intents for draft in audit_of(intent, [], now)],
            on_commit=passage.commit,
            on_fail=lambda error: self._context.unrecorded(passage, error),
        )
        try:
            self._ledger.append(passage.entry)
        except MailboxFull as full:
            self._context.unrecorded(passage, full)

    def _judge_safely(
        self, passage: Passage, intent: Intent, now: datetime, made: Verdicts
    ) -> tuple[Intent, list[Order], Decision, str]:
        """Judge; a fault of ours in it must end the intent in a named state, not lose the delivery."""
        resolved = ""
        try:
            intent, resolution = self._prices.resolved(passage, intent)
            resolved = resolution.detail
            return (*self._judge(intent, resolution.denial, now, made), resolved)
        except Exception as fault:
            _log.exception("intent.fault", intent=str(intent.id))
            reason = f"INTERNAL_ERROR: {type(fault).__name__} while deciding; nothing was sent"
            made.tell(intent, reason)
            return self._ended(intent, IntentStatus.FAILED, reason, now), [], Decision(), resolved

    def _judge(
        self, intent: Intent, unresolved: Denial | None, now: datetime, made: Verdicts
    ) -> tuple[Intent, list[Order], Decision]:
        late = too_old(intent, self._context.rules, now)
        if late is not None:
            reason, text, letters = self._exits.too_old(intent, str(late), self.state)
            if text is not None:
                made.tell(intent, text)
                made.letters += letters
            made.keep(refused(intent, (late,), now).verdict)
            return self._ended(intent, IntentStatus.EXPIRED, reason, now), [], Decision()
        # what is approved is reserved with it
        decision = self._placer.decision(intent, now) if unresolved is None else refused(intent, (unresolved,), now)
        try:
            return self._carry_out(intent, decision, now, made)
        except Exception:
            for approved in decision.approved:
                take_back(self.state, approved)
            raise

    def _carry_out(
        self, intent: Intent, decision: Decision, now: datetime, made: Verdicts
    ) -> tuple[Intent, list[Order], Decision]:
        """Make the orders of a decision and hand them to their executors, or have a person asked."""
        text = self._exits.not_approved(intent, decision, self.state)
        if text is not None:
            made.tell(intent, text)
        if not decision.approved:
            made.keep(decision.verdict)
            return self._ended(intent, IntentStatus.REJECTED, decision.reason or "", now), [], decision
        waiting = self.approvals.hold(intent, now)
        if waiting is not None:
            made.keep(decision.verdict)
            # it is judged anew when a person approves it
            for approved in decision.approved:
                take_back(self.state, approved)
            return waiting, [], Decision()
        made.keep(decision.verdict)
        # last, for what raised after it would leave orders with the executors that never come on disk
        orders = self._placer.place(intent, decision.approved, now)
        return msgspec.structs.replace(intent, status=IntentStatus.EXECUTING, updated_at=now), orders, decision

    def _ended(self, intent: Intent, status: IntentStatus, reason: str | None, now: datetime) -> Intent:
        return msgspec.structs.replace(intent, status=status, reason=reason, updated_at=now)

    async def preview(self, delivery: Delivery) -> tuple[Intent, Decision]:
        """Judge a delivery of one signal as if it had come now; nothing of it is reserved, counted, kept or sent.

        Raises UnavailableError before the state is rebuilt.
        """
        passage = Passage(delivery, self._context.kill.turn)
        if self._is_ready:
            await self._prices.know(passage, self.state)
        if not self._is_ready:
            raise UnavailableError("the user's positions are being read; try again", retry_after_s=2)
        (written,) = passage.intents.values()
        intent, resolution = self._prices.resolved(passage, written)
        now = self._clock.now()
        if resolution.denial is not None:
            return intent, refused(intent, (resolution.denial,), now)
        return intent, self._placer.preview(intent, now)

    def judge_change(self, order: Order, wanted: Order) -> tuple[Denial, ...]:
        """Return what stands against changing an order into *wanted*; when nothing does, the larger of both is held.

        Raises UnavailableError before the state is rebuilt. An attached exit may not grow, for it is held nowhere.
        """
        if not self._is_ready:
            raise UnavailableError("the user's positions are being read; try again", retry_after_s=2)
        denials = judge_change(
            order,
            wanted,
            directory=self._directory,
            state=self.state,
            instrument=self._context.instruments().get(order.exchange, order.symbol),
            defaults=self._context.defaults,
            rules=self._context.rules,
            now=self._clock.now(),
            held=self._context.held(order.account_id),
        )
        if not denials and wanted.quantity > order.quantity:
            self.state.track(wanted)
        return denials


def _trip_key(trip: RoundTrip) -> object:
    where = (trip.account_id, trip.strategy_id, trip.exchange, trip.symbol, trip.product_type)
    return (*where, trip.ended_at, round(trip.result, 2))
