"""The live intents of one user: followed through their orders to their end, and beyond it when a fill comes late.

Owned by the user's risk actor, which tells it what becomes of orders.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from uuid import UUID

import msgspec

from engine.actors.exits import Exits
from engine.actors.group_keeper import GroupKeeper
from engine.actors.late_found import LateFound
from engine.actors.risk_messages import IntentOrder, RiskContext
from engine.actors.risk_records import conclusion, parking
from engine.domain.enums import IntentStatus, OrderStatus
from engine.domain.group_policy import Leg, replaced
from engine.domain.intent import RESLICED, Intent, outcome
from engine.domain.order import Order
from engine.domain.risk_state import RiskState
from engine.ids import retry_id

_State = tuple[OrderStatus, int, int, str | None]


class _States(dict[UUID, _State]):
    """How the orders of an intent stand: status, quantity, filled, message; and how many of them still can change.

    ``live`` and ``short`` (ended and not filled in full) are counted on every change: a signal may have made orders
    on a thousand accounts, each of which changes several times.
    """

    __slots__ = ("live", "short")

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.short = 0

    def put(self, order_id: UUID, state: _State) -> None:
        self._count(self.get(order_id), -1)
        self[order_id] = state
        self._count(state, 1)

    def take(self, order_id: UUID) -> _State | None:
        state = self.pop(order_id, None)
        self._count(state, -1)
        return state

    def _count(self, state: _State | None, by: int) -> None:
        if state is None:
            return
        status, quantity, filled, _ = state
        if not status.is_terminal:
            self.live += by
        elif filled < quantity:
            self.short += by


class LiveIntents:
    """Intents in EXECUTING with the state of their orders.

    *late* looks after those that have ended, *groups* after those that fill on some accounts and fail on others.
    """

    def __init__(self, context: RiskContext, exits: Exits, late: LateFound, groups: GroupKeeper) -> None:
        self._context = context
        self._exits = exits
        self._late = late
        self._groups = groups
        groups.book = self
        self._intents: dict[UUID, Intent] = {}
        self._orders: dict[UUID, _States] = {}
        self._accounts: dict[UUID, UUID] = {}
        # reasons of intents of which an exit came too late
        self._parked: dict[UUID, str] = {}

    def __contains__(self, intent_id: UUID) -> bool:
        return intent_id in self._intents

    @property
    def intents(self) -> tuple[Intent, ...]:
        """The intents of which orders still go on."""
        return tuple(self._intents.values())

    def restore(
        self,
        found: Sequence[tuple[Intent, Sequence[IntentOrder]]],
        state: RiskState,
        accounts: Mapping[UUID, UUID],
    ) -> None:
        """Hold the intents that the ledger has as live, and end those whose orders have ended meanwhile."""
        self._intents.clear()
        self._orders.clear()
        self._parked.clear()
        self._accounts = dict(accounts)
        self._groups.restart()
        for intent, orders in found:
            if intent.status is not IntentStatus.EXECUTING:
                continue
            self._intents[intent.id] = intent
            gone = replaced((oid, filled) for oid, _, _, filled, _ in orders)
            states = self._orders[intent.id] = _States()
            for oid, status, quantity, filled, message in orders:
                if oid not in gone:
                    states.put(oid, (status, quantity, filled, message))
            for oid, status, quantity, filled, message in orders:
                if oid not in gone and status.is_terminal:
                    self._order_ended(intent, oid, status, quantity - filled, message, state)
            self._conclude(intent.id)

    def add(self, intent: Intent, orders: Iterable[Order]) -> None:
        """Follow a new intent, if its orders go."""
        if intent.status is IntentStatus.EXECUTING:
            self._intents[intent.id] = intent
            self._orders[intent.id] = _States()
            self._take(intent.id, orders)

    def _take(self, intent_id: UUID, orders: Iterable[Order]) -> None:
        for order in orders:
            self._orders[intent_id].put(order.id, (order.status, order.quantity, 0, None))
            self._accounts[order.id] = order.account_id

    def look(self, intent_id: UUID) -> None:
        """Look again at an intent of which something was put off."""
        if intent_id in self._intents:
            self._conclude(intent_id)

    def stop(self, intent_id: UUID) -> None:
        """Nothing of the intent is tried again or undone: a person has cancelled it."""
        # also of one that a life of the actor that begins now is still to read
        self._groups.stop(intent_id)
        self.look(intent_id)

    def forget(self, intent_id: UUID) -> None:
        """Drop an intent whose orders never came into the ledger."""
        self._intents.pop(intent_id, None)
        for order_id in self._orders.pop(intent_id, {}):
            self._accounts.pop(order_id, None)

    def order_changed(self, order: Order, state: RiskState) -> None:
        """An order stands as given, and *state* has it."""
        if order.intent_id is None or order.is_attached:
            return  # a signal is executed when its entry is; exits may work for days
        intent = self._intents.get(order.intent_id)
        if intent is None:
            if order.status.is_terminal and order.filled_quantity:
                # its intent has ended: perhaps without this fill
                self._late.look(order.trading_day)
            return
        orders = self._orders.setdefault(intent.id, _States())
        before = orders.get(order.id)
        if before is None and not order.filled_quantity and retry_id(order.id) in orders:
            return  # it was tried again, and counts no more
        self._accounts[order.id] = order.account_id
        orders.put(order.id, (order.status, order.quantity, order.filled_quantity, order.status_message))
        if order.status.is_terminal and (before is None or not before[0].is_terminal):
            unfilled = order.quantity - order.filled_quantity
            if not (order.status_message or "").startswith(RESLICED):
                ended = (intent, order.id, order.status, unfilled, order.status_message, state)
                self._order_ended(*ended, account_id=order.account_id)
        self._conclude(intent.id)

    def _order_ended(
        self,
        intent: Intent,
        order_id: UUID,
        status: OrderStatus,
        unfilled: int,
        message: str | None,
        state: RiskState,
        *,
        account_id: UUID | None = None,
    ) -> None:
        reason, letters = self._exits.ended(intent, order_id, status, unfilled, message, state, account_id=account_id)
        if reason is not None:
            self._parked[intent.id] = reason
            # at once: another account's order of the same signal may work for hours
            self._context.ledger.append(parking(intent, reason, letters, self._context.clock.now()))

    def _conclude(self, intent_id: UUID) -> None:
        """End an intent whose orders can change no more, and of which nothing is tried again."""
        if self._has_short(intent_id) and self._groups.step(
            self._intents[intent_id], lambda: self._legs(intent_id), self._context.clock.now()
        ):
            return
        if self._orders[intent_id].live:
            return
        status, reason = outcome(list(self._orders[intent_id].values()))
        if not status.is_terminal:
            return
        if not self._orders[intent_id]:
            reason = "INTERNAL_ERROR: the ledger has none of its orders"
        now = self._context.clock.now()
        reason = self._parked.pop(intent_id, reason) or None
        ended = msgspec.structs.replace(self._intents.pop(intent_id), status=status, reason=reason, updated_at=now)
        legs = self._legs(intent_id) if self._has_short(intent_id) else []
        self.forget(intent_id)
        for intent, orders in self._groups.conclude(ended, legs, conclusion(ended, now), now):
            self.add(intent, orders)

    def _has_short(self, intent_id: UUID) -> bool:
        """Whether an order has ended and not filled in full: before that no policy has anything to do."""
        return self._orders[intent_id].short > 0

    def _legs(self, intent_id: UUID) -> list[Leg]:
        return [
            Leg(order_id=oid, account_id=account, status=status, quantity=quantity, filled=filled, message=message)
            for oid, (status, quantity, filled, message) in self._orders[intent_id].items()
            if (account := self._accounts.get(oid)) is not None
        ]

    def replace(self, intent_id: UUID, of: Sequence[UUID], orders: Sequence[Order]) -> Callable[[], None]:
        """Let *orders* count in the place of those that they are tried again for; return what undoes it."""
        held = {oid: state for oid in of if (state := self._orders[intent_id].take(oid)) is not None}
        accounts = {oid: self._accounts.pop(oid) for oid in of}
        self._take(intent_id, orders)

        def undo() -> None:
            found = self._orders.get(intent_id)
            if found is not None:
                for order in orders:
                    found.take(order.id)
                for oid, state in held.items():
                    found.put(oid, state)
                self._accounts.update(accounts)

        return undo
