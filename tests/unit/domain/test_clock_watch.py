"""When the wall clock is suspect, and when it is believed again."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.clock_watch import ClockWatch
from tests.support.trade import NOW

S = 1_000_000_000


def at(seconds: float, step_s: float = 0.0):
    """Both clocks *seconds* after the start, the wall clock *step_s* off."""
    return NOW + timedelta(seconds=seconds + step_s), int(seconds * S)


def heard(watch: ClockWatch, seconds: float, broker_s: float, *, step_s: float = 0.0, took_s: float = 0.1):
    wall, boot = at(seconds, step_s)
    watch.look(wall, boot)
    date = (NOW + timedelta(seconds=broker_s)).replace(microsecond=0)
    return watch.heard(date, wall - timedelta(seconds=took_s), wall, boot)


def test_clock_that_keeps_pace_is_trusted() -> None:
    watch = ClockWatch(*at(0))
    assert all(watch.look(*at(n * 0.7)) is None for n in range(200))


@pytest.mark.parametrize("step_s", [3600.0, -3600.0, 0.6, -0.6])
def test_step_makes_it_suspect_and_says_by_how_much(step_s: float) -> None:
    watch = ClockWatch(*at(0))
    reason = watch.look(*at(5, step_s))
    assert reason is not None
    assert f"{step_s:+.1f} s" in reason


@pytest.mark.parametrize("step_s", [0.4, -0.4])
def test_small_step_is_slewing(step_s: float) -> None:
    watch = ClockWatch(*at(0))
    assert watch.look(*at(5, step_s)) is None


def test_small_steps_within_a_minute_add_up() -> None:
    watch = ClockWatch(*at(0))
    assert watch.look(*at(10, 0.3)) is None
    assert watch.look(*at(20, 0.6)) is not None


def test_slewing_over_an_hour_is_no_step() -> None:
    watch = ClockWatch(*at(0))
    # 500 parts in a million, as ntpd slews
    assert all(watch.look(*at(n, n * 0.0005)) is None for n in range(3600))


def test_suspended_machine_makes_no_step() -> None:
    watch = ClockWatch(*at(0))
    assert watch.look(*at(60)) is None
    assert watch.look(*at(7200)) is None


def test_without_a_broker_a_minute_of_pace_restores_trust() -> None:
    watch = ClockWatch(*at(0))
    watch.look(*at(5, 3600))
    assert watch.look(*at(64.9, 3600)) is not None
    assert watch.look(*at(65.1, 3600)) is None


def test_second_step_begins_the_minute_anew() -> None:
    watch = ClockWatch(*at(0))
    watch.look(*at(5, 3600))
    watch.look(*at(40, 0))
    assert watch.look(*at(66, 0)) is not None
    assert watch.look(*at(101, 0)) is None


def test_broker_that_agrees_restores_trust_at_once() -> None:
    watch = ClockWatch(*at(0))
    watch.look(*at(5, -3600))
    assert heard(watch, 6, 6) is None  # set right again


def test_broker_that_disagrees_makes_it_suspect_for_as_long_as_it_does() -> None:
    watch = ClockWatch(*at(0))
    assert "behind the broker's" in (heard(watch, 5, 9) or "")
    assert watch.look(*at(500)) is not None
    assert "ahead of the broker's" in (heard(watch, 600, 590) or "")
    assert heard(watch, 601, 601) is None
    assert watch.look(*at(602)) is None


@given(st.floats(-1.9, 0.9), st.floats(0, 7), st.floats(0, 0.999))
def test_broker_within_two_seconds_and_its_own_rounding_agrees(skew_s: float, took_s: float, fraction: float) -> None:
    watch = ClockWatch(*at(0))
    # the broker's clock was read some time between question and answer
    assert heard(watch, 50 + fraction, 50 + fraction + skew_s, took_s=took_s) is None


@given(st.floats(3.1, 1e6), st.booleans(), st.floats(0, 1))
def test_broker_further_away_never_agrees(skew_s: float, ahead: bool, took_s: float) -> None:
    watch = ClockWatch(*at(0))
    broker_s = 50 + skew_s if ahead else 50 - skew_s - took_s
    assert heard(watch, 50, broker_s, took_s=took_s) is not None


@given(st.lists(st.tuples(st.floats(0.1, 30), st.floats(-5000, 5000)), max_size=30))
def test_trust_after_any_steps_needs_a_minute_without_one(steps: list[tuple[float, float]]) -> None:
    watch = ClockWatch(*at(0))
    seconds, off = 0.0, 0.0
    for wait_s, step_s in steps:
        seconds += wait_s
        off += step_s
        reason = watch.look(*at(seconds, off))
        assert reason is not None or abs(step_s) <= 1.0
    assert watch.look(*at(seconds + 61, off)) is None
