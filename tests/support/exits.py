"""Signals with a stop loss and a target in a scripted world, and what becomes of them."""

from decimal import Decimal
from typing import Any

from engine.actors.intake import Passage
from engine.domain.enums import OrderStatus
from engine.domain.options import OrderRole
from engine.domain.order import Order
from tests.support.desk import World, a_delivery, a_signal


def deliver(world: World, *, key: str = "k1", **fields: Any) -> Passage:
    """Deliver a signal to buy 10 INFY with a stop at 95 and a target at 110."""
    exits = {"stop_loss": Decimal(95), "target": Decimal(110)}
    passage = Passage(a_delivery(world, a_signal(**(exits | fields)), key=key), world.kill.turn)
    world.crew.decide(passage)
    return passage


def of_role(world: World, role: OrderRole, *statuses: OrderStatus) -> list[Order]:
    """The orders of a role that the ledger has, of those states (all)."""
    return [o for o in world.store.orders.values() if o.role is role and (not statuses or o.status in statuses)]


async def entered(world: World, quantity: int | None = None) -> str:
    """Wait for the entry to rest at the broker, fill *quantity* of it (all); returns the broker's id."""
    await world.until(lambda: any(o.broker_order_id for o in of_role(world, OrderRole.ENTRY)))
    (entry,) = of_role(world, OrderRole.ENTRY)
    assert entry.broker_order_id is not None
    world.broker.fill(entry.broker_order_id, quantity)
    return entry.broker_order_id


async def protected(world: World, *, units: int = 1) -> tuple[Order, Order]:
    """Wait until stop and target rest at the broker; return the newest of both."""
    await world.until(lambda: len(of_role(world, OrderRole.STOP, OrderStatus.TRIGGER_PENDING)) >= units)
    await world.until(lambda: len(of_role(world, OrderRole.TARGET, OrderStatus.OPEN)) >= units)
    return of_role(world, OrderRole.STOP)[-1], of_role(world, OrderRole.TARGET)[-1]


def at_market(world: World, side: str = "SELL") -> int:
    """Units of INFY that orders working at the broker can still trade on *side*."""
    return sum(
        row.quantity - row.filled_quantity
        for row in world.broker.rows.values()
        if row.status.is_working and row.transaction_type == side
    )
