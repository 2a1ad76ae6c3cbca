"""The orders in an instrument that are not over, as they change."""

from dataclasses import dataclass
from types import SimpleNamespace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from engine.actors.order_index import OrderIndex
from engine.domain.enums import Exchange, OrderStatus, Variety

KEYS = [(Exchange.NSE, "INFY"), (Exchange.NSE, "SBIN")]


@dataclass
class Change:
    order: int
    status: OrderStatus


changes = st.lists(st.builds(Change, st.integers(0, 5), st.sampled_from(list(OrderStatus))), max_size=30)


def order(number: int, status: OrderStatus) -> SimpleNamespace:
    return SimpleNamespace(
        id=UUID(int=number + 1),
        key=KEYS[number % 2],
        tag=f"T{number}",
        status=status,
        broker_order_id=None,
        is_external=False,
        status_message=None,
        variety=Variety.REGULAR,
        submitting_at=None,
    )


@given(changes, st.sets(st.integers(0, 5)))
def test_alive_in_yields_what_is_not_over(made: list[Change], dropped: set[int]) -> None:
    index = OrderIndex()
    for change in made:
        index.put(order(change.order, change.status))  # type: ignore[arg-type]
    for number in dropped:
        index.drop(UUID(int=number + 1))
    for key in KEYS:
        wanted = {held.id for held in index.of_instrument(key) if not held.status.is_terminal}
        assert {held.id for held in index.alive_in(key)} == wanted
