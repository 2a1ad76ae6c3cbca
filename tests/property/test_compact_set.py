"""A compact set answers as a set does."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.compact_set import CompactSet

VALUES = st.one_of(st.text(min_size=1, max_size=4), st.integers(1, 300).map(lambda n: UUID(int=n * 7919)))
STEPS = st.lists(st.tuples(st.sampled_from(["add", "discard"]), VALUES), max_size=300)


@given(st.frozensets(VALUES), STEPS, st.frozensets(VALUES))
def test_it_holds_what_was_added_and_not_taken_away(begun: frozenset, steps: list, others: frozenset):
    compact, plain = CompactSet(begun), set(begun)
    for step, value in steps:
        getattr(compact, step)(value)
        getattr(plain, step)(value)
        assert (value in compact) is (value in plain)
    before = compact.copy()
    assert len(compact) == len(plain)
    assert all((value in compact) is (value in plain) for value in others)
    assert (compact <= others) is (plain <= others)
    assert compact <= {*plain, *others}
    compact.clear()
    assert not compact
    assert len(before) == len(plain)
