"""What the exits of an entry come to when the plan is carried out, for any fills and whatever else closed of it."""

from collections import defaultdict
from decimal import Decimal
from uuid import UUID, uuid5

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.attached import Cancel, Place, Shrink, plan
from engine.domain.enums import OrderStatus, OrderType, TransactionType
from engine.domain.options import OrderOptions, OrderRole
from engine.domain.order import Order
from tests.support.trade import an_order

ENDS = (OrderStatus.CANCELLED, OrderStatus.EXPIRED, OrderStatus.REJECTED)
PASSED = "Trigger price for stoploss sell orders should be lower than the last traded price."


@st.composite
def sides(draw: st.DrawFn, unit: int, size: int, role: OrderRole) -> list[Order]:
    """One side of a unit: some that ended short, and perhaps one that lives or has filled whole."""
    rests = OrderStatus.TRIGGER_PENDING if role is OrderRole.STOP else OrderStatus.OPEN
    orders: list[Order] = []
    quantity = size
    for status in draw(st.lists(st.sampled_from((*ENDS, rests, OrderStatus.COMPLETE)), max_size=3)):
        filled = quantity if status is OrderStatus.COMPLETE else draw(st.integers(0, quantity - 1))
        orders.append(
            an_order(
                status,
                id=uuid5(UUID(int=unit), f"{role}{len(orders)}"),
                role=role,
                transaction_type=TransactionType.SELL,
                order_type=OrderType.SL_M if role is OrderRole.STOP else OrderType.LIMIT,
                trigger_price=Decimal(draw(st.integers(94, 96))),
                quantity=quantity,
                filled_quantity=filled,
                status_message=draw(st.sampled_from((None, PASSED))),
                options=OrderOptions(unit=unit, unit_quantity=size),
            )
        )
        quantity -= filled
        if status not in ENDS or not quantity:
            break
    return orders


@st.composite
def exits(draw: st.DrawFn) -> list[Order]:
    sizes = draw(st.lists(st.integers(1, 9), max_size=4))
    return [
        order
        for unit, size in enumerate(sizes, 1)
        for role in (OrderRole.STOP, OrderRole.TARGET)
        for order in draw(sides(unit, size, role))
    ]


@given(exits(), st.integers(0, 9), st.integers(0, 60), st.integers(0, 20))
def test_exits_never_come_to_more_than_is_held_nor_than_is_left_of_their_entry(
    known: list[Order], fresh: int, held: int, others: int
) -> None:
    covered = sum({order.options.unit: order.options.unit_quantity for order in known}.values())
    entry = an_order(
        OrderStatus.OPEN,
        quantity=covered + fresh + 1,
        filled_quantity=covered + fresh,
        stop_loss=Decimal(95),
        target=Decimal(110),
    )
    found = plan(entry, known, held=held, others=others)
    live = {order.id: order for order in known if not order.status.is_terminal}
    total: defaultdict[OrderRole, int] = defaultdict(int)
    for action in found.actions:
        match action:
            case Place(role=role, quantity=quantity):
                total[role] += quantity
            case Shrink(order=order, quantity=quantity):
                total[order.role] += quantity - live.pop(order.id).filled_quantity
            case Cancel(order=order):
                del live[order.id]
    for order in live.values():
        total[order.role] += order.remaining_quantity
    closed = sum(order.filled_quantity for order in known)
    room = max(min(held - others, entry.filled_quantity - closed), 0)
    assert all(units <= room for units in total.values())
    assert max(total.values(), default=0) <= found.needs <= room
