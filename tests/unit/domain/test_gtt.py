"""Triggers (GTT) as values: what the broker shows of one, which row is ours, when one is proven absent."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from engine.domain.gtt import (
    TRANSITIONS,
    BrokerGttOrder,
    GttSearch,
    GttStatus,
    find,
    fold,
    matches,
    move,
)
from engine.domain.options import OrderRole
from engine.domain.order import IllegalTransition
from tests.support.gtts import a_gtt, as_shown
from tests.support.trade import NOW

S = GttStatus
SELL = {"transaction_type": "SELL", "quantity": 10, "product": "CNC"}


def fired(leg: int, **result: Any) -> tuple[BrokerGttOrder, ...]:
    prices = (Decimal(1393), Decimal(1500))
    return tuple(BrokerGttOrder(price=p, **SELL, **(result if i == leg else {})) for i, p in enumerate(prices))


def test_sides_are_in_the_order_of_their_triggers() -> None:
    assert [leg.role for leg in a_gtt().legs] == [OrderRole.STOP, OrderRole.TARGET]
    short = a_gtt(stop_trigger=Decimal(1500), target_trigger=Decimal(1400))
    assert [leg.role for leg in short.legs] == [OrderRole.TARGET, OrderRole.STOP]
    assert (a_gtt().kind, a_gtt(target_trigger=None, target_price=None).kind) == ("two-leg", "single")


@pytest.mark.parametrize("status", [S.SUBMITTING, S.UNKNOWN, S.FAILED])
def test_active_row_of_one_in_doubt_makes_it_active_under_its_id(status: GttStatus) -> None:
    found = fold(a_gtt(status), as_shown(a_gtt()), at=NOW)
    assert (found.status, found.trigger_id) == (S.ACTIVE, "101")


@pytest.mark.parametrize("status", [S.TRIGGERED, S.REJECTED, S.EXPIRED, S.CANCELLED])
def test_old_answer_does_not_revive_what_is_over(status: GttStatus) -> None:
    gtt = a_gtt(status, trigger_id="101")
    assert fold(gtt, as_shown(gtt), at=NOW) is gtt


def test_one_that_was_missing_from_the_list_comes_back_with_it() -> None:
    gtt = a_gtt(S.CANCELLED, trigger_id="101", status_message="GONE: the list does not have it")
    assert fold(gtt, as_shown(gtt), at=NOW).status is S.ACTIVE


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("cancelled", S.CANCELLED),
        ("deleted", S.CANCELLED),
        ("disabled", S.CANCELLED),
        ("expired", S.EXPIRED),
        ("rejected", S.REJECTED),
        ("a word of tomorrow", S.ACTIVE),
    ],
)
def test_words_of_the_broker(word: str, status: GttStatus) -> None:
    gtt = a_gtt(S.ACTIVE, trigger_id="101")
    assert fold(gtt, as_shown(gtt, status=word), at=NOW).status is status


@pytest.mark.parametrize(("leg", "role"), [(0, OrderRole.STOP), (1, OrderRole.TARGET)])
def test_fired_side_names_its_order(leg: int, role: OrderRole) -> None:
    gtt = a_gtt(S.ACTIVE, trigger_id="101")
    row = as_shown(gtt, status="triggered", orders=fired(leg, order_id="77"))
    after = fold(gtt, row, at=NOW)
    assert (after.status, after.fired_role, after.broker_order_id) == (S.TRIGGERED, role, "77")
    assert fold(after, row, at=NOW) is after


def test_refused_order_keeps_its_reason() -> None:
    gtt = a_gtt(S.ACTIVE, trigger_id="101")
    row = as_shown(gtt, status="triggered", orders=fired(0, rejection_reason="no shares"))
    after = fold(gtt, row, at=NOW)
    assert (after.fired_role, after.broker_order_id, after.status_message) == (
        OrderRole.STOP,
        None,
        "REFUSED: no shares",
    )
    assert fold(after, row, at=NOW) is after


def test_result_may_come_after_the_firing() -> None:
    gtt = a_gtt(S.ACTIVE, trigger_id="101")
    after = fold(gtt, as_shown(gtt, status="triggered"), at=NOW)
    assert (after.status, after.fired_role) == (S.TRIGGERED, None)
    later = fold(after, as_shown(gtt, status="triggered", orders=fired(1, order_id="77")), at=NOW)
    assert (later.fired_role, later.broker_order_id) == (OrderRole.TARGET, "77")


def test_one_that_fired_before_it_was_ended_is_fired() -> None:
    gtt = a_gtt(S.CANCELLED, trigger_id="101")
    assert fold(gtt, as_shown(gtt, status="triggered", orders=fired(0, order_id="7")), at=NOW).status is S.TRIGGERED


def test_terms_changed_by_hand_are_taken_over() -> None:
    gtt = a_gtt(S.ACTIVE, trigger_id="101")
    row = as_shown(a_gtt(quantity=4, stop_trigger=Decimal(1410), target_price=Decimal(1499)))
    after = fold(gtt, row, at=NOW)
    assert (after.quantity, after.stop_trigger, after.target_price) == (4, Decimal(1410), Decimal(1499))
    assert "quantity 4" in (after.status_message or "")


def test_row_is_ours_when_all_of_it_agrees() -> None:
    assert matches(a_gtt(), as_shown(a_gtt()))


@pytest.mark.parametrize(
    "other",
    [
        {"symbol": "SBIN"},
        {"quantity": 9},
        {"stop_trigger": Decimal("1400.05")},
        {"target_price": Decimal("1499.95")},
        {"target_trigger": None, "target_price": None},
    ],
    ids=lambda other: next(iter(other)),
)
def test_row_that_differs_in_anything_is_not_ours(other: dict[str, Any]) -> None:
    assert not matches(a_gtt(), as_shown(a_gtt(**other)))


@pytest.mark.parametrize("seconds", [-3600, -61, None])
def test_row_made_before_the_request_or_at_no_time_is_not_ours(seconds: int | None) -> None:
    at = None if seconds is None else NOW + timedelta(seconds=seconds)
    assert not matches(a_gtt(), as_shown(a_gtt(), created_at=at))


def test_stamps_of_two_clocks_may_differ_a_little() -> None:
    assert matches(a_gtt(), as_shown(a_gtt(), created_at=NOW - timedelta(seconds=20)))


def test_oldest_match_comes_first_and_what_others_have_is_left_out() -> None:
    at = NOW + timedelta(seconds=1)
    rows = [as_shown(a_gtt(), trigger_id=i, created_at=at) for i in ("110", "99", "98")]
    assert [row.trigger_id for row in find(a_gtt(), rows, frozenset({"98"}))] == ["99", "110"]


def test_absence_takes_two_clean_reads_apart_after_the_wait() -> None:
    search = GttSearch(100.0)
    assert not search.add(129.9, is_clean=True)
    assert not search.add(130.0, is_clean=True)
    assert not search.add(131.9, is_clean=True)
    assert search.add(132.0, is_clean=True)


def test_read_that_lacks_what_is_known_begins_the_proof_anew() -> None:
    search = GttSearch(0.0)
    assert not search.add(40.0, is_clean=True)
    assert not search.add(45.0, is_clean=False)
    assert not search.add(50.0, is_clean=True)
    assert search.add(55.0, is_clean=True)


@pytest.mark.parametrize("status", list(S))
def test_nothing_is_ever_submitted_a_second_time(status: GttStatus) -> None:
    assert S.SUBMITTING not in TRANSITIONS[status]
    with pytest.raises(IllegalTransition):
        move(a_gtt(status), S.SUBMITTING, at=NOW)
