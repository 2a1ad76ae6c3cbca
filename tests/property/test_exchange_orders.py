"""An order after a stage: exactly what the stage sets, as the same values, whatever it sets."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_args, get_type_hints

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UnsetType

from engine.exchange.orders import Order, Stage, advance

NOW = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
ORDER = Order(
    order_id="1",
    number=1,
    user_id="AB1234",
    variety="regular",
    exchange="NSE",
    tradingsymbol="INFY",
    instrument_token=408065,
    transaction_type="BUY",
    order_type="LIMIT",
    product="MIS",
    quantity=10,
    order_timestamp=NOW,
)
# a field of another type than these needs a look at `advance` first
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(max_size=5),
    int: st.integers(0, 100),
    bool: st.booleans(),
    Decimal: st.decimals(0, 10_000, places=2),
    datetime: st.datetimes(timezones=st.just(UTC)),
    tuple[str, ...]: st.lists(st.text(max_size=5), max_size=3).map(tuple),
    type(None): st.none(),
}


def values_of(annotation: Any) -> st.SearchStrategy[Any]:
    return st.one_of(*(VALUES[kind] for kind in get_args(annotation) if kind is not UnsetType))


SETTABLE = {name: values_of(kind) for name, kind in get_type_hints(Stage).items() if name != "at"}


@given(st.fixed_dictionaries({}, optional=SETTABLE))
def test_stage_changes_what_it_sets_and_nothing_else(changes: dict[str, Any]) -> None:
    after = advance(ORDER, Stage(at=NOW, **changes))
    for name in Order.__struct_fields__:
        wanted = changes.get(name, getattr(ORDER, name))
        found = getattr(after, name)
        assert found == wanted
        assert type(found) is type(wanted)
        assert not isinstance(wanted, Decimal) or found.as_tuple() == wanted.as_tuple()
