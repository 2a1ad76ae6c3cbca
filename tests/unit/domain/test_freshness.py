"""How long an order may still be sent, whatever is done to the wall clock."""

from datetime import timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.freshness import Freshness
from tests.support.trade import NOW, an_order

S = 1_000_000_000
INTENT = UUID(int=9)


def order(left_s: float = 30.0, **fields):
    return an_order(deadline=NOW + timedelta(seconds=left_s), intent_id=INTENT, **fields)


def test_order_is_fresh_until_its_deadline_and_then_says_how_old_it_is() -> None:
    freshness = Freshness(60)
    freshness.note(order(), NOW, 0)
    assert freshness.stale(order(), NOW + timedelta(seconds=29), 29 * S) is None
    assert freshness.stale(order(), NOW + timedelta(seconds=32), 32 * S) == (
        "SIGNAL_TOO_OLD: 2.0 s past its deadline, 32.0 s old"
    )


@given(st.floats(-1e6, 1e6), st.integers(0, 100 * S))
def test_wall_clock_that_is_set_neither_gives_nor_takes_time(step_s: float, passed_ns: int) -> None:
    freshness = Freshness(60)
    freshness.note(order(), NOW, 0)
    wall = NOW + timedelta(seconds=passed_ns / S + step_s)
    assert (freshness.stale(order(), wall, passed_ns) is None) == (passed_ns < 30 * S)


def test_order_noted_again_keeps_its_deadline() -> None:
    freshness = Freshness(60)
    first = freshness.note(order(), NOW, 0)
    assert freshness.note(order(), NOW - timedelta(hours=1), 5 * S) == first


def test_order_not_noted_before_is_judged_by_the_wall_clock() -> None:
    assert Freshness(60).stale(order(), NOW + timedelta(seconds=31), 0) is not None
    assert Freshness(60).stale(order(), NOW + timedelta(seconds=29), 0) is None


def test_order_from_ahead_of_the_clock_is_too_old_for_its_age_cannot_be_told() -> None:
    freshness = Freshness(60)
    text = freshness.stale(order(3660), NOW, 0)
    assert text == "SIGNAL_TOO_OLD: its age cannot be told, it came 3600.0 s ahead of the clock"


def test_order_of_no_signal_may_have_any_deadline() -> None:
    freshness = Freshness(60)
    assert freshness.stale(an_order(deadline=NOW + timedelta(hours=1)), NOW, 0) is None


def test_order_forgotten_is_judged_anew() -> None:
    freshness = Freshness(60)
    freshness.note(order(), NOW, 0)
    freshness.forget(order().id)
    assert freshness.stale(order(), NOW, 99 * S) is None
