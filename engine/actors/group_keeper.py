"""What a strategy's policy does about a group that tore: failed accounts tried again, or filled ones closed.

Owned by the user's risk actor; told of every intent whose orders changed (`step`) and of its end (`conclude`).
Everything follows from the orders as the ledger has them, and every order or intent that is made has an id that
follows from what it is made for: a restart goes on where it stopped and repeats nothing. Exactly once holds
because an order is tried again only after its end is known and nothing of it filled, never when it is older
than a signal may be, and under a new order id of which the ledger takes one.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from heapq import heappop, heappush
from math import inf
from typing import Protocol
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.decision import Approved, limits_for
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.placing import Placer
from engine.actors.risk_messages import RiskContext
from engine.actors.risk_records import conclusion, created, order_drafts
from engine.domain.approval import killed_since, killed_text
from engine.domain.audit import AuditDraft
from engine.domain.denial import Denial
from engine.domain.directory import Strategy
from engine.domain.enums import AccountStatus, GroupPolicy, IntentStatus, OrderType, Validity, Variety
from engine.domain.group_policy import Leg, Plan, is_unwind, plan, unwind_key
from engine.domain.intent import Intent, IntentEvent
from engine.domain.limits import OrderRequest
from engine.domain.options import NO_OPTIONS
from engine.domain.order import Order
from engine.domain.risk import check, is_reducing
from engine.domain.signal import Signal
from engine.domain.wanted import cut
from engine.errors import MailboxFull
from engine.ids import unwind_id

_log = structlog.get_logger(__name__)

_RETRY_S = (1.0, 2.0, 4.0, 8.0)
# The trades of an order may be read a while after the order was seen filled.
_POSITION_S = 15.0
_POSITION_LOOK_S = 0.5
_INSTRUMENTS_S = 60.0
_CANCEL_AGAIN_S = 5.0


class Following(Protocol):
    """The live intents, as this part changes them."""

    def replace(self, intent_id: UUID, of: Sequence[UUID], orders: Sequence[Order]) -> Callable[[], None]:
        """Let *orders* count in the place of others; return what undoes it."""

    def forget(self, intent_id: UUID) -> None:
        """Drop an intent whose orders never came into the ledger."""


class GroupKeeper:
    """Retries and unwinds for one user; *look* has an intent looked at again."""

    book: Following

    def __init__(self, context: RiskContext, placer: Placer, *, look: Callable[[UUID], None]) -> None:
        self._context = context
        self._placer = placer
        self._look = look
        self._tries: dict[tuple[UUID, UUID], int] = {}
        self._not_before: dict[tuple[UUID, UUID], float] = {}
        self._short_since: dict[UUID, float] = {}
        self._stopped: set[UUID] = set()
        self._cancel_at: dict[UUID, float] = {}
        self._due: list[tuple[float, UUID]] = []
        self._due_at: dict[UUID, float] = {}
        self._wanted = trio.Event()

    def restart(self) -> None:
        """Forget everything: what there is to do follows from the orders."""
        for held in (self._tries, self._not_before, self._short_since, self._stopped, self._cancel_at):
            held.clear()
        self._due.clear()
        self._due_at.clear()

    def stop(self, intent_id: UUID) -> None:
        """Do nothing more about an intent."""
        self._stopped.add(intent_id)

    async def run(self) -> None:
        """Look again at what was put off, until cancelled."""
        while True:
            self._wanted = trio.Event()
            while self._due and self._due[0][0] <= trio.current_time():
                at, intent_id = heappop(self._due)
                if self._due_at.get(intent_id) == at:
                    del self._due_at[intent_id]
                    self._look(intent_id)
            with trio.move_on_after(self._due[0][0] - trio.current_time() if self._due else inf):
                await self._wanted.wait()

    def _later(self, intent_id: UUID, after_s: float) -> None:
        at = trio.current_time() + after_s
        # what comes after the first look is put off again by it
        if at < self._due_at.get(intent_id, inf):
            self._due_at[intent_id] = at
            heappush(self._due, (at, intent_id))
            self._wanted.set()

    # what is to be done

    def step(self, intent: Intent, orders: Callable[[], Sequence[Leg]], now: datetime) -> bool:
        """Do what the policy asks for now; True when the intent goes on though its orders may have ended.

        *orders* returns how they stand: it is asked only where there is a policy, for a signal may have thousands.
        """
        strategy = self._strategy(intent)
        if strategy is None:
            return False
        legs = orders()
        left_s = self._left_s(intent, strategy, now)
        wanted = plan(strategy.group_policy, legs, in_time=left_s > 0)
        if wanted.retry:
            again = [self._retry(intent, account, of, now) for account, of in wanted.retry.items()]
            if any(again):
                self._later(intent.id, max(left_s, 0.0))
            return any(again)
        if wanted.cancel:
            self._cancel(intent, {leg.account_id for leg in legs if not leg.status.is_terminal})
        if strategy.group_policy is GroupPolicy.UNWIND and left_s > 0 and any(not x.status.is_terminal for x in legs):
            self._later(intent.id, left_s)
        return bool(wanted.unwind) and self._must_wait(intent, wanted)

    def _strategy(self, intent: Intent) -> Strategy | None:
        """Return the strategy whose policy there is to follow."""
        if is_unwind(intent) or intent.id in self._stopped:
            return None
        strategy: Strategy | None = self._context.directory.strategies.get(intent.strategy_id)
        if strategy is None or strategy.group_policy is GroupPolicy.LEAVE:
            return None
        # what a position that was asked for changed on each account has no one opposite
        is_target = intent.signal.position_size is not None
        return None if is_target and strategy.group_policy is GroupPolicy.UNWIND else strategy

    def _cancel(self, intent: Intent, accounts: Iterable[UUID]) -> None:
        """Cancel what still works, again while it does: an order on the wire cannot be cancelled yet."""
        if trio.current_time() >= self._cancel_at.get(intent.id, 0.0):
            self._cancel_at[intent.id] = trio.current_time() + _CANCEL_AGAIN_S
            for account in accounts:
                self._context.orders.cancel_intent(account, intent.id, by="the deadline of its group")
        self._later(intent.id, _CANCEL_AGAIN_S)

    def _left_s(self, intent: Intent, strategy: Strategy, now: datetime) -> float:
        age_s = (now - intent.began_at).total_seconds()
        if age_s < 0:
            return 0.0  # a clock that was set back cannot tell its age
        return min(strategy.group_deadline_s, self._context.rules.max_age_s) - age_s

    # trying again

    def _retry(self, intent: Intent, account_id: UUID, of: tuple[UUID, ...], now: datetime) -> bool:
        """Try the failed orders of an account again if it is time; True when they are, or may be later."""
        if self._killed(intent, account_id) is not None:
            return False
        key = (intent.id, account_id)
        not_before = self._not_before.setdefault(key, trio.current_time() + self._rest_s(key))
        if trio.current_time() < not_before:
            self._later(intent.id, not_before - trio.current_time())
            return True
        self._tries[key] = self._tries.get(key, 0) + 1
        del self._not_before[key]
        decision = self._placer.decision(intent, now, only=frozenset({account_id}))
        approved = [each for each in decision.approved if len(each.slices) == len(of)]
        if not approved:
            _log.info("group.not_retried", intent=str(intent.id), account=str(account_id), why=decision.reason)
            self._later(intent.id, self._rest_s(key))
            return True
        orders = self._placer.place(intent, approved, now, of=of)
        self._record_retry(intent, orders, of, approved[0], now)
        return True

    def _rest_s(self, key: tuple[UUID, UUID]) -> float:
        return _RETRY_S[min(self._tries.get(key, 0), len(_RETRY_S) - 1)]

    def _record_retry(
        self, intent: Intent, orders: list[Order], of: tuple[UUID, ...], approved: Approved, now: datetime
    ) -> None:
        undo = self.book.replace(intent.id, of, orders)

        def failed(error: Exception) -> None:
            _log.error("group.retry_not_recorded", intent=str(intent.id), error=str(error))
            undo()
            self._placer.take_back(orders)
            self._later(intent.id, _RETRY_S[0])

        units = sum(order.quantity for order in orders)
        detail = f"{approved.account.label}: {units} again, in place of {', '.join(map(str, of))}"
        entry = LedgerEntry(
            new_orders=orders,
            order_events=[created(order, now) for order in orders],
            intent_events=(IntentEvent(intent_id=intent.id, at=now, event="RETRY", detail=detail),),
            audit=[_draft("GROUP_RETRY", intent, {"detail": detail}, now), *order_drafts(orders, now)],
            on_commit=lambda: self._context.orders.committed(orders),
            on_fail=failed,
        )
        try:
            self._context.ledger.append(entry)
        except MailboxFull as full:
            failed(full)

    # closing what filled

    def conclude(
        self, ended: Intent, legs: Sequence[Leg], entry: LedgerEntry, now: datetime
    ) -> list[tuple[Intent, list[Order]]]:
        """Hand the end of an intent to the ledger, with the intent that closes what it filled, if one does.

        Returns that, to be followed. Raises MailboxFull; then nothing was done.
        """
        strategy = self._strategy(ended)
        wanted = plan(strategy.group_policy, legs, in_time=False).unwind if strategy is not None else {}
        self._forget(ended.id)
        if not wanted:
            self._context.ledger.append(entry)
            return []
        child = _closing(ended, max(wanted.values()), now)
        approved: list[Approved] = []
        notes: list[tuple[str, str]] = []
        for account_id, units in wanted.items():
            found = self._close(child, ended, account_id, units, now)
            if isinstance(found, Approved):
                approved.append(found)
                notes.append(("UNWIND", f"{found.account.label}: closing {units}, by intent {child.id}"))
            else:
                notes.append(("UNWIND_LEFT_OUT", f"{self._label(account_id)}: {units} stay open: {found}"))
                if found.code != "KILL_SWITCH":
                    self._context.alert(f"intent:{ended.id}", f"NOT_UNWOUND: {notes[-1][1]}")
        orders = self._placer.place(child, approved, now) if approved else []
        try:
            self._context.ledger.append(self._with_closing(entry, ended, child, orders, notes, now))
        except MailboxFull:
            self._placer.take_back(orders)
            raise
        return [(child, orders)] if orders else []

    def _with_closing(
        self,
        entry: LedgerEntry,
        ended: Intent,
        child: Intent,
        orders: list[Order],
        notes: Sequence[tuple[str, str]],
        now: datetime,
    ) -> LedgerEntry:
        def event(intent: Intent, name: str, detail: str = "") -> IntentEvent:
            return IntentEvent(intent_id=intent.id, at=now, event=name, detail=detail)

        def failed(error: Exception) -> None:
            self._placer.take_back(orders)
            self.book.forget(child.id)
            self._context.alert(f"intent:{ended.id}", f"NOT_UNWOUND: it could not be recorded: {error}")
            try:
                self._context.ledger.append(conclusion(ended, now))
            except MailboxFull as full:
                # the next start finds the intent as it was, and concludes it
                _log.error("group.not_concluded", intent=str(ended.id), error=str(full))

        made = (
            event(child, "RECEIVED", f"closes what intent {ended.id} filled"),
            event(child, "APPROVED", f"{len(orders)} order(s)"),
            event(child, child.status.value),
        )
        content = {"closes": ended.id, "orders": len(orders)}
        return LedgerEntry(
            intent_updates=entry.intent_updates,
            new_intents=(child,) if orders else (),
            intent_events=[
                *(event(ended, name, detail) for name, detail in notes),
                *entry.intent_events,
                *(made if orders else ()),
            ],
            new_orders=orders,
            order_events=[created(order, now) for order in orders],
            audit=[*entry.audit, _draft("GROUP_UNWIND", child, content, now), *order_drafts(orders, now)],
            on_commit=lambda: self._context.orders.committed(orders),
            on_fail=failed,
        )

    def _close(self, child: Intent, ended: Intent, account_id: UUID, units: int, now: datetime) -> Approved | Denial:
        """Return the order that closes *units* on an account, or what stands against it."""
        context, state, signal = self._context, self._placer.state, child.signal
        killed = self._killed(ended, account_id)
        if killed is not None:
            return killed
        account = context.directory.accounts.get(account_id)
        instrument = context.instruments().get(signal.exchange, signal.symbol)
        if account is None or instrument is None:
            return Denial(code="ACCOUNT_NOT_FOUND", text="the account or its instrument is gone")
        if account.status is not AccountStatus.ACTIVE:
            return Denial(code=account.status.value, text=account.status_reason or "log in to the broker first")
        request = self._request(child, ended, account_id, units, instrument.multiplier, now)
        if not is_reducing(request, state):
            return Denial(code="NOT_HELD", text="the account does not hold them any more, or other orders close them")
        user_limits, account_limits = limits_for(context.directory, context.defaults, ended.user_id, account_id)
        capital = sum((a.capital for a in context.directory.accounts_of(ended.user_id)), Decimal(0))
        zone = context.rules.timezone
        denials = check(request, state, user_limits, capital=capital, now=now, scope_account=None, timezone=zone)
        if account_limits is not None:
            denials += check(
                request,
                state,
                account_limits,
                capital=account.capital,
                now=now,
                scope_account=account_id,
                timezone=zone,
            )
        if denials:
            return denials[0]
        return Approved(account=account, request=request, slices=cut(units, instrument))

    def _request(
        self, child: Intent, ended: Intent, account_id: UUID, units: int, multiplier: Decimal, now: datetime
    ) -> OrderRequest:
        signal = ended.signal
        return OrderRequest(
            intent_id=child.id,
            account_id=account_id,
            strategy_id=ended.strategy_id,
            exchange=signal.exchange,
            symbol=signal.symbol,
            product_type=signal.product_type,
            transaction_type=signal.transaction_type.opposite,
            quantity=units,
            reference_price=self._price(signal),
            multiplier=multiplier,
            at=now,
        )

    def _price(self, signal: Signal) -> Decimal | None:
        instrument = self._context.instruments().get(signal.exchange, signal.symbol)
        known = self._placer.state.last_price(signal.exchange, signal.symbol)
        return known if known or instrument is None else (instrument.last_price or None)

    def _must_wait(self, intent: Intent, wanted: Plan) -> bool:
        """Whether some position does not show yet what its order filled: closing it would not be seen to reduce."""
        now = self._context.clock.now()
        child = _closing(intent, max(wanted.unwind.values()), now)
        lacking = [
            account
            for account, units in wanted.unwind.items()
            if self._killed(intent, account) is None
            and not is_reducing(self._request(child, intent, account, units, Decimal(1), now), self._placer.state)
        ]
        # right after a start the instruments may not be known yet
        is_known = self._context.instruments().get(intent.signal.exchange, intent.signal.symbol) is not None
        since = self._short_since.setdefault(intent.id, trio.current_time())
        if is_known and not lacking:
            return False
        if trio.current_time() - since >= (_POSITION_S if is_known else _INSTRUMENTS_S):
            return False
        self._later(intent.id, _POSITION_LOOK_S)
        return True

    def _killed(self, intent: Intent, account_id: UUID) -> Denial | None:
        """Return the kill switch that is on, or was since the intent began: what it covers is for the flattening."""
        record = killed_since(self._context.kill.records, intent=intent, account_id=account_id, since=intent.began_at)
        return None if record is None else killed_text(record)

    def _label(self, account_id: UUID) -> str:
        account = self._context.directory.accounts.get(account_id)
        return str(account_id) if account is None else str(account.label)

    def _forget(self, intent_id: UUID) -> None:
        self._short_since.pop(intent_id, None)
        self._stopped.discard(intent_id)
        self._cancel_at.pop(intent_id, None)
        for held in (self._tries, self._not_before):
            for key in [key for key in held if key[0] == intent_id]:
                del held[key]


def _closing(ended: Intent, units: int, now: datetime) -> Intent:
    """Return the intent that closes, at the market, what *ended* filled."""
    signal = msgspec.structs.replace(
        ended.signal,
        transaction_type=ended.signal.transaction_type.opposite,
        quantity=units,
        order_type=OrderType.MARKET,
        price=None,
        trigger_price=None,
        stop_loss=None,
        target=None,
        validity=Validity.DAY,
        variety=Variety.REGULAR,
        options=NO_OPTIONS,
        position_size=None,
    )
    return Intent(
        id=unwind_id(ended.id),
        source_id=ended.source_id,
        strategy_id=ended.strategy_id,
        user_id=ended.user_id,
        signal=signal,
        status=IntentStatus.EXECUTING,
        received_at=now,
        updated_at=now,
        idempotency_key=unwind_key(ended.id),
        body_sha256=ended.body_sha256,
        request_id=ended.request_id,
    )


def _draft(action: str, intent: Intent, content: dict[str, object], now: datetime) -> AuditDraft:
    return AuditDraft(at=now, actor="system", action=action, subject=f"intent:{intent.id}", content=content)
