import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.bench.figures import Figure, Received, Sent, due_times, figures, match, percentile, slope

MS = 1_000_000


def sent(number: int, *, due_ms: int = 0, status: int = 202) -> Sent:
    due_ns = due_ms * MS
    return Sent(number=number, due_ns=due_ns, sent_ns=due_ns, answered_ns=due_ns + MS, status=status)


def order(number: int, *, at_ms: int = 5, account: str = "a") -> Received:
    return Received(at_ns=at_ms * MS, account=account, number=number, tag=f"T{number}")


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 1.0), (0.5, 50.0), (0.99, 99.0), (0.991, 100.0), (0.999, 100.0), (1.0, 100.0)]
)
def test_percentile_is_the_nearest_rank(share: float, value: float) -> None:
    assert percentile([float(n) for n in range(100, 0, -1)], share) == value


def test_percentile_of_nothing_is_none() -> None:
    assert math.isnan(percentile([], 0.5))


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_percentile_leaves_at_most_the_rest_above_it(values: list[float], share: float) -> None:
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-6


def test_open_loop_is_due_evenly_whatever_becomes_of_it() -> None:
    due = due_times(1000, rate=100, seconds=2)
    assert len(due) == 200
    assert {later - earlier for earlier, later in pairwise(due)} == {10 * MS}
    assert due[0] == 1000


def test_match_counts_lost_doubled_unanswered_and_foreign_one_for_one() -> None:
    matched = match(
        [sent(0), sent(1), sent(2), sent(3, status=0), sent(4, status=503)],
        [order(0), order(1), order(1), order(3), order(99), order(0, account="other")],
        lambda _number: ["a"],
    )
    assert (matched.sent, matched.accepted) == (5, 3)
    assert (matched.lost, matched.doubled, matched.unanswered, matched.foreign) == (1, 1, 1, 2)


def test_match_takes_the_last_of_many_accounts_from_when_it_was_due() -> None:
    received = [order(7, at_ms=5 + n, account=f"a{n}") for n in range(3)]
    matched = match([sent(7, due_ms=2)], received, lambda _number: ["a0", "a1", "a2"])
    assert list(matched.order_ms) == [5.0]
    assert list(matched.ack_ms) == [1.0]
    assert matched.lost == 0
    short = match([sent(7)], received[:2], lambda _number: ["a0", "a1", "a2"])
    assert (short.lost, list(short.order_ms)) == (1, [])


def test_figures_are_medians_with_their_extremes() -> None:
    found = figures([{"a": 3.0}, {"a": 1.0, "b": 5.0}, {"a": 2.0}, {"a": math.nan}])
    assert found["a"] == Figure(median=2.0, least=1.0, greatest=3.0)
    assert found["b"].median == 5.0
    assert Figure.of([1.0, 2.0]).median == 1.5
    assert math.isnan(Figure.of([]).median)


def test_slope_is_growth_for_each_unit() -> None:
    assert slope([(0, 10), (1, 12), (2, 14)]) == pytest.approx(2)
    assert slope([(0, 10), (0, 12)]) == slope([]) == 0
