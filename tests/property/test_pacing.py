"""Properties of the pacing of order calls: what the broker's clock sees, whatever happens here between."""

from datetime import date
from math import floor, nextafter

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.domain.lanes import STARVED_S, Claims, Lane
from engine.domain.pacing import MARGIN_S, Pacer

DAY = date(2026, 11, 18)
EPSILON = 1e-6

# what a step does: a call asked for, one that leaves, one that is given up; and how much later it is, where
# None is as soon as the pacer allows one
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "take", "depart", "give_back", "at_once", "at_once"]),
        st.none() | st.floats(0, 0.02) | st.floats(0, 15),
        st.sampled_from(list(Lane)),
        st.integers(0, 30),
    ),
    min_size=1,
    max_size=150,
)


class Broker:
    """Notes when each call arrives: up to the margin after it has left."""

    def __init__(self, ways: list[float]) -> None:
        self._ways = ways
        self.arrivals: list[float] = []

    def left(self, now: float) -> None:
        self.arrivals.append(now + self._ways[len(self.arrivals) % len(self._ways)] * (MARGIN_S - EPSILON))

    def most_in(self, span: float, phase: float) -> int:
        counts: dict[int, int] = {}
        for at in self.arrivals:
            window = floor((at + phase) / span)
            counts[window] = counts.get(window, 0) + 1
        return max(counts.values(), default=0)


@given(
    steps=STEPS,
    ways=st.lists(st.sampled_from([0.0, 1.0]) | st.floats(0, 1), min_size=1, max_size=7),
    per_second=st.integers(1, 8),
    per_minute=st.integers(1, 20),
    phases=st.lists(st.floats(0, 60), min_size=1, max_size=10),
    holds=st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_no_calendar_second_or_minute_of_any_clock_sees_more_than_its_limit(
    steps: list[tuple[str, float | None, Lane, int]],
    ways: list[float],
    per_second: int,
    per_minute: int,
    phases: list[float],
    holds: bool,
) -> None:
    pacer, broker = Pacer(per_second, per_minute, 100), Broker(ways)
    now, granted, slots = 1000.0, [], 0
    for what, gap, lane, pick in steps:
        now = max(now, min(pacer.next_at(now, lane), now + 100)) if gap is None else now + gap
        if what == "take" and pacer.try_take(now, DAY, lane, slot=slots):
            granted.append(slots)
            slots += 1
        elif what == "at_once" and pacer.try_take(now, DAY, lane, starved=pick % 2 == 0):
            broker.left(now)
        elif what == "depart" and granted:
            # lapsed ones and repeated ones too: what may not leave does not
            if pacer.depart(granted[pick % len(granted)], now, DAY):
                broker.left(now)
        elif what == "give_back" and granted:
            pacer.give_back(granted.pop(pick % len(granted)))
        if holds and pick == 0:
            pacer.hold(now + 10)
    assert len(broker.arrivals) <= 100
    # every phase at which a window could begin to hold one arrival more, and some others
    edges = [-at for at in broker.arrivals]
    for phase in [*edges, *phases]:
        assert broker.most_in(1.0, phase) <= per_second
        assert broker.most_in(60.0, phase) <= per_minute


@given(
    gaps=st.lists(st.floats(0, 0.5), min_size=1, max_size=60),
    per_second=st.integers(1, 8),
    per_minute=st.integers(1, 30),
    lane=st.sampled_from(list(Lane)),
    hold=st.none() | st.floats(0, 5),
)
@settings(max_examples=80, deadline=None)
def test_next_at_is_the_first_instant_that_succeeds(
    gaps: list[float], per_second: int, per_minute: int, lane: Lane, hold: float | None
) -> None:
    pacer = Pacer(per_second, per_minute, 10_000)
    if hold is not None and lane is Lane.ENTRY:
        pacer.hold(1000.0 + hold)
    now = 1000.0
    for gap in gaps:
        now += gap
        if not pacer.try_take(now, DAY, lane):
            at = pacer.next_at(now, lane)
            assert at > now
            assert not pacer.try_take(nextafter(at, 0), DAY, lane)
            assert pacer.try_take(at, DAY, lane)
            now = at


@given(
    steps=st.lists(st.tuples(st.floats(0, 0.3), st.sampled_from(list(Lane))), max_size=60),
    cut=st.integers(0, 60),
    down_s=st.floats(0, 70),
)
@settings(max_examples=80, deadline=None)
def test_budget_survives_a_restart(steps: list[tuple[float, Lane]], cut: int, down_s: float) -> None:
    """A new pacer that is told the ages of the old one's calls gives no window more than its limit."""
    first, now, sent = Pacer(3, 20, 50), 1000.0, []
    for gap, lane in steps[:cut]:
        now += gap
        if first.try_take(now, DAY, lane):
            sent.append(now)
    now += down_s
    second = Pacer(3, 20, 50)
    second.restore(now, DAY, len(sent), [now - at for at in sent])
    for gap, lane in steps[cut:]:
        now += gap
        if second.try_take(now, DAY, lane):
            sent.append(now)
    assert len(sent) <= 50
    for start in sent:
        assert sum(start <= at < start + 1 + MARGIN_S - EPSILON for at in sent) <= 3
        assert sum(start <= at < start + 60 for at in sent) <= 20


@given(
    wants=st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=200),
    held=st.booleans(),
)
@settings(max_examples=100, deadline=None)
def test_a_lane_goes_only_when_those_before_it_do_not_wait_and_none_starves(
    wants: list[tuple[bool, bool, bool]], held: bool
) -> None:
    """One call every half second, for whoever may go; each lane waits or not as drawn."""
    claims, now = Claims(), 0.0
    waited = dict.fromkeys(Lane, 0.0)
    for wanting in wants:
        now += 0.5
        lanes = [lane for lane, waits in zip(Lane, wanting, strict=True) if waits]
        for lane in Lane:
            if lane in lanes:
                claims.claim("who", lane, now)
            else:
                claims.drop("who", lane)
                waited[lane] = 0.0
        may = [lane for lane in lanes if claims.may_go(lane, now, entries_held=held)]
        runnable = [lane for lane in lanes if not (held and lane is Lane.ENTRY)]
        if not runnable:
            continue
        assert may, "somebody may always go"
        went = may[0]
        if went is not min(lanes):
            assert claims.starved(now, entries_held=held) is went
        if held:
            assert went is not Lane.ENTRY
        claims.called(went, now)
        for lane in lanes:
            waited[lane] = 0.0 if lane is went else waited[lane] + 0.5
        # two others may be starved at once, and go first
        assert all(waited[lane] <= STARVED_S + 1.5 for lane in runnable)
