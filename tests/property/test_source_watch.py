"""Numbers that never came: whatever the order of arrival, what is missing is what was not heard."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.source_watch import MAX_GAPS, Arrival, Heard, announced, arrive, missing_count, shown, silent_since

NUMBERS = st.lists(st.integers(0, 60), min_size=1, max_size=80)
START = datetime(2026, 11, 30, 4, 0, tzinfo=UTC)


def heard_all(numbers):
    heard, kinds = Heard(), []
    for number in numbers:
        heard, kind, _gap = arrive(heard, number)
        kinds.append(kind)
    return heard, kinds


def missing_of(heard):
    return {number for first, last in heard.missing for number in range(first, last + 1)}


@given(NUMBERS)
def test_what_is_missing_is_what_lies_between_the_first_and_the_last_and_never_came(numbers):
    heard, _ = heard_all(numbers)
    first = numbers[0]
    expected = set(range(first, max([first, *numbers]) + 1)) - set(numbers)
    assert missing_of(heard) == expected
    assert missing_count(heard) == len(expected)


@given(NUMBERS)
def test_gaps_are_in_order_apart_and_below_the_last(numbers):
    heard, _ = heard_all(numbers)
    ends = [end for gap in heard.missing for end in gap]
    assert ends == sorted(ends)
    assert all(first <= last for first, last in heard.missing)
    assert all(after[0] > before[1] + 1 for before, after in zip(heard.missing, heard.missing[1:], strict=False))
    assert all(last < heard.last_sequence for _, last in heard.missing)


@given(NUMBERS)
def test_last_number_never_falls_and_a_number_is_new_once(numbers):
    heard, seen = Heard(), set()
    for number in numbers:
        before = heard.last_sequence
        heard, kind, gap = arrive(heard, number)
        assert before is None or heard.last_sequence >= before
        assert (gap is not None) is (kind is Arrival.AFTER_GAP)
        if number in seen:
            assert kind is Arrival.REPEAT
        seen.add(number)


@given(st.permutations(list(range(20))))
def test_everything_that_comes_in_any_order_leaves_nothing_missing_above_the_first(numbers):
    heard, kinds = heard_all(numbers)
    assert heard.missing == ()
    assert kinds.count(Arrival.REPEAT) == numbers[0]  # those below the first are not counted


@given(NUMBERS, st.integers(0, 80))
def test_announced_number_makes_missing_what_it_says_was_sent(numbers, last):
    heard, _ = heard_all(numbers)
    told, gap = announced(heard, last)
    assert missing_of(told) == missing_of(heard) | set(range(heard.last_sequence + 1, last + 1))
    assert (gap is None) is (last <= heard.last_sequence)
    assert announced(told, last) == (told, None)


def test_memory_of_gaps_is_bounded():
    heard, _ = heard_all(range(0, 1000, 2))
    assert len(heard.missing) == MAX_GAPS
    assert heard.missing[-1] == (997, 997)
    heard, _ = heard_all([0, 2**53 - 1])
    assert heard.missing == ((1, 2**53 - 2),)


@given(
    heard_s=st.none() | st.integers(0, 1000),
    since_s=st.integers(0, 1000),
    opened_s=st.none() | st.integers(0, 1000),
    now_s=st.integers(0, 2000),
    every_s=st.integers(1, 500),
)
def test_silence_begins_at_the_latest_of_what_counts_and_only_in_hours(heard_s, since_s, opened_s, now_s, every_s):
    def at(seconds):
        return None if seconds is None else START + timedelta(seconds=seconds)

    found = silent_since(
        Heard(heard_at=at(heard_s)), every_s=every_s, watched_since=at(since_s), opened_at=at(opened_s), now=at(now_s)
    )
    if opened_s is None:
        assert found is None
        return
    last = max(since_s, opened_s, heard_s or 0)
    assert (found is not None) is (now_s - last > every_s)
    assert found in (None, at(last))


def test_shown_gaps_are_short():
    assert shown(((4, 4), (7, 9))) == "4, 7 to 9"
    assert shown(tuple((n, n) for n in range(20)), most=2) == "0, 1 and more"
