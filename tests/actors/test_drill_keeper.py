"""Drills on a schedule: each due time once over restarts, never while an exchange is open, and told when they fail."""

import json
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from engine.actors.audit_writer import AuditWriter
from engine.actors.drill_keeper import DrillKeeper
from engine.clock import IST
from engine.domain.calendar import Calendar
from engine.domain.drill import Drill, DrillEnd, DrillVerdict
from engine.domain.drill_schedule import read_times
from engine.errors import ConflictError, UnavailableError
from engine.store.kill_drills import DrillMemory
from tests.support.desk import TrioClock
from tests.support.drills import REPORT
from tests.support.memory_store import MemoryStore

SATURDAY = datetime(2026, 11, 28, 10, 0, tzinfo=IST)
FAILED = msgspec.structs.replace(REPORT, verdict=DrillVerdict.FAIL, problems=("2 order(s) came after the block",))


class Place:
    """A keeper, what it wrote, and a drill that takes a minute."""

    def __init__(self, start: datetime, *, store: MemoryStore | None = None, weekly: str | None = "SAT 10:00") -> None:
        self.clock = TrioClock(start)
        self.store = store or MemoryStore()
        self.ledger = AuditWriter(self.store, epoch=1)  # type: ignore[arg-type]
        self.alerts: list[str] = []
        self.runs: list[datetime] = []
        self.end = DrillEnd(report=REPORT)
        self.suspect: str | None = None
        self.stopped = False
        self.keeper = DrillKeeper(
            None if weekly is None else read_times("weekly", weekly),
            rehearse=self._rehearse,
            ledger=self.ledger,
            clock=self.clock,
            calendar=Calendar(),
            load=self._load,
            alert=lambda _subject, text: self.alerts.append(text),
            suspect=lambda: self.suspect,
        )

    async def _rehearse(self) -> DrillEnd:
        self.runs.append(self.clock.now())
        try:
            await trio.sleep(60)
        except trio.Cancelled:
            self.stopped = True
            raise
        return self.end

    async def _load(self) -> DrillMemory:
        await trio.lowlevel.checkpoint()
        flags = [write.args[1] for write in self.store.writes if write.args[0] == "kill-drill"]
        begun = {
            write.args[0]: write.args
            for write in self.store.writes
            if write.sql.strip().startswith("INSERT INTO kill_")
        }
        over = {write.args[0] for write in self.store.writes if write.sql.strip().startswith("UPDATE kill_drills")}
        return DrillMemory(
            schedule=flags[-1]["schedule"] if flags else "",
            handled=datetime.fromisoformat(flags[-1]["handled"]) if flags else None,
            unfinished=tuple(
                Drill(id=args[0], due_at=args[1], asked_by=args[2], started_at=args[3])
                for number, args in begun.items()
                if number not in over
            ),
        )

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(record.content) for record in self.store.audit if record.action == "DRILL"]

    async def live(self, until: datetime) -> None:
        """Live until then, and die."""
        async with trio.open_nursery() as nursery:
            await nursery.start(self.ledger.run)
            await nursery.start(self.keeper.run)
            await trio.sleep((until - self.clock.now()).total_seconds())
            nursery.cancel_scope.cancel()


async def test_drill_runs_when_it_is_due_and_is_recorded(autojump_clock) -> None:
    place = Place(SATURDAY - timedelta(seconds=5))
    await place.live(SATURDAY + timedelta(minutes=3))
    assert [SATURDAY <= at <= SATURDAY + timedelta(seconds=2) for at in place.runs] == [True]
    (record,) = place.records
    assert (record["verdict"], record["timeToFlatS"]) == ("PASS", 9.25)
    assert place.alerts == []


async def test_due_time_is_not_repeated_after_a_restart_and_an_unfinished_drill_is_told(
    autojump_clock: trio.testing.MockClock,
) -> None:
    first = Place(SATURDAY - timedelta(seconds=5))
    await first.live(SATURDAY + timedelta(seconds=30))
    assert first.stopped
    second = Place(SATURDAY + timedelta(minutes=2), store=first.store)
    await second.live(SATURDAY + timedelta(minutes=4))
    assert (len(first.runs), len(second.runs)) == (1, 0)
    (alert,) = second.alerts
    assert "DRILL_NOT_RUN" in alert
    assert "the engine ended while it ran" in alert
    third = Place(SATURDAY + timedelta(days=7) - timedelta(seconds=5), store=first.store)
    await third.live(SATURDAY + timedelta(days=7, minutes=2))
    assert (len(third.runs), third.alerts) == (1, [])


async def test_due_time_that_passed_while_no_engine_ran_is_told_unless_drills_are_new(
    autojump_clock: trio.testing.MockClock,
) -> None:
    new = Place(SATURDAY + timedelta(hours=2))
    await new.live(SATURDAY + timedelta(hours=2, minutes=1))
    assert (new.runs, new.alerts) == ([], [])
    later = Place(SATURDAY + timedelta(days=7, hours=2), store=new.store)
    await later.live(SATURDAY + timedelta(days=7, hours=2, minutes=1))
    assert later.runs == []
    (alert,) = later.alerts
    assert "did not run when it was due, at Sat 05 Dec 10:00 IST" in alert


async def test_drill_does_not_run_while_an_exchange_is_open(autojump_clock) -> None:
    friday = Place(datetime(2026, 11, 27, 8, 54, 50, tzinfo=IST), weekly="FRI 08:55")
    async with trio.open_nursery() as nursery:
        await nursery.start(friday.ledger.run)
        await nursery.start(friday.keeper.run)
        await trio.sleep(5)
        # by a clock that may be wrong nothing is due, and it comes right when the exchanges have opened
        friday.suspect = "the clock jumped"
        await trio.sleep(10)
        friday.clock.step = 600
        friday.suspect = None
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert friday.runs == []
    (alert,) = friday.alerts
    assert "is open" in alert


async def test_failed_drill_is_an_alert(autojump_clock) -> None:
    place = Place(SATURDAY - timedelta(seconds=5))
    place.end = DrillEnd(report=FAILED)
    await place.live(SATURDAY + timedelta(minutes=2))
    (alert,) = place.alerts
    assert "DRILL_FAILED" in alert
    assert "2 order(s) came after the block" in alert
    assert place.records[0]["verdict"] == "FAIL"


async def test_one_that_is_asked_for_runs_at_once_and_alone(autojump_clock) -> None:
    place = Place(SATURDAY, weekly=None)
    with pytest.raises(UnavailableError):
        place.keeper.ask("user:1")
    async with trio.open_nursery() as nursery:
        await nursery.start(place.ledger.run)
        await nursery.start(place.keeper.run)
        await trio.testing.wait_all_tasks_blocked()
        drill = place.keeper.ask("user:1")
        with pytest.raises(ConflictError):
            place.keeper.ask("user:2")
        await trio.sleep(61)
        assert len(place.runs) == 1
        again = place.keeper.ask("user:2")
        await trio.sleep(61)
        nursery.cancel_scope.cancel()
    assert drill.id != again.id
    begun = [record for record in place.store.audit if record.action == "DRILL_BEGUN"]
    assert [record.actor for record in begun] == ["user:1", "user:2"]
    assert len(place.runs) == 2
