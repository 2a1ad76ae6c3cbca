"""The fills and positions of one account, and their way into the ledger.

What the trade book shows is believed. What the order book says has filled and the trade book does not
show is booked after a while as a synthetic fill, priced so that the cash adds up, and gives way to the
trades when they come.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import structlog

from engine.actors.audit_writer import AuditWriter
from engine.actors.book_desk import BookDesk
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.risk import PositionsChanged, PricesChanged
from engine.broker.values import BrokerPositions, BrokerTrade
from engine.clock import Clock, trading_day
from engine.domain.audit import AuditDraft
from engine.domain.books import Book
from engine.domain.enums import Exchange, ProductType
from engine.domain.fill import Fill, incremental_price
from engine.domain.marks import Priced
from engine.domain.order import Order
from engine.domain.position import Position, PositionKey, apply_fill, roll_day, undo_fill, with_last_price
from engine.errors import BrokerUnavailable, MailboxFull
from engine.store.books import write_books, write_trips
from engine.store.ledger import Write

_log = structlog.get_logger(__name__)

DELIVERED = "POSITION_DELIVERED"
"""The action of taking over a row whose overnight part is in the demat account now."""

_DROP_SYNTHETIC = "DELETE FROM fills WHERE order_id = $1 AND trade_id = $2 AND synthetic"


_PRODUCTS = tuple(ProductType)


class _Booked:
    """The fills of one order at the broker."""

    __slots__ = ("fills", "quantity", "value")

    def __init__(self) -> None:
        self.fills: dict[str, Fill] = {}
        self.quantity = 0
        self.value = Decimal(0)

    def add(self, fill: Fill) -> None:
        self.fills[fill.trade_id] = fill
        self.quantity += fill.quantity
        self.value += fill.quantity * fill.price

    def remove(self, fill: Fill) -> None:
        del self.fills[fill.trade_id]
        self.quantity -= fill.quantity
        self.value -= fill.quantity * fill.price


class PositionDesk:
    """Fills by the broker's order id, and the positions they add up to; a single writer keeps them."""

    def __init__(
        self,
        account_id: UUID,
        *,
        clock: Clock,
        ledger: AuditWriter,
        tell: Callable[[Any], None],
        multiplier: Callable[[Exchange, str], Decimal],
        stir: Callable[[tuple[Exchange, str]], None],
        owner_of: Callable[[UUID], UUID | None] = lambda _order_id: None,
        live: Callable[[str], Decimal | None] = lambda _key: None,
    ) -> None:
        self.account_id = account_id
        self._clock = clock
        self._ledger = ledger
        self._tell = tell
        self._multiplier = multiplier
        self._stir = stir
        self._live = live
        self.book_desk = BookDesk(owner_of=owner_of)
        self.positions: dict[PositionKey, Position] = {}
        self._booked: dict[str, _Booked] = {}
        self._unreadable: set[tuple[str, str]] = set()
        self._day: date | None = None

    def restore(
        self,
        fills: Sequence[Fill],
        positions: Iterable[tuple[Position, date]],
        day: date,
        books: Iterable[tuple[Book, date]] = (),
    ) -> None:
        """Take over what the ledger holds; *day* is the IST date of now."""
        self._day = day
        self._booked = {}
        for fill in fills:
            self._booked.setdefault(fill.broker_order_id, _Booked()).add(fill)
        self.positions = {}
        for position, of in positions:
            current = position if of == day else roll_day(position, position.last_price)
            self.positions[current.key] = current
        mended = self.book_desk.restore(books, fills, self.positions.values(), day)
        self._save([self.positions[book.key] for book in mended], mended)

    def roll_day(self, day: date) -> None:
        """Begin the IST *day*: positions become overnight, flat ones go."""
        self._day = day
        self._unreadable.clear()
        rolled = [roll_day(position, position.last_price) for position in self.positions.values()]
        self.positions = {position.key: position for position in rolled if position.quantity}
        self._save(rolled, self.book_desk.roll_day(day))

    def instruments(self) -> set[tuple[Exchange, str]]:
        """Return what something is held of, by the account or in one of its books."""
        books = (book.position for book in self.book_desk.books.all())
        return {held.key[1:3] for held in (*self.positions.values(), *books) if held.quantity}

    def instruments_listed(self) -> set[tuple[Exchange, str]]:
        """Return the instruments of the account's positions, flat ones included."""
        return {(exchange, symbol) for _, exchange, symbol, _ in self.positions}

    def quantities_in(self, exchange: Exchange, symbol: str) -> list[int]:
        """Return the signed units of the account's positions in an instrument, a product each."""
        held = (self.positions.get((self.account_id, exchange, symbol, product)) for product in _PRODUCTS)
        return [position.quantity for position in held if position is not None]

    @property
    def has_open(self) -> bool:
        """Whether anything is held."""
        return any(position.quantity for position in self.positions.values())

    def booked(self, broker_order_id: str) -> tuple[int, Decimal]:
        """Return the units of the broker's order that are in the books, and their average price in rupees."""
        held = self._booked.get(broker_order_id)
        if held is None or not held.quantity:
            return 0, Decimal(0)
        return held.quantity, held.value / held.quantity

    def has_trade(self, trade: BrokerTrade) -> bool:
        """Whether a trade is in the books."""
        held = self._booked.get(trade.broker_order_id)
        return held is not None and trade.trade_id in held.fills

    def filled_at(self, broker_order_id: str) -> datetime | None:
        """Return when the broker's order was last dealt, as its trades say; None when none is in the books."""
        held = self._booked.get(broker_order_id)
        return None if held is None else max((fill.filled_at for fill in held.fills.values()), default=None)

    def forget(self, broker_order_id: str) -> None:
        """Drop the fills of an order that is over; its position stays."""
        self._booked.pop(broker_order_id, None)
        self.book_desk.forget(broker_order_id)

    # trades

    def take_trades(self, trades: Iterable[BrokerTrade], order_of: Callable[[str], UUID | None]) -> None:
        """Book the trades of our orders that are not in the books yet. Raises MailboxFull, nothing booked then."""
        fills: list[Fill] = []
        dropped: list[Fill] = []
        for trade in trades:
            order_id = order_of(trade.broker_order_id)
            if order_id is None:
                continue
            held = self._booked.setdefault(trade.broker_order_id, _Booked())
            if trade.trade_id in held.fills:
                continue
            try:
                fill = trade.as_fill(order_id=order_id, account_id=self.account_id)
            except BrokerUnavailable as error:
                if (trade.broker_order_id, trade.trade_id) not in self._unreadable:
                    self._unreadable.add((trade.broker_order_id, trade.trade_id))
                    _log.error("trade.unreadable", trade=trade.trade_id, error=str(error))
                continue
            for gone in (stand_ins := self._stand_ins(held)):
                held.remove(gone)
                if gone in fills:
                    fills.remove(gone)
                else:
                    dropped.append(gone)
            for booked in [fill, *_rest(fill, stand_ins, held.quantity)]:
                held.add(booked)
                fills.append(booked)
        if fills:
            try:
                self._book(fills, dropped)
            except MailboxFull:
                for taken in fills:
                    self._booked[taken.broker_order_id].remove(taken)
                for gone in dropped:
                    self._booked[gone.broker_order_id].add(gone)
                raise

    def _stand_ins(self, held: _Booked) -> list[Fill]:
        # of a day that is over nothing can be taken back: its position has been carried over
        return [f for f in held.fills.values() if f.synthetic and trading_day(f.filled_at) == self._day]

    def stand_in(self, order: Order, broker_order_id: str, filled: int, average: Decimal) -> None:
        """Book what the order book says has filled, and no trade shows, as one synthetic fill."""
        held = self._booked.setdefault(broker_order_id, _Booked())
        if filled <= held.quantity:
            return
        before = held.value / held.quantity if held.quantity else Decimal(0)
        fill = Fill(
            trade_id=_synthetic_id(held.quantity, filled),
            order_id=order.id,
            account_id=self.account_id,
            broker_order_id=broker_order_id,
            exchange=order.exchange,
            symbol=order.symbol,
            product_type=order.product_type,
            transaction_type=order.transaction_type,
            quantity=filled - held.quantity,
            price=incremental_price(held.quantity, before, filled, average),
            filled_at=self._clock.now(),
            synthetic=True,
        )
        self._book([fill], [])
        held.add(fill)
        _log.warning("fill.synthetic", order=str(order.id), quantity=fill.quantity, price=str(fill.price))

    def _book(self, fills: Sequence[Fill], dropped: Sequence[Fill]) -> None:
        changed: dict[PositionKey, Position] = {}
        for fill, sign in [*((fill, -1) for fill in dropped), *((fill, 1) for fill in fills)]:
            key = (self.account_id, fill.exchange, fill.symbol, fill.product_type)
            held = changed.get(key) or self.positions.get(key)
            before = held or Position(
                account_id=self.account_id,
                exchange=fill.exchange,
                symbol=fill.symbol,
                product_type=fill.product_type,
                multiplier=self._multiplier(fill.exchange, fill.symbol),
            )
            after = apply_fill(before, fill) if sign > 0 else undo_fill(before, fill)
            # a trade is read some time after it was made: a ticker knows better by then
            changed[key] = with_last_price(after, self._live(f"{fill.exchange}:{fill.symbol}") or fill.price)
        now = self._clock.now()
        day = trading_day(now)
        booking = self.book_desk.work_out(fills, dropped, changed)
        # first the ledger: an entry that finds no room leaves the books as they were
        self._ledger.append(
            LedgerEntry(
                fills=fills,
                positions=[(position, day, now) for position in changed.values()],
                writes=[
                    *(Write(sql=_DROP_SYNTHETIC, args=(fill.order_id, fill.trade_id)) for fill in dropped),
                    write_books(booking.books, day=day, at=now),
                    *([write_trips(booking.trips, day=day)] if booking.trips else ()),
                ],
                audit=[
                    *(_fill_audit(fill, now, "FILL_REPLACED") for fill in dropped),
                    *(_fill_audit(fill, now, "FILL_SYNTHETIC" if fill.synthetic else "FILL") for fill in fills),
                ],
                on_fail=_refused,
                can_wait=True,
            )
        )
        self.positions.update(changed)
        self.book_desk.settle(booking)
        for _, exchange, symbol, _ in changed:
            self._stir((exchange, symbol))
        self._tell(PositionsChanged(positions=tuple(changed.values()), books=booking.books, trips=booking.trips))

    # value

    def mark(self, positions: BrokerPositions, *, live: Callable[[str], Decimal | None] = lambda _key: None) -> None:
        """Take last prices for our positions: those that a ticker keeps (*live*, by ``EXCHANGE:SYMBOL``).

        Else from the broker's own rows, whose prices lag. Nothing else of the rows is believed here.
        """
        changed: list[Position] = []
        prices: list[Priced] = []
        for row in positions.net:
            try:
                key = (self.account_id, Exchange(row.exchange), row.symbol, ProductType(row.product))
            except ValueError:
                continue
            held = self.positions.get(key)
            price = live(f"{row.exchange}:{row.symbol}") or row.last_price
            if price:
                self.book_desk.mark(key, price)
            if held is None or not price or held.last_price == price:
                continue
            self.positions[key] = with_last_price(held, price)
            changed.append(self.positions[key])
            prices.append((key[1], row.symbol, price))
        if prices:
            self._tell(PricesChanged(prices=tuple(prices)))
        self._save(changed)

    def adopt(self, theirs: Position, *, action: str) -> None:
        """Take over the broker's row of a position, every figure of it; the audit record says what was before."""
        now = self._clock.now()
        before = self.positions.get(theirs.key)
        position = theirs if theirs.last_price or before is None else with_last_price(theirs, before.last_price)
        draft = AuditDraft(
            at=now,
            actor="system",
            action=action,
            subject=f"account:{self.account_id}",
            content={
                "exchange": theirs.exchange,
                "symbol": theirs.symbol,
                "productType": theirs.product_type,
                "before": None if before is None else _figures(before),
                "after": _figures(position),
            },
        )
        if action == DELIVERED:
            books = self.book_desk.delivered(before, position)
        else:
            books = self.book_desk.adopted(before, position)
        entry = LedgerEntry(
            positions=[(position, trading_day(now), now)],
            writes=[write_books(books, day=trading_day(now), at=now)],
            audit=[draft],
            on_fail=_refused,
        )
        self._ledger.append(entry)
        self.positions[position.key] = position
        for book in books:
            self.book_desk.put(book)
        self._stir((position.exchange, position.symbol))
        self._tell(PositionsChanged(positions=(position,), books=books))

    def _save(self, positions: Sequence[Position], books: Sequence[Book] = ()) -> None:
        if positions or books:
            now = self._clock.now()
            entry = LedgerEntry(
                positions=[(p, trading_day(now), now) for p in positions],
                writes=[write_books(books, day=trading_day(now), at=now)] if books else (),
                on_fail=_refused,
            )
            self._ledger.append(entry)
            self._tell(PositionsChanged(positions=tuple(positions), books=tuple(books)))


def _figures(position: Position) -> dict[str, Any]:
    return {
        "quantity": position.quantity,
        "overnightQuantity": position.overnight_quantity,
        "buyQuantity": position.buy_quantity,
        "buyValue": position.buy_value,
        "sellQuantity": position.sell_quantity,
        "sellValue": position.sell_value,
        "multiplier": position.multiplier,
    }


def _rest(trade: Fill, stand_ins: Sequence[Fill], known: int) -> list[Fill]:
    """Return what still stands in once *trade* has taken its part: the rest of the units, the cash the same."""
    quantity = sum(fill.quantity for fill in stand_ins)
    if quantity <= trade.quantity:
        return []
    worth = sum((fill.quantity * fill.price for fill in stand_ins), Decimal(0))
    price = incremental_price(trade.quantity, trade.price, quantity, worth / quantity)
    name = _synthetic_id(known + trade.quantity, known + quantity)
    return [msgspec.structs.replace(stand_ins[0], trade_id=name, quantity=quantity - trade.quantity, price=price)]


def _synthetic_id(known: int, filled: int) -> str:
    """Return the name of what stands in for the trades between two filled quantities; Kite's ids are numbers."""
    return f"SYNTHETIC-{known}-{filled}"


def _refused(error: Exception) -> None:
    # the next change of the position writes it whole; a fill that the store refuses stays in memory only
    _log.error("ledger.refused_fills", error=str(error))


def _fill_audit(fill: Fill, now: datetime, action: str) -> AuditDraft:
    return AuditDraft(
        at=now,
        actor="system",
        action=action,
        subject=f"order:{fill.order_id}",
        content={
            "tradeId": fill.trade_id,
            "accountId": fill.account_id,
            "symbol": fill.symbol,
            "quantity": fill.quantity,
            "price": fill.price,
            "filledAt": fill.filled_at,
        },
    )
