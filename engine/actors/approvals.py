"""The intents of one user that wait for a person: approved, rejected, cancelled, killed or expired, once each.

Owned by the user's risk actor, whose state they are decided on; asked by HTTP and by Telegram. What waits is in
the ledger, so that it survives a restart; a decision counts once it is on disk, and whoever asks again is
told of that one. An approval is a full verdict anew, so that nothing passes by having waited.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from math import inf
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.decision import targets_of
from engine.actors.exits import Exits
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.placing import Placer
from engine.actors.risk_messages import RiskContext
from engine.actors.risk_records import created, left_out, notes_of, order_drafts
from engine.domain.approval import AUTO, expired, killed_since, price_moved
from engine.domain.audit import AuditDraft
from engine.domain.decided import Decision, take_back
from engine.domain.denial import Denial
from engine.domain.enums import IntentStatus
from engine.domain.intent import Intent, IntentEvent
from engine.domain.order import Order
from engine.domain.verdict import IntentVerdict, row_of
from engine.errors import MailboxFull, UnavailableError

_log = structlog.get_logger(__name__)

_PRICE_S = 3.0
_RECORDED_S = 10.0
_LOOK_LEAST_S = 1.0
_LOOK_MOST_S = 30.0


class _Settling:
    """A decision on its way to disk."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.intent: Intent | None = None
        self.error: Exception | None = None


class Approvals:
    """Holds and decides; *follow* and *forget* are told of an intent whose orders go, or never will."""

    def __init__(
        self,
        context: RiskContext,
        placer: Placer,
        exits: Exits,
        *,
        follow: Callable[[Intent, Sequence[Order]], None],
        forget: Callable[[UUID], None],
    ) -> None:
        self._context = context
        self._placer = placer
        self._exits = exits
        self._follow = follow
        self._forget = forget
        self._is_ready = False
        # on their way to the ledger; they can be decided once it has them
        self._coming: dict[UUID, Intent] = {}
        self._waiting: dict[UUID, Intent] = {}
        self._settling: dict[UUID, _Settling] = {}
        self._wanted = trio.Event()

    def __contains__(self, intent_id: UUID) -> bool:
        return intent_id in self._coming or intent_id in self._waiting or intent_id in self._settling

    @property
    def waiting(self) -> tuple[Intent, ...]:
        """The intents that a person can decide about now."""
        return tuple(self._waiting.values())

    @property
    def intents(self) -> tuple[Intent, ...]:
        """The intents that wait, on their way to the ledger or back from a decision too."""
        settling = (each.intent for each in self._settling.values() if each.intent is not None)
        return (*self._coming.values(), *self._waiting.values(), *settling)

    def find(self, intent_id: UUID) -> Intent | None:
        """Return a waiting intent, None when it does not wait or is being decided about."""
        return self._waiting.get(intent_id)

    def pause(self) -> None:
        """Decide nothing until restored: the state is being rebuilt."""
        self._is_ready = False

    def restore(self, found: Iterable[Intent]) -> None:
        """Hold what the ledger has as waiting; everything else is forgotten."""
        self._coming.clear()
        self._settling.clear()
        self._waiting = {i.id: i for i in found if i.status is IntentStatus.PENDING_APPROVAL}
        self._is_ready = True
        self._wanted.set()

    # on the way in

    def hold(self, intent: Intent, now: datetime) -> Intent | None:
        """Return *intent* as it waits for a person, None when its strategy executes without one.

        Whatever is not plainly automatic waits.
        """
        strategy = self._context.directory.strategies.get(intent.strategy_id)
        if strategy is not None and strategy.approval == AUTO:
            return None
        ttl_s = 0 if strategy is None else strategy.approval_ttl_s
        waiting = msgspec.structs.replace(
            intent,
            status=IntentStatus.PENDING_APPROVAL,
            updated_at=now,
            seen_price=self._last_price(intent),
            expires_at=intent.received_at + timedelta(seconds=ttl_s),
        )
        self._coming[intent.id] = waiting
        return waiting

    def committed(self, intents: Iterable[Intent]) -> None:
        """The ledger has these: those that wait can be decided about, and a person is asked."""
        for intent in intents:
            waiting = self._coming.pop(intent.id, None)
            if waiting is not None:
                self._waiting[intent.id] = waiting
                self._context.ask_person(waiting)
        self._wanted.set()

    def withdraw(self, intent_id: UUID) -> None:
        """The ledger never will have it."""
        self._coming.pop(intent_id, None)

    # by hand

    async def approve(self, intent_id: UUID, *, by: str) -> Intent | None:
        """Execute a waiting intent if nothing stands against it now; return it as it was decided.

        The second of two is told what came of the first. None when it does not wait (any more). Raises
        UnavailableError.
        """
        waiting = self._ask(intent_id)
        if waiting is not None:
            if not len(self._context.instruments()):
                raise UnavailableError("the instrument master is being loaded; try again", retry_after_s=2)
            await self._know_price(waiting)
            # it may have been decided meanwhile, or the state is being rebuilt
            waiting = self._ask(intent_id)
        if waiting is not None:
            self._approve_now(waiting, by)
        return await self._settled(intent_id)

    async def reject(self, intent_id: UUID, *, by: str, reason: str) -> Intent | None:
        """Reject a waiting intent; as `approve` otherwise."""
        waiting = self._ask(intent_id)
        if waiting is not None:
            text = f"REJECTED_BY_HAND: {reason}" if reason else "REJECTED_BY_HAND: a person rejected it"
            self._end(waiting, IntentStatus.REJECTED, text, by=by, action="APPROVAL_REJECTED")
        return await self._settled(intent_id)

    async def cancel(self, intent_id: UUID, *, by: str) -> Intent | None:
        """Take a waiting intent back; as `approve` otherwise."""
        waiting = self._ask(intent_id)
        if waiting is not None:
            text = "CANCELLED_BY_HAND: taken back before it was approved"
            self._end(waiting, IntentStatus.CANCELLED, text, by=by, action="APPROVAL_CANCELLED")
        return await self._settled(intent_id)

    def _ask(self, intent_id: UUID) -> Intent | None:
        if not self._is_ready or intent_id in self._coming:
            raise UnavailableError("the intent is being recorded; try again", retry_after_s=1)
        return self._waiting.get(intent_id)

    async def _settled(self, intent_id: UUID) -> Intent | None:
        settling = self._settling.get(intent_id)
        if settling is None:
            return None
        with trio.move_on_after(_RECORDED_S) as scope:
            await settling.done.wait()
        if scope.cancelled_caught:
            raise UnavailableError("the decision is being recorded; read the intent again", retry_after_s=5)
        if settling.error is not None:
            raise UnavailableError("the decision could not be recorded, nothing was done; try again", retry_after_s=5)
        return settling.intent

    async def _know_price(self, intent: Intent) -> None:
        instrument = self._context.instruments().get(intent.signal.exchange, intent.signal.symbol)
        if instrument is None or self._context.prices.get(instrument.key) is not None:
            return
        with trio.move_on_after(_PRICE_S):
            await self._context.prices.ensure(instrument.key)

    def _last_price(self, intent: Intent) -> Decimal | None:
        signal, state = intent.signal, self._placer.state
        instrument = self._context.instruments().get(signal.exchange, signal.symbol)
        if instrument is None:
            return None
        live = self._context.prices.get(instrument.key)
        if live and live != state.last_price(signal.exchange, signal.symbol):
            state.set_price(signal.exchange, signal.symbol, live)
        return state.last_price(signal.exchange, signal.symbol) or (instrument.last_price or None)

    def _approve_now(self, intent: Intent, by: str) -> None:
        now = self._context.clock.now()
        late = expired(intent, now)
        if late is not None:
            self._expire(intent, late)
            return
        barred = self._killed(intent)
        accounts = self._accounts(intent)
        strategy = self._context.directory.strategies.get(intent.strategy_id)
        against: Denial | None = None
        if strategy is not None:
            against = price_moved(intent.seen_price, self._last_price(intent), strategy.approval_price_move_pct)
        if accounts and len(barred) == len(accounts):
            against = next(iter(barred.values()))
        if against is not None:
            self._end(intent, IntentStatus.REJECTED, str(against), by=by, action="APPROVAL_REFUSED")
            return
        approved = msgspec.structs.replace(intent, approved_at=now, updated_at=now, kill_turn=self._context.kill.turn)
        decision = self._placer.decision(approved, now, only=frozenset(accounts) - frozenset(barred))
        try:
            self._carry_out(intent, approved, decision, barred, by)
        except Exception:
            # what was reserved with the verdict is given back, whatever came in between
            for each in decision.approved:
                take_back(self._placer.state, each)
            raise

    def _carry_out(
        self, intent: Intent, approved: Intent, decision: Decision, barred: Mapping[UUID, Denial], by: str
    ) -> None:
        now = approved.updated_at
        text = self._exits.not_approved(intent, decision, self._placer.state)
        if text is not None:
            self._context.alert(f"intent:{intent.id}", text)
        if not decision.approved:
            reason = decision.reason or ""
            self._end(intent, IntentStatus.REJECTED, reason, by=by, action="APPROVAL_REFUSED", verdict=decision.verdict)
            return
        decided = msgspec.structs.replace(approved, status=IntentStatus.EXECUTING)
        names = {a.id: a.label for a in self._context.directory.accounts_of(intent.user_id)}
        reasons = [*left_out(decision), *(f"{names.get(a, a)}: {denial}" for a, denial in barred.items())]
        notes = notes_of(decision)
        orders = self._placer.place(decided, decision.approved, now)
        events = [
            ("APPROVED", f"by {by}, {len(orders)} order(s)"),
            *(("ACCOUNT_LEFT_OUT", reason) for reason in reasons),
            *(("ACCOUNT_NOTE", note) for note in notes),
            (IntentStatus.EXECUTING.value, ""),
        ]
        self._record(decided, orders, events, by=by, action="APPROVAL_GRANTED", now=now, verdict=decision.verdict)

    # by itself

    async def run(self) -> None:
        """Let intents expire at their time, until cancelled."""
        while True:
            self._wanted = trio.Event()
            self.look()
            now = self._context.clock.now()
            due_s = min(
                ((i.expires_at - now).total_seconds() for i in self._waiting.values() if i.expires_at), default=inf
            )
            # at times before it is due: a wall clock that is set moves it, and what is being decided about waits
            # again when that cannot be recorded
            is_any = self._waiting or self._settling
            with trio.move_on_after(max(min(due_s, _LOOK_MOST_S), _LOOK_LEAST_S) if is_any else inf):
                await self._wanted.wait()

    def look(self) -> None:
        """End what nobody may approve any more: what is too old, and what a kill switch covers."""
        if not self._is_ready:
            return  # looked at once what waits is known
        now = self._context.clock.now()
        for intent in self.waiting:
            barred = self._killed(intent)
            if barred and len(barred) == len(self._accounts(intent)):
                reason = str(next(iter(barred.values())))
                self._end(intent, IntentStatus.REJECTED, reason, by="system", action="APPROVAL_REFUSED")
            elif (late := expired(intent, now)) is not None:
                self._expire(intent, late)

    def _expire(self, intent: Intent, late: Denial) -> None:
        age_s = (self._context.clock.now() - intent.received_at).total_seconds()
        exits = self._exits.accounts_of(intent, self._placer.state)
        if exits:
            self._context.alert(f"intent:{intent.id}", f"EXIT_NOT_DONE: nobody approved it: {late}")
        reason = f"{late} ({age_s:.1f} s old)"
        self._end(intent, IntentStatus.EXPIRED, reason, by="system", action="APPROVAL_EXPIRED")

    def _accounts(self, intent: Intent) -> tuple[UUID, ...]:
        strategy = self._context.directory.strategies.get(intent.strategy_id)
        found = [] if strategy is None else targets_of(strategy, intent.signal, self._context.directory.accounts)
        accounts = () if isinstance(found, Denial) else tuple(account.id for _, account in found)
        # one without accounts is still covered by the scopes above them
        return accounts or (UUID(int=0),)

    def _killed(self, intent: Intent) -> dict[UUID, Denial]:
        """Return the accounts of which a kill switch is on, or was since the intent came, with what it says."""
        found = {account: killed_since(self._context.kill, intent, account) for account in self._accounts(intent)}
        return {account: denial for account, denial in found.items() if denial is not None}

    # on the record

    def _end(
        self,
        intent: Intent,
        status: IntentStatus,
        reason: str,
        *,
        by: str,
        action: str,
        verdict: IntentVerdict | None = None,
    ) -> None:
        now = self._context.clock.now()
        ended = msgspec.structs.replace(intent, status=status, reason=reason, updated_at=now)
        self._record(ended, [], [(status.value, reason)], by=by, action=action, now=now, verdict=verdict)

    def _record(
        self,
        decided: Intent,
        orders: Sequence[Order],
        events: Sequence[tuple[str, str]],
        *,
        by: str,
        action: str,
        now: datetime,
        verdict: IntentVerdict | None,
    ) -> None:
        settling = _Settling()
        settling.intent = decided
        waiting = self._waiting.pop(decided.id)
        self._settling[decided.id] = settling

        def committed() -> None:
            self._context.orders.committed(orders)
            self._settling.pop(decided.id, None)
            settling.done.set()

        def failed(error: Exception) -> None:
            if orders:
                self._forget(decided.id)
                self._placer.take_back(orders)
            self._waiting[decided.id] = waiting
            self._settling.pop(decided.id, None)
            settling.error = error
            settling.done.set()
            _log.error("approval.not_recorded", intent=str(decided.id), error=str(error))

        try:
            if orders:
                self._follow(decided, orders)
            entry = self._entry(decided, orders, events, by=by, action=action, now=now, verdict=verdict)
            entry.on_commit, entry.on_fail = committed, failed
            self._context.ledger.append(entry)
        except MailboxFull as full:
            failed(full)
        except Exception as fault:
            failed(fault)
            raise

    @staticmethod
    def _entry(
        decided: Intent,
        orders: Sequence[Order],
        events: Sequence[tuple[str, str]],
        *,
        by: str,
        action: str,
        now: datetime,
        verdict: IntentVerdict | None,
    ) -> LedgerEntry:
        draft = AuditDraft(
            at=now,
            actor=by,
            action=action,
            subject=f"intent:{decided.id}",
            content={
                "status": decided.status.value,
                "reason": decided.reason,
                "orders": len(orders),
                "waitedS": f"{(now - decided.received_at).total_seconds():.1f}",
            },
        )
        return LedgerEntry(
            intent_updates=(decided,),
            intent_events=[IntentEvent(intent_id=decided.id, at=now, event=e, detail=d) for e, d in events],
            new_orders=orders,
            verdicts=() if verdict is None else (row_of(verdict),),
            order_events=[created(order, now) for order in orders],
            audit=[draft, *order_drafts(orders, now)],
        )
