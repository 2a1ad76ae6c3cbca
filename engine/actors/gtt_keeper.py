"""Exits of one account that are triggers (GTT): after every change it is worked out anew what is to be done.

Owned by the account's executor. Decides nothing itself (`engine.domain.gtt_plan` does): places, makes smaller and
ends triggers, waits with what cannot go now, and tells a person what it cannot bring about. The triggers stand
at the broker over days and without the engine; the memory of them is rebuilt from the ledger.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal
from math import inf
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.account_session import AccountSession
from engine.actors.dispatching import Dispatcher
from engine.actors.executor_context import ExecutorContext
from engine.actors.exit_keeper import exit_mode
from engine.actors.gtt_book import GttBook
from engine.actors.gtt_cover import GttCover, key_of
from engine.actors.gtt_ending import GttEnder
from engine.actors.gtt_follower import GttFollower
from engine.actors.gtt_watch import GttWatch
from engine.actors.gtt_wire import GttWire
from engine.actors.order_desk import OrderDesk
from engine.clock import Clock, trading_day
from engine.domain.enums import OrderStatus, OrderType, Validity, Variety
from engine.domain.gtt import Gtt, GttStatus
from engine.domain.gtt_plan import Action, Cancel, GiveUp, Place, Resize, exit_id, passed, plan, price_gtt
from engine.domain.instruments import Instrument
from engine.domain.money import rupees
from engine.domain.options import ExitMode, OrderOptions, OrderRole
from engine.domain.order import Order
from engine.errors import MailboxFull

_log = structlog.get_logger(__name__)

_GATHER_S = 0.02
_LOOK_S = 2.0
# One that could not be placed is tried again after so long; the first try waits for nothing.
_RETRY_S = (0.0, 1.0, 2.0, 5.0, 15.0, 30.0)


class GttKeeper:
    """Keeps the exits of entries whose exits are triggers.

    *spawn* enters a new order, *against* says why an exit must not go now, *adopt_soon* has orders that the broker
    placed by itself looked for.
    """

    def __init__(
        self,
        context: ExecutorContext,
        desk: OrderDesk,
        session: AccountSession,
        *,
        turns: Dispatcher,
        spawn: Callable[[Order, str], Order],
        against: Callable[[Order], str | None],
        adopt_soon: Callable[[], None],
    ) -> None:
        self._context = context
        self._clock: Clock = context.clock
        self._desk = desk
        self._spawn = spawn
        self._against = against
        self._entries: dict[UUID, Order] = {}
        # exits of theirs that were placed as orders, because the price had passed a side
        self._at_once: defaultdict[UUID, dict[UUID, Order]] = defaultdict(dict)
        # entries of which nothing is to be done until something changes
        self._over: set[UUID] = set()
        self._follower = GttFollower(context, adopt_soon=adopt_soon)
        self._book = GttBook(context, self._gtt_changed)
        self._cover = GttCover(context, desk, self._entries, lambda: self._watch.holdings)
        self._watch = GttWatch(
            context,
            desk,
            self._book,
            session,
            wants_holdings=self._cover.wants_holdings,
            excess=lambda gtt, trigger_id: self.ending.end_excess(gtt, trigger_id),
            alert=lambda gtt, text: self._follower.tell(gtt, text, text),
        )
        self._wire = GttWire(context, self._book, session, turns=turns, look_soon=self._watch.look_soon)
        self.ending = GttEnder(self._book, self._wire, self._watch, self._follower)
        self._committed: list[tuple[Gtt, int]] = []
        self._life = 0
        self._day: date | None = None
        self._wake = trio.Event()

    # what it is told

    def restore(self, orders: Iterable[Order], gtts: Iterable[Gtt]) -> None:
        """Hold what the ledger knows of entries with exits, those exits, and triggers. Raises MailboxFull."""
        self._life += 1
        self._entries.clear()
        self._at_once.clear()
        self._over.clear()
        self._committed.clear()
        self._day = trading_day(self._clock.now())
        self._book.restore(gtts)
        self._follower.restore(self._book)
        self.ending.restore()
        for order in (*orders, *self._desk.orders.values()):
            self._take(order)
        self._watch.restore()
        self._wake.set()

    def order_changed(self, order: Order) -> None:
        """An order of the account stands as given."""
        of_old = order.trading_day < trading_day(self._clock.now()) and order.id not in self._entries
        if of_old and not (order.is_attached or order.is_external):
            return  # it has been over for a day: nothing of it fills any more
        if self._take(order):
            self._wake.set()

    def _take(self, order: Order) -> bool:
        if order.is_external:
            return self._take_stranger(order)
        if order.is_attached and order.parent_id is not None:
            if order.parent_id not in self._entries:
                return False
            self._at_once[order.parent_id][order.id] = order
            self._over.discard(order.parent_id)
            return True
        if (order.stop_loss is None and order.target is None) or exit_mode(order) is not ExitMode.GTT:
            return any(entry.key == order.key for entry in self._entries.values())
        self._entries[order.id] = order
        self._over.discard(order.id)
        return True

    def _take_stranger(self, order: Order) -> bool:
        broker_order_id, strangers = order.broker_order_id, self._follower.strangers
        if broker_order_id is None or not self._book.has_key(order.key):
            return False
        if broker_order_id not in strangers:
            # it may be that of a trigger which has just fired
            self._watch.look_soon()
        strangers[broker_order_id] = order
        self._over.clear()
        return True

    def _gtt_changed(self, before: Gtt, after: Gtt) -> None:
        self._over.discard(after.entry_id)
        self._follower.changed(before, after)
        self._wake.set()

    def look_soon(self) -> None:
        """Read the broker's list in a moment: the session is a new one."""
        self._watch.look_soon()

    @property
    def resting(self) -> tuple[Gtt, ...]:
        """The triggers that stand at the broker, or may."""
        return tuple(self._book.live)

    def strategy_of(self, order: Order) -> UUID | None:
        """Return the strategy whose trigger the broker placed *order* for, None for an order that is of no trigger."""
        return self._book.strategy_of(order)

    # the actor

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                self.ending.nursery = nursery
                nursery.start_soon(self._watch.run)
                while True:
                    with trio.move_on_after(_LOOK_S if self._has_open else inf):
                        await self._wake.wait()
                    self._wake = trio.Event()
                    # what one read of the book changes comes in one go
                    await trio.sleep(_GATHER_S)
                    self._send_committed(nursery)
                    if self._context.holds_lease():
                        self._work(nursery)
        finally:
            self.ending.nursery = None

    @property
    def _has_open(self) -> bool:
        return bool(self._book.gtts) or any(entry.filled_quantity for entry in self._entries.values())

    def _send_committed(self, nursery: trio.Nursery) -> None:
        committed, self._committed = self._committed, []
        for gtt, committed_ns in committed:
            if self._book.gtts.get(gtt.id) is gtt and (entry := self._entries.get(gtt.entry_id)) is not None:
                as_order = self._exit(entry, OrderRole.STOP, gtt.quantity)
                nursery.start_soon(self._place_now, gtt, committed_ns, as_order)

    async def _place_now(self, gtt: Gtt, committed_ns: int, as_order: Order) -> None:
        await self._wire.place(gtt, committed_ns=committed_ns, against=lambda: self._against(as_order))

    def _work(self, nursery: trio.Nursery) -> None:
        self._turn_day()
        self._follower.look_after(self._book)
        self.ending.end_doomed(nursery)
        self._watch.wants_proof = False
        claimed = self._cover.claimed_by_orders()
        newest_first = sorted(
            (entry for entry in self._entries.values() if entry.id not in self._over),
            key=lambda entry: (entry.created_at, entry.id),
            reverse=True,
        )
        for entry in newest_first:
            gtts = self._book.of_entry(entry.id)
            todo = plan(
                self._cover.as_booked(entry),
                gtts,
                held=self._cover.held(entry),
                others=claimed[key_of(entry)],
                at_once=[self._cover.as_booked(order) for order in self._at_once[entry.id].values()],
                working={gtt.id: self._follower.working(gtt, self._cover.as_booked) for gtt in gtts},
            )
            claimed[key_of(entry)] += todo.needs
            for action in todo.actions:
                self._do(entry, action, nursery)
            if todo.is_over and not any(self._follower.is_awaited(gtt) for gtt in gtts):
                self._over.add(entry.id)

    def _turn_day(self) -> None:
        """Drop, when a day begins, the entries of which nothing can come any more: no late fill either."""
        day = trading_day(self._clock.now())
        if self._day == day:
            return
        self._day = day
        self._follower.forget_before_today()
        for entry_id in [entry_id for entry_id in self._over if self._entries[entry_id].trading_day < day]:
            del self._entries[entry_id]
            self._at_once.pop(entry_id, None)
            self._book.forget(entry_id)
        self._over.intersection_update(self._entries)

    # doing

    def _do(self, entry: Order, action: Action, nursery: trio.Nursery) -> None:
        match action:
            case Place():
                self._place(entry, action)
            case Resize(gtt=gtt, quantity=quantity):
                if self._is_proven(entry):
                    self.ending.shrink(gtt, quantity, nursery)
            case Cancel(gtt=gtt, why=why):
                if self._is_proven(entry):
                    self.ending.end(gtt, nursery, by=f"the engine: {why}")
            case GiveUp(unit=unit, quantity=quantity, why=why):
                text = (
                    f"EXIT_NOT_PLACED: the GTT for {quantity} {entry.exchange}:{entry.symbol} was refused again and "
                    f"again: {why}; place it by hand"
                )
                self._follower.tell_of_entry(entry, f"unit{unit}", text)

    def _is_proven(self, entry: Order) -> bool:
        """Whether the triggers are known as they are since the position last changed; asks for that if not."""
        if self._watch.proves(entry.key):
            return True
        self._watch.wants_proof = True
        self._watch.look_soon()
        return False

    def _place(self, entry: Order, place: Place) -> None:
        if self._book.is_in_doubt(entry.key) or self._rests(entry, place):
            return
        tell = self._follower.tell_of_entry
        instrument = self._context.instrument(entry.exchange, entry.symbol)
        if instrument is None:
            tell(entry, "instrument", f"EXIT_WAITS: {entry.symbol} is not in the instrument master")
            return
        stop = self._against(self._exit(entry, OrderRole.STOP, place.quantity))
        if stop is not None:
            tell(entry, stop.partition(":")[0], f"EXIT_WAITS: the GTT of {entry.symbol}: {stop}")
            return
        last_price = self._context.last_price(entry.exchange, entry.symbol) or entry.average_price
        if not last_price:
            tell(entry, "price", f"EXIT_WAITS: no price of {entry.symbol} is known to place its GTT at")
            return
        try:
            role = passed(entry, last_price)
            if role is not None:
                self._exit_at_once(entry, place, role, last_price)
            elif self._wire.take_slot():
                self._write_ahead(entry, place, instrument, last_price)
        except MailboxFull as error:
            _log.warning("gtt.no_room", entry=str(entry.id), error=str(error))

    def _rests(self, entry: Order, place: Place) -> bool:
        """Whether the next try for a unit has to wait, longer after each that came to nothing."""
        before: list[Gtt | Order] = [gtt for gtt in self._book.of_entry(entry.id) if gtt.unit == place.unit]
        before += [order for order in self._at_once[entry.id].values() if order.options.unit == place.unit]
        if not before:
            return False
        last = max(before, key=lambda each: each.updated_at)
        if place.attempt > 2:
            why = last.status_message or last.status.value
            self._follower.tell_of_entry(entry, "tries", f"EXIT_DELAYED: the GTT of {entry.symbol}: {why}")
        rest = _RETRY_S[min(place.attempt - 1, len(_RETRY_S) - 1)]
        return (self._clock.now() - last.updated_at).total_seconds() < rest

    def _write_ahead(self, entry: Order, place: Place, instrument: Instrument, last_price: Decimal) -> None:
        now, life = self._clock.now(), self._life
        prices = price_gtt(entry, instrument, policy=self._policy(entry))
        gtt = Gtt(
            id=exit_id(entry.id, place),
            entry_id=entry.id,
            account_id=entry.account_id,
            user_id=entry.user_id,
            strategy_id=entry.strategy_id,
            exchange=entry.exchange,
            symbol=entry.symbol,
            transaction_type=entry.transaction_type.opposite,
            product_type=entry.product_type,
            quantity=place.quantity,
            stop_trigger=prices.stop_trigger,
            stop_price=prices.stop_price,
            target_trigger=prices.target_trigger,
            target_price=prices.target_price,
            last_price=last_price,
            status=GttStatus.SUBMITTING,
            unit=place.unit,
            unit_quantity=place.unit_quantity,
            attempt=place.attempt,
            submitting_at=now,
            created_at=now,
            updated_at=now,
        )

        def committed(row: Gtt) -> None:
            if life == self._life:
                self._committed.append((row, self._clock.boottime_ns()))
                self._wake.set()

        self._book.enter(gtt, on_commit=committed)

    def _exit_at_once(self, entry: Order, place: Place, role: OrderRole, last_price: Decimal) -> None:
        """Exit by an order: the price has passed a side, and a trigger there would wait for it to come back."""
        options = OrderOptions(unit=place.unit, unit_quantity=place.unit_quantity)
        order = self._exit(entry, role, place.quantity)
        order = msgspec.structs.replace(order, id=exit_id(entry.id, place), options=options)
        self._spawn(order, f"{role} of {entry.id} at once: the last price is {rupees(last_price)}")

    def _exit(self, entry: Order, role: OrderRole, quantity: int) -> Order:
        is_stop = role is OrderRole.STOP
        return msgspec.structs.replace(
            entry,
            parent_id=entry.id,
            role=role,
            transaction_type=entry.transaction_type.opposite,
            quantity=quantity,
            filled_quantity=0,
            average_price=Decimal(0),
            order_type=OrderType.MARKET if is_stop else OrderType.LIMIT,
            price=None if is_stop else entry.target,
            trigger_price=None,
            market_protection=self._policy(entry) if is_stop else None,
            validity=Validity.DAY,
            variety=Variety.REGULAR,
            status=OrderStatus.PENDING,
            stop_loss=None,
            target=None,
            options=OrderOptions(),
        )

    def _policy(self, entry: Order) -> Decimal:
        return entry.options.market_protection or self._context.protection(entry.account_id)
