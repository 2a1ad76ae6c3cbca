"""How a signal went on each account: states, times, totals; and when a policy speaks of it."""

from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
import pytest

from engine.domain.enums import GroupPolicy, OrderStatus
from engine.domain.group import MemberStatus, group_of
from engine.domain.group_policy import NOTHING, Leg, plan, replaced
from engine.domain.order import OrderEvent
from engine.ids import retry_id
from tests.support.trade import NOW, an_order

A, B, C = (UUID(int=n) for n in (1, 2, 3))
S = OrderStatus
LABELS = {A: "a", B: "b", C: "c"}


def story(account, status, filled=0, *, at_ms=(), order_id=None, message=None, sent_ms=5):
    order = an_order(
        id=order_id or UUID(int=account.int * 10),
        account_id=account,
        status=status,
        quantity=10,
        filled_quantity=filled,
        average_price=Decimal(100 + account.int) if filled else Decimal(0),
        status_message=message,
        submitting_at=NOW + timedelta(milliseconds=sent_ms),
    )
    events = [
        OrderEvent(
            order_id=order.id,
            at=NOW + timedelta(milliseconds=ms),
            from_status=S.OPEN,
            to_status=status,
            filled_quantity=units,
        )
        for ms, units in at_ms
    ]
    return order, events


def shown(*stories, refused=(), now_ms=1000):
    now = NOW + timedelta(milliseconds=now_ms)
    return group_of(stories, refused, labels=LABELS, received_at=NOW, now=now)


def test_group_says_who_filled_who_failed_who_is_late_and_by_how_much():
    group = shown(
        story(A, S.COMPLETE, 10, at_ms=[(50, 10)]),
        story(B, S.COMPLETE, 10, at_ms=[(60, 4), (250, 10)]),
        story(C, S.OPEN),
        refused=[(None, "gone", ("MAX_ORDER_VALUE: too much",))],
    )
    a, b, c, gone = group.members
    assert [m.status for m in group.members] == ["filled", "filled", "late", "refused"]
    assert (a.sent_ms, a.first_fill_ms, a.filled_ms, a.behind_ms) == (5, 50, 50, 0)
    assert (b.first_fill_ms, b.filled_ms, b.behind_ms) == (60, 250, 200)
    assert (c.filled_ms, c.behind_ms) == (None, 950)
    assert gone.reasons == ("MAX_ORDER_VALUE: too much",)
    assert (group.quantity, group.filled, group.spread_ms) == (30, 20, 200)
    assert (a.average_price, b.average_price) == (101, 102)
    assert group.counts[MemberStatus.FILLED] == 2


def test_before_the_first_fill_nobody_is_late_and_what_fell_short_is_told_apart():
    group = shown(story(A, S.OPEN), story(B, S.REJECTED, message="FUNDS: no"))
    assert [m.status for m in group.members] == ["pending", "failed"]
    assert group.members[1].reasons == ("FUNDS: no",)
    assert group.spread_ms is None
    assert shown(story(A, S.CANCELLED, 4, at_ms=[(9, 4)])).members[0].status == "partial"


def test_account_that_was_tried_again_counts_once():
    first = story(B, S.REJECTED, message="FUNDS: no")
    again = story(B, S.COMPLETE, 10, at_ms=[(400, 10)], order_id=retry_id(first[0].id), sent_ms=300)
    (member,) = shown(first, again).members
    assert (member.status, member.quantity, member.attempts, member.sent_ms) == ("filled", 10, 2, 5)
    assert member.reasons == ("FUNDS: no",)


def leg(account, status, filled=0, message=None, order_id=None):
    return Leg(
        order_id=order_id or account, account_id=account, status=status, quantity=10, filled=filled, message=message
    )


FILLED = leg(A, S.COMPLETE, 10)
SHORT = leg(B, S.REJECTED, message="FUNDS: no")


@pytest.mark.parametrize("policy", GroupPolicy)
@pytest.mark.parametrize(
    "legs",
    [
        [FILLED],
        [FILLED, leg(B, S.COMPLETE, 10)],
        [FILLED, leg(B, S.OPEN)],
        [FILLED, leg(B, S.UNKNOWN)],
        [FILLED, leg(B, S.CANCELLED, message="cancelled by user")],
        [SHORT, leg(A, S.REJECTED, message="FUNDS: no")],
    ],
)
def test_group_that_did_not_tear_is_left(policy, legs):
    assert plan(policy, legs, in_time=True) == NOTHING


def test_retry_is_for_what_is_known_to_have_failed_in_time():
    torn = [FILLED, SHORT]
    assert plan(GroupPolicy.RETRY, torn, in_time=True).retry == {B: (B,)}
    assert plan(GroupPolicy.RETRY, torn, in_time=False) == NOTHING
    assert plan(GroupPolicy.LEAVE, torn, in_time=True) == NOTHING
    for other in (
        leg(B, S.UNKNOWN, message="NOT_SENT: x"),
        leg(B, S.EXPIRED, message="UNPLACED: absent"),
        leg(B, S.REJECTED, message="TICK_SIZE: x"),
        leg(B, S.REJECTED, 3, message="FUNDS: x"),
    ):
        assert not plan(GroupPolicy.RETRY, [FILLED, other], in_time=True).retry


def test_unwind_waits_for_all_ends_and_then_takes_every_fill():
    live = leg(C, S.PARTIALLY_FILLED, 4)
    assert plan(GroupPolicy.UNWIND, [FILLED, SHORT, live], in_time=True) == NOTHING
    assert plan(GroupPolicy.UNWIND, [FILLED, SHORT, live], in_time=False).cancel
    ended = msgspec.structs.replace(live, status=S.CANCELLED)
    assert plan(GroupPolicy.UNWIND, [FILLED, SHORT, ended], in_time=True).unwind == {A: 10, C: 4}


def test_replaced_is_what_was_tried_again_and_filled_nothing():
    again = retry_id(A)
    assert replaced([(A, 0), (again, 10), (B, 0)]) == {A}
    assert replaced([(A, 3), (again, 10)]) == frozenset()
