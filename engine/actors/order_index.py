"""Where an order of an account is found: by id, by the broker's id, by tag, and by what it still needs."""

from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from uuid import UUID

from engine.broker.values import BrokerOrder
from engine.domain.compact_set import CompactSet
from engine.domain.enums import Exchange, OrderStatus, Variety
from engine.domain.order import Order

ENDED_SHORT = frozenset({OrderStatus.CANCELLED, OrderStatus.REJECTED, OrderStatus.EXPIRED, OrderStatus.FAILED})
"""Ends that leave something unfilled; a late word may still come."""

UNPLACED = "UNPLACED"
"""How the message of an order begins whose absence at the broker was proven."""


_NOWHERE = (False,) * 7
# of each state: whether the order works at the broker or may, whether it works, whether it ended short
_OF_STATUS = {
    status: (status.is_working or status.is_unresolved, status.is_working, status in ENDED_SHORT)
    for status in OrderStatus
}


class OrderIndex:
    """The orders of one account in memory, and sets of them that are asked for at every look."""

    def __init__(self) -> None:
        self.orders: dict[UUID, Order] = {}
        self.by_broker_id: dict[str, UUID] = {}
        self._by_tag: dict[str, UUID] = {}
        self._tags: dict[UUID, set[str]] = {}
        self.open: set[UUID] = set()
        self.open_external: set[UUID] = set()
        self.complete: set[UUID] = set()
        self.given_up: set[UUID] = set()
        self.unplaced: set[UUID] = set()
        self.submitting: set[UUID] = set()
        self.icebergs: set[UUID] = set()
        # the leg of an iceberg that works now, by the broker's id
        self.live_legs: dict[UUID, str] = {}
        # of a leg of a cover order the order that it belongs to, both by the broker's ids
        self.parents: dict[str, str] = {}
        self._by_instrument: dict[tuple[Exchange, str], dict[UUID, None]] = {}
        # those of them that are not over
        self._unended: dict[tuple[Exchange, str], dict[UUID, None]] = {}
        # when the last of those was made, while each was made no earlier than the one before it
        self._in_turn: dict[tuple[Exchange, str], datetime | None] = {}
        self._sets = (
            *(self.open, self.open_external, self.complete, self.given_up, self.unplaced, self.submitting),
            self.icebergs,
        )
        self._belongs: dict[UUID, tuple[bool, ...]] = {}

    def restore(self, orders: Iterable[Order]) -> None:
        """Hold *orders* and no others; of what ended before it was sent no late word can come."""
        for found in (self.orders, self.by_broker_id, self._by_tag, self._tags, self._by_instrument, self._belongs):
            found.clear()
        self._unended.clear()
        self._in_turn.clear()
        for index in self._sets:
            index.clear()
        self.live_legs.clear()
        self.parents.clear()
        for order in orders:
            if order.submitting_at is not None or order.is_external or not order.status.is_terminal:
                self.put(order)

    def put(self, order: Order) -> None:
        """Hold *order* as it is now, found by the tags of its earlier attempts too: a 429 may have placed one."""
        order_id = order.id
        before = self.orders.get(order_id)
        self.orders[order_id] = order
        if before is None or before.tag != order.tag or before.key != order.key:
            self._by_instrument.setdefault(order.key, {})[order_id] = None
            # the broker may not keep the case of a tag
            tag = order.tag.upper()
            self._by_tag[tag] = order_id
            self._tags.setdefault(order_id, set()).add(tag)
        if order.broker_order_id is not None:
            self.by_broker_id[order.broker_order_id] = order_id
        status = order.status
        if status.is_terminal:
            self._end(order)
        elif before is None or before.status.is_terminal:
            self._begin(order)
        is_open, is_working, is_short = _OF_STATUS[status]
        is_ours = not order.is_external
        given_up = is_short and order.broker_order_id is None
        belongs = (
            is_open and is_ours,
            is_working and not is_ours,
            status is OrderStatus.COMPLETE,
            given_up,
            given_up and status is OrderStatus.EXPIRED and (order.status_message or "").startswith(UNPLACED),
            status is OrderStatus.SUBMITTING,
            is_ours and order.variety is Variety.ICEBERG,
        )
        known = self._belongs.get(order_id, _NOWHERE)
        if belongs == known:
            return
        self._belongs[order_id] = belongs
        for index, is_in, was_in in zip(self._sets, belongs, known, strict=True):
            if is_in and not was_in:
                index.add(order_id)
            elif was_in and not is_in:
                index.discard(order_id)

    def _begin(self, order: Order) -> None:
        alive = self._unended.setdefault(order.key, {})
        last = self._in_turn.get(order.key) if alive else order.created_at
        # once out of turn they stay so until all of them are over
        self._in_turn[order.key] = order.created_at if last is not None and last <= order.created_at else None
        alive[order.id] = None

    def _end(self, order: Order) -> None:
        alive = self._unended.get(order.key)
        if alive is not None:
            alive.pop(order.id, None)
            if not alive:
                del self._unended[order.key], self._in_turn[order.key]

    def drop(self, order_id: UUID) -> Order | None:
        """Forget an order; return it as it was."""
        order = self.orders.pop(order_id, None)
        if order is None:
            return None
        self._end(order)
        alike = self._by_instrument[order.key]
        del alike[order_id]
        if not alike:
            del self._by_instrument[order.key]
        for tag in self._tags.pop(order_id, ()):
            self._by_tag.pop(tag, None)
        if order.broker_order_id is not None:
            self.by_broker_id.pop(order.broker_order_id, None)
        for index in self._sets:
            index.discard(order_id)
        self._belongs.pop(order_id, None)
        self.live_legs.pop(order_id, None)
        return order

    def wire_id(self, order: Order) -> str | None:
        """Return the broker's id by which an order is changed or cancelled now: of an iceberg its live leg."""
        return self.live_legs.get(order.id, order.broker_order_id)

    def of_instrument(self, key: tuple[Exchange, str]) -> Iterator[Order]:
        """Yield the orders in an instrument."""
        return map(self.orders.__getitem__, self._by_instrument.get(key, ()))

    def alive_in(self, key: tuple[Exchange, str]) -> Iterator[Order]:
        """Yield the orders in an instrument that are not over."""
        return map(self.orders.__getitem__, self._unended.get(key, ()))

    def alive_before(self, order: Order) -> Iterator[Order]:
        """Yield the orders in the instrument of *order* that are not over and were made before it.

        Those of one instant are taken in the sequence of their ids.
        """
        at, is_in_turn = order.created_at, self._in_turn.get(order.key) is not None
        for other in self.alive_in(order.key):
            if other.created_at < at or (other.created_at == at and other.id < order.id):
                yield other
            elif is_in_turn and other.created_at > at:
                return

    def sole_of(self, row: BrokerOrder) -> Order | None:
        """Return the order that *row* alone shows, by the broker's id; None for a leg, a slice or a stranger's."""
        order_id = self.by_broker_id.get(row.broker_order_id)
        order = None if order_id is None else self.orders.get(order_id)
        if order is None or order.broker_order_id != row.broker_order_id:
            return None
        return None if row.parent_order_id is not None or order.id in self.icebergs else order

    def find(self, row: BrokerOrder) -> Order | None:
        """Return the order that a row of the order book is of, by the broker's id or by tag."""
        if row.parent_order_id is not None:
            self.parents[row.broker_order_id] = row.parent_order_id
        order_id = self.by_broker_id.get(row.broker_order_id)
        if order_id is None:
            tags = (tag.upper() for tag in (row.tag, *row.tags) if tag is not None)
            order_id = next((self._by_tag[tag] for tag in tags if tag in self._by_tag), None)
        order = None if order_id is None else self.orders.get(order_id)
        if order is not None and row.transaction_type == order.transaction_type.opposite:
            # the stop of a cover order bears the tag of its entry: it is an order of the broker's own making
            return None
        if order is not None:
            self.by_broker_id[row.broker_order_id] = order.id
        return order


class ClosedOrders:
    """Orders of the ledger that the books let go: their rows in the order book are nobody else's.

    Kept for a week: an order for the next session may stand in the book across a weekend.
    """

    _KEPT = timedelta(days=7)

    def __init__(self) -> None:
        # ids and tags by the IST day on which they were closed
        self._names: dict[date, CompactSet[str]] = {}

    def restore(self, names: Iterable[tuple[str, str]], day: date) -> None:
        """Hold the broker's ids and tags *names*, as if closed on the IST *day*."""
        self._names = {day: CompactSet(name for broker_id, tag in names for name in (broker_id, tag.upper()))}

    def add(self, order: Order, day: date) -> None:
        """Remember an order that the broker had: one that was never seen there must not turn up unnoticed."""
        if order.broker_order_id is not None:
            names = self._names.setdefault(day, CompactSet())
            names.add(order.broker_order_id)
            names.add(order.tag.upper())

    def forget_before(self, day: date) -> None:
        """Forget what was closed more than a week before *day*."""
        self._names = {at: names for at, names in self._names.items() if at > day - self._KEPT}

    def has(self, broker_order_id: str) -> bool:
        """Whether the broker's order is closed, by its id alone."""
        return any(broker_order_id in names for names in self._names.values())

    def __contains__(self, row: BrokerOrder) -> bool:
        if self.has(row.broker_order_id):
            return True
        if row.parent_order_id is not None:
            return False  # the stop of a cover order bears the tag of its entry, and outlives it
        return any(self.has(tag.upper()) for tag in (row.tag, *row.tags) if tag is not None)
