"""Request budgets: calendar seconds, minutes, days, per account and key, and the penalty."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.exchange.config import Limits
from engine.exchange.errors import KiteRefusal
from engine.exchange.ratelimit import RateLimiter

START = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)


def allowed(limiter: RateLimiter, count: int, at: datetime, user: str = "A") -> int:
    passed = 0
    for _ in range(count):
        with suppress(KiteRefusal):
            limiter.write(user, at)
            passed += 1
    return passed


def test_writes_are_counted_by_calendar_second_not_by_rolling_window() -> None:
    limiter = RateLimiter(Limits())
    assert allowed(limiter, 10, START + timedelta(milliseconds=950)) == 10
    assert allowed(limiter, 10, START + timedelta(milliseconds=1010)) == 10


def test_writes_over_the_second_are_shut_out_for_the_penalty() -> None:
    limiter = RateLimiter(Limits())
    assert allowed(limiter, 12, START) == 10
    assert allowed(limiter, 1, START + timedelta(seconds=9.9)) == 0
    assert allowed(limiter, 1, START + timedelta(seconds=10)) == 1


def test_writes_of_another_account_are_counted_apart() -> None:
    limiter = RateLimiter(Limits(orders_per_second=2))
    assert allowed(limiter, 3, START) == 2
    assert allowed(limiter, 3, START, user="B") == 2


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(orders_per_second=1), "Too many requests"),
        (Limits(orders_per_minute=1), "Maximum allowed order requests exceeded."),
        (Limits(orders_per_day=1), "Maximum allowed order requests exceeded."),
    ],
)
def test_writes_over_a_limit_are_told_which(limits: Limits, text: str) -> None:
    limiter = RateLimiter(limits)
    limiter.write("A", START)
    with pytest.raises(KiteRefusal) as caught:
        limiter.write("A", START)
    assert (caught.value.message, caught.value.error_type) == (text, "NetworkException")


def test_writes_of_the_minute_open_again_after_the_penalty_in_the_next_minute() -> None:
    limiter = RateLimiter(Limits(orders_per_minute=3, penalty_s=1))
    assert allowed(limiter, 4, START) == 3
    assert allowed(limiter, 1, START + timedelta(seconds=30)) == 0
    assert allowed(limiter, 1, START + timedelta(seconds=60)) == 1


def test_writes_of_the_day_roll_over_at_ist_midnight() -> None:
    limiter = RateLimiter(Limits(orders_per_day=1))
    before_midnight = datetime(2026, 11, 23, 18, 29, 59, tzinfo=UTC)
    assert allowed(limiter, 2, before_midnight) == 1
    assert allowed(limiter, 1, before_midnight + timedelta(seconds=1)) == 1


def test_reads_and_quotes_have_their_own_buckets() -> None:
    limiter = RateLimiter(Limits())
    limiter.quote("k", START)
    with pytest.raises(KiteRefusal, match="Too many requests"):
        limiter.quote("k", START)
    for _ in range(10):
        limiter.read("k", START)
    with pytest.raises(KiteRefusal, match="Too many requests"):
        limiter.read("k", START)
    assert allowed(limiter, 1, START, user="k") == 1


def test_limits_switched_off_let_everything_pass() -> None:
    limiter = RateLimiter(Limits(enabled=False, orders_per_second=1))
    assert allowed(limiter, 50, START) == 50
    for _ in range(50):
        limiter.quote("k", START)


def test_request_refused_by_validation_still_counts(make_driver: Any) -> None:
    driver = make_driver(limits=Limits(orders_per_second=3))
    for _ in range(3):
        assert driver.refusal(price="").status == 400
    assert driver.refusal().message == "Too many requests"


def test_modify_and_cancel_count_with_place(make_driver: Any) -> None:
    driver = make_driver(limits=Limits(orders_per_second=3))
    order_id = driver.place(price="1440.00")
    driver.modify(order_id, price="1441.00")
    driver.cancel(order_id)
    assert driver.refusal().status == 429


def test_days_count_survives_a_restart(make_driver: Any) -> None:
    driver = make_driver(limits=Limits(orders_per_second=3, orders_per_day=4, penalty_s=0))
    for _ in range(3):
        driver.place(price="1440.00")
    for _ in range(2):
        assert driver.refusal(price="1440.00").message == "Too many requests"
    driver.now += timedelta(seconds=1)
    driver.restarted()
    driver.place(price="1440.00")
    assert driver.refusal().message == "Maximum allowed order requests exceeded."
