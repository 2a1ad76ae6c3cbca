"""The risk actor of one user: decides about intents and keeps everything that limits are held against.

Owns the user's `RiskState` (the only writer, so that checking and reserving are one step) and the
state of the user's live intents. Told by ingest (deliveries) and by the user's executors (orders,
positions, prices); hands approved orders to executors by calling `admit`, in the same step.
Mailbox: bounded; ingest's own bound keeps deliveries far below it, and what executors tell is never
refused short of a fault. Restart: permanent; state is rebuilt from the ledger.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.audit_writer import AuditWriter, DuplicateIntent
from engine.actors.decision import Approved, decide
from engine.actors.intake import Passage
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.prices import Prices
from engine.actors.risk_messages import (
    Decide,
    Message,
    OrderChanged,
    Orders,
    PositionsChanged,
    PriceChanged,
    RiskContext,
    UserHistory,
)
from engine.actors.risk_records import audit_of, conclusion, created, left_out, order_of, timeline
from engine.clock import Clock, trading_day
from engine.domain.audit import AuditDraft
from engine.domain.directory import Directory
from engine.domain.enums import IntentStatus, OrderStatus
from engine.domain.intent import Intent, IntentEvent, outcome
from engine.domain.killswitch import KillSwitches
from engine.domain.order import Order
from engine.domain.risk_state import RiskState
from engine.domain.signal import Signal
from engine.errors import MailboxFull, StoreUnavailable, UnavailableError
from engine.runtime.mailbox import Mailbox, Overflow

__all__ = [
    "Decide",
    "Message",
    "OrderChanged",
    "Orders",
    "PositionsChanged",
    "PriceChanged",
    "RiskActor",
    "RiskContext",
    "UserHistory",
]

_log = structlog.get_logger(__name__)

_MAILBOX = 100_000
_BARRIER_S = 30.0
_REBUILD_RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_PRICES_S = 3.0
_NO_PRICE_S = 10.0
_TICK = timedelta(microseconds=1)


class RiskActor:
    """Decides for one user."""

    def __init__(self, user_id: UUID, context: RiskContext) -> None:
        self.user_id = user_id
        self.mailbox: Mailbox[Message] = Mailbox(f"risk:{user_id}", capacity=_MAILBOX, overflow=Overflow.REFUSE)
        self._context = context
        self._clock: Clock = context.clock
        self._ledger: AuditWriter = context.ledger
        self._directory: Directory = context.directory
        self._kill: KillSwitches = context.kill
        self._orders: Orders = context.orders
        self._prices: Prices = context.prices
        self.state = RiskState()
        self._live: dict[UUID, Intent] = {}
        self._of_intent: dict[UUID, dict[UUID, tuple[OrderStatus, int, int, str | None]]] = {}
        self._last_created = datetime.min.replace(tzinfo=UTC)
        self._unpriced: dict[str, float] = {}

    def tell(self, message: Message) -> None:
        """Hand the actor a message. Raises MailboxFull."""
        self.mailbox.tell_nowait(message)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Rebuild as soon as the ledger can be read, then decide until cancelled."""
        task_status.started()
        self._restore(*await self._history())
        async for message in self.mailbox:
            # before anything of the new day is taken in: rolling twice would forget the day's loss
            self.state.roll_day(trading_day(self._clock.now()))
            match message:
                case Decide(passage=passage):
                    await self._know_prices(passage)
                    self._decide(passage)
                case OrderChanged(order=order):
                    self._order_changed(order)
                case PositionsChanged(positions=positions):
                    for position in positions:
                        self.state.set_position(position)
                case PriceChanged(exchange=exchange, symbol=symbol, price=price):
                    self.state.set_price(exchange, symbol, price)

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
        self._live.clear()
        self._of_intent.clear()
        for position in history.positions:
            self.state.set_position(position)
        for account, at in history.orders_today:
            self.state.count_order(account, at)
            self._last_created = max(self._last_created, at)
        for order in history.live_orders:
            self.state.track(order)
            self._last_created = max(self._last_created, order.created_at)
        for intent, orders in history.live_intents:
            if intent.status is IntentStatus.EXECUTING:
                self._live[intent.id] = intent
                self._of_intent[intent.id] = {oid: (status, q, f, m) for oid, status, q, f, m in orders}
                self._conclude(intent.id)

    # deciding

    async def _know_prices(self, passage: Passage) -> None:
        """Have a last price of every instrument of the delivery.

        The live one if there is one, else the master's, else the first delivery of an instrument waits for
        a quote; one that had none does not hold up the next.
        """
        try:
            missing = self._take_prices(passage)
            if not missing:
                return
            with trio.move_on_after(_PRICES_S):
                for key in missing:
                    await self._prices.ensure(key)
            until = trio.current_time() + _NO_PRICE_S
            for key in self._take_prices(passage):
                self._unpriced[key] = until
        except Exception:
            # the verdict says what a missing price means; the delivery must not be lost for it
            _log.exception("prices.fault", key=passage.delivery.idempotency_key)

    def _take_prices(self, passage: Passage) -> list[str]:
        """Take over the prices known of a delivery's instruments; return those of which none is to be had."""
        missing: list[str] = []
        for signal in {(i.signal.exchange, i.signal.symbol): i.signal for i in passage.intents.values()}.values():
            instrument = self._context.instruments().get(signal.exchange, signal.symbol)
            if instrument is None:
                continue
            price = self._prices.get(instrument.key)
            if price is None:
                self._prices.watch(instrument.key)
                price = instrument.last_price
            if not price:
                if self._needs_price(signal) and self._unpriced.get(instrument.key, 0.0) <= trio.current_time():
                    missing.append(instrument.key)
            elif price != self.state.last_price(signal.exchange, signal.symbol):
                self.state.set_price(signal.exchange, signal.symbol, price)
                self._unpriced.pop(instrument.key, None)
        return missing

    def _needs_price(self, signal: Signal) -> bool:
        """Whether the verdict on a signal can depend on the last price: it carries none, or a band is set."""
        if not signal.order_type.needs_price:
            return True
        if (self.user_id, None) not in self._directory.limits and self._context.defaults.price_band_pct is not None:
            return True
        return any(
            held.limits.price_band_pct is not None
            for (user_id, _), held in self._directory.limits.items()
            if user_id == self.user_id
        )

    def _decide(self, passage: Passage) -> None:
        """Decide about a delivery and hand the whole of it to the ledger, or end it in a named state."""
        if passage.error is not None:
            return  # its sender has been told that it is not executed
        now = self._clock.now()
        added: list[Intent] = []
        orders: list[Order] = []

        def committed() -> None:
            passage.commit()
            self._orders.committed(orders)

        def failed(error: Exception) -> None:
            self._take_back(added, orders)
            if isinstance(error, DuplicateIntent | UnavailableError):
                passage.fail(error)
            else:
                self._record_failure(passage, error)

        try:
            passage.entry = self._verdict(passage, now, added, orders)
            passage.entry.on_commit, passage.entry.on_fail = committed, failed
            passage.decided = True
            self._ledger.append(passage.entry)
        except MailboxFull as full:
            failed(UnavailableError(f"the ledger takes no more now: {full}", retry_after_s=5))
        except Exception as fault:
            _log.exception("delivery.fault")
            failed(fault)

    def _verdict(self, passage: Passage, now: datetime, added: list[Intent], orders: list[Order]) -> LedgerEntry:
        events: list[IntentEvent] = []
        audit: list[AuditDraft] = []
        for intent in list(passage.intents.values()):
            if intent.id in self._live:
                continue  # the ledger has it, and will say so of the delivery
            decided, caused, reasons = self._judge_safely(intent, now)
            passage.intents[intent.id] = decided
            added.append(decided)
            orders += caused
            if not decided.status.is_terminal:
                self._live[decided.id] = decided
                self._of_intent[decided.id] = {o.id: (o.status, o.quantity, 0, None) for o in caused}
            events += timeline(decided, caused, reasons, now)
            audit += audit_of(decided, caused, now)
        return LedgerEntry(
            new_intents=list(passage.intents.values()),
            intent_events=events,
            new_orders=orders,
            order_events=[created(order, now) for order in orders],
            audit=audit,
        )

    def _take_back(self, intents: Sequence[Intent], orders: Sequence[Order]) -> None:
        """Forget a decision that is not in the ledger: the same signal, sent again, is a new one."""
        for intent in intents:
            self._live.pop(intent.id, None)
            self._of_intent.pop(intent.id, None)
        for order in orders:
            self.state.withdraw(order.id)
        self._orders.withdraw(orders)

    def _record_failure(self, passage: Passage, error: Exception) -> None:
        """What could not be recorded as decided is recorded as failed, and nothing of it is sent."""
        _log.error("intent.not_recorded", error=str(error), intents=[str(i) for i in passage.intents])
        now = self._clock.now()
        reason = f"INTERNAL_ERROR: {type(error).__name__} while recording the decision; nothing was sent"
        for intent in list(passage.intents.values()):
            passage.intents[intent.id] = self._ended(intent, IntentStatus.FAILED, reason, now)
        intents = list(passage.intents.values())
        passage.entry = LedgerEntry(
            new_intents=intents,
            intent_events=[event for intent in intents for event in timeline(intent, [], [], now)],
            audit=[draft for intent in intents for draft in audit_of(intent, [], now)],
            on_commit=passage.commit,
            on_fail=passage.fail,
        )
        try:
            self._ledger.append(passage.entry)
        except MailboxFull as full:
            passage.fail(full)

    def _judge_safely(self, intent: Intent, now: datetime) -> tuple[Intent, list[Order], list[str]]:
        """Judge; a fault of ours in it must end the intent in a named state, not lose the delivery."""
        try:
            return self._judge(intent, now)
        except Exception as fault:
            _log.exception("intent.fault", intent=str(intent.id))
            reason = f"INTERNAL_ERROR: {type(fault).__name__} while deciding; nothing was sent"
            return self._ended(intent, IntentStatus.FAILED, reason, now), [], []

    def _judge(self, intent: Intent, now: datetime) -> tuple[Intent, list[Order], list[str]]:
        context = self._context
        age_s = (now - intent.received_at).total_seconds()
        if age_s > context.rules.max_age_s:
            reason = f"SIGNAL_TOO_OLD: {age_s:.1f} s old, the limit is {context.rules.max_age_s:g} s"
            return self._ended(intent, IntentStatus.EXPIRED, reason, now), [], []
        decision = decide(
            intent,
            directory=self._directory,
            state=self.state,
            instruments=context.instruments(),
            kill=self._kill,
            defaults=context.defaults,
            rules=context.rules,
            now=now,
        )
        reasons = left_out(decision)
        if not decision.approved:
            return self._ended(intent, IntentStatus.REJECTED, decision.reason or "", now), [], reasons
        made = [self._make_order(intent, approved, now) for approved in decision.approved]
        orders: list[Order] = []
        try:
            for approved, order in zip(decision.approved, made, strict=True):
                self.state.reserve(approved.request, order.id)
                orders.append(self._orders.admit(order))
        except Exception:
            self._take_back((), made)
            raise
        return msgspec.structs.replace(intent, status=IntentStatus.EXECUTING, updated_at=now), orders, reasons

    def _ended(self, intent: Intent, status: IntentStatus, reason: str | None, now: datetime) -> Intent:
        return msgspec.structs.replace(intent, status=status, reason=reason, updated_at=now)

    def _make_order(self, intent: Intent, approved: Approved, now: datetime) -> Order:
        context = self._context
        # no two at one instant: by this the ledger knows which was accepted first
        self._last_created = max(now, self._last_created + _TICK)
        return order_of(
            intent,
            approved.request,
            tag=context.tag,
            epoch=context.epoch,
            max_age_s=context.rules.max_age_s,
            at=self._last_created,
        )

    # following

    def _order_changed(self, order: Order) -> None:
        self.state.track(order)
        if order.intent_id is None or order.intent_id not in self._live:
            return
        orders = self._of_intent.setdefault(order.intent_id, {})
        orders[order.id] = (order.status, order.quantity, order.filled_quantity, order.status_message)
        self._conclude(order.intent_id)

    def _conclude(self, intent_id: UUID) -> None:
        """End an intent whose orders can change no more."""
        status, reason = outcome(list(self._of_intent[intent_id].values()))
        if not status.is_terminal:
            return
        if not self._of_intent[intent_id]:
            reason = "INTERNAL_ERROR: the ledger has none of its orders"
        now = self._clock.now()
        intent = self._ended(self._live.pop(intent_id), status, reason or None, now)
        del self._of_intent[intent_id]
        self._ledger.append(conclusion(intent, now))
