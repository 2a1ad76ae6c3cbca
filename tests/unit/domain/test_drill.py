"""Drills of the kill switch: when one is due, and what its observations are worth."""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from engine.clock import IST
from engine.domain.calendar import Calendar, SpecialSession
from engine.domain.drill import (
    Drill,
    DrillEnd,
    DrillVerdict,
    Filled,
    Observed,
    Placed,
    Signals,
    ended,
    over_flattens,
    problems_of,
    read_report,
)
from engine.domain.drill_schedule import next_step, open_exchange, read_times
from engine.domain.enums import Exchange
from tests.support.drills import REPORT

REPORT_ID = UUID(int=1)
BLOCKED = datetime(2026, 11, 28, 4, 30, tzinfo=UTC)


def ist(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=IST)


# the schedule


@pytest.mark.parametrize(
    ("every", "at", "now", "due"),
    [
        ("weekly", "SAT 10:00", "2026-11-28 10:00", "2026-11-28 10:00"),
        ("weekly", "SAT 10:00", "2026-11-28 09:59", "2026-11-21 10:00"),
        ("weekly", "SAT 10:00", "2026-11-27 23:00", "2026-11-21 10:00"),
        ("weekly", "MON 07:00", "2026-11-24 00:10", "2026-11-23 07:00"),
        ("daily", "07:00", "2026-11-24 06:59", "2026-11-23 07:00"),
        ("daily", "00:00", "2026-11-24 00:00", "2026-11-24 00:00"),
    ],
)
def test_last_due_time_is_the_latest_that_has_come(every: Any, at: str, now: str, due: str) -> None:
    times = read_times(every, at)
    assert times is not None
    assert times.last_due(ist(now)) == ist(due)
    assert times.last_due(ist(now).astimezone(UTC)) == ist(due)
    assert str(times) == at


@pytest.mark.parametrize(
    ("every", "at", "word"),
    [
        ("weekly", "10:00", "a day and a time"),
        ("weekly", "SAT", "a day and a time"),
        ("weekly", "SAT 25:00", "a day and a time"),
        ("weekly", "XXX 10:00", "a day and a time"),
        ("daily", "SAT 10:00", "without a day"),
        ("daily", "7:00", "without a day"),
        ("daily", "10:00", "no exchange is open"),
        ("daily", "23:30", "no exchange is open"),
        ("weekly", "FRI 09:00", "no exchange is open"),
    ],
)
def test_times_that_cannot_be_are_refused_with_what_was_expected(every: Any, at: str, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        read_times(every, at)


def test_no_schedule_has_no_times() -> None:
    assert read_times("off", "anything") is None


def test_due_time_is_handled_once_and_runs_only_within_an_hour() -> None:
    times = read_times("weekly", "SAT 10:00")
    assert times is not None
    due = ist("2026-11-28 10:00")
    assert next_step(None, times, due) is None
    assert next_step(due - timedelta(days=7), times, due - timedelta(seconds=1)) is None
    assert next_step(due - timedelta(days=7), times, due) == (due, True)
    assert next_step(due - timedelta(days=21), times, due + timedelta(hours=1)) == (due, True)
    assert next_step(due - timedelta(days=7), times, due + timedelta(hours=2)) == (due, False)
    assert next_step(due, times, due + timedelta(minutes=5)) is None


def test_exchange_is_open_in_special_sessions_too() -> None:
    saturday = SpecialSession(day=date(2026, 11, 28), start=time(9, 30), end=time(11), exchange=Exchange.NSE)
    assert open_exchange(ist("2026-11-28 10:00"), Calendar()) is None
    assert open_exchange(ist("2026-11-28 10:00"), Calendar(special=(saturday,))) is Exchange.NSE
    assert open_exchange(ist("2026-11-24 22:00"), Calendar()) is Exchange.MCX


# the verdict


def placed(after_s: float, *, is_exit: bool = False) -> Placed:
    return Placed(at=BLOCKED + timedelta(seconds=after_s), order_id="1", tag="T", accepted=True, exit=is_exit)


def observed(**changes: Any) -> Observed:
    whole = Observed(
        blocked_at=BLOCKED,
        state="FLAT_VERIFIED",
        resting=3,
        held=2,
        placed=[placed(-1), placed(1, is_exit=True)],
        filled=[Filled(place="A", units=5, exit=False), Filled(place="A", units=-5, exit=True)],
        left=[],
        open_orders=0,
        signals=Signals(sent=9, accepted=4, refused=5, after_block=5, taken_after_block=0),
        certificate_flat=True,
        certificate_verified=True,
    )
    return msgspec.structs.replace(whole, **changes)


def test_drill_passes_when_nothing_speaks_against_it() -> None:
    assert problems_of(observed(), orders=3, positions=2) == ()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"placed": [placed(0.001)]}, "1 order.* after the block"),
        ({"filled": [Filled(place="A", units=5, exit=False), Filled(place="A", units=-6, exit=True)]}, "beyond flat"),
        ({"left": ["NSE:SBIN 3"]}, "NSE:SBIN 3"),
        ({"open_orders": 2}, "2 order.* still open"),
        ({"state": "FLAT_FAILED"}, "FLAT_FAILED"),
        ({"certificate_flat": False, "certificate_verified": False}, "no certificate"),
        ({"certificate_verified": False}, "signature"),
        ({"resting": 2}, "only 2 of 3"),
        ({"held": 1}, "only 1 of 2"),
        ({"signals": Signals(sent=4, accepted=4, refused=0, after_block=0, taken_after_block=0)}, "no signal came"),
        ({"signals": Signals(sent=4, accepted=4, refused=0, after_block=2, taken_after_block=1)}, "1 signal.*accepted"),
    ],
)
def test_drill_fails_by_each_thing_that_must_not_be(changes: dict[str, Any], word: str) -> None:
    (problem,) = problems_of(observed(**changes), orders=3, positions=2)
    assert re.search(word, problem)


@pytest.mark.parametrize(
    ("held", "closing", "is_over"),
    [(5, -5, False), (5, -3, False), (-5, 5, False), (5, -6, True), (5, 1, True), (0, -1, True)],
)
def test_square_off_goes_beyond_flat_when_it_opens_enlarges_or_turns(held: int, closing: int, is_over: bool) -> None:
    trades = [Filled(place="A", units=held, exit=False), Filled(place="A", units=closing, exit=True)]
    assert bool(over_flattens(trades)) is is_over


# the report


def test_report_is_found_among_other_words() -> None:
    text = msgspec.json.format(msgspec.json.encode(REPORT)).decode()
    assert read_report(f"a warning\n{text}\n") == REPORT
    assert read_report("engine: cannot make a folder") is None
    assert read_report("{\n}\n") is None


def test_drill_without_a_report_was_not_run() -> None:
    drill = Drill(id=REPORT_ID, due_at=None, asked_by="schedule", started_at=BLOCKED)
    missed = ended(drill, DrillEnd(why="no room"), BLOCKED)
    assert (missed.verdict, missed.why, missed.report) == (DrillVerdict.NOT_RUN, "no room", None)
    failed = msgspec.structs.replace(REPORT, verdict=DrillVerdict.FAIL, problems=("a", "b"))
    assert ended(drill, DrillEnd(report=failed), BLOCKED).why == "a; b"
