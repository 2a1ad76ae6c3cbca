"""Where an order of an account is found: by id, by the broker's id, by tag, and by what it still needs."""

from collections.abc import Iterable
from uuid import UUID

from engine.broker.values import BrokerOrder
from engine.domain.enums import OrderStatus
from engine.domain.order import Order

ENDED_SHORT = frozenset({OrderStatus.CANCELLED, OrderStatus.REJECTED, OrderStatus.EXPIRED, OrderStatus.FAILED})
"""Ends that leave something unfilled; a late word may still come."""

UNPLACED = "UNPLACED"
"""How the message of an order begins whose absence at the broker was proven."""


class OrderIndex:
    """The orders of one account in memory, and sets of them that are asked for at every look."""

    def __init__(self) -> None:
        self.orders: dict[UUID, Order] = {}
        self.by_broker_id: dict[str, UUID] = {}
        self._by_tag: dict[str, UUID] = {}
        self.open: set[UUID] = set()
        self.complete: set[UUID] = set()
        self.given_up: set[UUID] = set()
        self.unplaced: set[UUID] = set()
        self.submitting: set[UUID] = set()

    def restore(self, orders: Iterable[Order]) -> None:
        """Hold *orders* and no others; of what ended before it was sent no late word can come."""
        for found in (self.orders, self.by_broker_id, self._by_tag):
            found.clear()
        for index in self._sets:
            index.clear()
        for order in orders:
            if not (order.status.is_terminal and order.submitting_at is None):
                self.put(order)

    @property
    def _sets(self) -> tuple[set[UUID], ...]:
        return (self.open, self.complete, self.given_up, self.unplaced, self.submitting)

    def put(self, order: Order) -> None:
        """Hold *order* as it is now; a tag it had before and that never left is forgotten."""
        before = self.orders.get(order.id)
        if before is not None and before.tag != order.tag:
            self._by_tag.pop(before.tag.upper(), None)
        self.orders[order.id] = order
        # the broker may not keep the case of a tag
        self._by_tag[order.tag.upper()] = order.id
        if order.broker_order_id is not None:
            self.by_broker_id[order.broker_order_id] = order.id
        status = order.status
        given_up = status in ENDED_SHORT and order.broker_order_id is None
        belongs = (
            status.is_working or status.is_unresolved,
            status is OrderStatus.COMPLETE,
            given_up,
            given_up and status is OrderStatus.EXPIRED and (order.status_message or "").startswith(UNPLACED),
            status is OrderStatus.SUBMITTING,
        )
        for index, is_in in zip(self._sets, belongs, strict=True):
            if is_in:
                index.add(order.id)
            else:
                index.discard(order.id)

    def drop(self, order_id: UUID) -> Order | None:
        """Forget an order; return it as it was."""
        order = self.orders.pop(order_id, None)
        if order is None:
            return None
        self._by_tag.pop(order.tag.upper(), None)
        if order.broker_order_id is not None:
            self.by_broker_id.pop(order.broker_order_id, None)
        for index in self._sets:
            index.discard(order_id)
        return order

    def find(self, row: BrokerOrder) -> Order | None:
        """Return the order that a row of the order book is of, by the broker's id or by tag."""
        order_id = self.by_broker_id.get(row.broker_order_id)
        if order_id is None:
            tags = (tag.upper() for tag in (row.tag, *row.tags) if tag is not None)
            order_id = next((self._by_tag[tag] for tag in tags if tag in self._by_tag), None)
        order = None if order_id is None else self.orders.get(order_id)
        if order is not None:
            self.by_broker_id[row.broker_order_id] = order.id
        return order
