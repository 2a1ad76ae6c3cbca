"""What reads of a broker prove about positions: which are believed, and for how long one that disagrees is not.

A read of positions is believed for an instrument only when it tells of the same trades as the order books before
and after it, and its quantity follows from the last one that was believed, or from what was carried into the day:
the broker's caches lag, and answers come partial or empty. One that disagrees is believed once it has stood for a
minute, which no cache of the broker is known to outlast (kite.md 9.1), and never while it lacks a place that must
be in it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

import msgspec

from engine.domain.flatten import DELIVERY, BookRow, Held, Place, held_today, moved, traded

LAG_S = 60.0


class Book(msgspec.Struct, frozen=True):
    """A whole read of the order book: begun at ``began_s`` (monotonic) and ``at`` (UTC); rows by broker order id."""

    began_s: float
    at: datetime
    rows: dict[str, BookRow]

    @property
    def open_rows(self) -> list[BookRow]:
        """The orders that may still fill."""
        return [row for row in self.rows.values() if row.is_open]


class Positions(msgspec.Struct, frozen=True):
    """A read of the positions: begun at ``began_s`` (monotonic) and ``at`` (UTC)."""

    began_s: float
    at: datetime
    held: dict[Place, Held]


class Reads:
    """The last two order books and the last positions, and what follows from them.

    *carried* are the signed units that our own books know to have been held over night, by place.
    """

    def __init__(self, carried: Mapping[Place, int]) -> None:
        self._carried = {place: units for place, units in carried.items() if units}
        # since when (monotonic seconds) the broker has been known to have an order
        self._seen: dict[str, float] = {}
        # the net that was believed last, and what the book had moved by then
        self._base: dict[Place, tuple[int, int]] = {place: (units, 0) for place, units in self._carried.items()}
        self._differs: dict[Place, tuple[object, float]] = {}
        self.book: Book | None = None
        self.before: Book | None = None
        self.positions: Positions | None = None
        # places that the last read proves nothing about
        self.unproven: set[Place] = set()

    def must_show(self, broker_id: str, now_s: float) -> None:
        """The broker has told of this order: a book that is asked for from now on and lacks it is not whole."""
        self._seen.setdefault(broker_id, now_s)

    def take_book(self, rows: Sequence[BookRow], *, began_s: float, at: datetime) -> bool:
        """Take in a read of the order book; False, and forgotten, when it lacks an order that is known of today."""
        found = {row.order_id: row for row in rows}
        if any(order_id not in found and since_s <= began_s for order_id, since_s in self._seen.items()):
            return False
        for order_id in found:
            self._seen.setdefault(order_id, began_s)
        self.before, self.book = self.book, Book(began_s, at, found)
        return True

    def take_positions(self, held: Iterable[Held], *, began_s: float, at: datetime) -> None:
        """Take in a read of the positions; it proves something once the book was read before and after it."""
        self.positions = Positions(began_s, at, {row.place: row for row in held})

    def works(self) -> list[BookRow]:
        """Return what one of the last two books shows as able to fill, as the later one has it."""
        rows = {row.order_id: row for book in (self.before, self.book) if book is not None for row in book.open_rows}
        return list(rows.values())

    def believe(self, now_s: float) -> Mapping[Place, Held] | None:
        """Return what is held at each place that is proven; None without a read of positions between two books."""
        read, before, after = self.positions, self.before, self.book
        if read is None or before is None or after is None or not before.began_s <= read.began_s <= after.began_s:
            return None
        first, last = traded(before.rows.values()), traded(after.rows.values())
        told, units = held_today(read.held), moved(after.rows.values())
        believed: dict[Place, Held] = {}
        self.unproven = set()
        for place in {*read.held, *self._base, *units}:
            instrument, row = place[:2], read.held.get(place)
            trades = last.get(instrument, (0, 0))
            if first.get(instrument, (0, 0)) != trades:
                self._differs.pop(place, None)
                self.unproven.add(place)
                continue
            net = 0 if row is None else row.quantity
            base = self._base.get(place, (0, 0))
            follows = net - base[0] == units.get(place, 0) - base[1]
            agrees = told.get(instrument, (0, 0)) == trades and (row is not None or place not in units)
            if (agrees and follows) or self._has_stood(place, row, (net, told.get(instrument), trades), units, now_s):
                if agrees and follows:
                    self._differs.pop(place, None)
                self._base[place] = (net, units.get(place, 0))
                believed[place] = row or Held(place=place, quantity=0)
            else:
                self.unproven.add(place)
        return believed

    def _has_stood(
        self, place: Place, row: Held | None, figures: object, units: Mapping[Place, int], now_s: float
    ) -> bool:
        held, since = self._differs.get(place, (None, now_s))
        if held != figures:
            since = now_s
        self._differs[place] = (figures, since)
        # a row that must be there and is not proves a partial answer, however long it stands
        kept = place in self._carried and place[2] not in DELIVERY
        return now_s - since >= LAG_S and not (row is None and (place in units or kept))
