"""The live intents of one user: followed through their orders to their end, and beyond it when a fill comes late.

Owned by the user's risk actor, which tells it what becomes of orders.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec

from engine.actors.exits import Exits
from engine.actors.late_found import LateFound
from engine.actors.risk_messages import IntentOrder, RiskContext
from engine.actors.risk_records import conclusion, parking
from engine.domain.enums import IntentStatus, OrderStatus
from engine.domain.intent import RESLICED, Intent, outcome
from engine.domain.order import Order
from engine.domain.risk_state import RiskState


class LiveIntents:
    """Intents in EXECUTING with the state of their orders; *late* looks after those that have ended."""

    def __init__(self, context: RiskContext, exits: Exits, late: LateFound) -> None:
        self._context = context
        self._exits = exits
        self._late = late
        self._intents: dict[UUID, Intent] = {}
        self._orders: dict[UUID, dict[UUID, tuple[OrderStatus, int, int, str | None]]] = {}
        # reasons of intents of which an exit came too late
        self._parked: dict[UUID, str] = {}

    def __contains__(self, intent_id: UUID) -> bool:
        return intent_id in self._intents

    def restore(self, found: Sequence[tuple[Intent, Sequence[IntentOrder]]], state: RiskState) -> None:
        """Hold the intents that the ledger has as live, and end those whose orders have ended meanwhile."""
        self._intents.clear()
        self._orders.clear()
        self._parked.clear()
        for intent, orders in found:
            if intent.status is not IntentStatus.EXECUTING:
                continue
            self._intents[intent.id] = intent
            self._orders[intent.id] = {oid: (status, q, f, m) for oid, status, q, f, m in orders}
            for oid, status, quantity, filled, message in orders:
                if status.is_terminal:
                    self._order_ended(intent, oid, status, quantity - filled, message, state)
            self._conclude(intent.id)

    def add(self, intent: Intent, orders: Iterable[Order]) -> None:
        """Follow a new intent, if it is live."""
        if not intent.status.is_terminal:
            self._intents[intent.id] = intent
            self._orders[intent.id] = {order.id: (order.status, order.quantity, 0, None) for order in orders}

    def forget(self, intent_id: UUID) -> None:
        """Drop an intent that never came into the ledger."""
        self._intents.pop(intent_id, None)
        self._orders.pop(intent_id, None)

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
        orders = self._orders.setdefault(intent.id, {})
        before = orders.get(order.id)
        orders[order.id] = (order.status, order.quantity, order.filled_quantity, order.status_message)
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
        """End an intent whose orders can change no more."""
        status, reason = outcome(list(self._orders[intent_id].values()))
        if not status.is_terminal:
            return
        if not self._orders[intent_id]:
            reason = "INTERNAL_ERROR: the ledger has none of its orders"
        now = self._context.clock.now()
        reason = self._parked.pop(intent_id, reason) or None
        ended = msgspec.structs.replace(self._intents.pop(intent_id), status=status, reason=reason, updated_at=now)
        del self._orders[intent_id]
        self._context.ledger.append(conclusion(ended, now))
