"""Strategy books: what of each position belongs to which strategy, and what to nobody but the person.

A position at the broker is one net number, whoever made it. Here every fill goes into the book of the strategy
whose order it is of, or into the hand book: orders without a strategy, orders that somebody else placed, and what
reconciliation finds that no order explains. At every instant the books of a position add up to it, in units and
in the day's profit and loss, for all of them are marked at one price; where two strategies hold against each other
both books stand while the broker has nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from engine.domain.enums import Exchange, ProductType, TransactionType
from engine.domain.fill import Fill
from engine.domain.position import Position, PositionKey, apply_fill, average_price, undo_fill

HAND = UUID(int=0)
"""The hand book, where a book is named by an id: no strategy has this one."""

_ZERO = Decimal(0)


class Book(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a position that is one strategy's, or the hand's when ``position.strategy_id`` is None.

    ``charges`` (rupees) are what its executed orders of the day cost. ``trip_value`` is the cash, rupees, that the
    round trip under way has brought so far, and ``trip_charges`` what it cost; both 0 while the book is flat.
    """

    position: Position
    charges: Decimal = _ZERO
    trip_value: Decimal = _ZERO
    trip_charges: Decimal = _ZERO

    @property
    def key(self) -> PositionKey:
        """The position it is a part of."""
        return self.position.key

    @property
    def owner(self) -> UUID:
        """The strategy's id, or `HAND`."""
        return self.position.strategy_id or HAND


class RoundTrip(msgspec.Struct, frozen=True, kw_only=True):
    """A book that came back to flat, or turned over: ``result`` is rupees after ``charges``, ``ended_at`` UTC."""

    account_id: UUID
    strategy_id: UUID | None
    exchange: Exchange
    symbol: str
    product_type: ProductType
    result: Decimal
    charges: Decimal
    ended_at: datetime


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """A fill, whose it is, and what it adds to the charges of its order (rupees)."""

    fill: Fill
    strategy_id: UUID | None
    charge: Decimal = _ZERO


class Books:
    """The books of many positions; a single writer keeps them."""

    def __init__(self) -> None:
        self._of: dict[PositionKey, dict[UUID, Book]] = {}

    def put(self, book: Book) -> None:
        """Add or replace a book."""
        self._of.setdefault(book.key, {})[book.owner] = book

    def of(self, key: PositionKey) -> Mapping[UUID, Book]:
        """Return the books of a position by owner."""
        return self._of.get(key, {})

    def get(self, key: PositionKey, owner: UUID) -> Book | None:
        """Return the book of *owner* (a strategy, or `HAND`) in a position."""
        return self._of.get(key, {}).get(owner)

    def all(self) -> list[Book]:
        """Return every book."""
        return [book for books in self._of.values() for book in books.values()]

    def quantity(self, key: PositionKey) -> int:
        """Return what the books of a position add up to: the broker's net, signed units."""
        return sum(book.position.quantity for book in self._of.get(key, {}).values())

    def drop_flat(self) -> None:
        """Forget the books that hold nothing: their day is over."""
        for key, books in list(self._of.items()):
            held = {owner: book for owner, book in books.items() if book.position.quantity}
            if held:
                self._of[key] = held
            else:
                del self._of[key]


def closable(books: Books, strategy_id: UUID | None, key: PositionKey) -> int:
    """Return the signed units of a position that an exit of the strategy (None: by hand) may close: its own at most.

    What was done by hand against the strategies has closed that much of theirs, the largest book first: a person
    who sells a strategy's shares at the broker leaves it nothing to sell again. Against each other strategies hold
    what they hold. The hand itself closes no more than what the position is.
    """
    of_key = books.of(key)
    book = of_key.get(strategy_id or HAND)
    if book is None or not book.position.quantity:
        return 0
    held = book.position.quantity
    if strategy_id is None:
        net = books.quantity(key)
        return 0 if held * net <= 0 else smaller(held, net)
    return held - closed_by_hand(of_key.values()).get(book.owner, 0)


def closed_by_hand(books: Iterable[Book]) -> dict[UUID, int]:
    """Return the signed units of each strategy's book that the hand's holds against them, the largest book first."""
    of_key = list(books)
    hand = sum(book.position.quantity for book in of_key if book.owner == HAND)
    left = abs(hand)
    closed: dict[UUID, int] = {}
    against = [b for b in of_key if b.owner != HAND and b.position.quantity * hand < 0]
    for book in sorted(against, key=lambda b: (-abs(b.position.quantity), b.owner)):
        taken = min(left, abs(book.position.quantity))
        left -= taken
        closed[book.owner] = taken if book.position.quantity > 0 else -taken
    return closed


def smaller(one: int, other: int) -> int:
    """Return the one of two signed quantities that is nearer to nothing."""
    return one if abs(one) <= abs(other) else other


def empty_book(position: Position, strategy_id: UUID | None) -> Book:
    """Return a book of *position* in which nothing is, marked as it is."""
    return Book(
        position=Position(
            account_id=position.account_id,
            exchange=position.exchange,
            symbol=position.symbol,
            product_type=position.product_type,
            multiplier=position.multiplier,
            close_price=position.close_price,
            last_price=position.last_price,
            strategy_id=strategy_id,
        )
    )


def take_fills(
    books: Books, position: Position, executed: Sequence[Execution], dropped: Sequence[Execution] = ()
) -> tuple[list[Book], list[RoundTrip]]:
    """Return the books of *position* as they are once *executed* is in and *dropped* out, and the trips that ended.

    *position* is the net one after all of it, whose last price every book of it is marked at. *books* stays as it is.
    Fills that are dropped give way to others of the same units, so that of the books they are in only the beginning
    and the end count.
    """
    changed: dict[UUID, Book] = {}
    trips: list[RoundTrip] = []

    def held(strategy_id: UUID | None) -> Book:
        owner = strategy_id or HAND
        return changed.get(owner) or books.get(position.key, owner) or empty_book(position, strategy_id)

    replaced = {execution.strategy_id: held(execution.strategy_id) for execution in dropped}
    for execution in dropped:
        changed[execution.strategy_id or HAND] = _undo(held(execution.strategy_id), execution)
    for execution in executed:
        book, ended = _take(held(execution.strategy_id), execution)
        changed[book.owner] = book
        if ended is not None and execution.strategy_id not in replaced:
            trips.append(ended)
    for before in replaced.values():
        if executed:
            changed[before.owner], ended = _compared(before, changed[before.owner], executed[-1].fill)
            trips += [] if ended is None else [ended]
    marked = {**books.of(position.key), **changed}
    return [remarked(book, position.last_price) for book in marked.values()], trips


def remarked(book: Book, price: Decimal) -> Book:
    """Return *book* marked at *price* rupees."""
    if not price or book.position.last_price == price:
        return book
    return msgspec.structs.replace(book, position=msgspec.structs.replace(book.position, last_price=price))


def _cash(book: Book, side: TransactionType, quantity: int, price: Decimal) -> Decimal:
    """Return the cash that a trade brings, rupees; negative of a purchase."""
    return -side.sign * quantity * price * book.position.multiplier


def _take(book: Book, execution: Execution) -> tuple[Book, RoundTrip | None]:
    fill = execution.fill
    side, held = fill.transaction_type, book.position.quantity
    charges = book.trip_charges + execution.charge
    after = msgspec.structs.replace(
        book, position=apply_fill(book.position, fill), charges=book.charges + execution.charge
    )
    if held * side.sign >= 0 or fill.quantity < abs(held):
        cash = _cash(book, side, fill.quantity, fill.price)
        return msgspec.structs.replace(after, trip_value=book.trip_value + cash, trip_charges=charges), None
    result = book.trip_value + _cash(book, side, abs(held), fill.price) - charges
    opened = _cash(book, side, fill.quantity - abs(held), fill.price)
    return msgspec.structs.replace(after, trip_value=opened, trip_charges=_ZERO), _trip(book, result, charges, fill)


def _undo(book: Book, execution: Execution) -> Book:
    fill = execution.fill
    return msgspec.structs.replace(
        book,
        position=undo_fill(book.position, fill),
        charges=book.charges + execution.charge,
        trip_value=book.trip_value - _cash(book, fill.transaction_type, fill.quantity, fill.price),
        trip_charges=book.trip_charges + execution.charge,
    )


def _compared(before: Book, after: Book, last: Fill) -> tuple[Book, RoundTrip | None]:
    """Return the book, and its trip, after some of its fills gave way to the trades that they stood in for."""
    was, now = before.position.quantity, after.position.quantity
    if not was and not now:
        # the trip ended, and was told, with what stood in for its last trade
        return msgspec.structs.replace(after, trip_value=_ZERO, trip_charges=_ZERO), None
    if not was or was * now > 0:
        return after, None
    worth = now * last.price * after.position.multiplier
    charges = before.trip_charges + after.charges - before.charges
    result = before.trip_value + after.position.sell_value - before.position.sell_value
    result += before.position.buy_value - after.position.buy_value + worth - charges
    return (
        msgspec.structs.replace(after, trip_value=-worth, trip_charges=_ZERO),
        _trip(after, result, charges, last),
    )


def _trip(book: Book, result: Decimal, charges: Decimal, fill: Fill) -> RoundTrip:
    position = book.position
    return RoundTrip(
        account_id=position.account_id,
        strategy_id=position.strategy_id,
        exchange=position.exchange,
        symbol=position.symbol,
        product_type=position.product_type,
        result=result,
        charges=charges,
        ended_at=fill.filled_at,
    )


def as_hand(position: Position) -> Book:
    """Return a position, of which no books are known, as the hand's."""
    return Book(position=msgspec.structs.replace(position, strategy_id=None), trip_value=_worth_carried(position))


def _worth_carried(position: Position) -> Decimal:
    return -position.quantity * average_price(position) * position.multiplier if position.quantity else _ZERO
