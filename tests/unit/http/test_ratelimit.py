"""Token buckets on a clock that the test moves."""

from collections.abc import Callable

import pytest

from engine.errors import RateLimitError
from engine.http.ratelimit import RateClass, RateLimits, TokenBuckets


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def limits(time: Seconds, *, login: int = 3, webhook: int = 5, api: int = 4) -> RateLimits:
    return RateLimits(login_per_minute=login, webhook_per_minute=webhook, api_per_minute=api, time=time)


def refused(call: Callable[[int], None], *, times: int) -> bool:
    """Tell whether one of *times* calls is refused."""
    for number in range(times):
        try:
            call(number)
        except RateLimitError:
            return True
    return False


def test_bucket_empties_and_refills_evenly() -> None:
    time = Seconds()
    buckets = TokenBuckets(60, time=time)
    assert [buckets.take("a") for _ in range(60)] == [0.0] * 60
    assert buckets.take("a") == pytest.approx(1.0)
    time.now += 1.0
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0


def test_bucket_never_holds_more_than_its_minute() -> None:
    time = Seconds()
    buckets = TokenBuckets(2, time=time)
    time.now += 3600
    assert [buckets.take("a") > 0 for _ in range(3)] == [False, False, True]


def test_buckets_of_two_keys_are_apart() -> None:
    buckets = TokenBuckets(1, time=Seconds())
    assert buckets.take("a") == 0
    assert buckets.take("b") == 0
    assert buckets.take("a") > 0


def test_buckets_are_bounded_in_number() -> None:
    buckets = TokenBuckets(1, time=Seconds(), max_keys=100)
    for number in range(1000):
        buckets.take(str(number))
    assert len(buckets) == 100


def test_login_failures_of_one_address_and_email_are_limited_with_a_waiting_time() -> None:
    time = Seconds()
    under_test = limits(time)
    for _ in range(3):
        under_test.login("1.1.1.1", "a@b")
    with pytest.raises(RateLimitError) as caught:
        under_test.login("1.1.1.1", "a@b")
    assert caught.value.retry_after_s == 20
    time.now += 20
    under_test.login("1.1.1.1", "a@b")


def test_login_of_the_owner_elsewhere_is_not_locked_out_by_a_stranger() -> None:
    under_test = limits(Seconds())
    assert refused(lambda _: under_test.login("6.6.6.6", "a@b"), times=50)
    under_test.login("1.1.1.1", "a@b")


def test_login_of_many_emails_from_one_address_is_limited_too() -> None:
    under_test = limits(Seconds())
    assert refused(lambda number: under_test.login("6.6.6.6", f"user{number}@b"), times=1000)


def test_login_that_succeeds_does_not_count() -> None:
    under_test = limits(Seconds())
    for _ in range(100):
        under_test.login("1.1.1.1", "a@b")
        under_test.login_succeeded("1.1.1.1", "a@b")


def test_kill_switch_has_a_bucket_of_its_own() -> None:
    under_test = limits(Seconds())
    assert refused(lambda _: under_test.charge(RateClass.API, "u"), times=10)
    under_test.charge(RateClass.KILL_SWITCH, "u")
    for _ in range(100):
        under_test.charge(RateClass.NONE, "u")


def test_webhook_of_one_source_does_not_use_up_anothers() -> None:
    under_test = limits(Seconds())
    assert refused(lambda _: under_test.webhook("a"), times=6)
    under_test.webhook("b")
