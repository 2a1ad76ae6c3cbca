"""Positions in the journal's stream."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.journal.keys import after, before, order_of

positions = st.builds(lambda ms, n: f"{ms}-{n}", st.integers(0, 2**48), st.sampled_from([0, 1, 7, 2**64 - 1]))


@given(positions, positions)
def test_after_and_before_leave_nothing_between(position, other):
    assert order_of(after(position)) > order_of(position)
    assert not order_of(position) < order_of(other) < order_of(after(position))
    assert before(after(position)) == position


def test_positions_sort_as_numbers():
    assert order_of("9-10") < order_of("10-9")
    assert order_of("5-9") < order_of("5-10")
    assert order_of("7") == (7, 0)


def test_nothing_comes_before_the_first():
    with pytest.raises(ValueError, match="nothing comes before"):
        before("0-0")
