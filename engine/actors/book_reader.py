"""Reading the broker's order book into the books of an account.

Of a row is believed: that the broker has the order, and what has filled as far as the trades of it are
in the books. What a row shows beyond that is looked for in the trade book first.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import structlog

from engine.actors.order_desk import OrderDesk
from engine.actors.order_index import ENDED_SHORT
from engine.actors.settled_rows import SettledRows
from engine.broker.book import Book
from engine.broker.icebergs import join_legs, live_leg
from engine.broker.values import BrokerOrder
from engine.clock import trading_day
from engine.domain.enums import Exchange, OrderStatus, OrderType, Variety
from engine.domain.order import Order, OrderReport

_log = structlog.get_logger(__name__)

_LOOKS_FOR_TRADES = 5
_LOOKS_FOR_PRICE = 20
_LOOKS_FOR_YESTERDAY = 3
# It was placed for the next session: a book that is being made up for that must not end it.
_LOOKS_FOR_AFTER_MARKET = 600


class BookNews(msgspec.Struct, frozen=True, kw_only=True):
    """What a read of the order book showed beyond the orders' own progress.

    ``found`` are orders seen in it, whatever their state. ``excess`` are rows that work at the broker and
    must not: their order was given up, or has been placed already. ``doubles`` are rows, shown for the first
    time, of an order placed already that has ended too, perhaps filled. ``foreign`` are rows of today that are
    of no order in the ledger.
    """

    found: frozenset[UUID]
    excess: Sequence[tuple[Order, BrokerOrder]] = ()
    doubles: Sequence[tuple[Order, BrokerOrder]] = ()
    foreign: Sequence[BrokerOrder] = ()


class BookReader:
    """Folds reads of the order book into an `OrderDesk`; remembers what was strange in earlier ones."""

    def __init__(self, desk: OrderDesk) -> None:
        self._desk = desk
        self._index = desk.index
        self._holdings = desk.holdings
        self._strange: set[str] = set()
        self._lacking: dict[str, int] = {}
        self._absent: dict[UUID, int] = {}
        self._smaller: dict[str, int] = {}
        self._legs: dict[str, tuple[str, ...]] = {}
        self._day: date | None = None
        # instruments with an order of somebody else that the books do not have yet
        self._strangers: frozenset[tuple[str, str]] = frozenset()
        self._settled = SettledRows(desk)

    def is_behind(self, key: tuple[Exchange, str]) -> bool:
        """Whether something of an instrument has filled, as far as is known, that is not in the books yet."""
        return self.lacks_trades or (key[0].value, key[1]) in self._strangers

    @property
    def lacks_trades(self) -> bool:
        """Whether something has filled that the trade book did not show yet."""
        return bool(self._lacking)

    def shows_new_fills(self, book: Book[BrokerOrder]) -> bool:
        """Whether *book* has more filled than the books hold; then the trades must be read first."""
        self._turn_day()
        return bool(self._missing(self._settled.others(book)))

    def progress(self, book: Book[BrokerOrder]) -> list[list[BrokerOrder]]:
        """Return by instrument the rows that tell no more than that an order of ours has gone on as orders do.

        An instrument in which anything else is new is left out: seen in parts it might look as it never was.
        """
        self._turn_day()
        found: defaultdict[tuple[str, str], list[BrokerOrder]] = defaultdict(list)
        odd: set[tuple[str, str]] = set()
        for row in self._settled.others(book):
            order = self._plain(row)
            if order is None:
                if not self._settled.is_over(row):
                    odd.add((row.exchange, row.symbol))
            elif row.status is not order.status or row.filled_quantity != order.filled_quantity:
                found[row.exchange, row.symbol].append(row)
        return [rows for instrument, rows in found.items() if instrument not in odd]

    def follow_progress(self, rows: Sequence[BrokerOrder]) -> None:
        """Take in some rows of `progress`, whose trades have been taken, ahead of the rest of their book."""
        for row in rows:
            order = self._plain(row)
            if order is not None:
                self._desk.known_broker_ids.add(row.broker_order_id)
                self.follow(order, row)

    def _plain(self, row: BrokerOrder) -> Order | None:
        """Return the order of today that *row*, and no other, is of, as long as it is not over; else None."""
        order = self._index.sole_of(row)
        if (
            order is None
            or row.quantity != order.quantity
            or not order.status.is_working
            or order.is_external
            or order.trading_day != self._day
            # the day may turn while the news of a look are taken in
            or self._day != self._desk.day
        ):
            return None
        return order

    def _missing(self, rows: Sequence[BrokerOrder]) -> list[tuple[Order, BrokerOrder]]:
        found: list[tuple[Order, BrokerOrder]] = []
        for row in rows:
            if not row.filled_quantity or self._settled.is_over(row):
                continue
            if row.filled_quantity > self._holdings.booked(row.broker_order_id)[0]:
                order = self._index.find(row)
                if order is not None:
                    found.append((order, row))
        return found

    def take(self, book: Book[BrokerOrder]) -> BookNews:
        """Fold the order book in; the trades that its fills are of have been taken, as far as there are any."""
        self._turn_day()
        rows = self._settled.others(book)
        self._stand_in(rows)
        found: set[UUID] = set()
        excess: list[tuple[Order, BrokerOrder]] = []
        doubles: list[tuple[Order, BrokerOrder]] = []
        foreign: list[BrokerOrder] = []
        known = self._desk.known_broker_ids
        for row in self._whole(rows):
            if row.broker_order_id in known and self._settled.is_over(row):
                continue
            order = self._index.find(row)
            of_today = self._is_of_today(row)
            if of_today or (order is not None and order.trading_day == self._day):
                known.add(row.broker_order_id)
            if order is None:
                # what still works counts whatever its date: it was placed for this session before it began
                if (of_today or not row.status.is_terminal) and row not in self._desk.closed:
                    foreign.append(row)
                continue
            found.add(order.id)
            if order.broker_order_id not in (None, row.broker_order_id):
                is_new = self._note_second(order, row)
                # a smaller one is a slice that the broker made of the order
                if row.quantity >= order.quantity and row.status.is_working:
                    excess.append((order, row))
                elif row.quantity >= order.quantity and row.filled_quantity and is_new:
                    doubles.append((order, row))
                continue
            was_given_up = order.id in self._index.given_up
            self.follow(order, row)
            if order.is_external:
                continue  # not ours to cancel
            if row.status.is_working and order.status in ENDED_SHORT and (was_given_up or self._again(row)):
                excess.append((self._index.orders[order.id], row))
        self._end_yesterday(found)
        self._strangers = frozenset((row.exchange, row.symbol) for row in foreign if row.filled_quantity)
        self._settled.note(book)
        return BookNews(found=frozenset(found), excess=excess, doubles=doubles, foreign=foreign)

    def _whole(self, book: Sequence[BrokerOrder]) -> Sequence[BrokerOrder]:
        """Return the rows of a book with the legs of each iceberg order of ours as one row."""
        if not self._index.icebergs:
            return book
        legs: dict[UUID, list[BrokerOrder]] = {}
        rest: list[BrokerOrder] = []
        for row in book:
            order = self._index.find(row)
            if order is not None and order.id in self._index.icebergs:
                legs.setdefault(order.id, []).append(row)
                self._desk.known_broker_ids.add(row.broker_order_id)
            else:
                rest.append(row)
        for order_id, rows in legs.items():
            joined = join_legs(self._index.orders[order_id], rows)
            self._legs[joined.broker_order_id] = tuple(row.broker_order_id for row in rows)
            self._index.live_legs[order_id] = live_leg(rows) or joined.broker_order_id
            rest.append(joined)
        return rest

    def _booked(self, broker_order_id: str) -> tuple[int, Decimal]:
        """Return what of an order is booked, and at which average: of all its legs, where it has some."""
        found = [self._holdings.booked(leg) for leg in self._legs.get(broker_order_id, (broker_order_id,))]
        quantity = sum(units for units, _ in found)
        value = sum((units * average for units, average in found), Decimal(0))
        return found[0] if len(found) == 1 else (quantity, value / quantity if quantity else Decimal(0))

    def follow(self, order: Order, row: BrokerOrder) -> None:
        """Take into *order* what its row of the book says; its trades have been taken."""
        self._desk.report(self._with_terms(order, row), self._believed(row))

    def _with_terms(self, order: Order, row: BrokerOrder) -> Order:
        """Take over what somebody changed of an order by hand, in the broker's own program."""
        if order.status.is_terminal or row.quantity <= 0 or row.broker_order_id != order.broker_order_id:
            return order
        terms: dict[str, Any] = {}
        asked = self._desk.expected(order.id)
        if asked and _shows(row, asked):
            self._desk.expect_no_more(order.id)
            return self._desk.change(order, "the change is in the book", **asked)
        is_smaller = row.quantity < order.quantity and not order.is_external
        if row.quantity != order.quantity and (not is_smaller or self._was_made_smaller(order, row)):
            terms["quantity"] = row.quantity
        if order.is_external:
            prices = {"price": row.price or None, "trigger_price": row.trigger_price or None}
            terms |= {name: price for name, price in prices.items() if getattr(order, name) != price}
        if not terms:
            return order
        detail = ", ".join(f"{name} {getattr(order, name)} -> {value}" for name, value in terms.items())
        return self._desk.change(order, f"changed at the broker: {detail}", anomaly=not order.is_external, **terms)

    def _was_made_smaller(self, order: Order, row: BrokerOrder) -> bool:
        """Whether a row that is smaller than its order is all of it, and not a slice that the broker made of it.

        A crash takes from us what was asked of the broker, and a book from a cache may have shown the order as it was.
        """
        rows = sum(order_id == order.id for order_id in self._index.by_broker_id.values())
        if rows > 1 or row.quantity < order.filled_quantity:
            return False
        # slices come one after the other: the look that shows the first may not show the next
        before = self._smaller.get(row.broker_order_id)
        self._smaller[row.broker_order_id] = row.quantity
        return before == row.quantity

    def _believed(self, row: BrokerOrder) -> OrderReport:
        report = row.as_report()
        if report.status is OrderStatus.UNKNOWN:
            # words that say nothing of the state say that the broker has it
            report = msgspec.structs.replace(report, status=OrderStatus.SUBMITTED)
        if not report.filled_quantity:
            return report
        quantity, average = self._booked(row.broker_order_id)
        if quantity >= report.filled_quantity:
            return report
        status = OrderStatus.OPEN if report.status.is_terminal else report.status
        return msgspec.structs.replace(report, status=status, filled_quantity=quantity, average_price=average)

    def _stand_in(self, rows: Sequence[BrokerOrder]) -> None:
        """Book a synthetic fill for what no trade has shown in several looks."""
        missing = self._missing(rows)
        looks = {row.broker_order_id: self._lacking.get(row.broker_order_id, 0) + 1 for _, row in missing}
        for order, row in missing:
            tries = looks[row.broker_order_id]
            price = row.average_price
            if not price and tries >= _LOOKS_FOR_PRICE:
                price = order.price or order.trigger_price or Decimal(0)
            if tries >= _LOOKS_FOR_TRADES and price:
                self._holdings.stand_in(order, row.broker_order_id, row.filled_quantity, price)
                del looks[row.broker_order_id]
        self._lacking = looks

    def _note_second(self, order: Order, row: BrokerOrder) -> bool:
        """Note a second row of one order, a slice of it or one order too many; False when that is done."""
        if row.broker_order_id in self._strange:
            return False
        self._strange.add(row.broker_order_id)
        self._desk.note(order, f"SECOND_AT_BROKER: also {row.broker_order_id}, {row.quantity} units", anomaly=True)
        return True

    def _again(self, row: BrokerOrder) -> bool:
        # a book that comes from a cache may show once more what is over; twice it is no echo
        if row.broker_order_id in self._strange:
            return True
        self._strange.add(row.broker_order_id)
        return False

    def _end_yesterday(self, found: set[UUID]) -> None:
        """End orders of an earlier day that the book of today does not have: they were good for their day."""
        day = self._desk.day
        gone = [
            order
            for order_id in (*self._index.open, *self._index.open_external)
            if (order := self._index.orders[order_id]).status.is_working
            and order_id not in found
            and day is not None
            and order.trading_day < day
        ]
        self._absent = {order.id: self._absent.get(order.id, 0) + 1 for order in gone}
        for order in gone:
            looks = _LOOKS_FOR_AFTER_MARKET if order.variety is Variety.AMO else _LOOKS_FOR_YESTERDAY
            if self._absent[order.id] >= looks:
                text = f"DAY_ENDED: the order book of {day} does not have it any more"
                self._desk.move(order, OrderStatus.EXPIRED, message=text)

    def _turn_day(self) -> None:
        if self._day != self._desk.day:
            self._day = self._desk.day
            self._strange.clear()
            self._lacking.clear()
            self._smaller.clear()
            self._legs.clear()
            self._settled.clear()

    def _is_of_today(self, row: BrokerOrder) -> bool:
        # yesterday's rows stand in the book until the broker clears it, and must not be missed after that
        stamps = (row.order_timestamp, row.exchange_timestamp)
        return any(at is not None and trading_day(at) == self._desk.day for at in stamps)


def _shows(row: BrokerOrder, terms: Mapping[str, Any]) -> bool:
    """Whether *row* has the terms that were asked for; a MARKET order stands there as the LIMIT it became."""
    if terms.get("quantity", row.quantity) != row.quantity:
        return False
    if terms.get("order_type") in (OrderType.MARKET, OrderType.SL_M):
        return True
    return all(terms.get(name, getattr(row, name)) == getattr(row, name) for name in ("price", "trigger_price"))
