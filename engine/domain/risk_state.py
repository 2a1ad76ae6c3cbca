"""What risk knows of one user: positions, live orders, order counts and the day's profit and loss.

Mutable, and owned by the user's risk actor alone: checking and reserving happen in one step of that
actor, so that parallel signals cannot together pass a limit that each passes alone (SEC-086). Every
figure a check needs is kept up to date on change; a check reads a handful of dictionaries.

A live order counts as filled in full: for what remains of it while its state is PENDING, SUBMITTING,
UNKNOWN or working, for nothing once terminal. When a fill arrives, set the position before tracking
the order; the other way round its units would for a moment count nowhere.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from engine.clock import trading_day
from engine.domain.books import Book, RoundTrip
from engine.domain.day_figures import DayFigures
from engine.domain.day_pnl import DayPnl
from engine.domain.enums import Exchange, TransactionType
from engine.domain.fill import Fill
from engine.domain.limits import OrderRequest
from engine.domain.order import Order
from engine.domain.position import Position, PositionKey, apply_fill, roll_day, with_last_price

Scope = UUID | None
"""An account or a strategy, or None for all that the user has."""

_ZERO = Decimal(0)
_MINUTE = timedelta(seconds=60)
_KEEP_REPEATS = timedelta(days=1)


class _Live:
    """What is on its way in one position: its net quantity and the units reserved on each side."""

    __slots__ = ("buys", "quantity", "sells")

    def __init__(self) -> None:
        self.quantity = 0
        self.buys = 0
        self.sells = 0

    def worst(self, buys: int = 0, sells: int = 0) -> int:
        """Return the largest size the position can reach if one side fills in full and the other not at all."""
        return max(abs(self.quantity + self.buys + buys), abs(self.quantity - self.sells - sells))

    @property
    def occupied(self) -> bool:
        return bool(self.quantity or self.buys or self.sells)


class _OrderCount:
    """Instants of the last minute's orders, in order, and the number of the day's."""

    __slots__ = ("day_count", "instants")

    def __init__(self) -> None:
        self.instants: list[datetime] = []
        self.day_count = 0

    def add(self, at: datetime) -> None:
        instants = self.instants
        # A clock that steps back must not make room.
        instants.append(max(at, instants[-1]) if instants else at)
        stale = bisect_right(instants, instants[-1] - _MINUTE)
        # Cut in long strides: the cost of moving the rest is then shared by many orders.
        if stale > len(instants) // 2:
            del instants[:stale]
        self.day_count += 1


class RiskState:
    """The state of one user that limits are held against; *day* is the IST date that its positions are of."""

    def __init__(self, day: date | None = None) -> None:
        self._positions: dict[PositionKey, Position] = {}
        self._keys_of: defaultdict[tuple[Exchange, str], set[PositionKey]] = defaultdict(set)
        self._live: defaultdict[PositionKey, _Live] = defaultdict(_Live)
        self._reserved: dict[UUID, tuple[PositionKey, TransactionType, int]] = {}
        self._released: set[UUID] = set()
        self._reserved_total = 0
        self._exposure: defaultdict[tuple[Scope, Exchange, str], int] = defaultdict(int)
        self._occupied: defaultdict[Scope, int] = defaultdict(int)
        self._open: defaultdict[Scope, int] = defaultdict(int)
        self.pnl = DayPnl()
        self._prices: dict[tuple[Exchange, str], Decimal] = {}
        self._counts: defaultdict[Scope, _OrderCount] = defaultdict(_OrderCount)
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
        self._set_reservation(order_id, request.key, request.transaction_type, reserved)
        self.count_order(request.account_id, request.at)
        likeness = _likeness(request)
        self._repeats.pop(likeness, None)
        self._repeats[likeness] = (request.at, request.intent_id)
        self._forget_repeats(request.at)

    def count_order(self, account_id: UUID, at: datetime) -> None:
        """Count one order sent at *at* (UTC) in the rates; for orders of today that a restart forgot."""
        self._start_day(trading_day(at))
        self._counts[account_id].add(at)
        self._counts[None].add(at)

    def track(self, order: Order) -> None:
        """Take over an order's state. Once terminal it is released, exactly once, and never comes back."""
        if order.id in self._released:
            return
        if order.status.is_terminal:
            self.release(order.id)
            return
        key = (order.account_id, order.exchange, order.symbol, order.product_type)
        self._set_reservation(order.id, key, order.transaction_type, max(order.remaining_quantity, 0))

    def release(self, order_id: UUID) -> None:
        """Free what an order reserved, for good; an order that was never reserved will never be."""
        self._released.add(order_id)
        if order_id in self._reserved:
            key, side, _ = self._reserved[order_id]
            self._set_reservation(order_id, key, side, 0)
            del self._reserved[order_id]

    def withdraw(self, order_id: UUID) -> None:
        """Free what an order reserved that came to nothing before it was recorded; it may be reserved again."""
        self.release(order_id)
        self._released.discard(order_id)

    def reserved_quantity(self, key: PositionKey | None = None, side: TransactionType | None = None) -> int:
        """Return the units that live orders may still fill: in all, or of one position, or of one side of it."""
        if key is None:
            return self._reserved_total
        live = self._live.get(key)
        if live is None:
            return 0
        buys = 0 if side is TransactionType.SELL else live.buys
        sells = 0 if side is TransactionType.BUY else live.sells
        return buys + sells

    def orders_in_minute(self, now: datetime, scope: Scope = None) -> int:
        """Return how many orders were reserved in the 60 seconds up to *now*."""
        count = self._counts.get(scope)
        return 0 if count is None else len(count.instants) - bisect_right(count.instants, now - _MINUTE)

    def orders_in_day(self, day: date, scope: Scope = None) -> int:
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
        self.pnl.take(books, marked)
        for trip in trips:
            self.pnl.end_trip(trip)

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
        self._prices[(exchange, symbol)] = price
        for key in self._keys_of.get((exchange, symbol), ()):
            position = self._positions[key]
            if position.last_price != price:
                self._put(with_last_price(position, price))
        self.pnl.set_price(exchange, symbol, price)

    def last_price(self, exchange: Exchange, symbol: str) -> Decimal | None:
        """Return the last price set, in rupees, or None."""
        return self._prices.get((exchange, symbol))

    def position(self, key: PositionKey) -> Position | None:
        """Return a position, or None."""
        return self._positions.get(key)

    def positions(self) -> tuple[Position, ...]:
        """Return every position, flat ones included."""
        return tuple(self._positions.values())

    def open_positions(self, account_id: Scope = None) -> int:
        """Return how many positions are not flat."""
        return self._open[account_id]

    def occupied_positions(self, account_id: Scope = None) -> int:
        """Return how many positions are not flat or may soon not be, because of a live order."""
        return self._occupied[account_id]

    def is_occupied(self, key: PositionKey) -> bool:
        """Return whether a position is not flat or may soon not be."""
        live = self._live.get(key)
        return live is not None and live.occupied

    def exposure_after(self, request: OrderRequest, scope: Scope = None) -> int:
        """Return the units of the request's instrument that the scope can come to hold if it is approved.

        The worst case: each position as large as its live orders can make it, nothing netted between
        accounts or products.
        """
        live = self._live.get(request.key) or _Live()
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
        for position in self.positions():
            self._put(roll_day(position, position.last_price))
            if not position.quantity:
                del self._positions[position.key]
                self._keys_of[(position.exchange, position.symbol)].discard(position.key)

    # --- inside -------------------------------------------------------------------------------------

    def _put(self, position: Position) -> None:
        key = position.key
        before = self._positions.get(key)
        self._positions[key] = position
        self._keys_of[(position.exchange, position.symbol)].add(key)
        if before is None or before.quantity != position.quantity:
            opened = bool(position.quantity) - bool(before and before.quantity)
            for scope in (position.account_id, None):
                self._open[scope] += opened
            self._change(key, quantity=position.quantity)

    def _set_reservation(self, order_id: UUID, key: PositionKey, side: TransactionType, units: int) -> None:
        held = self._reserved[order_id][2] if order_id in self._reserved else 0
        self._reserved[order_id] = (key, side, units)
        self._reserved_total += units - held
        if side is TransactionType.BUY:
            self._change(key, buys=units - held)
        else:
            self._change(key, sells=units - held)

    def _change(self, key: PositionKey, *, quantity: int | None = None, buys: int = 0, sells: int = 0) -> None:
        live = self._live[key]
        worst, occupied = live.worst(), live.occupied
        if quantity is not None:
            live.quantity = quantity
        live.buys += buys
        live.sells += sells
        grown, newly = live.worst() - worst, live.occupied - occupied
        account, exchange, symbol, _ = key
        for scope in (account, None):
            self._exposure[(scope, exchange, symbol)] += grown
            self._occupied[scope] += newly

    def _start_day(self, day: date) -> None:
        # Only forwards: a clock set back does not give the day's orders back.
        if self._day is not None and day <= self._day:
            return
        self._day = day
        self._released.clear()
        for count in self._counts.values():
            count.day_count = 0

    def _forget_repeats(self, now: datetime) -> None:
        # The oldest stand first: every reservation moves its likeness to the end.
        oldest = next(iter(self._repeats))
        if now - self._repeats[oldest][0] > _KEEP_REPEATS:
            del self._repeats[oldest]


def _likeness(request: OrderRequest) -> tuple[object, ...]:
    return (request.strategy_id, request.key, request.transaction_type, request.quantity)
