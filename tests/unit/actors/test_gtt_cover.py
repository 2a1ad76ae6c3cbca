"""What the triggers (GTT) of an entry may cover: positions, and shares that lie in the demat account."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from engine.actors.gtt_cover import GttCover, key_of
from engine.broker.values import BrokerHolding
from engine.domain.enums import Exchange, OrderStatus, ProductType
from engine.domain.options import OrderOptions, OrderRole
from engine.domain.order import Order
from tests.support.trade import NOW, SELL, TODAY, a_position, an_order

EVENING = datetime(2026, 11, 18, 14, 0, tzinfo=UTC)
HELD = BrokerHolding(exchange="BSE", symbol="INFY", quantity=4, t1_quantity=3, used_quantity=2, mtf_quantity=9)


def entry(product: ProductType = ProductType.CNC, *, days_ago: int = 1, **fields: Any) -> Order:
    day = TODAY - timedelta(days=days_ago)
    return an_order(OrderStatus.COMPLETE, product_type=product, trading_day=day, **fields)


def cover(
    order: Order, *, position: int = 0, holdings: Any = (HELD,), now: datetime = NOW, orders: Any = ()
) -> GttCover:
    held = a_position(product_type=order.product_type, quantity=position)
    desk: Any = SimpleNamespace(
        holdings=SimpleNamespace(positions={held.key: held}, booked=lambda _broker_id: (0, 0)),
        orders={other.id: other for other in orders},
    )
    context: Any = SimpleNamespace(clock=SimpleNamespace(now=lambda: now))
    return GttCover(context, desk, {order.id: order}, lambda: holdings)


@pytest.mark.parametrize(
    ("order", "position", "held"),
    [
        (entry(days_ago=0), 10, 10),
        (entry(), 0, 5),
        (entry(), 10, 15),
        (entry(), -2, 5),
        (entry(ProductType.MTF), 0, 14),
        (entry(ProductType.NRML), 6, 6),
        (entry(ProductType.NRML, transaction_type=SELL), -6, 6),
        (entry(transaction_type=SELL), 0, 0),
    ],
    ids=["bought today", "delivered", "both", "sold from the demat account", "on margin", "overnight", "short", "sold"],
)
def test_what_is_held(order: Order, position: int, held: int) -> None:
    assert cover(order, position=position).held(order) == held


def test_shares_of_another_day_are_not_known_without_the_demat_account_or_at_night() -> None:
    order = entry()
    assert cover(order, holdings=None).held(order) is None
    assert cover(order, now=EVENING).held(order) is None
    assert cover(entry(days_ago=0), now=EVENING, position=3).held(entry(days_ago=0)) == 3


def test_demat_account_is_read_for_shares_of_another_day_only() -> None:
    assert cover(order := entry()).wants_holdings()
    assert not cover(entry(days_ago=0)).wants_holdings()
    assert not cover(entry(ProductType.NRML)).wants_holdings()
    assert key_of(order) == (Exchange.NSE, "INFY", ProductType.CNC, order.transaction_type)


def test_exits_of_other_entries_that_are_orders_claim_the_larger_side_of_each_unit() -> None:
    order, other = entry(), entry(id=entry().user_id)

    def exit_of(parent: Order, role: OrderRole, unit: int, quantity: int) -> Order:
        return an_order(
            OrderStatus.OPEN,
            id=type(parent.id)(int=100 * unit + quantity),
            role=role,
            parent_id=parent.id,
            transaction_type=SELL,
            product_type=ProductType.CNC,
            quantity=quantity,
            options=OrderOptions(unit=unit, unit_quantity=quantity),
        )

    exits = [
        exit_of(other, OrderRole.STOP, 1, 4),
        exit_of(other, OrderRole.TARGET, 1, 3),
        exit_of(other, OrderRole.STOP, 2, 5),
    ]
    exits.append(exit_of(order, OrderRole.STOP, 9, 7))
    claimed = cover(order, orders=exits).claimed_by_orders()
    assert dict(claimed) == {key_of(other): 9}
