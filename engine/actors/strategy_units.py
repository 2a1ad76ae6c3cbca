"""How many units of each position a strategy's own orders have made: what it may close for itself."""

from collections.abc import Iterable, Mapping
from uuid import UUID

from engine.domain.flatten import Place
from engine.domain.order import Order

Units = Mapping[tuple[UUID, Place], int]


class StrategyUnits:
    """Signed units by strategy and place, from what its orders have filled."""

    def __init__(self) -> None:
        self._units: dict[tuple[UUID, Place], int] = {}
        self._filled: dict[UUID, int] = {}

    def restore(self, units: Units, live_orders: Iterable[Order]) -> None:
        """Begin with what the ledger adds up to, which has what *live_orders* had filled by then."""
        self._units = dict(units)
        self._filled = {order.id: order.filled_quantity for order in live_orders}

    def order_changed(self, order: Order) -> None:
        """Take in what an order has filled since it was seen last."""
        if order.strategy_id is None:
            return
        grown = order.filled_quantity - self._filled.get(order.id, 0)
        self._filled[order.id] = order.filled_quantity
        if grown:
            place = (order.exchange.value, order.symbol, order.product_type.value)
            key = (order.strategy_id, place)
            self._units[key] = self._units.get(key, 0) + order.transaction_type.sign * grown

    def of(self, strategy_id: UUID, place: Place) -> int:
        """Return the signed units of a strategy at *place*."""
        return self._units.get((strategy_id, place), 0)
