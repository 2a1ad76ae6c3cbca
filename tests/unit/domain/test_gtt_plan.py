"""What is to be done so that triggers (GTT) fit what an entry has filled, and how they are priced."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.enums import Exchange, OrderStatus, ProductType, TransactionType
from engine.domain.gtt import Gtt, GttStatus
from engine.domain.gtt_plan import Cancel, GiveUp, Place, Plan, Resize, exit_id, passed, plan, price_gtt
from engine.domain.instruments import Instrument
from engine.domain.options import OrderOptions, OrderRole
from engine.domain.order import Order
from tests.support.gtts import a_gtt
from tests.support.trade import SELL, an_order

S = GttStatus
COMPLETE = OrderStatus.COMPLETE


def entry(filled: int = 10, status: OrderStatus = COMPLETE, **fields: Any) -> Order:
    terms = {"stop_loss": Decimal(95), "target": Decimal(110), "product_type": ProductType.CNC}
    return an_order(status, filled_quantity=filled, **(terms | fields))


def trigger(status: GttStatus = S.ACTIVE, unit: int = 1, attempt: int = 1, size: int = 10, **fields: Any) -> Gtt:
    defaults = {
        "id": UUID(int=1000 * unit + attempt),
        "unit": unit,
        "attempt": attempt,
        "unit_quantity": size,
        "quantity": size,
        "trigger_id": f"{unit}0{attempt}",
    }
    return a_gtt(status, **(defaults | fields))


def at_once(status: OrderStatus, filled: int = 0, **fields: Any) -> Order:
    options = OrderOptions(unit=1, unit_quantity=10)
    return an_order(
        status, role=OrderRole.STOP, parent_id=entry().id, options=options, filled_quantity=filled, **fields
    )


def place(quantity: int = 10, unit: int = 1, size: int | None = None, attempt: int = 1) -> Place:
    return Place(unit=unit, unit_quantity=quantity if size is None else size, quantity=quantity, attempt=attempt)


def test_fill_is_covered_by_one_trigger() -> None:
    assert plan(entry(4, OrderStatus.PARTIALLY_FILLED), [], held=4) == Plan(actions=(place(4),), needs=4)


def test_growth_is_covered_by_another() -> None:
    assert plan(entry(), [trigger(size=4)], held=10).actions == (place(6, unit=2),)


@pytest.mark.parametrize("status", [S.SUBMITTING, S.UNKNOWN])
def test_nothing_is_placed_while_one_is_in_doubt(status: GttStatus) -> None:
    assert plan(entry(), [trigger(status, size=4)], held=10).actions == ()


def test_one_that_stands_is_left_alone() -> None:
    assert plan(entry(), [trigger()], held=10) == Plan(needs=10)


@pytest.mark.parametrize("status", [S.CANCELLED, S.EXPIRED])
def test_one_that_somebody_ended_is_not_placed_again_and_claims_nothing(status: GttStatus) -> None:
    assert plan(entry(), [trigger(status)], held=10) == Plan(is_over=True)


def test_one_that_failed_is_placed_again() -> None:
    assert plan(entry(), [trigger(S.FAILED)], held=10).actions == (place(attempt=2),)


def test_three_refusals_are_for_a_person() -> None:
    refused = [trigger(S.REJECTED, attempt=i, status_message=f"no {i}") for i in (1, 2, 3)]
    assert plan(entry(), refused[:2], held=10).actions == (place(attempt=3),)
    assert plan(entry(), refused, held=10).actions == (GiveUp(unit=1, quantity=10, why="no 3"),)


def test_fired_one_is_not_placed_again_and_claims_what_its_order_may_still_fill() -> None:
    fired = trigger(S.TRIGGERED, broker_order_id="7")
    assert plan(entry(), [fired], held=10) == Plan(is_over=True)
    assert plan(entry(), [fired], held=10, working={fired.id: 6}) == Plan(needs=6)


def test_second_of_a_unit_that_has_fired_is_ended() -> None:
    fired, late = trigger(S.TRIGGERED), trigger(attempt=2)
    assert plan(entry(), [fired, late], held=0).actions == (Cancel(gtt=late, why="the unit's exit has fired"),)


def test_second_of_a_unit_is_ended() -> None:
    first, second = trigger(), trigger(attempt=2)
    assert plan(entry(), [first, second], held=10).actions == (Cancel(gtt=second, why="a second trigger of one unit"),)


def test_what_is_closed_otherwise_shrinks_the_oldest_first() -> None:
    old, new = trigger(size=4), trigger(unit=2, size=6)
    assert plan(entry(), [old, new], held=7).actions == (Resize(gtt=old, quantity=1),)
    assert plan(entry(), [old, new], held=5).actions == (
        Cancel(gtt=old, why="what it was for is closed"),
        Resize(gtt=new, quantity=5),
    )


def test_later_entries_come_first() -> None:
    assert plan(entry(), [trigger()], held=15, others=10).actions == (Resize(gtt=trigger(), quantity=5),)


def test_nothing_is_taken_away_while_it_is_not_known_what_is_held() -> None:
    assert plan(entry(), [trigger()], held=None, others=100) == Plan(needs=10)


def test_one_made_smaller_does_not_grow_again() -> None:
    assert plan(entry(), [trigger(quantity=4)], held=10).actions == ()


def test_exit_that_was_an_order_stands_for_its_unit() -> None:
    assert plan(entry(), [], held=10, at_once=[at_once(OrderStatus.OPEN, 4)]) == Plan(needs=6)
    assert plan(entry(), [], held=10, at_once=[at_once(COMPLETE, 10)]) == Plan(is_over=True)
    assert plan(entry(), [], held=10, at_once=[at_once(OrderStatus.CANCELLED, 4)]).actions == ()


@pytest.mark.parametrize("status", [OrderStatus.FAILED, OrderStatus.REJECTED, OrderStatus.EXPIRED])
def test_exit_that_was_an_order_and_never_stood_is_followed_by_another(status: OrderStatus) -> None:
    assert plan(entry(), [], held=10, at_once=[at_once(status)]).actions == (place(attempt=2),)


def test_attempts_have_ids_of_their_own_and_the_same_ones_again() -> None:
    ids = {exit_id(entry().id, place(unit=u, attempt=a)) for u in (1, 2) for a in (1, 2)}
    assert len(ids) == 4
    assert exit_id(entry().id, place()) == exit_id(entry().id, place(quantity=3))


# prices


def instrument(kind: str = "EQ", tick: str = "0.05") -> Instrument:
    exchange = Exchange.NSE if kind == "EQ" else Exchange.NFO
    return Instrument(exchange=exchange, symbol="X", token=1, tick_size=Decimal(tick), lot_size=1, instrument_type=kind)


@pytest.mark.parametrize(
    ("kind", "stop", "policy", "price"),
    [
        ("EQ", "95", "-1", "93.10"),
        ("EQ", "400", "-1", "396"),
        ("EQ", "1400", "-1", "1393"),
        ("FUT", "1400", "-1", "1393"),
        ("CE", "8", "-1", "7.60"),
        ("PE", "80", "-1", "77.60"),
        ("CE", "1400", "-1", "1386"),
        ("EQ", "1400", "3", "1358"),
        ("EQ", "1000.05", "-1", "995"),
        ("CE", "0.05", "-1", "0.05"),
    ],
)
def test_stop_s_order_reaches_beyond_its_trigger(kind: str, stop: str, policy: str, price: str) -> None:
    prices = price_gtt(entry(stop_loss=Decimal(stop)), instrument(kind), policy=Decimal(policy))
    assert (prices.stop_trigger, prices.stop_price) == (Decimal(stop), Decimal(price))
    assert (prices.target_trigger, prices.target_price) == (110, 110)


def test_stop_of_a_short_entry_reaches_above() -> None:
    prices = price_gtt(
        entry(transaction_type=SELL, stop_loss=Decimal(1400), target=None), instrument(), policy=Decimal(-1)
    )
    assert prices.stop_price == 1407
    assert prices.target_trigger is None


@pytest.mark.parametrize(
    ("side", "last", "role"),
    [
        ("BUY", "95.05", None),
        ("BUY", "95", OrderRole.STOP),
        ("BUY", "110", OrderRole.TARGET),
        ("BUY", "109.95", None),
        ("SELL", "95", OrderRole.STOP),
        ("SELL", "90", OrderRole.TARGET),
        ("SELL", "94", None),
    ],
)
def test_side_whose_price_is_met_already(side: str, last: str, role: OrderRole | None) -> None:
    sides = {"BUY": (Decimal(95), Decimal(110)), "SELL": (Decimal(95), Decimal(90))}[side]
    order = entry(transaction_type=TransactionType(side), stop_loss=sides[0], target=sides[1])
    assert passed(order, Decimal(last)) is role


# whatever happens

STEPS = st.lists(
    st.tuples(st.sampled_from(["fill", "close", "answer", "fire", "hand", "refuse", "lose"]), st.integers(1, 10)),
    max_size=30,
)


@given(STEPS)
def test_no_unit_is_covered_twice_and_never_more_than_is_held(steps: Sequence[tuple[str, int]]) -> None:
    filled, held, gtts = 0, 0, {}
    for step, size in steps:
        live = [gtt for gtt in gtts.values() if gtt.status.is_live]
        active = [gtt for gtt in live if gtt.status is S.ACTIVE]
        match step:
            case "fill":
                filled, held = filled + size, held + size
            case "close":
                held = max(held - size, 0)
            case "answer" | "refuse" | "lose":
                to = {"answer": S.ACTIVE, "refuse": S.REJECTED, "lose": S.FAILED}[step]
                for gtt in live:
                    if gtt.status is S.SUBMITTING:
                        gtts[gtt.id] = msgspec.structs.replace(gtt, status=to)
            case "fire" if active:
                gtts[active[0].id] = msgspec.structs.replace(active[0], status=S.TRIGGERED)
                held = max(held - active[0].quantity, 0)
            case "hand" if active:
                gtts[active[-1].id] = msgspec.structs.replace(active[-1], status=S.CANCELLED)
        settled = False
        while not settled:
            todo = plan(entry(filled, quantity=1000), gtts.values(), held=held)
            settled = True
            for action in todo.actions:
                match action:
                    case Place():
                        made_id = exit_id(entry().id, action)
                        assert made_id not in gtts, "the same step was taken twice"
                        gtts[made_id] = trigger(
                            S.SUBMITTING, action.unit, action.attempt, action.unit_quantity, id=made_id,
                            quantity=action.quantity,
                        )  # fmt: skip
                        break
                    case Cancel(gtt=gtt):
                        gtts[gtt.id] = msgspec.structs.replace(gtt, status=S.CANCELLED)
                        settled = False
                    case Resize(gtt=gtt, quantity=quantity):
                        assert quantity < gtt.quantity
                        gtts[gtt.id] = msgspec.structs.replace(gtt, quantity=quantity)
                        settled = False
        units = [gtt.unit for gtt in gtts.values() if gtt.status.is_live]
        assert len(units) == len(set(units)), "a unit has two"
        assert sum(gtt.status.is_unresolved for gtt in gtts.values()) <= 1
        assert sum(gtt.quantity for gtt in gtts.values() if gtt.status is S.ACTIVE) <= held
        sizes = {gtt.unit: gtt.unit_quantity for gtt in gtts.values()}
        assert sum(sizes.values()) <= filled
