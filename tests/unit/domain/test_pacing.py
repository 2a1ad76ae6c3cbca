from datetime import date, timedelta
from math import inf

import pytest

from engine.domain.pacing import Pacer

DAY = date(2026, 11, 18)


def taken(pacer: Pacer, now: float, tries: int, day: date = DAY, reserve: int = 0) -> int:
    return sum(pacer.try_take(now, day, reserve=reserve) for _ in range(tries))


def test_pacer_second_gives_its_limit_then_waits_with_a_margin() -> None:
    pacer = Pacer(10, 400, 5000)
    assert taken(pacer, 100.0, 20) == 10
    assert pacer.next_at(100.5) == pytest.approx(101.1)
    assert taken(pacer, 101.05, 20) == 0
    assert taken(pacer, pacer.next_at(101.05), 20) == 10


def test_pacer_minute_holds_though_seconds_have_room() -> None:
    pacer = Pacer(10, 15, 5000)
    assert taken(pacer, 0.0, 20) == 10
    assert taken(pacer, 2.0, 20) == 5
    assert pacer.next_at(30.0) == pytest.approx(60.0)
    assert taken(pacer, 60.0, 20) == 10


def test_pacer_day_is_used_up_until_the_next() -> None:
    pacer = Pacer(10, 400, 3)
    assert taken(pacer, 0.0, 5) == 3
    assert pacer.next_at(100.0) == inf
    assert taken(pacer, 100.0, 5, day=DAY - timedelta(days=1)) == 0
    assert taken(pacer, 100.0, 5, day=DAY + timedelta(days=1)) == 3


def test_pacer_restore_takes_over_the_used_budget() -> None:
    pacer = Pacer(10, 400, 5)
    pacer.restore(DAY, 4)
    assert taken(pacer, 0.0, 5) == 1


def test_pacer_reserve_is_left_for_exits() -> None:
    pacer = Pacer(10, 400, 5000)
    assert taken(pacer, 0.0, 20, reserve=2) == 8
    assert pacer.next_at(0.5, reserve=2) == pytest.approx(1.1)
    assert pacer.next_at(0.5) == 0.5
    assert taken(pacer, 0.5, 20) == 2


def test_pacer_reserve_never_starves_a_small_limit() -> None:
    assert taken(Pacer(1, 400, 5000), 0.0, 5, reserve=2) == 1


def test_pacer_hold_gives_nothing_before_its_end() -> None:
    pacer = Pacer(10, 400, 5000)
    pacer.hold(10.0)
    assert taken(pacer, 9.9, 1) == 0
    assert pacer.next_at(5.0) == 10.0
    assert taken(pacer, 10.0, 1) == 1


def test_pacer_clock_stepping_back_makes_no_room() -> None:
    pacer = Pacer(2, 400, 5000)
    assert taken(pacer, 100.0, 5) == 2
    assert taken(pacer, 98.0, 5) == 0
    assert taken(pacer, 101.11, 5) == 2


def test_pacer_large_limit_keeps_few_entries() -> None:
    pacer = Pacer(100_000, 6_000_000, 10**9)
    assert sum(taken(pacer, step / 10_000, 2) for step in range(30_000)) == 60_000
    assert len(pacer._second._entries) <= 1_001
    assert len(pacer._minute._entries) <= 1_001


@pytest.mark.parametrize(
    ("limits", "name"), [((0, 1, 1), "per_second"), ((1, 0, 1), "per_minute"), ((1, 1, -1), "per_day")]
)
def test_pacer_limit_not_positive_refused(limits: tuple[int, int, int], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Pacer(*limits)


def test_pacer_calls_counted_as_one_entry_all_count_until_the_last_is_old() -> None:
    pacer = Pacer(2, 400, 5000)
    assert taken(pacer, 0.0, 1) + taken(pacer, 0.001, 1) == 2
    assert taken(pacer, 1.1005, 2) == 0
    assert taken(pacer, 1.102, 2) == 2


def test_pacer_held_gives_half_of_a_second_to_urgent_calls_alone() -> None:
    pacer = Pacer(10, 400, 5000)
    pacer.hold(110.0)
    assert taken(pacer, 100.0, 20) == 0
    assert sum(pacer.try_take(100.0, DAY, urgent=True) for _ in range(20)) == 5
    assert taken(pacer, 110.0, 20) == 10
