"""From a verdict to orders: reserved in the risk state and handed to their executors, or none of it.

Owned by a user's risk actor, as is the state that *state* returns; every call is one step of that actor.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from engine.actors.decision import decide, leave_no_trace
from engine.actors.risk_messages import RiskContext
from engine.actors.risk_records import order_of
from engine.domain.decided import Approved, Decision, hold
from engine.domain.intent import Intent
from engine.domain.order import Order
from engine.domain.risk_state import RiskState

_TICK = timedelta(microseconds=1)


class Placer:
    """Decides and places for one user."""

    def __init__(self, context: RiskContext, state: Callable[[], RiskState]) -> None:
        self._context = context
        self._state = state
        self._last_created = datetime.min.replace(tzinfo=UTC)

    @property
    def state(self) -> RiskState:
        """What risk knows of the user now."""
        return self._state()

    def made_until(self, at: datetime) -> None:
        """Take note that the ledger has an order made at *at*: those made from now on are later."""
        self._last_created = max(self._last_created, at)

    def decision(
        self, intent: Intent, now: datetime, *, only: frozenset[UUID] | None = None, reserve: bool = True
    ) -> Decision:
        """Judge *intent* by everything that is known now, for all accounts of its strategy or *only* some.

        What is approved is reserved under the ids of the orders that `place` makes of it, unless *reserve* is False:
        then placing reserves it.
        """
        context = self._context
        return decide(
            intent,
            directory=context.directory,
            state=self.state,
            instruments=context.instruments(),
            kill=context.kill,
            defaults=context.defaults,
            rules=context.rules,
            now=now,
            suspect=context.clock_suspect(),
            only=only,
            reserve=reserve,
            held=context.held,
        )

    def preview(self, intent: Intent, now: datetime) -> Decision:
        """Judge *intent* as it would be judged now, and leave no trace of it."""
        decision = self.decision(intent, now)
        leave_no_trace(decision, intent, directory=self._context.directory, state=self.state, now=now)
        return decision

    def place(
        self, intent: Intent, approved: Sequence[Approved], now: datetime, *, of: Sequence[UUID] = ()
    ) -> list[Order]:
        """Reserve and admit the orders of *approved*, all or none; return them as the ledger shall have them.

        *of* are orders that ended with nothing filled and that these are tried again for, one for one.
        """
        new = [
            (
                each,
                [
                    self._make_order(intent, each, leg, quantity, now, of[leg] if of else None)
                    for leg, quantity in enumerate(each.slices)
                ],
            )
            for each in approved
        ]
        orders: list[Order] = []
        try:
            for each, parts in new:
                hold(self.state, each, [order.id for order in parts])
                orders += [self._context.orders.admit(order) for order in parts]
        except Exception:
            self.take_back([order for _, parts in new for order in parts])
            raise
        return orders

    def take_back(self, orders: Sequence[Order]) -> None:
        """Forget orders that the ledger never will have."""
        for order in orders:
            self.state.withdraw(order.id)
        self._context.orders.withdraw(orders)

    def _make_order(
        self, intent: Intent, approved: Approved, leg: int, quantity: int, now: datetime, of: UUID | None
    ) -> Order:
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
            quantity=quantity,
            leg=leg,
            iceberg_quantity=approved.iceberg_quantity,
            protection=approved.account.market_protection,
            attaches=approved.attaches,
            of=of,
        )
