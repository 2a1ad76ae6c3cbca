from datetime import timedelta

import pytest

from engine.domain.breaker import CLOSED, BreakerState, Outcome, heard, is_rested, outcome, rested
from engine.domain.enums import OrderStatus
from tests.support.trade import NOW, an_order

S = OrderStatus
LIMITS = {"limit": 3, "cooldown_s": 60}


def after(times, breaker=CLOSED, said=Outcome.FAILED, **limits):
    for _ in range(times):
        breaker = heard(breaker, said, now=NOW, **(LIMITS | limits))
    return breaker


def succeeded(breaker):
    return after(1, breaker, Outcome.TAKEN)


def test_opens_at_the_limit_and_not_before():
    assert after(2).state is BreakerState.CLOSED
    opened = after(3)
    assert (opened.state, opened.until) == (BreakerState.OPEN, NOW + timedelta(seconds=60))


def test_success_begins_the_count_anew():
    assert after(2, succeeded(after(2))).state is BreakerState.CLOSED


def test_order_that_is_only_received_ends_a_row_at_the_door_and_none_of_later_rejections():
    received = Outcome.RECEIVED
    assert after(2, after(1, after(2), received)).state is BreakerState.CLOSED
    breaker = CLOSED
    for _ in range(3):
        breaker = after(1, after(1, breaker, received), Outcome.REJECTED)
    assert breaker.state is BreakerState.OPEN
    half = rested(breaker)
    assert after(1, half, received).state is BreakerState.HALF_OPEN


def test_without_a_limit_it_never_opens():
    assert after(50, limit=None).state is BreakerState.CLOSED


def test_without_a_cooldown_it_stays_open():
    opened = after(3, cooldown_s=None)
    assert not is_rested(opened, NOW + timedelta(days=365))


def test_late_answers_of_what_was_sent_before_neither_close_nor_prolong_it():
    opened = after(3)
    assert after(2, opened).until == opened.until
    assert succeeded(opened).state is BreakerState.OPEN


def test_half_open_closes_on_success_and_opens_again_on_the_first_failure():
    opened = after(3)
    assert not is_rested(opened, NOW + timedelta(seconds=59))
    assert is_rested(opened, NOW + timedelta(seconds=60))
    half = rested(opened)
    assert half.state is BreakerState.HALF_OPEN
    assert succeeded(half) == CLOSED
    assert after(1, half).state is BreakerState.OPEN


@pytest.mark.parametrize(
    ("status", "message", "taken"),
    [
        (S.REJECTED, "FUNDS: no money", Outcome.FAILED),
        (S.REJECTED, "RESLICED: 1800 at most", None),
        (S.UNKNOWN, "outcome not known", None),
        (S.EXPIRED, "UNPLACED: absent from clean order books for 183 s", Outcome.FAILED),
        (S.EXPIRED, "SIGNAL_TOO_OLD: 61.0 s old", None),
        (S.FAILED, "NOT_SENT: connection refused", Outcome.FAILED),
        (S.FAILED, "NOT_SENT: LATE: the ledger took more than 5 s", None),
        (S.FAILED, "ORDERS_BLOCKED: x", None),
        (S.CANCELLED, "KILL_SWITCH: x", None),
        (S.EXPIRED, "SIGNAL_TOO_OLD: x", None),
        (S.PENDING, None, None),
        (S.SUBMITTED, None, Outcome.RECEIVED),
        (S.OPEN, None, Outcome.TAKEN),
        (S.COMPLETE, None, Outcome.TAKEN),
    ],
)
def test_only_what_happened_at_the_broker_counts(status, message, taken):
    assert outcome(an_order(status, status_message=message)) is taken


def test_rejection_of_what_was_received_is_a_later_one():
    assert outcome(an_order(S.REJECTED, broker_order_id="42")) is Outcome.REJECTED
