"""Squaring an account off from within its executor: the hands that a flattener has there.

Owned by the executor, whose books, budget, session and write-ahead it uses; runs as one of its tasks. Asked by
whoever aggregates kill switches, by HTTP for chosen positions, and by the clock for intraday positions.
"""

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

import structlog
import trio

from engine.actors.account_session import AccountSession
from engine.actors.broker_sight import book_row, held_rows
from engine.actors.cancelling import Canceller
from engine.actors.dispatching import Dispatcher
from engine.actors.executor_context import ExecutorContext
from engine.actors.exit_sending import ExitSender
from engine.actors.flattener import Flattener, StillWanted
from engine.actors.order_desk import AccountHistory, OrderDesk
from engine.actors.order_watch import OrderWatch
from engine.actors.sending import Sender
from engine.broker.base import Broker, BrokerAuthError, PlaceOutcome, WriteOutcome
from engine.broker.values import BrokerOrder
from engine.clock import Clock, trading_day
from engine.domain.books import closable
from engine.domain.enums import Exchange, ProductType, TransactionType
from engine.domain.flatten import BookRow, Demand, Held, Place, Stage, Standing, Ticket, may_flatten_now
from engine.domain.flatten_plan import H_KILL_S
from engine.domain.flatten_world import Surroundings
from engine.domain.gtt import Gtt
from engine.domain.order import Order
from engine.domain.tickets import place_of, ticket_of
from engine.errors import BrokerUnavailable, MailboxFull

_log = structlog.get_logger(__name__)

_READ_TIMEOUT_S = 10.0
_DRAIN_LOOK_S = 0.02
_KEPT = 100

EndGtts = Callable[[Callable[[Gtt], bool], str], None]


class SquareOff:
    """Ends orders and positions of one account on demand; *end_gtts* has triggers ended, *gtts* are those that stand.

    *give_up* tells whoever is changing an order that it is being cancelled.
    """

    def __init__(
        self,
        context: ExecutorContext,
        desk: OrderDesk,
        session: AccountSession,
        *,
        user_id: UUID,
        turns: Dispatcher,
        sender: Sender,
        watch: OrderWatch,
        canceller: Canceller,
        give_up: Callable[[UUID], None],
        gtts: Callable[[], Sequence[Gtt]],
        end_gtts: EndGtts,
    ) -> None:
        self._context = context
        self._clock: Clock = context.clock
        self._desk = desk
        self._session = session
        self._turns = turns
        self._sender = sender
        self._watch = watch
        self._canceller = canceller
        self._give_up = give_up
        self._gtts = gtts
        self._end_gtts = end_gtts
        self._exits = ExitSender(context, desk, user_id=user_id, turns=turns, sender=sender)
        self._used: set[UUID] = set()
        # how those ended that were asked for once
        self._over: dict[str, Standing] = {}
        # demands whose waiting orders were ended already
        self._swept: set[tuple[str, int]] = set()
        self.on_told: Callable[[], None] = _nobody
        self.flattener = Flattener(self, self._surroundings(), now=self._clock.now)
        sender.hold_back = self._hold_back

    # what is wanted

    def want(self, demand: Demand) -> None:
        """Begin to end what *demand* says, or go on with it."""
        self.flattener.want(demand)

    def drop(self, name: str) -> None:
        """Take a demand back."""
        self.flattener.drop(name)
        self._swept = {swept for swept in self._swept if swept[0] != name}

    def standing(self, demand: Demand) -> Standing | None:
        """Return how a demand stands, None before the first look."""
        found = self.flattener.standings.get(demand.name) or self._over.get(demand.name)
        return found if found is not None and found.version == demand.version else None

    def restore(self, history: AccountHistory) -> None:
        """Take over what the ledger knows of tickets of earlier lives."""
        self._used |= history.square_off_ids
        self._swept.clear()

    def order_changed(self, order: Order) -> None:
        """An order of the account stands as given."""
        if order.is_square_off:
            self._used.add(order.id)

    async def run(self) -> None:
        """Work until cancelled."""
        await self.flattener.run()

    def _hold_back(self, order: Order) -> str | None:
        """Return why an order must not go because its position is being squared off, or None."""
        place = place_of(order)
        for demand in self.flattener.demands.values():
            if not demand.stays and demand.flatten and demand.covers_order(place, order.strategy_id):
                return f"SQUARE_OFF: the position is being squared off ({demand.by})"
        return None

    # the planner's world

    def _surroundings(self) -> Surroundings:
        context, account_id = self._context, self._desk.account_id
        return Surroundings(
            account_id=account_id,
            tag=lambda ticket_id: context.tag(ticket_id, 1),
            freeze=lambda place: context.freeze_quantity(Exchange(place[0]), place[1]),
            lot=self._lot,
            protection=lambda: context.protection(account_id),
            share=self.share,
            shut=self._shut,
            doubts=self._doubts,
            awaited=self._awaited,
            behind=self._behind,
        )

    def _lot(self, place: Place) -> int:
        instrument = self._context.instrument(Exchange(place[0]), place[1])
        return 1 if instrument is None else instrument.lot_size

    def share(self, strategy_id: UUID, place: Place) -> int:
        """Return a strategy's own signed units at *place*."""
        exchange, symbol, product = place
        if exchange not in Exchange.__members__.values() or product not in ProductType.__members__.values():
            return 0
        key = (self._desk.account_id, Exchange(exchange), symbol, ProductType(product))
        return closable(self._desk.holdings.book_desk.books, strategy_id, key)

    def _shut(self, demand: Demand, exchange: str) -> str | None:
        if exchange not in Exchange.__members__.values():
            return None
        is_open, now = self._context.is_open, self._clock.now()
        return may_flatten_now(
            demand.since,
            is_open=is_open(Exchange(exchange), now),
            was_open=is_open(Exchange(exchange), demand.since),
            same_day=trading_day(demand.since) == trading_day(now),
            at_open=self._context.flatten_at_open,
        )

    def _doubts(self) -> list[tuple[Place, UUID | None]]:
        today = self._turns.today()
        found = [
            (place_of(order), order.strategy_id)
            for order in self._desk.orders.values()
            if order.status.is_unresolved and order.trading_day >= today
        ]
        return found + [(place_of(gtt), gtt.strategy_id) for gtt in self._gtts() if gtt.status.is_live]

    def _awaited(self) -> list[tuple[Place, UUID | None, TransactionType]]:
        now = self._clock.now()
        return [
            (place_of(order), order.strategy_id, order.transaction_type)
            for order in self._desk.orders.values()
            if order.status.is_unresolved
            and not order.is_square_off
            and (now - (order.submitting_at or order.created_at)).total_seconds() < H_KILL_S
        ]

    def _behind(self, place: Place) -> bool:
        return place[0] in Exchange.__members__.values() and self._watch.is_behind((Exchange(place[0]), place[1]))

    # the flattener's hands

    async def orders(self) -> Sequence[BookRow]:
        """Return the order book, folded into the account's books on the way. Raises BrokerUnavailable."""
        look = await self._watch.look(full=True, urgent=True)
        if look is None:
            raise BrokerUnavailable("the order book cannot be read")
        if not look.is_whole:
            raise BrokerUnavailable("the order book lacks orders that are known of today")
        day = self._desk.day or trading_day(look.started_at)
        return [
            self._row(row)
            for row in (await look.at_hand()).book
            if not row.status.is_terminal
            or all(at is None for at in (row.order_timestamp, row.exchange_timestamp))
            or any(at is not None and trading_day(at) == day for at in (row.order_timestamp, row.exchange_timestamp))
        ]

    def _row(self, row: BrokerOrder) -> BookRow:
        order_id = self._desk.index.by_broker_id.get(row.broker_order_id)
        order = None if order_id is None else self._desk.orders.get(order_id)
        return book_row(row, strategy_id=None if order is None else order.strategy_id)

    async def positions(self) -> Sequence[Held]:
        """Return the net positions. Raises BrokerUnavailable."""
        broker: Broker | None = None
        try:
            with trio.fail_after(_READ_TIMEOUT_S):
                broker = await self._session.broker()
                found = await broker.positions()
        except BrokerAuthError as error:
            if broker is not None:
                self._session.died(broker, str(error), error.code)
            raise
        except trio.TooSlowError:
            raise BrokerUnavailable("the positions cannot be read: no answer") from None
        return held_rows(found.net)

    async def drain(self, timeout_s: float) -> tuple[int, int]:
        """Wait for the answers to what is on the wire; return how many requests that were, and how many are left."""
        begun = frozenset(self._desk.index.submitting)
        with trio.move_on_after(timeout_s):
            while begun & self._desk.index.submitting:  # noqa: ASYNC110 -- bounded; an answer has no event
                await trio.sleep(_DRAIN_LOOK_S)
        return len(begun), len(begun & self._desk.index.submitting)

    def unresolved(self) -> Sequence[tuple[Ticket, float]]:
        """Return tickets that may be at the broker, and how many seconds ago they were sent."""
        now = self._clock.now()
        return [
            (ticket_of(order), max((now - (order.submitting_at or order.created_at)).total_seconds(), 0.0))
            for order in self._desk.orders.values()
            if order.is_square_off and order.status.is_unresolved
        ]

    def used(self) -> frozenset[UUID]:
        """Return the ids of all tickets that the ledger knows, and of those that are in the books."""
        return frozenset(self._used | {order.id for order in self._desk.orders.values() if order.is_square_off})

    def carried(self) -> Mapping[Place, int]:
        """Return the signed units that were held over night, as our books have it."""
        return {place_of(held): held.overnight_quantity for held in self._desk.holdings.positions.values()}

    def end_resting(self, demands: Sequence[Demand]) -> None:
        """Have what waits here and the triggers (GTT) of *demands* ended."""
        for demand in demands:
            if (demand.name, demand.version) not in self._swept:
                self._swept.add((demand.name, demand.version))
                self._turns.wake(sweep=True)

            def is_covered(gtt: Gtt, demand: Demand = demand) -> bool:
                return demand.covers_order(place_of(gtt), gtt.strategy_id)

            if any(is_covered(gtt) for gtt in self._gtts()):
                self._end_gtts(is_covered, demand.by)

    async def cancel(self, row: BookRow) -> WriteOutcome:
        """Ask the broker to cancel an order, whoever placed it. Raises BrokerUnavailable."""
        order_id = self._desk.index.by_broker_id.get(row.order_id)
        order = None if order_id is None else self._desk.orders.get(order_id)
        if order is not None:
            self._give_up(order.id)
            try:
                self._desk.note(order, "cancel requested by the engine: it is being flattened")
            except MailboxFull as error:
                _log.error("flatten.not_noted", order=str(order.id), error=str(error))
        return await self._canceller.ask(row.order_id, row.variety)

    async def place(self, ticket: Ticket, still_wanted: StillWanted) -> PlaceOutcome:
        """Write *ticket* ahead and send it, once."""
        self._used.add(ticket.id)
        return await self._exits.place(ticket, still_wanted)

    def told(self, standings: Sequence[Standing]) -> None:
        """Pass on that the demands stand otherwise, maybe; those that are asked for once end by themselves."""
        for standing in standings:
            demand = self.flattener.demands.get(standing.name)
            if demand is not None and demand.once and (standing.stage is Stage.DONE or standing.failed):
                self._over[demand.name] = standing
                while len(self._over) > _KEPT:
                    del self._over[next(iter(self._over))]
                self.drop(demand.name)
                if standing.failed:
                    left = "; ".join(
                        f"{':'.join(each.place)} {each.quantity}: {each.why}" for each in standing.not_flat
                    )
                    self.alarm(f"SQUARE_OFF_FAILED: what {demand.by} asked for is not closed: {left}")
        self.on_told()

    def alarm(self, text: str) -> None:
        """Tell a person."""
        self._context.alert(f"account:{self._desk.account_id}", text)


def _nobody() -> None:
    return None
