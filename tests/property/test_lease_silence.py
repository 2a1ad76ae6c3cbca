"""When a lease may be taken from its holder, under every timing of renewals, looks, and clocks that are set."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from engine.actors.lease_keeper import LIFE_S, LeaseKeeper
from engine.leadership import SETTLE_S, SILENT_S, Silence
from engine.store.lease import Lease

START = datetime(2026, 1, 5, 4, tzinfo=UTC)
LOOK_S = 0.5

seconds = st.floats(0.0, 30.0, allow_nan=False)


def gate(asked_s: float, now_s: float) -> bool:
    """The old leader's gate at *now_s*, whose last renewal that went through was asked for at *asked_s*."""
    clock = SimpleNamespace(boottime_ns=lambda: int(now_s * 1e9), now=lambda: START)
    return LeaseKeeper(None, epoch=1, clock=clock, asked_ns=int(asked_s * 1e9)).holds()


def lease(recorded_s: float, now_s: float, step_s: float = 0.0) -> Lease:
    """The row: recorded at *recorded_s*, read at *now_s*, with a server's clock that was set by *step_s* between."""
    at = START + timedelta(seconds=recorded_s)
    return Lease(epoch=1, holder="far", renewed_at=at, age_s=now_s + step_s - recorded_s, released=False)


# gaps between renewals, how long each was under way, and the watcher's looks: when, and whether they failed
renewals = st.lists(st.tuples(seconds, st.floats(0.0, 3.0)), min_size=1, max_size=12)
looks = st.lists(st.tuples(st.floats(0.4, 6.0), st.booleans(), st.floats(-4000, 4000)), min_size=1, max_size=60)


@given(renewals=renewals, looks=looks, first_s=seconds)
def test_gate_of_the_old_leader_is_shut_whenever_its_lease_may_be_taken(renewals, looks, first_s):
    rows, at = [], 0.0
    for gap_s, under_way_s in renewals:
        rows.append((at, at + under_way_s))  # asked for, recorded
        at += under_way_s + gap_s
    watch, now_s = Silence(), first_s
    for number, (pause_s, fails, step_s) in enumerate(looks):
        now_s += pause_s
        seen = [row for row in rows if row[1] <= now_s]
        if fails or not seen:
            watch.blind(now_s)
            continue
        asked_s, recorded_s = seen[-1]
        # the first look believes the server's clock, so that one is right there; later ones need not
        step_s = 0.0 if number == 0 or watch._seen is None else step_s
        if watch.is_silent(lease(recorded_s, now_s, step_s), now_s):
            # even of the renewal that is recorded; one that is under way will be refused
            assert not gate(asked_s, now_s)
            return


@given(age_s=st.floats(0.0, 100.0), step_s=st.floats(-4000, 4000))
def test_dead_leader_is_silent_in_time_whatever_the_servers_clock_says(age_s, step_s):
    watch = Silence()
    now_s = age_s
    watch.is_silent(lease(0.0, now_s), now_s)
    while not watch.is_silent(lease(0.0, now_s, step_s), now_s):
        now_s += LOOK_S
        assert now_s <= max(age_s, SILENT_S) + LOOK_S


@given(pause_s=st.floats(0.1, LIFE_S), step_s=st.floats(-1e6, 1e6), count=st.integers(2, 40))
def test_leader_that_renews_is_never_called_silent_though_the_servers_clock_jumps(pause_s, step_s, count):
    watch, now_s = Silence(), 0.0
    for number in range(count):
        assert not watch.is_silent(lease(now_s, now_s, step_s if number else 0.0), now_s)
        now_s += pause_s


@given(outage_s=st.floats(0.0, 10_000.0))
def test_after_an_outage_the_leader_has_time_to_renew(outage_s):
    watch = Silence()
    watch.is_silent(lease(0.0, 1.0), 1.0)
    back_s = 1.0 + outage_s
    watch.blind(back_s)
    assert not watch.is_silent(lease(0.0, back_s), back_s)
    assert not watch.is_silent(lease(0.0, back_s + SETTLE_S - 0.01), back_s + SETTLE_S - 0.01)
    later_s = back_s + SILENT_S + SETTLE_S
    assert watch.is_silent(lease(0.0, later_s), later_s)
    # one that renews meanwhile is not silent
    watch.blind(later_s)
    assert not watch.is_silent(lease(later_s, later_s), later_s + SETTLE_S)


def test_first_look_believes_the_age_and_later_ones_do_not():
    assert Silence().is_silent(lease(0.0, SILENT_S), SILENT_S)
    watch = Silence()
    assert not watch.is_silent(lease(0.0, 1.0), 1.0)
    assert not watch.is_silent(lease(2.0, 3.0, 3600.0), 3.0)
