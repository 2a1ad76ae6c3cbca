"""The day's profit and loss of a user, of each account and strategy, and of each strategy on each account.

Mutable, and kept by the user's risk state alone. Every figure is brought up to date when a book or a price
changes, by what that changes, so that reading one costs next to nothing. All that is told together is taken in
together: no figure, and above all no peak, is ever made of half of it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from engine.domain.book_changes import roll_books
from engine.domain.books import HAND, Book, Books, RoundTrip, as_hand, closable, remarked
from engine.domain.day_figures import DayFigures
from engine.domain.enums import Exchange
from engine.domain.marks import Marks, Priced
from engine.domain.position import Position, PositionKey, at_close, m2m, unrealised

Part = tuple[UUID | None, UUID | None]
"""A part of what a user has: of one account or of all (None), in the book of one strategy, of `HAND`, or in all."""

PnlScope = UUID | Part | None
"""An account or a strategy (or `HAND`) by its id, any `Part`, or None for all that the user has."""

_ZERO = Decimal(0)
# what is divided by a quantity stops here, so that sums of it are exact
_QUANTUM = Decimal("1e-8")


class _Worth(msgspec.Struct, frozen=True):
    """What a book has made today, rupees: in all, of that not cash yet, and its charges."""

    made: Decimal = _ZERO
    open: Decimal = _ZERO
    charges: Decimal = _ZERO


_NOTHING = _Worth()


class _Sum:
    """The figures of one scope."""

    __slots__ = ("charges", "last_loss_at", "losing_streak", "made", "open", "peak", "trades")

    def __init__(self) -> None:
        self.made = self.open = self.charges = self.peak = _ZERO
        self.trades = self.losing_streak = 0
        self.last_loss_at: datetime | None = None

    @property
    def net(self) -> Decimal:
        return self.made - self.charges

    @property
    def is_blank(self) -> bool:
        return not (self.made or self.open or self.charges or self.peak or self.trades)


class DayPnl:
    """The books of one user, and what the day has made of them."""

    def __init__(self) -> None:
        self.books = Books()
        # books that were told; a position without any is taken for the hand's
        self._told: set[PositionKey] = set()
        self._marks: Marks[tuple[PositionKey, UUID]] = Marks()
        # those that something is held of, in whatever book
        self._open: set[PositionKey] = set()
        self._worth: dict[tuple[PositionKey, UUID], _Worth] = {}
        self._sums: defaultdict[Part, _Sum] = defaultdict(_Sum)
        self._accounts: set[UUID] = set()
        self._stale: dict[tuple[Exchange, str], datetime] = {}
        # parts of which some figure changed since `take_moved`, and of those which have a new peak or a trip that ended
        self._moved: set[Part] = set()
        self._peaked: set[Part] = set()

    # what is told

    def take(self, books: Iterable[Book], positions: Iterable[Position] = ()) -> None:
        """Take over *books*, whole, and mark by *positions*; a position without any book told is the hand's."""
        changed: list[Book] = []
        for book in books:
            if book.key not in self._told:
                self._told.add(book.key)
                changed += [_emptied(mirror) for mirror in self.books.of(book.key).values()]
            changed.append(book)
        prices = {book.key: book.position.last_price for book in changed if book.position.last_price}
        for position in positions:
            if position.key not in self._told:
                changed.append(as_hand(position))
            elif position.last_price:
                prices[position.key] = position.last_price
        after: dict[PositionKey, dict[UUID, Book]] = {key: dict(self.books.of(key)) for key in prices}
        for book in changed:
            after.setdefault(book.key, {})[book.owner] = book
        self._put(remarked(book, prices.get(key, _ZERO)) for key, of_key in after.items() for book in of_key.values())

    def set_prices(self, prices: Iterable[Priced]) -> set[UUID]:
        """Mark every book at *prices* (rupees), all in one; return the accounts of those that stood at another.

        Between two of them a hedge would have a peak that never was.
        """
        marked: list[Book] = []
        for exchange, symbol, price in prices:
            if not price:
                continue
            found = [self.books.get(*moved) for moved in self._marks.move((exchange, symbol), price)]
            marked += [
                remarked(book, price) for book in found if book is not None and book.position.last_price != price
            ]
        self._put(marked)
        return {book.position.account_id for book in marked}

    def end_trip(self, trip: RoundTrip) -> None:
        """Count a round trip that ended today, in the order in which they did."""
        for part in self._parts(trip.account_id, trip.strategy_id or HAND):
            self._peaked.add(part)
            figures = self._sums[part]
            figures.trades += 1
            if trip.result < 0:
                figures.losing_streak += 1
                figures.last_loss_at = trip.ended_at
            else:
                figures.losing_streak = 0

    def set_peak(self, scope: PnlScope, peak: Decimal) -> None:
        """Take over a peak of today that was kept over a restart; a lower one than is known changes nothing."""
        figures = self._sums[self._part(scope)]
        figures.peak = max(figures.peak, peak)

    def set_stale(self, exchange: Exchange, symbol: str, since: datetime | None) -> None:
        """Say since when (UTC) an instrument has had no price; None: it has one."""
        if since is None:
            self._stale.pop((exchange, symbol), None)
        else:
            self._stale[exchange, symbol] = since

    def roll_day(self) -> None:
        """Begin a new day: books are carried over at their last price, flat ones go, every figure starts at 0."""
        held = [book for book in roll_books(self.books.all()) if book.position.quantity]
        self.books = Books()
        self._marks.clear()
        self._open.clear()
        self._worth.clear()
        self._sums.clear()
        self._moved.clear()
        self._peaked.clear()
        self._put(held)

    # what is to be kept

    def take_peaked(self) -> set[Part]:
        """Return the parts that have a new peak, or a round trip that ended, since they were last taken."""
        found, self._peaked = self._peaked, set()
        self._moved -= found
        return found

    def take_moved(self) -> set[Part]:
        """Return the parts of which any figure has changed since they were last taken."""
        found = self._moved | self._peaked
        self._moved, self._peaked = set(), set()
        return found

    # what is asked

    def net(self, scope: PnlScope = None) -> Decimal:
        """Return what the scope made today, rupees, less charges."""
        figures = self._sums.get(self._part(scope))
        return _ZERO if figures is None else figures.net

    def figures(self, scope: PnlScope = None) -> DayFigures:
        """Return what the scope made today."""
        found = self._sums.get(self._part(scope))
        if found is None:
            return DayFigures()
        return DayFigures(
            realised=found.made - found.open,
            unrealised=found.open,
            charges=found.charges,
            peak=found.peak,
            trades=found.trades,
            losing_streak=found.losing_streak,
            last_loss_at=found.last_loss_at,
            stale_since=self._stale_since(self._part(scope)) if self._stale else None,
        )

    def all_figures(self) -> Mapping[Part, DayFigures]:
        """Return the figures of every part of the whole that has some."""
        return {part: self.figures(part) for part, found in self._sums.items() if not found.is_blank}

    def quantity(self, strategy_id: UUID | None, key: PositionKey) -> int:
        """Return the signed units of a position that are the strategy's, or the hand's (None)."""
        book = self.books.get(key, strategy_id or HAND)
        return 0 if book is None else book.position.quantity

    def closable(self, strategy_id: UUID | None, key: PositionKey) -> int:
        """Return the signed units of a position that an exit of the strategy may close: `books.closable`."""
        return closable(self.books, strategy_id, key)

    def open_instruments(self) -> set[tuple[Exchange, str]]:
        """Return the instruments that something is held of, in whatever book."""
        return {key[1:3] for key in self._open}

    @property
    def stale(self) -> Mapping[tuple[Exchange, str], datetime]:
        """The instruments without a price, and since when (UTC)."""
        return self._stale

    # inside

    def _part(self, scope: PnlScope) -> Part:
        if scope is None:
            return (None, None)
        if isinstance(scope, tuple):
            return scope
        return (scope, None) if scope in self._accounts else (None, scope)

    def _parts(self, account_id: UUID, owner: UUID) -> tuple[Part, ...]:
        self._accounts.add(account_id)
        return _parts(account_id, owner)

    def _stale_since(self, part: Part) -> datetime | None:
        found = [
            self._stale[key[1:3]]
            for key in self._open
            if key[1:3] in self._stale
            and any(
                book.position.quantity and part in _parts(key[0], owner) for owner, book in self.books.of(key).items()
            )
        ]
        return min(found, default=None)

    def _put(self, books: Iterable[Book]) -> None:
        touched: set[Part] = set()
        for book in books:
            key, owner = book.key, book.owner
            if self.books.get(key, owner) is book:
                continue
            self.books.put(book)
            self._marks.put(key[1:3], (key, owner), book.position.last_price)
            if book.position.quantity:
                self._open.add(key)
            elif not any(other.position.quantity for other in self.books.of(key).values()):
                self._open.discard(key)
            before, after = self._worth.get((key, owner), _NOTHING), _worth(book)
            self._worth[key, owner] = after
            if before == after:
                continue
            for part in self._parts(key[0], owner):
                figures = self._sums[part]
                figures.made += after.made - before.made
                figures.open += after.open - before.open
                figures.charges += after.charges - before.charges
                touched.add(part)
        self._moved |= touched
        for part in touched:
            figures = self._sums[part]
            if figures.net > figures.peak:
                figures.peak = figures.net
                self._peaked.add(part)


def _parts(account_id: UUID, owner: UUID) -> tuple[Part, ...]:
    return ((None, None), (account_id, None), (None, owner), (account_id, owner))


def _worth(book: Book) -> _Worth:
    position = book.position
    return _Worth(
        made=m2m(position),
        open=unrealised(at_close(position)).quantize(_QUANTUM) if position.quantity else _ZERO,
        charges=book.charges,
    )


def _emptied(book: Book) -> Book:
    position = book.position
    return Book(
        position=Position(
            account_id=position.account_id,
            exchange=position.exchange,
            symbol=position.symbol,
            product_type=position.product_type,
            strategy_id=position.strategy_id,
        )
    )
