"""What risk knows of one user: positions, live orders, order counts and the day's profit and loss.

Mutable, and owned by the user's risk actor alone: checking and reserving happen in one step of that
actor, so that parallel signals cannot together pass a limit that each passes alone (SEC-086). Every
figure a check needs is kept up to date on change; a check reads a handful of dictionaries.

A live order counts as filled in full: for what remains of it while its state is PENDING, SUBMITTING,
UNKNOWN or working, for nothing once terminal. When a fill arrives, set the position before tracking
the order; the other way round its units would for a moment count nowhere.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from engine.clock import trading_day
from engine.domain.books import HAND, Book, RoundTrip
from engine.domain.compact_set import CompactSet
from engine.domain.day_figures import DayFigures
from engine.domain.day_pnl import DayPnl, Part
from engine.domain.enums import Exchange, TransactionType
from engine.domain.fill import Fill
from engine.domain.limits import OrderRequest
from engine.domain.live_units import NO_BOUNDS, Bounds, Live, MinuteCount, Reservation, Sides
from engine.domain.marks import Marks, Priced
from engine.domain.order import Order
from engine.domain.position import Position, PositionKey, apply_fill, roll_day, with_last_price

Scope = UUID | None
"""An account or a strategy, or None for all that the user has."""

AnyScope = Scope | tuple[UUID, UUID]
"""Also one strategy on one account, as (account, strategy): it has orders and units, but no result of its own."""

_ZERO = Decimal(0)
_KEEP_REPEATS = timedelta(days=1)


class RiskState:
    """The state of one user that limits are held against; *day* is the IST date that its positions are of."""

    def __init__(self, day: date | None = None) -> None:
        self._positions: dict[PositionKey, Position] = {}
        self._marks: Marks[PositionKey] = Marks()
        self._moved: set[UUID] = set()
        self._live: defaultdict[PositionKey, Live] = defaultdict(Live)
        self._live_of: defaultdict[tuple[UUID, PositionKey], Live] = defaultdict(Live)
        self._sides: defaultdict[tuple[UUID, Exchange, str], Sides] = defaultdict(Sides)
        self._reserved: dict[UUID, Reservation] = {}
        self._exits: dict[UUID, Reservation] = {}
        self._bounds: dict[tuple[Exchange, str], Bounds] = {}
        self._trials: dict[Scope, UUID | None] = {}
        self._released: CompactSet[UUID] = CompactSet()
        self._reserved_total = 0
        self.pnl = DayPnl()
        self._exposure: defaultdict[tuple[AnyScope, Exchange, str], int] = defaultdict(int)
        self._occupied: defaultdict[AnyScope, int] = defaultdict(int)
        self._open: defaultdict[AnyScope, int] = defaultdict(int)
        self._prices: dict[tuple[Exchange, str], Decimal] = {}
        self._counts: defaultdict[AnyScope, MinuteCount] = defaultdict(MinuteCount)
        self._messages: defaultdict[AnyScope, MinuteCount] = defaultdict(MinuteCount)
        self._day = day
        self._rolled_on = day
        self._repeats: dict[tuple[object, ...], tuple[datetime, UUID]] = {}

    # --- orders -------------------------------------------------------------------------------------

    def reserve(self, request: OrderRequest, order_id: UUID, *, units: int | None = None) -> None:
        """Count an approved order: its units, its place in the rates, its likeness. Repeating it does nothing.

        *units* is the part of the request that the order is for, where it is only a slice of it.
        """
        if order_id in self._reserved or order_id in self._released:
            return
        reserved = request.quantity if units is None else units
        self._set_reservation(order_id, request.key, request.transaction_type, reserved, request.strategy_id)
        held = self._reserved[order_id]
        held.counted_at = self.count_order(request.account_id, request.at, request.strategy_id)
        likeness = _likeness(request)
        held.repeats = (likeness, self._repeats.pop(likeness, None))
        self._repeats[likeness] = (request.at, request.intent_id)
        self._forget_repeats(request.at)

    def count_order(self, account_id: UUID, at: datetime, strategy_id: UUID | None = None) -> datetime:
        """Count one order sent at *at* (UTC) in the rates; for orders of today that a restart forgot."""
        self._start_day(trading_day(at))
        for of in _scopes(account_id, strategy_id):
            self._counts[of].add(at)
        return self._counts[None].add(at)

    def track(self, order: Order) -> None:
        """Take over an order's state. Once terminal it is released, exactly once, and never comes back.

        What remains of an order counts as if it filled while its outcome is not known (UNKNOWN) as well.
        """
        if order.id in self._released:
            return
        if order.status.is_terminal:
            self.release(order.id)
            return
        key = (order.account_id, order.exchange, order.symbol, order.product_type)
        units = max(order.remaining_quantity, 0)
        self._set_reservation(order.id, key, order.transaction_type, units, order.strategy_id)

    def track_exit(self, order: Order) -> None:
        """Take over the state of an attached exit: it reserves nothing, but others must not trade against it."""
        held = self._exits.get(order.id)
        units = max(order.remaining_quantity, 0)
        if held is None:
            if not units:
                return
            key = (order.account_id, order.exchange, order.symbol, order.product_type)
            held = self._exits[order.id] = Reservation(key, order.transaction_type, order.strategy_id)
        self._sides[held.key[:3]].change(held.strategy_id, held.side, units - held.units)
        held.units = units
        if not units:
            del self._exits[order.id]

    def release(self, order_id: UUID) -> None:
        """Free what an order reserved, for good; an order that was never reserved will never be."""
        self._released.add(order_id)
        held = self._reserved.get(order_id)
        if held is not None:
            self._set_reservation(order_id, held.key, held.side, 0, held.strategy_id)
            del self._reserved[order_id]

    def withdraw(self, order_id: UUID) -> None:
        """Undo the reservation of an order that came to nothing before it was recorded; it may be made again.

        Its units, its place in the rates and its likeness go, as if it had never been.
        """
        held = self._reserved.get(order_id)
        self.release(order_id)
        self._released.discard(order_id)
        self.end_trial(order_id)
        if held is None or held.counted_at is None:
            return
        today = trading_day(held.counted_at) == self._day
        for scope in (*_scopes(held.key[0], held.strategy_id), None):
            self._counts[scope].take_back(held.counted_at, today=today)
        likeness, before = held.repeats or ((), None)
        self._repeats.pop(likeness, None)
        if before is not None:
            # where it stood no longer matters: it is forgotten a day after it was made, or sooner
            self._repeats[likeness] = before

    def count_message(self, scopes: Iterable[AnyScope], at: datetime) -> None:
        """Count one signal that came for *scopes*, whatever becomes of it."""
        for scope in scopes:
            self._messages[scope].add(at)

    def forget_message(self, scopes: Iterable[AnyScope], at: datetime) -> None:
        """Count one fewer: a signal that was counted *at* an instant and never came."""
        for scope in scopes:
            self._messages[scope].take_back(at, today=True)

    def messages_in_minute(self, now: datetime, scope: AnyScope = None) -> int:
        """Return how many signals came in the 60 seconds up to *now*."""
        count = self._messages.get(scope)
        return 0 if count is None else count.in_minute(now)

    def opposed_by(self, request: OrderRequest) -> str | None:
        """Return the strategy of a live order on the other side in the same account and instrument, or None."""
        sides = self._sides.get((request.account_id, request.exchange, request.symbol))
        return None if sides is None else sides.opposing(request.strategy_id, request.transaction_type)

    # --- the circuit breaker, half open

    def half_open(self, scope: Scope) -> None:
        """Let one entry of an account or strategy through: the next that is approved, and no other until it ended."""
        self._trials[scope] = None

    def close(self, scope: Scope) -> None:
        """Let entries of an account or strategy through as ever."""
        self._trials.pop(scope, None)

    def trial(self, scope: Scope) -> UUID | None:
        """Return the order that is being tried for a half-open breaker, so that no other entry may go, or None."""
        return self._trials.get(scope)

    @property
    def has_half_open(self) -> bool:
        """Whether the breaker of any account or strategy is half open."""
        return bool(self._trials)

    def begin_trial(self, request: OrderRequest, order_id: UUID) -> None:
        """Make an approved entry the one that is tried, where the breaker of its account or strategy is half open."""
        for scope in (request.account_id, request.strategy_id):
            if scope in self._trials and self._trials[scope] is None:
                self._trials[scope] = order_id

    def end_trial(self, order_id: UUID) -> None:
        """The order that is tried ended without a word of the broker: another may be tried."""
        for scope, trial in self._trials.items():
            if trial == order_id:
                self._trials[scope] = None

    def reserved_quantity(
        self,
        key: PositionKey | None = None,
        side: TransactionType | None = None,
        strategy_id: UUID | None = None,
    ) -> int:
        """Return the units that live orders may still fill: in all, or of one position, or of one side of it.

        With *strategy_id* only that strategy's orders count.
        """
        if key is None:
            return self._reserved_total
        live = self._live.get(key) if strategy_id is None else self._live_of.get((strategy_id, key))
        if live is None:
            return 0
        buys = 0 if side is TransactionType.SELL else live.buys
        sells = 0 if side is TransactionType.BUY else live.sells
        return buys + sells

    def orders_in_minute(self, now: datetime, scope: AnyScope = None) -> int:
        """Return how many orders were reserved in the 60 seconds up to *now*."""
        count = self._counts.get(scope)
        return 0 if count is None else count.in_minute(now)

    def orders_in_day(self, day: date, scope: AnyScope = None) -> int:
        """Return how many orders were reserved on *day* (IST); an earlier day than the latest counts as that."""
        count = self._counts.get(scope)
        return 0 if count is None or self._day is None or day > self._day else count.day_count

    def last_like(self, request: OrderRequest) -> tuple[datetime, UUID] | None:
        """Return when an order like this (strategy, account, instrument, product, side, quantity) was reserved last."""
        return self._repeats.get(_likeness(request))

    # --- positions ----------------------------------------------------------------------------------

    def set_position(self, position: Position) -> None:
        """Take over a position, whole; a known last price is kept when it brings none."""
        self.take_positions((position,))

    def take_positions(
        self, positions: Iterable[Position], books: Iterable[Book] = (), trips: Iterable[RoundTrip] = ()
    ) -> None:
        """Take over positions and the strategy books they are made of, whole, and count round trips that ended.

        A known last price is kept by what brings none. A position of which no book was ever told is the hand's.
        """
        marked = [self._marked(position) for position in positions]
        for position in marked:
            self._put(position)
        known = list(books)
        self.pnl.take(known, marked)
        for key in {book.key for book in known}:
            for owner in self.pnl.books.of(key):
                if owner != HAND:
                    self.set_strategy_quantity(owner, key, self.closable(owner, key))
        for trip in trips:
            self.pnl.end_trip(trip)

    def take_stored_day(
        self,
        positions: Iterable[Position],
        books: Iterable[Book],
        trips: Iterable[RoundTrip],
        peaks: Iterable[tuple[Part, Decimal]],
        *,
        price: Callable[[str], Decimal | None],
    ) -> None:
        """Take over what a ledger holds of the day, at the prices of now; *price* is of ``EXCHANGE:SYMBOL``."""
        self.take_positions(positions, books, trips)
        for part, peak in peaks:
            self.pnl.set_peak(part, peak)
        held = [(exchange, symbol, price(f"{exchange}:{symbol}")) for exchange, symbol in self.pnl.open_instruments()]
        self.set_prices([(exchange, symbol, found) for exchange, symbol, found in held if found is not None])

    def _marked(self, position: Position) -> Position:
        price = position.last_price or self._prices.get((position.exchange, position.symbol), _ZERO)
        return position if price == position.last_price else with_last_price(position, price)

    def apply_fill(self, fill: Fill, multiplier: Decimal = Decimal(1)) -> Position:
        """Take a fill into its position, and return that; *multiplier* is for one that is new."""
        key = (fill.account_id, fill.exchange, fill.symbol, fill.product_type)
        before = self._positions.get(key) or Position(
            account_id=fill.account_id,
            exchange=fill.exchange,
            symbol=fill.symbol,
            product_type=fill.product_type,
            multiplier=multiplier,
        )
        self.set_position(apply_fill(before, fill))
        return self._positions[key]

    def set_price(self, exchange: Exchange, symbol: str, price: Decimal) -> None:
        """Mark every position in an instrument at *price* (rupees)."""
        self.set_prices(((exchange, symbol, price),))

    def set_prices(self, prices: Collection[Priced]) -> None:
        """Mark every position at *prices* (rupees), all in one: no hedge has one leg's new price alone."""
        for exchange, symbol, price in prices:
            self._prices[(exchange, symbol)] = price
            for key in self._marks.move((exchange, symbol), price):
                position = self._positions[key]
                if position.last_price != price:
                    self._put(with_last_price(position, price))
                    self._moved.add(key[0])
        self._moved |= self.pnl.set_prices(prices)

    def marked(self, exchange: Exchange, symbol: str) -> int:
        """Return how many positions a price of an instrument marks."""
        return self._marks.count((exchange, symbol))

    def take_moved(self) -> set[UUID]:
        """Return the accounts of which a price has moved something since this was last asked."""
        moved, self._moved = self._moved, set()
        return moved

    def last_price(self, exchange: Exchange, symbol: str) -> Decimal | None:
        """Return the last price set, in rupees, or None."""
        return self._prices.get((exchange, symbol))

    def position(self, key: PositionKey) -> Position | None:
        """Return a position, or None."""
        return self._positions.get(key)

    def positions(self) -> tuple[Position, ...]:
        """Return every position, flat ones included."""
        return tuple(self._positions.values())

    def set_strategy_quantity(self, strategy_id: UUID, key: PositionKey, quantity: int) -> None:
        """Take over how many units (signed) of a position are a strategy's own."""
        live = self._live_of[(strategy_id, key)]
        scopes = (strategy_id, (key[0], strategy_id))
        opened = bool(quantity) - bool(live.quantity)
        for scope in scopes:
            self._open[scope] += opened
        self._apply(live, scopes, key, quantity=quantity)

    def set_bounds(self, exchange: Exchange, symbol: str, bounds: Bounds) -> None:
        """Take over between which prices the exchange takes orders in an instrument."""
        self._bounds[(exchange, symbol)] = bounds

    def bounds(self, exchange: Exchange, symbol: str) -> Bounds:
        """Return between which prices the exchange takes orders in an instrument, as far as is known."""
        return self._bounds.get((exchange, symbol), NO_BOUNDS)

    def open_positions(self, account_id: AnyScope = None) -> int:
        """Return how many positions are not flat."""
        return self._open.get(account_id, 0)

    def occupied_positions(self, account_id: AnyScope = None) -> int:
        """Return how many positions are not flat or may soon not be, because of a live order."""
        return self._occupied.get(account_id, 0)

    def is_occupied(self, key: PositionKey, strategy_id: UUID | None = None) -> bool:
        """Return whether a position, or a strategy's part of it, is not flat or may soon not be."""
        live = self._live.get(key) if strategy_id is None else self._live_of.get((strategy_id, key))
        return live is not None and live.occupied

    def exposures(self, scope: AnyScope = None) -> dict[tuple[Exchange, str], int]:
        """Return the units of every instrument that the scope can come to hold; 0 left out."""
        return {
            (exchange, symbol): units
            for (of, exchange, symbol), units in self._exposure.items()
            if of == scope and units
        }

    def exposure_after(self, request: OrderRequest, scope: AnyScope = None) -> int:
        """Return the units of the request's instrument that the scope can come to hold if it is approved.

        The worst case: each position as large as its live orders can make it, nothing netted between
        accounts or products.
        """
        if scope is None or scope == request.account_id:
            live = self._live.get(request.key) or Live()
        else:
            live = self._live_of.get((request.strategy_id, request.key)) or Live()
        buying = request.transaction_type is TransactionType.BUY
        buys, sells = (request.quantity, 0) if buying else (0, request.quantity)
        grown = live.worst(buys, sells) - live.worst()
        return self._exposure.get((scope, request.exchange, request.symbol), 0) + grown

    def day_pnl(self, account_id: Scope = None) -> Decimal:
        """Return the day's profit and loss in rupees, realised and unrealised, less charges."""
        return self.pnl.net(account_id)

    def figures(self, scope: Scope = None) -> DayFigures:
        """Return what the scope made today."""
        return self.pnl.figures(scope)

    def book_quantity(self, strategy_id: UUID | None, key: PositionKey) -> int:
        """Return the signed units of a position that are the strategy's, or the hand's (None)."""
        return self.pnl.quantity(strategy_id, key)

    def closable(self, strategy_id: UUID | None, key: PositionKey) -> int:
        """Return the signed units of a position that an exit of the strategy may close: its own at most."""
        return self.pnl.closable(strategy_id, key)

    @property
    def day(self) -> date | None:
        """The IST day that positions and figures are of."""
        return self._rolled_on

    def roll_day(self, day: date) -> None:
        """Begin the IST *day*: counts start at 0, positions become overnight, flat ones go.

        Repeating it does nothing. It is for the turn of the day, not for the start of the engine: rolling
        positions of today would make the day's loss forgotten.
        """
        if self._rolled_on is not None and day <= self._rolled_on:
            return
        self._rolled_on = day
        self._start_day(day)
        self.pnl.roll_day()
        for strategy_id, key in list(self._live_of):
            # what was delivered has left its book
            self.set_strategy_quantity(strategy_id, key, self.closable(strategy_id, key))
        for position in self.positions():
            self._put(roll_day(position, position.last_price))
            if not position.quantity:
                del self._positions[position.key]
                self._marks.drop((position.exchange, position.symbol), position.key)

    # --- inside -------------------------------------------------------------------------------------

    def _put(self, position: Position) -> None:
        key = position.key
        before = self._positions.get(key)
        self._positions[key] = position
        self._marks.put((position.exchange, position.symbol), key, position.last_price)
        if before is None or before.quantity != position.quantity:
            opened = bool(position.quantity) - bool(before and before.quantity)
            for scope in (position.account_id, None):
                self._open[scope] += opened
            self._change(key, quantity=position.quantity)

    def _set_reservation(
        self, order_id: UUID, key: PositionKey, side: TransactionType, units: int, strategy_id: UUID | None
    ) -> None:
        held = self._reserved.get(order_id)
        if held is None:
            held = self._reserved[order_id] = Reservation(key, side, strategy_id)
        more = units - held.units
        if not more:
            return
        held.units = units
        self._reserved_total += more
        buys, sells = (more, 0) if side is TransactionType.BUY else (0, more)
        self._change(key, buys=buys, sells=sells)
        strategy = held.strategy_id
        self._sides[key[:3]].change(strategy, side, more)
        if strategy is not None:
            live = self._live_of[(strategy, key)]
            self._apply(live, (strategy, (key[0], strategy)), key, buys=buys, sells=sells)

    def _change(self, key: PositionKey, *, quantity: int | None = None, buys: int = 0, sells: int = 0) -> None:
        self._apply(self._live[key], (key[0], None), key, quantity=quantity, buys=buys, sells=sells)

    def _apply(
        self,
        live: Live,
        scopes: Iterable[AnyScope],
        key: PositionKey,
        *,
        quantity: int | None = None,
        buys: int = 0,
        sells: int = 0,
    ) -> None:
        worst, occupied = live.worst(), live.occupied
        if quantity is not None:
            live.quantity = quantity
        live.buys += buys
        live.sells += sells
        grown, newly = live.worst() - worst, live.occupied - occupied
        _, exchange, symbol, _ = key
        for scope in scopes:
            self._exposure[(scope, exchange, symbol)] += grown
            self._occupied[scope] += newly

    def _start_day(self, day: date) -> None:
        # Only forwards: a clock set back does not give the day's orders back.
        if self._day is not None and day <= self._day:
            return
        self._day = day
        self._released.clear()
        for count in (*self._counts.values(), *self._messages.values()):
            count.day_count = 0

    def _forget_repeats(self, now: datetime) -> None:
        # The oldest stand first, but for one that was taken back: every reservation moves its likeness to the end.
        oldest = next(iter(self._repeats))
        if now - self._repeats[oldest][0] > _KEEP_REPEATS:
            del self._repeats[oldest]


def _likeness(request: OrderRequest) -> tuple[object, ...]:
    return (request.strategy_id, request.key, request.transaction_type, request.quantity)


def _scopes(account_id: UUID, strategy_id: UUID | None) -> tuple[AnyScope, ...]:
    return (account_id,) if strategy_id is None else (account_id, strategy_id, (account_id, strategy_id))
