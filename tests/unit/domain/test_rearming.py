"""What stands against letting a scope trade again."""

from datetime import UTC, date, datetime
from uuid import UUID

import msgspec
import pytest

from engine.domain.calendar import Calendar
from engine.domain.enums import KillState
from engine.domain.killswitch import KillRecord
from engine.domain.rearming import next_trading_day, standing

FRIDAY = date(2026, 11, 27)
MONDAY = date(2026, 11, 30)
RECORD = KillRecord(
    scope=f"account:{UUID(int=1)}",
    version=1,
    state=KillState.BLOCKED,
    reason="r",
    actor="a",
    at=datetime(2026, 11, 27, 5, tzinfo=UTC),
)
GOOD = {
    "today": FRIDAY,
    "reopens": None,
    "unknown_orders": 0,
    "parked": 0,
    "unclean": (),
    "stores": (),
    "clock": None,
    "two_admins": False,
}


def codes(record=RECORD, **observed):
    return [obstacle.code for obstacle in standing(record, **(GOOD | observed))]


def test_nothing_stands_against_it_when_all_is_in_order():
    assert codes() == []


@pytest.mark.parametrize(
    ("observed", "code"),
    [
        ({"unknown_orders": 2}, "ORDERS_UNKNOWN"),
        ({"parked": 1}, "EXITS_PARKED"),
        ({"unclean": ["account 1: 2 position(s) differ"]}, "RECONCILE_NOT_CLEAN"),
        ({"stores": ["journal"]}, "STORE_UNAVAILABLE"),
        ({"clock": "it jumped"}, "CLOCK_SUSPECT"),
    ],
)
def test_each_thing_out_of_order_stands_against_it(observed, code):
    assert codes(**observed) == [code]


@pytest.mark.parametrize("state", list(KillState))
def test_unfinished_flattening_stands_against_it(state):
    unfinished = state in (KillState.CANCELLING, KillState.FLATTENING, KillState.FLAT_FAILED)
    assert (codes(msgspec.structs.replace(RECORD, state=state)) == ["FLATTENING_UNFINISHED"]) is unfinished


def test_everything_is_told_at_once():
    assert codes(unknown_orders=1, parked=1, stores=["ledger"]) == [
        "ORDERS_UNKNOWN",
        "EXITS_PARKED",
        "STORE_UNAVAILABLE",
    ]


@pytest.mark.parametrize(
    ("today", "two_admins", "stands"),
    [
        (FRIDAY, False, True),
        (date(2026, 11, 28), False, True),
        (MONDAY, False, False),
        (FRIDAY, True, False),
    ],
)
def test_loss_of_the_day_stands_against_it_until_the_next_trading_day(today, two_admins, stands):
    record = msgspec.structs.replace(RECORD, day=FRIDAY)
    assert codes(record, today=today, reopens=MONDAY, two_admins=two_admins) == (["DAY_LOSS"] if stands else [])


def test_next_trading_day_skips_weekends_and_holidays():
    assert next_trading_day(FRIDAY) == MONDAY
    assert next_trading_day(FRIDAY, Calendar(holidays={MONDAY: "a holiday"})) == date(2026, 12, 1)
    assert next_trading_day(FRIDAY, every_day=True) == date(2026, 11, 28)
