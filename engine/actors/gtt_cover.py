"""What the exits of an account's entries may cover: what is held, and what other exits claim of it."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import time
from uuid import UUID

import msgspec

from engine.actors.executor_context import ExecutorContext
from engine.actors.order_desk import OrderDesk
from engine.broker.values import BrokerHolding
from engine.clock import IST, trading_day
from engine.domain.enums import Exchange, ProductType, TransactionType
from engine.domain.order import Order

_DELIVERY = (ProductType.CNC, ProductType.MTF)
# The demat account is believed about what is gone only while it is at rest: overnight it is made up anew.
_DEMAT_HOURS = (time(9, 15), time(15, 30))

Key = tuple[Exchange, str, ProductType, TransactionType]
"""What exits share: the instrument, the product and the side of the entry."""


def key_of(entry: Order) -> Key:
    """Return the key of an entry."""
    return (entry.exchange, entry.symbol, entry.product_type, entry.transaction_type)


class GttCover:
    """Works on the desk's positions; *entries* are those whose exits are triggers, *holdings* the demat account as
    last read, None when it is not known."""

    def __init__(
        self,
        context: ExecutorContext,
        desk: OrderDesk,
        entries: Mapping[UUID, Order],
        holdings: Callable[[], Sequence[BrokerHolding] | None],
    ) -> None:
        self._context = context
        self._desk = desk
        self._entries = entries
        self._holdings = holdings

    def as_booked(self, order: Order) -> Order:
        """Return an order with what the trades show of it: the position has that already."""
        if order.broker_order_id is None:
            return order
        booked, _ = self._desk.holdings.booked(order.broker_order_id)
        filled = min(max(order.filled_quantity, booked), order.quantity)
        return order if filled == order.filled_quantity else msgspec.structs.replace(order, filled_quantity=filled)

    def held(self, entry: Order) -> int | None:
        """Return the units that can still be sold (bought back), None when that cannot be told now.

        Shares bought for delivery leave the positions for the demat account on the next day.
        """
        position = self._desk.holdings.positions.get(
            (entry.account_id, entry.exchange, entry.symbol, entry.product_type)
        )
        units = 0 if position is None else max(position.quantity * entry.transaction_type.sign, 0)
        if not self.is_delivered(entry):
            return units
        rows, at = self._holdings(), self._context.clock.now().astimezone(IST).time()
        if rows is None or not _DEMAT_HOURS[0] <= at < _DEMAT_HOURS[1]:
            return None
        for row in rows:
            # the demat account knows shares, not the exchange they were bought on
            if row.symbol == entry.symbol:
                units += max(row.quantity + row.t1_quantity - row.used_quantity, 0)
                if entry.product_type is ProductType.MTF:
                    # brokers show them in either place: to count too much takes nothing away that is needed
                    units += max(row.mtf_quantity or 0, 0)
        return units

    def is_delivered(self, entry: Order) -> bool:
        """Whether some of what is held of the instrument may lie in the demat account."""
        if entry.product_type not in _DELIVERY or entry.transaction_type is not TransactionType.BUY:
            return False
        today = trading_day(self._context.clock.now())
        return any(o.trading_day < today and key_of(o) == key_of(entry) for o in self._entries.values())

    def wants_holdings(self) -> bool:
        """Whether the demat account has to be read."""
        return any(self.is_delivered(entry) for entry in self._entries.values())

    def claimed_by_orders(self) -> defaultdict[Key, int]:
        """Return what exits that are orders, of other entries, would sell: the larger side of each unit."""
        units: dict[tuple[UUID, int], int] = {}
        keys: dict[tuple[UUID, int], Key] = {}
        for order in self._desk.orders.values():
            if not order.is_attached or order.is_external or order.parent_id is None:
                continue
            if order.parent_id in self._entries:
                continue
            unit = (order.parent_id, order.options.unit)
            units[unit] = max(units.get(unit, 0), order.remaining_quantity)
            keys[unit] = (order.exchange, order.symbol, order.product_type, order.transaction_type.opposite)
        claimed: defaultdict[Key, int] = defaultdict(int)
        for unit, quantity in units.items():
            claimed[keys[unit]] += quantity
        return claimed
