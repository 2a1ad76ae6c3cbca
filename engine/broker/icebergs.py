"""An iceberg order in the broker's book: one order of ours, a row for each leg that was released.

Kite shows each leg as an order of its own, with the tag of the whole (kite.md 5.7, 6.2: ``meta.iceberg``); the
next leg is released when the one before it has filled. Pure.
"""

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from engine.broker.values import BrokerOrder
from engine.domain.enums import OrderStatus
from engine.domain.order import Order


def join_legs(order: Order, legs: Sequence[BrokerOrder]) -> BrokerOrder:
    """Return the row that *order* would have if its *legs*, at least one, were one order.

    Its id is that of the leg by which the order is known, else of the first. It works while a leg does, and
    between two legs; it is complete once all of its quantity has filled, and ends short as its last leg does.
    """
    by_age = sorted(legs, key=_age)
    first = next((leg for leg in by_age if leg.broker_order_id == order.broker_order_id), by_age[0])
    filled = sum(leg.filled_quantity for leg in legs)
    value = sum((leg.filled_quantity * leg.average_price for leg in legs), Decimal(0))
    live = next((leg for leg in reversed(by_age) if not leg.status.is_terminal), None)
    if filled >= order.quantity:
        status = OrderStatus.COMPLETE
    elif live is not None:
        status = live.status
    elif by_age[-1].status is OrderStatus.COMPLETE:
        status = OrderStatus.OPEN
    else:
        status = by_age[-1].status
    if status.is_working and filled:
        status = OrderStatus.PARTIALLY_FILLED
    shown = live or by_age[-1]
    return msgspec.structs.replace(
        shown,
        broker_order_id=first.broker_order_id,
        status=status,
        filled_quantity=filled,
        average_price=value / filled if filled else Decimal(0),
        quantity=order.quantity,
        order_timestamp=first.order_timestamp,
    )


def live_leg(legs: Sequence[BrokerOrder]) -> str | None:
    """Return the broker's id of the leg that works, by which the rest is cancelled; None when none does."""
    return next((leg.broker_order_id for leg in sorted(legs, key=_age, reverse=True) if leg.status.is_working), None)


def _age(row: BrokerOrder) -> tuple[float, int, str]:
    at = 0.0 if row.order_timestamp is None else row.order_timestamp.timestamp()
    return (at, len(row.broker_order_id), row.broker_order_id)
