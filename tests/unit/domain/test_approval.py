"""What stands against an intent that a person approves: age, price, kill switches."""

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from engine.domain.approval import expired, killed_since, killed_text, price_moved
from engine.domain.delivery import Delivery, Item
from engine.domain.enums import KillState
from engine.domain.killswitch import KillRecord, KillSwitches
from tests.support.desk import SOURCE, a_signal
from tests.support.trade import ACCOUNT, NOW, STRATEGY, USER


def waiting(ttl_s=300):
    delivery = Delivery(
        source_id=SOURCE,
        strategy_id=STRATEGY,
        user_id=USER,
        idempotency_key="k",
        body_sha256=b"1" * 32,
        received_at=NOW,
        request_id=None,
        items=(Item(position=0, signal=a_signal()),),
    )
    return msgspec.structs.replace(delivery.intents()[0], expires_at=NOW + timedelta(seconds=ttl_s))


@pytest.mark.parametrize(("age_s", "is_late"), [(0, False), (299, False), (300, True), (-1, False), (-3, True)])
def test_it_can_be_approved_until_it_expires(age_s, is_late):
    assert (expired(waiting(), NOW + timedelta(seconds=age_s)) is not None) is is_late


def test_intent_without_an_end_is_expired():
    assert expired(msgspec.structs.replace(waiting(), expires_at=None), NOW) is not None


@pytest.mark.parametrize(
    ("seen", "now", "code"),
    [
        ("100", "101", None),
        ("100", "99", None),
        ("100", "101.01", "PRICE_MOVED"),
        ("100", "98.99", "PRICE_MOVED"),
        (None, "100", "PRICE_UNAVAILABLE"),
        ("100", None, "PRICE_UNAVAILABLE"),
    ],
)
def test_price_may_move_so_far(seen, now, code):
    found = price_moved(seen and Decimal(seen), now and Decimal(now), Decimal(1))
    assert (found and found.code) == code


@pytest.mark.parametrize(
    "scope", ["global", f"user:{USER}", f"account:{ACCOUNT}", f"strategy:{STRATEGY}", f"source:{SOURCE}"]
)
@pytest.mark.parametrize(
    ("state", "after_s", "covers"),
    [(KillState.BLOCKED, -60, True), (KillState.ARMED, -60, False), (KillState.ARMED, 5, True)],
)
def test_kill_counts_while_it_is_on_and_when_it_was_since(scope, state, after_s, covers):
    at = NOW + timedelta(seconds=after_s)
    record = KillRecord(scope=scope, version=1, state=state, reason="r", actor="a", at=at)
    found = killed_since(KillSwitches([record]), waiting(), ACCOUNT)
    assert (found == killed_text(record)) is covers
    assert (found is not None) is covers


def test_kill_of_somebody_else_is_none():
    record = KillRecord(scope="account:x", version=1, state=KillState.BLOCKED, reason="r", actor="a", at=NOW)
    assert killed_since(KillSwitches([record]), waiting(), ACCOUNT) is None


@pytest.mark.parametrize(
    ("began_at_turn", "covers"),
    [(0, True), (1, True), (2, False), (None, True)],
    ids=["before it", "while it was on", "after it", "in an earlier process"],
)
@pytest.mark.parametrize("clock_s", [-3600, 3600], ids=["clock set on", "clock set back"])
def test_order_of_things_tells_what_waited_through_a_kill_and_not_the_clock(began_at_turn, covers, clock_s):
    kill = KillSwitches()
    for version, state in ((1, KillState.BLOCKED), (2, KillState.ARMED)):
        at = NOW + timedelta(seconds=clock_s)
        kill.put(KillRecord(scope="global", version=version, state=state, reason="r", actor="a", at=at))
    found = killed_since(kill, msgspec.structs.replace(waiting(), kill_turn=began_at_turn), ACCOUNT)
    assert (found is not None) is covers
