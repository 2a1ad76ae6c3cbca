"""The exits attached to an account's entries: orders that the engine keeps, and triggers that the broker keeps.

Owned by the account's executor: it hears of every change of an order, and works as one of the executor's tasks.
"""

from collections.abc import Callable, Sequence
from uuid import UUID

import trio

from engine.actors.account_session import AccountSession
from engine.actors.cancelling import Canceller
from engine.actors.dispatching import Dispatcher
from engine.actors.executor_context import ExecutorContext
from engine.actors.exit_keeper import ExitKeeper
from engine.actors.gtt_keeper import GttKeeper
from engine.actors.modifying import Modifier
from engine.actors.order_desk import AccountHistory, OrderDesk
from engine.actors.order_watch import OrderWatch
from engine.actors.reconciler import Reconciler
from engine.actors.sending import Sender
from engine.actors.spawning import Spawner
from engine.broker.base import WriteOutcome
from engine.domain.enums import OrderStatus
from engine.domain.gtt import Gtt
from engine.domain.order import Order


class AttachedExits:
    """Both keepers, wired to the parts of one executor."""

    def __init__(
        self,
        context: ExecutorContext,
        desk: OrderDesk,
        session: AccountSession,
        *,
        turns: Dispatcher,
        sender: Sender,
        watch: OrderWatch,
        reconciler: Reconciler,
        canceller: Canceller,
        modifier: Modifier,
        spawner: Spawner,
    ) -> None:
        self._desk = desk
        self._turns = turns
        self._sender = sender
        self._canceller = canceller
        self._modifier = modifier

        def spawn(order: Order, detail: str) -> Order:
            return spawner.spawn(order, action="EXIT_PLACED", detail=detail)

        self._orders = ExitKeeper(
            context,
            desk,
            spawn=spawn,
            against=self._against,
            take_back=self._take_back,
            cancel=self._cancel,
            modify=modifier.ask,
            is_unsure=reconciler.is_unsure,
            is_replaced=modifier.is_replacing,
            is_behind=watch.is_behind,
        )
        self._gtts = GttKeeper(
            context, desk, session, turns=turns, spawn=spawn, against=self._against, adopt_soon=reconciler.ask
        )
        desk.strategy_of_external = self._gtts.strategy_of

    def restore(self, history: AccountHistory) -> None:
        """Hold what the ledger knows of entries with exits, and of those exits."""
        self._orders.restore(history.attached)
        self._gtts.restore(history.attached, history.gtts)

    async def run(self) -> None:
        """Keep them until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._orders.run)
            nursery.start_soon(self._gtts.run)

    def look_soon(self) -> None:
        """Read the broker's list of triggers soon."""
        self._gtts.look_soon()

    @property
    def gtts(self) -> Sequence[Gtt]:
        """The triggers that stand at the broker, or may."""
        return self._gtts.resting

    async def cancel_gtt(self, gtt_id: UUID, *, by: str) -> Gtt:
        """End a trigger for *by*, and return it as it is then; it is not placed again.

        Raises NotFoundError, ConflictError, OrderExecutionError, UnavailableError.
        """
        return await self._gtts.ending.cancel(gtt_id, by=by)

    async def cancel_gtts(self, by: str) -> Sequence[Gtt]:
        """End every trigger, those in doubt as soon as they are found; return them as they are then."""
        return await self._gtts.ending.cancel_all(by=by)

    def end_gtts(self, wanted: Callable[[Gtt], bool], by: str) -> None:
        """Have every live trigger that *wanted* picks ended for *by*; none of them is placed again."""
        self._gtts.ending.doom(wanted, by=by)

    def order_changed(self, order: Order) -> None:
        """An order of the account stands as given."""
        self._orders.order_changed(order)
        self._gtts.order_changed(order)

    def _against(self, order: Order) -> str | None:
        """Return why an exit that was just thought of must not go now, or None."""
        if self._sender.is_draining:
            return "STOPPING: the engine stops; it goes after the next start"
        return self._sender.against_now(order)

    async def _cancel(self, order: Order) -> WriteOutcome:
        """Ask the broker to cancel an exit, which nobody shall place anew then."""
        self._modifier.give_up(order.id)
        return await self._canceller.ask(self._desk.index.wire_id(order) or "", order.variety)

    def _take_back(self, order: Order, why: str) -> bool:
        """End an exit that waits for its turn, so that another may be made; False when it does not wait."""
        if order.status is not OrderStatus.PENDING or not self._turns.forget(order):
            return False
        self._desk.move(order, OrderStatus.FAILED, message=f"SUPERSEDED: {why}")
        return True
