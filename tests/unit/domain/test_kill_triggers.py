"""What trips the kill switch by itself: at its threshold, once, and again only after it was gone for a while."""

from uuid import UUID

import pytest

from engine.domain.kill_triggers import (
    AccountSight,
    EngineSight,
    Reaction,
    Trigger,
    TriggerSettings,
    TriggerWatch,
)

ACCOUNT = UUID(int=1)
SCOPE = f"account:{ACCOUNT}"


class Rig:
    def __init__(self, *triggers, reaction=Reaction.BLOCK, **settings):
        reactions = dict.fromkeys(triggers or Trigger, reaction)
        self.watch = TriggerWatch(TriggerSettings(reactions=reactions, **settings))
        self.now = 1000.0

    def look(self, engine=None, after=1.0, **sight):
        """What trips *after* seconds."""
        self.now += after
        accounts = [AccountSight(account_id=ACCOUNT, **sight)]
        trips = self.watch.look(self.now, engine or EngineSight(), accounts)
        return [(trip.trigger, trip.scope) for trip in trips]


def test_nothing_trips_while_all_is_well():
    rig = Rig()
    for second in range(120):
        assert rig.look(sent=second, refused=second // 20, unknown=3, mismatches=1, unreachable_s=14) == []


@pytest.mark.parametrize(
    ("engine", "trigger"),
    [
        (EngineSight(clock="it jumped"), Trigger.CLOCK_SUSPECT),
        (EngineSight(loop_lag_s=2.1), Trigger.LOOP_LAG),
        (EngineSight(audit_broken=7), Trigger.AUDIT_CHAIN),
        (EngineSight(lease_lost=True), Trigger.LEASE_LOST),
        (EngineSight(parked=1), Trigger.PARKED_EXITS),
        (EngineSight(journal_wipes=1), Trigger.JOURNAL_WIPED),
    ],
)
def test_condition_of_the_engine_trips_everything_once(engine, trigger):
    rig = Rig()
    assert rig.look(engine) == [(trigger, "global")]
    assert rig.look(engine) == []


@pytest.mark.parametrize(
    ("sight", "trigger"),
    [
        ({"mismatches": 2}, Trigger.RECONCILE_MISMATCH),
        ({"unreachable_s": 16.0, "is_exposed": True}, Trigger.BROKER_UNREACHABLE),
    ],
)
def test_condition_of_an_account_trips_that_account(sight, trigger):
    assert Rig().look(**sight) == [(trigger, SCOPE)]


def test_broker_that_is_away_trips_nothing_while_nothing_is_held():
    assert Rig().look(unreachable_s=600.0) == []


def test_order_rate_counts_the_last_minute_of_the_account():
    rig = Rig(Trigger.ORDER_RATE, order_rate_normal=10, order_rate_factor=2)
    rig.look(sent=100)
    for second in range(1, 300):
        assert rig.look(sent=100 + second // 3) == [], "20 in a minute"
    assert rig.look(sent=260) == [(Trigger.ORDER_RATE, SCOPE)]


def test_reject_rate_needs_enough_orders():
    rig = Rig(Trigger.REJECT_RATE, reject_rate_pct=50, reject_rate_orders=10)
    rig.look()
    assert rig.look(sent=9, refused=9) == []
    assert rig.look(sent=20, refused=10) == []
    assert rig.look(sent=21, refused=11) == [(Trigger.REJECT_RATE, SCOPE)]


def test_unknown_orders_trip_when_they_stay():
    rig = Rig(unknown_orders=2, unknown_orders_s=60)
    assert rig.look(unknown=3) == []
    assert rig.look(unknown=3, after=50) == []
    assert rig.look(unknown=2) == [], "the order book settled one"
    assert rig.look(unknown=3) == []
    assert rig.look(unknown=3, after=59) == []
    assert rig.look(unknown=3) == [(Trigger.UNKNOWN_ORDERS, SCOPE)]


def test_condition_that_comes_and_goes_trips_once_and_again_after_it_was_gone_for_a_while():
    rig = Rig()
    broken = EngineSight(loop_lag_s=3)
    assert rig.look(broken)
    for _ in range(20):
        assert rig.look() == []
        assert rig.look(broken) == []
    rig.look(after=29)
    assert rig.look(broken) == []
    rig.look(after=31)
    assert rig.look(broken) == [(Trigger.LOOP_LAG, "global")]


def test_what_is_off_trips_nothing_and_an_alert_blocks_nothing():
    assert Rig(Trigger.LOOP_LAG, reaction=Reaction.OFF).look(EngineSight(loop_lag_s=9)) == []
    assert Reaction.ALERT.mode is None
    assert Rig(Trigger.LOOP_LAG, reaction=Reaction.ALERT).look(EngineSight(loop_lag_s=9))


def test_reason_begins_with_the_code():
    (trip,) = Rig().watch.look(1.0, EngineSight(loop_lag_s=2.5), [])
    assert trip.reason == "LOOP_LAG: the event loop was held up for 2.5 s, more than 2"
