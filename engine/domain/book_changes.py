"""What changes strategy books without a trade: the broker's figures taken over, delivery, and the turn of the day.

None of it earns or costs anything at the instant at which it happens, and after each the books of a position add up
to it as before.
"""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal

import msgspec

from engine.domain.books import HAND, Book, Books, closed_by_hand, empty_book, smaller
from engine.domain.enums import ProductType
from engine.domain.position import Position, PositionKey, average_price, roll_day

_ZERO = Decimal(0)


def adopt(books: Books, ours: Position | None, theirs: Position) -> Book:
    """Return the hand book with what the broker's row *theirs* has more or less than the books of the position.

    The difference comes in at the price that the position is marked at, so that taking it over earns and costs
    nothing. Only what the broker carried over the night, and we have not had, comes in at the close that the
    day's mark begins from: what it made since is made today.
    """
    key = theirs.key
    hand = books.get(key, HAND) or empty_book(theirs, None)
    change = theirs.quantity - books.quantity(key)
    mark = _mark(hand.position, ours, theirs)
    carried = theirs.overnight_quantity - (0 if ours is None else ours.overnight_quantity)
    is_new = carried * change > 0 and theirs.quantity * change > 0 and bool(theirs.close_price)
    night = smaller(carried, change) if is_new else 0
    position = _shifted(_shifted(hand.position, night, theirs.close_price), change - night, mark)
    position = msgspec.structs.replace(position, last_price=mark or position.last_price)
    cash = -(night * theirs.close_price + (change - night) * mark) * position.multiplier
    turned = position.quantity * hand.position.quantity <= 0
    trip_value = -position.quantity * mark * position.multiplier if turned else hand.trip_value + cash
    return Book(
        position=position,
        charges=hand.charges,
        trip_value=trip_value,
        trip_charges=_ZERO if turned else hand.trip_charges,
    )


def _mark(hand: Position, ours: Position | None, theirs: Position) -> Decimal:
    known = (theirs.last_price, _ZERO if ours is None else ours.last_price, hand.last_price)
    return next((price for price in known if price), average_price(theirs) or theirs.close_price)


def _shifted(position: Position, quantity: int, price: Decimal) -> Position:
    """Return *position* with signed units more, as if traded today at *price*."""
    worth = abs(quantity) * price * position.multiplier
    if quantity > 0:
        return msgspec.structs.replace(
            position,
            quantity=position.quantity + quantity,
            buy_quantity=position.buy_quantity + quantity,
            buy_value=position.buy_value + worth,
            day_buy_quantity=position.day_buy_quantity + quantity,
            day_buy_value=position.day_buy_value + worth,
        )
    if not quantity:
        return position
    return msgspec.structs.replace(
        position,
        quantity=position.quantity + quantity,
        sell_quantity=position.sell_quantity - quantity,
        sell_value=position.sell_value + worth,
        day_sell_quantity=position.day_sell_quantity - quantity,
        day_sell_value=position.day_sell_value + worth,
    )


def deliver(books: Books, ours: Position | None, theirs: Position) -> list[Book]:
    """Return the books of a position whose overnight part has gone to the demat account, or was taken out of it.

    Each book lets go what it held over the night; what that does not explain is the hand's.
    """
    after = Books()
    for book in books.of(theirs.key).values():
        position = book.position
        mark = position.last_price or average_price(position)
        shifted = _shifted(position, -position.overnight_quantity, mark)
        after.put(_resumed(book, shifted, mark))
    if after.quantity(theirs.key) != theirs.quantity:
        after.put(adopt(after, ours, theirs))
    return list(after.of(theirs.key).values())


def roll_books(books: Iterable[Book]) -> list[Book]:
    """Return the books, all of their positions, as a new day begins: at their last price, nothing charged yet.

    What the hand held against strategies has closed that much of theirs for good: a person, or the broker at its own
    square-off, ended it. And of an intraday position that is flat nothing is left to anybody.
    """
    of_key: defaultdict[PositionKey, list[Book]] = defaultdict(list)
    for book in books:
        position = roll_day(book.position, book.position.last_price)
        of_key[book.key].append(msgspec.structs.replace(book, position=position, charges=_ZERO))
    return [book for together in of_key.values() for book in _settled(together)]


def _settled(books: list[Book]) -> list[Book]:
    if books[0].position.product_type is ProductType.MIS and not sum(book.position.quantity for book in books):
        return [_resized(book, 0) for book in books]
    closed = closed_by_hand(books)
    if not closed:
        return books
    closed[HAND] = -sum(closed.values())
    return [_resized(book, book.position.quantity - closed.get(book.owner, 0)) for book in books]


def _resized(book: Book, quantity: int) -> Book:
    """Return a book that has just been rolled with *quantity* units in place of what it holds."""
    held = book.position
    if quantity == held.quantity:
        return book
    worth = abs(quantity) * average_price(held) * held.multiplier
    position = msgspec.structs.replace(
        held,
        quantity=quantity,
        overnight_quantity=quantity,
        buy_quantity=max(quantity, 0),
        buy_value=worth if quantity > 0 else _ZERO,
        sell_quantity=max(-quantity, 0),
        sell_value=worth if quantity < 0 else _ZERO,
    )
    return _resumed(book, position, held.last_price or average_price(held))


def _resumed(book: Book, position: Position, mark: Decimal) -> Book:
    """Return a book with *position*, the difference traded at *mark*; a trip that comes to nothing by it is none."""
    change = position.quantity - book.position.quantity
    if not position.quantity:
        return msgspec.structs.replace(book, position=position, trip_value=_ZERO, trip_charges=_ZERO)
    return msgspec.structs.replace(
        book, position=position, trip_value=book.trip_value - change * mark * position.multiplier
    )
