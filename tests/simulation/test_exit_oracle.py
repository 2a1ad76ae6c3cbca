"""The oracle of attached exits knows whose cancel has to be taken at its word."""

from collections import Counter
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid5

import pytest

from engine.domain.attached import RENEWED
from engine.domain.enums import OrderStatus, OrderType, TransactionType
from engine.domain.options import OrderOptions, OrderRole
from engine.domain.order import Order
from tests.simulation.exits import Exits
from tests.support.trade import an_order

ENTRY = an_order(
    transaction_type=TransactionType.BUY, quantity=10, status=OrderStatus.COMPLETE, filled_quantity=10, stop_loss=95
)


def a_stop(number: int, status: OrderStatus, **fields: Any) -> Order:
    return an_order(
        id=uuid5(ENTRY.id, str(number)),
        parent_id=ENTRY.id,
        role=OrderRole.STOP,
        transaction_type=TransactionType.SELL,
        order_type=OrderType.SL_M,
        quantity=10,
        status=status,
        options=OrderOptions(unit=1, unit_quantity=10),
        **fields,
    )


def a_row(order: Order) -> Any:
    return SimpleNamespace(status=order.status, quantity=order.quantity, filled_quantity=order.filled_quantity)


def said_of(first: Order, *, was_at_broker: bool) -> list[str]:
    """What the oracle says when a second stop leaves after the *first* has ended."""
    second = a_stop(2, OrderStatus.SUBMITTING)
    known = [ENTRY, first, second]
    at_broker: dict[str, UUID] = {"1": ENTRY.id} | ({"2": first.id} if was_at_broker else {})
    orders = {order.id: order for order in known}
    book = SimpleNamespace(order_of=at_broker, rows={name: a_row(orders[of]) for name, of in at_broker.items()})
    said: list[str] = []
    world = SimpleNamespace(
        db=SimpleNamespace(orders=orders),
        books={ENTRY.account_id: book},
        counts=Counter(),
        broken=lambda oracle, text: said.append(f"{oracle} {text}"),
    )
    Exits(world).left(second, 0.0)
    return said


@pytest.mark.parametrize(
    ("message", "was_at_broker"),
    [
        ("cancelled by user:1", True),
        ("cancelled by user:1 before it was sent", False),
        ("CANCELLED at the exchange", True),
        (None, True),
        ("KILL_SWITCH: global is blocked: test", True),
    ],
)
def test_exit_that_somebody_cancelled_may_not_leave_again(message: str | None, was_at_broker: bool) -> None:
    (said,) = said_of(a_stop(1, OrderStatus.CANCELLED, status_message=message), was_at_broker=was_at_broker)
    assert said.startswith("O12")
    assert "was cancelled by somebody" in said


def test_exit_that_a_kill_switch_kept_from_leaving_may_leave_after_it() -> None:
    kept_back = a_stop(1, OrderStatus.CANCELLED, status_message="KILL_SWITCH: strategy:1 is blocked: simulated")
    assert said_of(kept_back, was_at_broker=False) == []


def test_exit_that_the_engine_ended_to_place_it_anew_may_leave_again() -> None:
    renewed = a_stop(1, OrderStatus.CANCELLED, status_message="CANCELLED at the exchange", modifications=RENEWED)
    assert said_of(renewed, was_at_broker=True) == []
