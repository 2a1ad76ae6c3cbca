"""Legs of an iceberg order as one row of the book."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from engine.broker.icebergs import join_legs, live_leg
from engine.broker.values import BrokerOrder
from engine.domain.enums import OrderStatus, Variety
from tests.support.trade import NOW, an_order

ICEBERG = an_order(quantity=30, variety=Variety.ICEBERG, broker_order_id="101")
OPEN, COMPLETE, CANCELLED, REJECTED = (
    OrderStatus.OPEN,
    OrderStatus.COMPLETE,
    OrderStatus.CANCELLED,
    OrderStatus.REJECTED,
)


def leg(number: int, status: OrderStatus, filled: int = 0, average: str = "100", **fields: Any) -> BrokerOrder:
    return BrokerOrder(
        broker_order_id=str(100 + number),
        status=status,
        raw_status=status.value,
        quantity=10,
        filled_quantity=filled,
        average_price=Decimal(average),
        variety="iceberg",
        order_timestamp=NOW + timedelta(seconds=number),
        **fields,
    )


@pytest.mark.parametrize(
    ("legs", "status", "filled"),
    [
        ([leg(1, OPEN)], OPEN, 0),
        ([leg(1, OPEN, 4)], OrderStatus.PARTIALLY_FILLED, 4),
        # between two legs the order works on
        ([leg(1, COMPLETE, 10)], OrderStatus.PARTIALLY_FILLED, 10),
        ([leg(2, OPEN), leg(1, COMPLETE, 10)], OrderStatus.PARTIALLY_FILLED, 10),
        ([leg(1, COMPLETE, 10), leg(2, CANCELLED, 3)], CANCELLED, 13),
        ([leg(1, REJECTED)], REJECTED, 0),
        ([leg(1, COMPLETE, 10), leg(2, COMPLETE, 10), leg(3, COMPLETE, 10)], COMPLETE, 30),
    ],
)
def test_state_and_fill_are_those_of_all_legs(legs: list[BrokerOrder], status: OrderStatus, filled: int) -> None:
    joined = join_legs(ICEBERG, legs)
    assert (joined.status, joined.filled_quantity, joined.quantity) == (status, filled, 30)
    assert joined.broker_order_id == "101"


def test_average_is_weighted_by_what_filled() -> None:
    joined = join_legs(ICEBERG, [leg(1, COMPLETE, 10, "100"), leg(2, OPEN, 5, "103")])
    assert joined.average_price == Decimal(101)


def test_leg_that_works_is_the_one_to_cancel() -> None:
    assert live_leg([leg(1, COMPLETE, 10), leg(2, OPEN)]) == "102"
    assert live_leg([leg(1, COMPLETE, 10)]) is None
