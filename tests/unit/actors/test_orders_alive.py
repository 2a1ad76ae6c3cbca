"""The orders in an instrument that are not over, as they change."""

from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from engine.actors.order_index import OrderIndex
from engine.domain.enums import Exchange, OrderStatus, Variety
from tests.support.trade import NOW

KEYS = [(Exchange.NSE, "INFY"), (Exchange.NSE, "SBIN")]


@dataclass
class Change:
    order: int
    status: OrderStatus


changes = st.lists(st.builds(Change, st.integers(0, 5), st.sampled_from(list(OrderStatus))), max_size=30)


def order(number: int, status: OrderStatus, made_s: int = 0) -> SimpleNamespace:
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
        created_at=NOW + timedelta(seconds=made_s),
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


@given(changes, st.sets(st.integers(0, 5)), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_alive_before_yields_what_is_older_in_whatever_order_it_came(
    made: list[Change], dropped: set[int], made_s: list[int]
) -> None:
    index = OrderIndex()
    for change in made:
        index.put(order(change.order, change.status, made_s[change.order]))  # type: ignore[arg-type]
        if change.order in dropped:
            index.drop(UUID(int=change.order + 1))
            dropped = dropped - {change.order}
        for key in KEYS:
            alive = list(index.alive_in(key))
            for held in alive:
                older = {other.id for other in alive if (other.created_at, other.id) < (held.created_at, held.id)}
                assert {other.id for other in index.alive_before(held)} == older
