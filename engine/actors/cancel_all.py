"""Ending everything of an account that rests at the broker, or waits to: orders first, then triggers (GTT)."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import msgspec
import trio

from engine.actors.order_desk import OrderDesk
from engine.domain.enums import OrderStatus
from engine.domain.gtt import Gtt
from engine.domain.order import Order
from engine.errors import ConflictError, MailboxFull, NotFoundError, OrderExecutionError, UnavailableError
from engine.runtime.mailbox import Reply

_REFUSALS = (ConflictError, MailboxFull, NotFoundError, OrderExecutionError, UnavailableError)


class CancelledOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one order; ``problem`` says why it is not cancelled, None when it is."""

    order: Order
    problem: str | None = None


class EndedGtt(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one trigger; ``problem`` says why it stands, None when it does not."""

    gtt: Gtt
    problem: str | None = None


class Ended(msgspec.Struct, kw_only=True):
    """What became of everything that was asked for."""

    orders: list[CancelledOrder]
    gtts: list[EndedGtt]


class CancelAll:
    """Asks about all of them at the same time, as far as the budget of calls lets it.

    *cancel* ends an order and *end* a trigger, each by its id and for whom; *triggers* are those that stand.
    """

    def __init__(
        self,
        desk: OrderDesk,
        *,
        cancel: Callable[[UUID, str], Awaitable[Order]],
        triggers: Callable[[], Sequence[Gtt]],
        end: Callable[[UUID, str], Awaitable[Gtt]],
    ) -> None:
        self._desk = desk
        self._cancel = cancel
        self._triggers = triggers
        self._end = end

    async def run(
        self, by: str, symbol: str | None, strategy_id: UUID | None, intent_id: UUID | None, reply: Reply[Ended]
    ) -> None:
        """End all, or those of one symbol, strategy or intent, and say what became.

        A strategy has no triggers of its own; of an intent the exits attached to what has filled stay.
        """
        ended = Ended(orders=[], gtts=[])
        try:
            await self._orders(by, symbol, strategy_id, intent_id, ended)
            if strategy_id is None and intent_id is None:
                await self._gtts(by, symbol, ended)
        finally:
            reply.answer(ended)

    async def _orders(
        self, by: str, symbol: str | None, strategy_id: UUID | None, intent_id: UUID | None, ended: Ended
    ) -> None:
        wanted = [
            order
            for order in self._desk.orders.values()
            if not order.status.is_terminal
            and symbol in (None, order.symbol)
            and strategy_id in (None, order.strategy_id)
            and (intent_id is None or (intent_id == order.intent_id and not order.is_attached))
        ]
        # what waits goes first: none of it may leave while the others are cancelled
        wanted.sort(key=lambda order: order.status is not OrderStatus.PENDING)

        async def one(order: Order) -> None:
            try:
                ended.orders.append(CancelledOrder(order=await self._cancel(order.id, by)))
            except _REFUSALS as error:
                latest = self._desk.orders.get(order.id, order)
                ended.orders.append(CancelledOrder(order=latest, problem=str(error)))

        async with trio.open_nursery() as nursery:
            for order in wanted:
                nursery.start_soon(one, order)

    async def _gtts(self, by: str, symbol: str | None, ended: Ended) -> None:
        async def one(gtt: Gtt) -> None:
            try:
                ended.gtts.append(EndedGtt(gtt=await self._end(gtt.id, by)))
            except _REFUSALS as error:
                ended.gtts.append(EndedGtt(gtt=gtt, problem=str(error)))

        async with trio.open_nursery() as nursery:
            for gtt in self._triggers():
                if symbol in (None, gtt.symbol):
                    nursery.start_soon(one, gtt)
