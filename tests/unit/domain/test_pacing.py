from datetime import date, timedelta
from math import inf

import pytest

from engine.domain.lanes import CLAIM_S, STARVED_S, Claims, Lane
from engine.domain.pacing import Cap, Pacer, against_entry, calls_to_flatten

DAY = date(2026, 11, 18)
EXIT, CANCEL, ENTRY = Lane.EXIT, Lane.CANCEL, Lane.ENTRY


def taken(pacer: Pacer, now: float, tries: int, day: date = DAY, lane: Lane = EXIT) -> int:
    return sum(pacer.try_take(now, day, lane) for _ in range(tries))


def test_pacer_second_gives_its_limit_then_waits_with_a_margin() -> None:
    pacer = Pacer(10, 400, 5000)
    assert taken(pacer, 100.0, 20) == 10
    assert pacer.next_at(100.5, EXIT) == pytest.approx(101.1)
    assert taken(pacer, 101.05, 20) == 0
    assert taken(pacer, pacer.next_at(101.05, EXIT), 20) == 10


def test_pacer_minute_holds_though_seconds_have_room() -> None:
    pacer = Pacer(10, 15, 5000)
    assert taken(pacer, 0.0, 20) == 10
    assert taken(pacer, 2.0, 20) == 5
    assert pacer.next_at(30.0, EXIT) == pytest.approx(61.0)
    assert taken(pacer, 61.0, 20) == 10


def test_pacer_day_is_used_up_until_the_next() -> None:
    pacer = Pacer(10, 400, 3)
    assert taken(pacer, 0.0, 5) == 3
    assert (pacer.next_at(100.0), pacer.left(DAY)) == (inf, 0)
    assert taken(pacer, 100.0, 5, day=DAY - timedelta(days=1)) == 0
    assert pacer.left(DAY + timedelta(days=1)) == 3
    assert taken(pacer, 100.0, 5, day=DAY + timedelta(days=1)) == 3


def test_pacer_takes_over_what_was_used_before_a_restart() -> None:
    pacer = Pacer(10, 400, 50)
    pacer.restore(0.0, DAY, 45, [0.5] * 9)
    assert taken(pacer, 0.0, 5) == 1
    assert taken(pacer, 0.7, 20) == 4
    assert pacer.left(DAY) == 0


def test_pacer_takes_over_the_minute_too() -> None:
    pacer = Pacer(10, 20, 5000)
    pacer.restore(1000.0, DAY, 30, [*([30.0] * 18), 70.0, -5.0])
    assert taken(pacer, 1000.0, 20) == 2
    assert taken(pacer, 1031.0, 20) == 10


def test_pacer_restored_twice_counts_both_accounts() -> None:
    pacer = Pacer(10, 400, 50)
    pacer.restore(0.0, DAY, 20)
    pacer.restore(0.0, DAY, 10)
    pacer.restore(0.0, DAY - timedelta(days=1), 7)
    assert pacer.left(DAY) == 20


@pytest.mark.parametrize(("lane", "second", "minute"), [(EXIT, 10, 400), (CANCEL, 9, 380), (ENTRY, 8, 360)])
def test_pacer_lane_leaves_its_part_to_those_before_it(lane: Lane, second: int, minute: int) -> None:
    assert taken(Pacer(10, 400, 5000), 0.0, 20, lane=lane) == second
    wide = Pacer(1000, 400, 5000)
    assert taken(wide, 0.0, 1000, lane=lane) == minute


def test_pacer_starved_lane_takes_what_it_would_have_left() -> None:
    pacer = Pacer(10, 400, 5000)
    assert taken(pacer, 0.0, 20, lane=ENTRY) == 8
    assert pacer.try_take(0.0, DAY, ENTRY, starved=True)
    assert pacer.next_at(0.5, ENTRY) == pytest.approx(1.1)
    assert pacer.next_at(0.5, EXIT) == 0.5


def test_pacer_reserve_never_starves_a_small_limit() -> None:
    assert taken(Pacer(1, 5, 5000), 0.0, 5, lane=ENTRY) == 1


def test_pacer_hold_gives_entries_nothing_before_its_end() -> None:
    pacer = Pacer(10, 400, 5000)
    pacer.hold(10.0)
    assert taken(pacer, 9.9, 1, lane=ENTRY) == 0
    assert (pacer.next_at(9.9, ENTRY), pacer.next_at(9.9, CANCEL)) == (10.0, 9.9)
    assert taken(pacer, 10.0, 1, lane=ENTRY) == 1


@pytest.mark.parametrize("lane", [EXIT, CANCEL])
def test_pacer_held_gives_half_of_a_second_to_what_only_reduces(lane: Lane) -> None:
    pacer = Pacer(10, 400, 5000)
    pacer.hold(110.0)
    assert taken(pacer, 100.0, 20, lane=lane) == 5
    assert taken(pacer, 110.0, 20, lane=EXIT) == 10


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


def test_pacer_call_on_its_way_counts_from_when_it_leaves() -> None:
    pacer = Pacer(2, 400, 5000)
    assert pacer.try_take(0.0, DAY, slot="a")
    assert pacer.try_take(0.0, DAY, slot="b")
    assert taken(pacer, 5.0, 1) == 0, "both may leave at any moment"
    assert pacer.depart("a", 5.0, DAY)
    pacer.give_back("b")
    assert pacer.left(DAY) == 4999
    assert taken(pacer, 5.5, 3) == 1
    assert taken(pacer, 6.1, 3) == 1


def test_pacer_given_back_after_it_has_left_still_counts() -> None:
    pacer = Pacer(1, 400, 5000)
    assert pacer.try_take(0.0, DAY, slot="a")
    assert pacer.depart("a", 0.1, DAY)
    pacer.give_back("a")
    assert taken(pacer, 1.0, 1) == 0
    assert pacer.left(DAY) == 4999


def test_pacer_grant_that_nobody_used_lapses_as_if_it_had_left() -> None:
    pacer = Pacer(1, 400, 5000)
    assert pacer.try_take(0.0, DAY, slot="a")
    assert taken(pacer, 9.9, 1) == 0
    assert taken(pacer, 10.0, 1) == 0
    assert not pacer.depart("a", 10.5, DAY)
    assert pacer.depart("a", 11.2, DAY), "a new call, and there is one"


def test_pacer_absorbs_the_budget_of_the_same_account() -> None:
    one, other = Pacer(10, 400, 5000), Pacer(10, 400, 5000)
    assert taken(one, 0.0, 4) == 4
    assert taken(other, 0.2, 3) == 3
    assert other.try_take(0.2, DAY, slot="x")
    one.absorb(other)
    assert one.left(DAY) == 4992
    assert taken(one, 0.3, 10) == 2
    assert one.depart("x", 0.4, DAY)


def test_pacer_minute_cap_holds_until_the_minute_turns_and_is_told_once() -> None:
    pacer = Pacer(10, 400, 5000)
    assert pacer.cap(100.0, DAY, 25.0) is Cap.MINUTE
    assert pacer.cap(110.0, DAY, 15.0) is None
    assert taken(pacer, 125.9, 1, lane=ENTRY) == 0
    assert taken(pacer, 126.0, 1, lane=ENTRY) == 1


def test_pacer_cap_that_comes_again_after_the_minute_is_the_days() -> None:
    pacer = Pacer(10, 400, 5000)
    assert pacer.cap(100.0, DAY, 25.0) is Cap.MINUTE
    assert pacer.cap(130.0, DAY, 55.0) is Cap.DAY
    assert pacer.cap(131.0, DAY, 55.0) is None
    assert taken(pacer, 500.0, 1, lane=ENTRY) == 0
    assert taken(pacer, 500.0, 1, lane=EXIT) == 1
    assert taken(pacer, 500.0, 1, day=DAY + timedelta(days=1), lane=ENTRY) == 1


def test_pacer_cap_with_the_own_count_at_its_end_is_the_days() -> None:
    pacer = Pacer(10, 400, 100)
    pacer.restore(0.0, DAY, 98)
    assert pacer.cap(100.0, DAY, 25.0) is Cap.DAY


def test_pacer_later_cap_is_a_minutes_again() -> None:
    pacer = Pacer(10, 400, 5000)
    assert pacer.cap(100.0, DAY, 25.0) is Cap.MINUTE
    assert pacer.cap(1000.0, DAY, 25.0) is Cap.MINUTE


# lanes


def test_lanes_before_go_first() -> None:
    claims = Claims()
    claims.claim("exits", EXIT, 0.0)
    assert [claims.may_go(lane, 0.0) for lane in Lane] == [True, False, False]
    claims.drop("exits", EXIT)
    claims.claim("cancel", CANCEL, 0.0)
    assert [claims.may_go(lane, 0.0) for lane in Lane] == [True, True, False]


def test_claim_that_is_not_made_again_lapses() -> None:
    claims = Claims()
    claims.claim("dead", EXIT, 0.0)
    assert not claims.may_go(ENTRY, CLAIM_S - 0.01)
    assert claims.may_go(ENTRY, CLAIM_S)
    assert claims.waiting(EXIT, CLAIM_S) == 0


def kept_up(claims: Claims, until: float) -> None:
    now = 0.0
    while now <= until:
        claims.claim("exit", EXIT, now)
        claims.called(EXIT, now)
        claims.claim("entry", ENTRY, now)
        now += 0.5


def test_starved_entry_gets_one_call_then_waits_again() -> None:
    claims = Claims()
    kept_up(claims, STARVED_S)
    assert claims.starved(STARVED_S) is ENTRY
    assert [claims.may_go(lane, STARVED_S) for lane in Lane] == [False, False, True]
    claims.called(ENTRY, STARVED_S)
    assert [claims.may_go(lane, STARVED_S) for lane in Lane] == [True, False, False]


def test_held_entry_never_keeps_an_exit_back() -> None:
    claims = Claims()
    kept_up(claims, 2 * STARVED_S)
    assert claims.may_go(EXIT, 2 * STARVED_S, entries_held=True)


# flattening


@pytest.mark.parametrize(
    ("positions", "live", "calls"),
    [
        ([], 0, 0),
        ([(0, 100)], 2, 2),
        ([(100, 100), (-100, 100)], 0, 2),
        ([(101, 100), (-1800, 900)], 3, 7),
        ([(1_000_000, None)], 0, 1),
    ],
)
def test_calls_to_flatten(positions: list[tuple[int, int | None]], live: int, calls: int) -> None:
    assert calls_to_flatten(positions, live) == calls


def test_entry_is_refused_when_the_way_out_would_not_be_paid_for() -> None:
    assert against_entry(212, 10, 5000) is None
    reason = against_entry(211, 10, 5000)
    assert reason is not None
    assert reason.startswith("ORDER_BUDGET: 211 of the account's 5000 order calls of today are left")
    assert "flattening would take 11, and 200 are kept" in reason
