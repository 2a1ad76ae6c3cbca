"""The strategy books of one account, as its fills make them: whose each trade is, and what its order costs.

Owned by the account's position desk, which writes what is worked out here in the ledger entry that takes the
fills. Nothing of it is in the books before that entry has found room.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

import msgspec
import structlog

from engine.domain.book_changes import adopt, deliver, roll_books
from engine.domain.books import Book, Books, Execution, RoundTrip, as_hand, remarked, take_fills
from engine.domain.charges import charges_of_turnover
from engine.domain.fill import Fill
from engine.domain.position import Position, PositionKey

_log = structlog.get_logger(__name__)


class _Spent(NamedTuple):
    """What an order has turned over, rupees, and what that costs."""

    turnover: Decimal
    charge: Decimal


_UNSPENT = _Spent(Decimal(0), Decimal(0))


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """Books, whole, and round trips as some fills have made them."""

    books: tuple[Book, ...]
    trips: tuple[RoundTrip, ...]
    spent: Mapping[str, _Spent]


class BookDesk:
    """Keeps the books; *owner_of* returns the strategy of an order, None when it is nobody's but the person's."""

    def __init__(self, *, owner_of: Callable[[UUID], UUID | None]) -> None:
        self._owner_of = owner_of
        self.books = Books()
        self._spent: dict[str, _Spent] = {}
        self._day: date | None = None

    def restore(
        self, books: Iterable[tuple[Book, date]], fills: Iterable[Fill], positions: Iterable[Position], day: date
    ) -> list[Book]:
        """Take over what the ledger holds; return the books that had to be made to fit the *positions* of today."""
        self._day = day
        self.books = Books()
        held = list(books)
        for book in (*(b for b, of in held if of >= day), *roll_books(b for b, of in held if of < day)):
            self.books.put(book)
        mended: list[Book] = []
        multipliers: dict[PositionKey, Decimal] = {}
        for position in positions:
            multipliers[position.key] = position.multiplier
            if not self.books.of(position.key):
                mended.append(as_hand(position))
            elif self.books.quantity(position.key) != position.quantity:
                _log.error("books.do_not_add_up", account=str(position.account_id), symbol=position.symbol)
                mended.append(adopt(self.books, position, position))
        for book in mended:
            self.books.put(book)
        self._spent = {}
        for fill in fills:
            key = (fill.account_id, fill.exchange, fill.symbol, fill.product_type)
            self._spend(self._spent, fill, 1, multipliers.get(key, Decimal(1)))
        return mended

    def roll_day(self, day: date) -> list[Book]:
        """Begin the IST *day*; return every book as it is then."""
        self._day = day
        self._spent.clear()
        rolled = roll_books(self.books.all())
        for book in rolled:
            self.books.put(book)
        self.books.drop_flat()
        return rolled

    def work_out(
        self, fills: Sequence[Fill], dropped: Sequence[Fill], changed: Mapping[PositionKey, Position]
    ) -> Booking:
        """Return what *fills*, in place of *dropped*, make of the books of the positions that they *changed*."""
        spent: dict[str, _Spent] = {}
        executed: defaultdict[PositionKey, list[Execution]] = defaultdict(list)
        undone: defaultdict[PositionKey, list[Execution]] = defaultdict(list)
        charges: dict[str, Decimal] = {}
        for fill, sign in [*((fill, -1) for fill in dropped), *((fill, 1) for fill in fills)]:
            key = (fill.account_id, fill.exchange, fill.symbol, fill.product_type)
            self._spend(spent, fill, sign, changed[key].multiplier)
            if sign < 0:
                undone[key].append(Execution(fill=fill, strategy_id=self._owner_of(fill.order_id)))
        for broker_id, now in spent.items():
            charges[broker_id] = now.charge - self._spent.get(broker_id, _UNSPENT).charge
        for fill in fills:
            key = (fill.account_id, fill.exchange, fill.symbol, fill.product_type)
            # with the first of the order's trades; the others add nothing more
            charge = charges.pop(fill.broker_order_id, Decimal(0))
            executed[key].append(Execution(fill=fill, strategy_id=self._owner_of(fill.order_id), charge=charge))
        books: list[Book] = []
        trips: list[RoundTrip] = []
        for key, position in changed.items():
            now_held, ended = take_fills(self.books, position, executed[key], undone[key])
            books += now_held
            trips += ended
        return Booking(books=tuple(books), trips=tuple(trips), spent=spent)

    def _spend(self, spent: dict[str, _Spent], fill: Fill, sign: int, multiplier: Decimal) -> None:
        before = spent.get(fill.broker_order_id) or self._spent.get(fill.broker_order_id, _UNSPENT)
        turnover = before.turnover + sign * fill.quantity * fill.price * multiplier
        charge = Decimal(0)
        if self._day is not None:
            charge = charges_of_turnover(
                fill.exchange, fill.symbol, fill.product_type, fill.transaction_type, turnover, self._day
            )
        spent[fill.broker_order_id] = _Spent(turnover, charge)

    def settle(self, booking: Booking) -> None:
        """The ledger has room for what was worked out: it is so."""
        for book in booking.books:
            self.books.put(book)
        self._spent.update(booking.spent)

    def put(self, book: Book) -> None:
        """Replace a book."""
        self.books.put(book)

    def adopted(self, ours: Position | None, theirs: Position) -> tuple[Book, ...]:
        """Return the books with the hand's taking what the broker's row has more or less than they add up to."""
        hand = adopt(self.books, ours, theirs)
        others = [book for owner, book in self.books.of(theirs.key).items() if owner != hand.owner]
        return (hand, *(remarked(book, hand.position.last_price) for book in others))

    def delivered(self, ours: Position | None, theirs: Position) -> tuple[Book, ...]:
        """Return the books once what was carried over the night has gone to the demat account."""
        return tuple(deliver(self.books, ours, theirs))

    def mark(self, key: PositionKey, price: Decimal) -> None:
        """Mark the books of a position at *price* rupees."""
        for book in list(self.books.of(key).values()):
            self.books.put(remarked(book, price))

    def forget(self, broker_order_id: str) -> None:
        """Let go what an order has turned over: nothing more of it can fill."""
        self._spent.pop(broker_order_id, None)
