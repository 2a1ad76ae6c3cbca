"""The books of one account: its live orders, and every change of them.

Owned by the account's executor. Each change is one ledger entry (row, event, audit record together)
and is told to the user's risk actor, positions before orders: an order is believed to have filled only
as far as its fills are in the books, so that its units never count nowhere.
"""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import structlog

from engine.actors.audit_writer import AuditWriter
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.order_index import ClosedOrders, OrderIndex
from engine.actors.position_desk import PositionDesk
from engine.actors.risk_messages import OrderChanged
from engine.actors.risk_teller import RiskTeller
from engine.actors.settled_trades import SettledTrades
from engine.broker.book import book_of
from engine.broker.values import BrokerTrade
from engine.clock import Clock, trading_day
from engine.domain.audit import AuditDraft
from engine.domain.books import Book
from engine.domain.compact_set import CompactSet
from engine.domain.enums import Exchange, OrderStatus
from engine.domain.fill import Fill
from engine.domain.gtt import Gtt
from engine.domain.order import Order, OrderEvent, OrderReport, fold, move
from engine.domain.position import Position

_log = structlog.get_logger(__name__)


_CHANGE_NS = 10_000_000_000
# A request that nothing was seen of for so long did nothing (reliability.md 2.4).
_CHANGE_LOST_NS = 180_000_000_000


class AccountHistory(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger knows of an account: the start of its books.

    ``earlier`` are the broker's ids and the tags of the orders of the last week, however they ended;
    ``attached`` its entries with exits, and those exits, in whatever state; ``gtts`` the triggers of those entries,
    and every other that stands at the broker. ``sent_today`` counts the order calls of the day (every attempt,
    cancels and modifications too), and ``recent_calls`` are when (UTC) the latest of them were made. ``books`` are
    the strategy books, each with the IST day that it is of. ``square_off_ids`` are its orders of the last week that
    were made to flatten.
    """

    live_orders: Sequence[Order]
    fills: Sequence[Fill]
    positions: Sequence[tuple[Position, date]]
    broker_ids_today: Sequence[str]
    sent_today: int
    earlier: Sequence[tuple[str, str]] = ()
    attached: Sequence[Order] = ()
    gtts: Sequence[Gtt] = ()
    recent_calls: Sequence[datetime] = ()
    books: Sequence[tuple[Book, date]] = ()
    square_off_ids: frozenset[UUID] = frozenset()


class OrderDesk:
    """Orders of one account and every change of them; a single writer keeps them."""

    def __init__(
        self,
        account_id: UUID,
        *,
        clock: Clock,
        ledger: AuditWriter,
        tell: Callable[[Any], None],
        multiplier: Callable[[Exchange, str], Any],
        live: Callable[[str], Decimal | None] = lambda _key: None,
    ) -> None:
        self.account_id = account_id
        self._clock = clock
        self._ledger = ledger
        self.telling = RiskTeller(account_id, tell)
        self.holdings = PositionDesk(
            account_id,
            clock=clock,
            ledger=ledger,
            tell=self.telling.tell,
            multiplier=multiplier,
            stir=self._stir,
            owner_of=self._strategy_of,
            live=live,
        )
        self.index = OrderIndex()
        self.closed = ClosedOrders()
        self.stirs = 0
        self._stirred: dict[tuple[Exchange, str], int] = {}
        self.known_broker_ids: CompactSet[str] = CompactSet()
        self.day: date | None = None
        # the most trades of today that the trade book has shown: one that shows fewer is an old one
        self.trades_today = 0
        # told of every change of an order
        self.on_order: Callable[[Order], None] = _ignore
        # says of an order of the broker's own making which strategy's it is, None for nobody's
        self.strategy_of_external: Callable[[Order], UUID | None] = _nobodys
        # terms that the broker was asked for and whose change its book has not shown yet
        self._expected: dict[UUID, tuple[dict[str, Any], int]] = {}
        self._settled_trades = SettledTrades(self._has_trade)

    # start and turn of the day

    def restore(self, history: AccountHistory) -> None:
        """Take over what the ledger holds."""
        self.day = trading_day(self._clock.now())
        self.trades_today = 0
        self._settled_trades.clear()
        self.index.restore(history.live_orders)
        self._expected.clear()
        self.known_broker_ids = CompactSet(history.broker_ids_today)
        self.closed.restore(history.earlier, self.day)
        self.holdings.restore(history.fills, history.positions, self.day, history.books)

    def roll_day(self, day: date) -> None:
        """Begin the IST *day*: a new order book at the broker, positions become overnight."""
        if self.day is None or day <= self.day:
            return
        self.day = day
        self.trades_today = 0
        self._settled_trades.clear()
        self.known_broker_ids.clear()
        self.closed.forget_before(day)
        for order in [o for o in self.orders.values() if o.status.is_terminal]:
            self._drop(order.id)
        self.holdings.roll_day(day)

    def _strategy_of(self, order_id: UUID) -> UUID | None:
        order = self.orders.get(order_id)
        if order is None:
            return None
        return order.strategy_id or (self.strategy_of_external(order) if order.is_external else None)

    # what stirs

    def _stir(self, key: tuple[Exchange, str]) -> None:
        self.stirs += 1
        self._stirred[key] = self.stirs

    def stirred_at(self, key: tuple[Exchange, str]) -> int:
        """Return the number, of `stirs`, of the last change of an order or position in the instrument *key*."""
        return self._stirred.get(key, 0)

    def stirred_since(self, stirs: int) -> list[tuple[Exchange, str]]:
        """Return the instruments with a change after number *stirs* of `stirs`."""
        return [key for key, at in self._stirred.items() if at > stirs]

    # orders

    @property
    def orders(self) -> dict[UUID, Order]:
        """The orders by id: what can still change, and what ended short today."""
        return self.index.orders

    def put(self, order: Order) -> None:
        """Take in an order that its maker has recorded already."""
        self.index.put(order)
        self._stir(order.key)

    def forget(self, order_id: UUID) -> None:
        """Drop an order that was never recorded."""
        order = self.index.drop(order_id)
        if order is not None:
            self._stir(order.key)

    def move(
        self,
        order: Order,
        to: OrderStatus,
        *,
        message: str | None = None,
        on_commit: Callable[[Order], None] | None = None,
        on_fail: Callable[[Order, Exception], None] | None = None,
        **changes: Any,
    ) -> Order:
        """Move an order along its table and record it; return it as it is now."""
        moved, event = move(order, to, at=self._clock.now(), message=message, **changes)
        self._record(moved, event, on_commit=on_commit, on_fail=on_fail)
        if order.status is OrderStatus.PENDING and to.is_terminal:
            # nothing of it ever left: no late word can come
            self._drop(moved.id)
        return moved

    def resubmit(
        self,
        order: Order,
        detail: str,
        *,
        on_commit: Callable[[Order], None],
        on_fail: Callable[[Order, Exception], None],
    ) -> Order:
        """Record a new attempt of an order of whose last attempt not one byte left."""
        detail = f"attempt {order.attempt}, tag {order.tag}: {detail}"
        self._record(order, self._note_event(order, detail), on_commit=on_commit, on_fail=on_fail)
        return order

    def note(self, order: Order, detail: str, *, anomaly: bool = False) -> None:
        """Put something that does not change an order into its history.

        What the books have of it by now stands, whatever *order* says; one that they have let go stays gone.
        """
        held = self.orders.get(order.id)
        if held is not None:
            self._record(held, self._note_event(held, detail, anomaly=anomaly))
            return
        event = self._note_event(order, detail, anomaly=anomaly)
        draft = _audit(order, event, f"ORDER_{order.status}")
        self._ledger.append(LedgerEntry(order_events=(event,), audit=(draft,)))

    def _note_event(self, order: Order, detail: str, *, anomaly: bool = False) -> OrderEvent:
        return OrderEvent(
            order_id=order.id,
            at=self._clock.now(),
            from_status=order.status,
            to_status=order.status,
            filled_quantity=order.filled_quantity,
            detail=detail,
            anomaly=anomaly,
        )

    def report(self, order: Order, report: OrderReport, *, note: str = "") -> Order:
        """Fold what the broker says into an order and record it, with *note* in its history, if it is news."""
        folded, event = fold(order, report, at=self._clock.now())
        if event is not None:
            if note:
                event = msgspec.structs.replace(event, detail=f"{event.detail} {note}".lstrip())
            self._record(folded, event)
        return folded

    def change(self, order: Order, detail: str, *, anomaly: bool = False, **terms: Any) -> Order:
        """Take over *terms* of an order that were changed at the broker, not by us; return it as it is now."""
        changed = msgspec.structs.replace(order, updated_at=self._clock.now(), **terms)
        self._record(changed, self._note_event(changed, detail, anomaly=anomaly))
        return changed

    # what was asked of the broker, and what an executor makes itself

    def expect(self, order_id: UUID, terms: dict[str, Any]) -> None:
        """The broker was asked to change an order to *terms*: they become its own once the book shows them."""
        self._expected[order_id] = (terms, self._clock.boottime_ns() + _CHANGE_NS)

    def expect_no_more(self, order_id: UUID) -> None:
        """The change will not come."""
        self._expected.pop(order_id, None)

    def expected(self, order_id: UUID) -> dict[str, Any]:
        """Return the terms that an order was asked to change to, empty when there are none that the book lacks."""
        terms, until_ns = self._expected.get(order_id, ({}, 0))
        if terms and self._clock.boottime_ns() >= until_ns - _CHANGE_NS + _CHANGE_LOST_NS:
            self.expect_no_more(order_id)
            self.tell_again(order_id)
            return {}
        return terms

    def tell_again(self, order_id: UUID) -> None:
        """Tell those who count orders what one is: a change that they have counted did not come."""
        order = self.orders.get(order_id)
        if order is not None:
            self._tell_changed(order)

    def is_changing(self, order_id: UUID) -> bool:
        """Whether a change of an order is under way: one not in the book after ten seconds may be asked for again."""
        return self._clock.boottime_ns() < self._expected.get(order_id, ({}, 0))[1]

    def made(self, order: Order) -> None:
        """An order of the executor's own making is on its way to the ledger: tell those who follow orders."""
        self._stir(order.key)
        self.telling.tell(OrderChanged(order=order))
        self.on_order(order)

    def unmade(self, order: Order) -> None:
        """The ledger never will have it."""
        failed = msgspec.structs.replace(order, status=OrderStatus.FAILED, updated_at=self._clock.now())
        self.telling.tell(OrderChanged(order=failed))
        self.on_order(failed)

    def adopt(self, order: Order, detail: str, *, anomaly: bool) -> None:
        """Enter an order into the books that stands at the broker and that this engine did not send."""
        event = self._note_event(order, detail, anomaly=anomaly)

        def refused(error: Exception) -> None:
            _log.error("ledger.refused_external", order=order.tag, error=str(error))

        draft = _audit(order, event, "EXTERNAL_ADOPTED")
        self._ledger.append(LedgerEntry(new_orders=(order,), order_events=(event,), audit=(draft,), on_fail=refused))
        self._took(order, event)

    def _record(
        self,
        order: Order,
        event: OrderEvent,
        *,
        on_commit: Callable[[Order], None] | None = None,
        on_fail: Callable[[Order, Exception], None] | None = None,
    ) -> None:
        draft = _audit(order, event, f"ORDER_{order.status}")
        # one that goes next is waited for, and people for an anomaly; what became of one that has gone is in the
        # broker's books until it is here
        can_wait = on_commit is None and on_fail is None and not event.anomaly
        entry = LedgerEntry(order_updates=(order,), order_events=(event,), audit=(draft,), can_wait=can_wait)
        if on_commit is not None:
            entry.on_commit = lambda: on_commit(order)

        def refused(error: Exception) -> None:
            _log.error("ledger.refused_order", order=str(order.id), status=order.status.value, error=str(error))
            if on_fail is not None:
                on_fail(order, error)

        entry.on_fail = refused
        # first the ledger: an entry that finds no room leaves the books as they were
        self._ledger.append(entry)
        self._took(order, event)

    def _took(self, order: Order, event: OrderEvent) -> None:
        self.index.put(order)
        self._stir(order.key)
        # an order of an earlier day must not be missed in the book of this one
        if order.broker_order_id is not None and order.trading_day == self.day:
            self.known_broker_ids.add(order.broker_order_id)
        self._tell_changed(order)
        self.on_order(order)
        if event.anomaly:
            _log.error("order.anomaly", order=str(order.id), detail=event.detail)

    def _tell_changed(self, order: Order) -> None:
        terms, _ = self._expected.get(order.id, ({}, 0))
        self.telling.tell(OrderChanged(order=order, larger=terms.get("quantity", 0)))

    # what is in the books

    @property
    def has_open_orders(self) -> bool:
        """Whether an order of ours works at the broker, or may."""
        return bool(self.index.open)

    @property
    def has_external_orders(self) -> bool:
        """Whether an order of somebody else works at the broker."""
        return bool(self.index.open_external)

    @property
    def has_unplaced_orders(self) -> bool:
        """Whether an order of today was given up because it is not at the broker: it must stay so."""
        return bool(self.index.unplaced)

    def drop_finished(self) -> None:
        """Forget orders that are filled: their fills are in the books.

        What ended otherwise stays for the day: a late fill of it must find its order.
        """
        for order_id in list(self.index.complete):
            self._drop(order_id)

    def _drop(self, order_id: UUID) -> None:
        order = self.index.drop(order_id)
        self._expected.pop(order_id, None)
        if order is None:
            return
        if self.day is not None:
            self.closed.add(order, self.day)
        if order.broker_order_id is not None:
            self.holdings.forget(order.broker_order_id)

    def take_trades(self, trades: Sequence[BrokerTrade]) -> None:
        """Take the trades of our orders into fills and positions."""
        if not trades:
            return
        book = book_of(trades)
        self.trades_today = max(self.trades_today, self._settled_trades.of_day(book, self.day))
        self.book_trades(self._settled_trades.others(book))
        self._settled_trades.note(book)

    def new_trades(self, trades: Sequence[BrokerTrade]) -> list[BrokerTrade]:
        """Return those of a read of the trade book that may not be in fills and positions yet."""
        return self._settled_trades.others(book_of(trades))

    def book_trades(self, trades: Sequence[BrokerTrade]) -> None:
        """Take some trades of our orders into fills and positions, ahead of the rest of their book."""
        self.holdings.take_trades(trades, self.index.by_broker_id.get)

    def _has_trade(self, trade: BrokerTrade) -> bool:
        if trade.broker_order_id in self.index.by_broker_id:
            return self.holdings.has_trade(trade)
        return self.closed.has(trade.broker_order_id)


def _ignore(_order: Order) -> None:
    return None


def _nobodys(_order: Order) -> UUID | None:
    return None


def _audit(order: Order, event: OrderEvent, action: str) -> AuditDraft:
    return AuditDraft(
        at=event.at,
        actor="system",
        action=action,
        subject=f"order:{order.id}",
        content={
            "from": event.from_status.value,
            "filled": order.filled_quantity,
            "brokerOrderId": order.broker_order_id,
            "tag": order.tag,
            "attempt": order.attempt,
            "detail": event.detail,
            "anomaly": event.anomaly,
        },
    )
