"""Telling exits from entries among an account's own orders: an exit can only make its position smaller."""

from engine.actors.order_desk import OrderDesk
from engine.domain.order import Order
from engine.domain.risk_rules import reduces


def is_exit(desk: OrderDesk, order: Order) -> bool:
    """Whether an order can only make its position smaller, after what the exits before it leave of that.

    An order that is attached to an entry is one by its nature, and so is one that flattens.
    """
    if order.is_attached or order.is_square_off:
        return True
    held = desk.holdings.positions.get((order.account_id, order.exchange, order.symbol, order.product_type))
    quantity = 0 if held is None else held.quantity
    if not reduces(quantity, order.transaction_type, order.quantity):
        return False
    claimed = sum(
        other.remaining_quantity
        for other in desk.index.alive_before(order)
        if other.transaction_type is order.transaction_type
        and other.product_type is order.product_type
        and not other.is_attached
    )
    return reduces(quantity, order.transaction_type, order.quantity, claimed=claimed)
