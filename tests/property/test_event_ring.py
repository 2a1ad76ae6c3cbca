"""The ring against a list that keeps everything: nothing is skipped, doubled or invented, and a gap is always told."""

from hypothesis import given
from hypothesis import strategies as st

from engine.domain.event_ring import EventRing, Resume

steps = st.lists(st.one_of(st.just("add"), st.tuples(st.integers(0, 60), st.integers(1, 12))), max_size=80)


@given(capacity=st.integers(1, 9), taken=steps)
def test_a_read_is_what_a_list_of_everything_holds_or_a_told_gap(capacity, taken):
    ring = EventRing(7, capacity)
    everything = []
    for step in taken:
        if step == "add":
            everything.append(f"event {len(everything) + 1}")
            assert ring.add(everything[-1]) == len(everything)
            continue
        number, limit = step
        expected = list(enumerate(everything, 1))[number : number + limit]
        is_held = number >= len(everything) - capacity
        assert ring.after(number, limit) == (expected if is_held else None)


@given(capacity=st.integers(1, 9), added=st.integers(0, 40), number=st.integers(0, 60), epoch=st.integers(6, 8))
def test_a_place_goes_on_exactly_when_nothing_after_it_is_lost(capacity, added, number, epoch):
    ring = EventRing(7, capacity)
    for event in range(added):
        ring.add(event)
    place = ring.place(f"{epoch}-{number}")
    if epoch != 7:
        assert place.reset is Resume.NEW_ENGINE
    elif number > added:
        assert place.reset is Resume.UNKNOWN_ID
    elif number < added - capacity:
        assert place.reset is Resume.TOO_OLD
    else:
        assert place.reset is None
        assert place.number == number
    assert place.reset is None or place.number == added
    assert ring.after(place.number, 100) is not None


@given(text=st.text(max_size=50))
def test_no_text_is_taken_for_a_place_that_was_never_given_out(text):
    ring = EventRing(7, 4)
    ring.add("event")
    place = ring.place(text)
    assert place.number == 1 or text == "7-0"
    assert place.reset is not None or text in ("", "7-0", "7-1") or text.strip("0").startswith("7-")
