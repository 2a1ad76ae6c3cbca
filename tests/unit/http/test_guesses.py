"""Tries that may be guesses, on a clock that the test moves."""

from hypothesis import given
from hypothesis import strategies as st

from engine.http.guesses import FORGOTTEN_AFTER_S, LONGEST_WAIT_S, Guesses


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_free_tries_go_at_once_and_then_each_doubles_the_wait() -> None:
    time = Seconds()
    guesses = Guesses(free=3, wait_s=10.0, time=time)
    assert [guesses.take("k") for _ in range(3)] == [0.0, 0.0, 0.0]
    for wait in (10.0, 20.0, 40.0, 80.0):
        assert guesses.take("k") == wait
        assert guesses.take("k") == wait, "what is refused does not make it longer"
        time.now += wait
        assert guesses.take("k") == 0.0
    assert guesses.take("other") == 0.0


def test_wait_has_an_end_and_is_forgotten_after_a_quiet_hour() -> None:
    time = Seconds()
    guesses = Guesses(free=1, wait_s=10.0, time=time)
    for _ in range(2000):
        time.now += guesses.take("k")
    assert LONGEST_WAIT_S in (guesses.take("k"), guesses.take("k"))
    time.now += FORGOTTEN_AFTER_S
    assert guesses.take("k") == 0.0
    assert guesses.take("k") == 10.0


def test_success_forgets_and_a_try_can_be_given_back() -> None:
    time = Seconds()
    guesses = Guesses(free=2, wait_s=10.0, time=time)
    for _ in range(20):
        assert guesses.take("k") == 0.0
        guesses.give_back("k")
    assert [guesses.take("k"), guesses.take("k")] == [0.0, 0.0]
    assert guesses.take("k") == 10.0
    guesses.succeeded("k")
    assert guesses.take("k") == 0.0


def test_keys_are_bounded_in_number() -> None:
    guesses = Guesses(free=1, wait_s=1.0, time=Seconds(), max_keys=50)
    for number in range(500):
        guesses.take(str(number))
    assert len(guesses) == 50


@given(st.integers(1, 20), st.lists(st.floats(0, 4000), max_size=200))
def test_no_pace_of_trying_gets_more_than_the_bound_out_of_an_hour(free: int, pauses: list[float]) -> None:
    time = Seconds()
    guesses = Guesses(free=free, wait_s=60.0 / free, time=time)
    let: list[float] = []
    for pause in pauses:
        time.now += pause
        if guesses.take("k") == 0.0:
            let.append(time.now)
    # the free ones, those of the doubling waits, and one for each longest wait that fits
    most = 2 * (free + 10 + int(3600 / LONGEST_WAIT_S))
    for start in let:
        assert sum(1 for at in let if start <= at < start + 3600) <= most
