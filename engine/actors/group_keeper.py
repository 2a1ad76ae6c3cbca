"""What a strategy's policy does about a group that tore: failed accounts tried again, or filled ones closed.

Owned by the user's risk actor; told of every intent whose orders changed (`step`) and of its end (`conclude`).
Everything follows from the orders as the ledger has them, and every order or intent that is made has an id that
follows from what it is made for: a restart goes on where it stopped and repeats nothing. Exactly once holds
because an order is tried again only after its end is known and nothing of it filled, never when it is older
than a signal may be, and under a new order id of which the ledger takes one.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from heapq import heappop, heappush
from math import inf
from typing import Protocol
from uuid import UUID

import structlog
import trio

from engine.actors.ledger_entry import LedgerEntry
from engine.actors.placing import Placer
from engine.actors.risk_messages import RiskContext
from engine.actors.risk_records import created, order_drafts
from engine.actors.unwinding import Unwinder, group_draft, killed
from engine.domain.decided import Approved
from engine.domain.directory import Strategy
from engine.domain.enums import GroupPolicy
from engine.domain.group_policy import Leg, Plan, is_unwind, plan
from engine.domain.intent import Intent, IntentEvent
from engine.domain.order import Order
from engine.domain.verdict import IntentVerdict, row_of
from engine.errors import MailboxFull

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
        self._unwinder = Unwinder(context, placer)
        self._tries: dict[tuple[UUID, UUID], int] = {}
        self._not_before: dict[tuple[UUID, UUID], float] = {}
        self._short_since: dict[UUID, float] = {}
        self._stopped: set[UUID] = set()
        self._cancel_at: dict[UUID, float] = {}
        self._due: list[tuple[float, UUID]] = []
        self._due_at: dict[UUID, float] = {}
        self._wanted = trio.Event()

    def restart(self) -> None:
        """Forget everything: what there is to do follows from the orders. What a person has stopped stays stopped."""
        for held in (self._tries, self._not_before, self._short_since, self._cancel_at):
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
        if killed(self._context, intent, account_id) is not None:
            return False
        key = (intent.id, account_id)
        not_before = self._not_before.setdefault(key, trio.current_time() + self._rest_s(key))
        if trio.current_time() < not_before:
            self._later(intent.id, not_before - trio.current_time())
            return True
        self._tries[key] = self._tries.get(key, 0) + 1
        del self._not_before[key]
        decision = self._placer.decision(intent, now, only=frozenset({account_id}), reserve=False)
        approved = [each for each in decision.approved if len(each.slices) == len(of)]
        if not approved:
            _log.info("group.not_retried", intent=str(intent.id), account=str(account_id), why=decision.reason)
            self._later(intent.id, self._rest_s(key))
            return True
        orders = self._placer.place(intent, approved, now, of=of)
        self._record_retry(intent, orders, of, approved[0], decision.verdict, now)
        return True

    def _rest_s(self, key: tuple[UUID, UUID]) -> float:
        return _RETRY_S[min(self._tries.get(key, 0), len(_RETRY_S) - 1)]

    def _record_retry(
        self,
        intent: Intent,
        orders: list[Order],
        of: tuple[UUID, ...],
        approved: Approved,
        verdict: IntentVerdict | None,
        now: datetime,
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
            verdicts=() if verdict is None else (row_of(verdict),),
            order_events=[created(order, now) for order in orders],
            intent_events=(IntentEvent(intent_id=intent.id, at=now, event="RETRY", detail=detail),),
            audit=[group_draft("GROUP_RETRY", intent, {"detail": detail}, now), *order_drafts(orders, now)],
            on_commit=lambda: self._context.orders.committed(orders),
            on_fail=failed,
        )
        try:
            self._context.ledger.append(entry)
        except MailboxFull as full:
            failed(full)

    # the end

    def conclude(
        self, ended: Intent, legs: Sequence[Leg], entry: LedgerEntry, now: datetime
    ) -> list[tuple[Intent, list[Order]]]:
        """Hand the end of an intent to the ledger, with the intent that closes what it filled, if one does.

        Returns that, to be followed. Raises MailboxFull; then nothing was done.
        """
        strategy = self._strategy(ended)
        wanted = plan(strategy.group_policy, legs, in_time=False).unwind if strategy is not None else {}
        self._forget(ended.id)
        if wanted:
            return self._unwinder.conclude(ended, wanted, entry, now, forget=self.book.forget)
        self._context.ledger.append(entry)
        return []

    def _must_wait(self, intent: Intent, wanted: Plan) -> bool:
        """Whether some position does not show yet what its order filled: closing it would not be seen to reduce."""
        # right after a start the instruments may not be known yet
        is_known = self._context.instruments().get(intent.signal.exchange, intent.signal.symbol) is not None
        since = self._short_since.setdefault(intent.id, trio.current_time())
        if is_known and not self._unwinder.lacking(intent, wanted.unwind):
            return False
        if trio.current_time() - since >= (_POSITION_S if is_known else _INSTRUMENTS_S):
            return False
        self._later(intent.id, _POSITION_LOOK_S)
        return True

    def _forget(self, intent_id: UUID) -> None:
        self._short_since.pop(intent_id, None)
        self._stopped.discard(intent_id)
        self._cancel_at.pop(intent_id, None)
        for held in (self._tries, self._not_before):
            for key in [key for key in held if key[0] == intent_id]:
                del held[key]
