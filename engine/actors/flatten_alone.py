"""Flattening one account with nothing but its broker session and a file: for a command, when no engine runs.

The same steps and rules as within an executor (`engine.actors.flattener`). Orders are written ahead in
``state/flatten.wal`` alone, under tags of this deployment, so that the next engine finds each of them in its place.
The caller holds the data directory's lock: no engine may run meanwhile.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import structlog
import trio

from engine.actors.flatten_file import FlattenFile
from engine.actors.flattener import Flattener, StillWanted
from engine.actors.square_off import book_row
from engine.broker.base import Broker, NotSent, PlaceOutcome, WriteOutcome, always_open
from engine.clock import Clock, trading_day
from engine.domain.enums import Exchange, OrderStatus, OrderType, ProductType, Variety
from engine.domain.flatten import BookRow, Demand, Held, Place, Stage, Standing, Ticket
from engine.domain.flatten_world import Surroundings
from engine.domain.gtt import BrokerGtt
from engine.domain.lanes import Lane
from engine.domain.order import Order, OrderOrigin
from engine.domain.pacing import Pacer
from engine.errors import BrokerUnavailable

_log = structlog.get_logger(__name__)

_LIFE = timedelta(seconds=60)
_LEAST_S = 0.01
_GTTS_EVERY_S = 5.0


class Alone(Flattener):
    """A flattener on a bare broker session.

    *tag* names an order at the broker as the engine would (`engine.domain.tag.make_tag`); *told* hears how it
    stands after every look, *alarm* what a person must know. *freeze* and *lot* are of a place, *protection* the
    account's policy in percent (-1: automatic).
    """

    def __init__(
        self,
        broker: Broker,
        *,
        account_id: UUID,
        user_id: UUID,
        epoch: int,
        file: FlattenFile,
        tag: Callable[[UUID], str],
        clock: Clock,
        told: Callable[[Sequence[Standing]], None],
        alarm: Callable[[str], None],
        freeze: Callable[[Place], int | None] = lambda _place: None,
        lot: Callable[[Place], int] = lambda _place: 1,
        protection: Decimal = Decimal(-1),
        shut: Callable[[Demand, str], str | None] = lambda _demand, _exchange: None,
        pacer: Pacer | None = None,
    ) -> None:
        hands = _Hands(
            broker,
            account_id=account_id,
            user_id=user_id,
            epoch=epoch,
            file=file,
            clock=clock,
            told=told,
            alarm=alarm,
            pacer=pacer or Pacer(8, 400, 5000),
        )
        world = Surroundings(
            account_id=account_id,
            tag=tag,
            freeze=freeze,
            lot=lot,
            protection=lambda: protection,
            share=lambda _strategy, _place: 0,
            shut=shut,
            doubts=lambda: [(place, None) for place in hands.gtt_places],
        )
        super().__init__(hands, world, now=clock.now)

    async def flatten(self, demand: Demand, *, within_s: float) -> Standing | None:
        """Work on *demand* until it is done or *within_s* seconds are over; return how it stands then."""
        self.want(demand)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.run)
            with trio.move_on_after(within_s):
                while True:
                    standing = self.standings.get(demand.name)
                    if standing is not None and standing.stage is Stage.DONE:
                        break
                    await trio.sleep(_LEAST_S * 10)
            nursery.cancel_scope.cancel()
        return self.standings.get(demand.name)


class _Hands:
    def __init__(
        self,
        broker: Broker,
        *,
        account_id: UUID,
        user_id: UUID,
        epoch: int,
        file: FlattenFile,
        clock: Clock,
        told: Callable[[Sequence[Standing]], None],
        alarm: Callable[[str], None],
        pacer: Pacer,
    ) -> None:
        self._broker = broker
        self._account_id = account_id
        self._user_id = user_id
        self._epoch = epoch
        self._file = file
        self._clock = clock
        self._told = told
        self._alarm = alarm
        self._pacer = pacer
        self._demands: Sequence[Demand] = ()
        self._gtts_at = 0.0
        self.gtt_places: list[Place] = []

    def _written(self) -> list[Order]:
        return [order for order in self._file.read() if order.account_id == self._account_id]

    async def orders(self) -> Sequence[BookRow]:
        await self._end_gtts()
        today = trading_day(self._clock.now())
        return [
            book_row(row, strategy_id=None)
            for row in await self._broker.orders()
            if not row.status.is_terminal or row.order_timestamp is None or trading_day(row.order_timestamp) == today
        ]

    async def _end_gtts(self) -> None:
        """Have the triggers that the broker keeps ended, and know those that stand."""
        now = trio.current_time()
        if now < self._gtts_at:
            return
        self._gtts_at = now + _GTTS_EVERY_S
        try:
            standing = [gtt for gtt in await self._broker.gtts() if gtt.is_active and self._is_covered(gtt)]
        except BrokerUnavailable as error:
            _log.warning("flatten.triggers_unreadable", error=str(error))
            return
        self.gtt_places = [_place_of(gtt) for gtt in standing]
        for gtt in standing:
            await self._slot(Lane.CANCEL, None)
            outcome = await self._broker.cancel_gtt(gtt.trigger_id, always_open)
            _log.info("flatten.trigger", trigger=gtt.trigger_id, outcome=str(outcome))
            self._gtts_at = 0.0

    def _is_covered(self, gtt: BrokerGtt) -> bool:
        return any(demand.covers_order(_place_of(gtt), None) for demand in self._demands)

    async def positions(self) -> Sequence[Held]:
        return [
            Held(
                place=(row.exchange, row.symbol, row.product),
                quantity=row.quantity,
                bought=row.day_buy_quantity,
                sold=row.day_sell_quantity,
            )
            for row in (await self._broker.positions()).net
        ]

    async def drain(self, timeout_s: float) -> tuple[int, int]:
        # what a dead engine had on the wire shows in the book, sooner or later, and is ended then
        await trio.lowlevel.checkpoint()
        return (0, 0)

    def unresolved(self) -> Sequence[tuple[Ticket, float]]:
        now = self._clock.now()
        found = []
        for order in self._written():
            if order.trading_day == trading_day(now):
                ticket = Ticket(
                    id=order.id,
                    tag=order.tag,
                    place=(order.exchange.value, order.symbol, order.product_type.value),
                    side=order.transaction_type,
                    quantity=order.quantity,
                    protection=order.market_protection or Decimal(-1),
                    round=0,
                    slice=0,
                    demand="",
                    version=0,
                )
                found.append((ticket, max((now - order.created_at).total_seconds(), 0.0)))
        return found

    def used(self) -> frozenset[UUID]:
        return frozenset(order.id for order in self._written())

    def carried(self) -> Mapping[Place, int]:
        return {}

    def end_resting(self, demands: Sequence[Demand]) -> None:
        self._demands = demands

    async def cancel(self, row: BookRow) -> WriteOutcome:
        await self._slot(Lane.CANCEL, None)
        parent = row.parent_id if row.variety is Variety.CO else None
        return await self._broker.cancel(row.order_id, row.variety, parent_order_id=parent)

    async def place(self, ticket: Ticket, still_wanted: StillWanted) -> PlaceOutcome:
        await self._slot(Lane.EXIT, still_wanted)
        stop = still_wanted()
        if stop is not None:
            return NotSent(reason=stop, gated=True)
        now = self._clock.now()
        order = Order(
            id=ticket.id,
            account_id=self._account_id,
            user_id=self._user_id,
            exchange=Exchange(ticket.place[0]),
            symbol=ticket.place[1],
            transaction_type=ticket.side,
            quantity=ticket.quantity,
            order_type=OrderType.MARKET,
            product_type=ProductType(ticket.place[2]),
            market_protection=ticket.protection,
            status=OrderStatus.SUBMITTING,
            tag=ticket.tag,
            attempt=1,
            epoch=self._epoch,
            trading_day=trading_day(now),
            deadline=now + _LIFE,
            created_at=now,
            updated_at=now,
            submitting_at=now,
            origin=OrderOrigin.SQUARE_OFF,
        )
        try:
            await trio.to_thread.run_sync(self._file.append, order, abandon_on_cancel=False)
        except OSError as error:
            return NotSent(reason=f"NOT_RECORDED: {error}")
        return await self._broker.place(order, still_wanted)

    async def _slot(self, lane: Lane, still_wanted: StillWanted | None) -> None:
        day = trading_day(self._clock.now())
        while not self._pacer.try_take(trio.current_time(), day, lane):
            if still_wanted is not None and still_wanted() is not None:
                return
            wait_s = self._pacer.next_at(trio.current_time(), lane) - trio.current_time()
            await trio.sleep(min(max(wait_s, _LEAST_S), 1.0))

    def told(self, standings: Sequence[Standing]) -> None:
        self._told(standings)

    def alarm(self, text: str) -> None:
        self._alarm(text)


def _place_of(gtt: BrokerGtt) -> Place:
    product = gtt.orders[0].product if gtt.orders else ""
    return (gtt.exchange, gtt.symbol, product)
