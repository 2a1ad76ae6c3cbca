"""The morning's report, once on its day, and the gate that holds entries until what failed is mended or overridden."""

from collections.abc import Sequence
from datetime import date, datetime, time
from typing import Any

import msgspec
import pytest
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.morning_report import MorningReport
from engine.clock import IST
from engine.domain.calendar import Calendar
from engine.domain.day_checks import Check, State
from engine.domain.readiness_gate import Gate
from engine.errors import ConflictError
from tests.support.desk import TrioClock
from tests.support.memory_store import MemoryStore
from tests.support.trade import ACCOUNT

MONDAY, SATURDAY = date(2026, 11, 23), date(2026, 11, 21)


def at(clock: str, day: date = MONDAY) -> datetime:
    return datetime.combine(day, time.fromisoformat(clock), tzinfo=IST)


class World:
    def __init__(self, start: datetime, *, mode: Any = "block", store: MemoryStore | None = None) -> None:
        self.clock = TrioClock(start)
        self.store = store or MemoryStore()
        self.ledger = AuditWriter(self.store, epoch=1)  # type: ignore[arg-type]
        self.alerts: list[str] = []
        self.state = State.OK
        self.report = MorningReport(
            mode=mode,
            usual=time(8, 45),
            calendar=Calendar(),
            ledger=self.ledger,
            clock=self.clock,
            load=self._load,
            alert=lambda _subject, text: self.alerts.append(text),
            suspect=lambda: None,
        )
        self.report.examine = self._examine

    async def _load(self) -> Gate:
        await trio.lowlevel.checkpoint()
        kept = [write.args[1] for write in self.store.writes if write.args and write.args[0] == "readiness-gate"]
        return msgspec.convert(kept[-1], Gate) if kept else Gate()

    async def _examine(self) -> Sequence[Check]:
        await trio.lowlevel.checkpoint()
        return [Check(code="disk", state=self.state, found="20 MiB", mend="make room", checked_at=self.clock.now())]

    async def start(self, nursery: trio.Nursery) -> None:
        await nursery.start(self.ledger.run)
        await nursery.start(self.report.run)

    async def wait_until(self, instant: datetime) -> None:
        await trio.sleep((instant - self.clock.now()).total_seconds())


async def test_it_is_told_once_a_day_whatever_restarts_and_never_without_a_session(autojump_clock, nursery):
    world = World(at("08:40"), mode="warn")
    await world.start(nursery)
    await world.wait_until(at("08:46"))
    assert len(world.alerts) == 1
    assert world.alerts[0].startswith("READY: 1 checks, all well")
    assert world.report.held(ACCOUNT) is None
    again = World(world.clock.now(), mode="warn", store=world.store)
    await again.start(nursery)
    await world.wait_until(at("09:00"))
    assert (len(world.alerts), again.alerts) == (1, [])
    free = World(at("08:40", SATURDAY), mode="warn")
    await free.start(nursery)
    await free.wait_until(at("09:00", SATURDAY))
    assert free.alerts == []


async def test_a_gate_that_blocks_holds_entries_until_what_failed_is_mended(autojump_clock, nursery):
    world = World(at("08:40"))
    await world.start(nursery)
    await world.wait_until(at("08:44"))
    assert world.report.held(ACCOUNT) is None  # yesterday's period, whose checks pass now
    world.state = State.FAIL
    await world.wait_until(at("08:46"))
    assert "disk: 20 MiB" in str(world.report.held(ACCOUNT))
    assert "NOT_READY" in world.alerts[-1]
    world.state = State.OK
    await world.wait_until(at("08:47"))
    assert world.report.held(ACCOUNT) is None
    assert world.alerts[-1].startswith("READINESS_MENDED")
    world.state = State.FAIL
    await world.wait_until(at("09:00"))
    assert world.report.held(ACCOUNT) is None


async def test_an_override_is_on_the_record_outlives_a_restart_and_ends_with_the_day(autojump_clock, nursery):
    world = World(at("08:44"))
    world.state = State.FAIL
    await world.start(nursery)
    await world.wait_until(at("09:00"))
    assert world.report.held(ACCOUNT) is not None
    await world.report.override(by="user:1", reason="room is being made", content={})
    assert world.report.held(ACCOUNT) is None
    assert "READINESS_OVERRIDDEN" in [record.action for record in world.store.audit]
    with pytest.raises(ConflictError):
        await World(at("09:00"), mode="warn").report.override(by="user:1", reason="x", content={})
    again = World(world.clock.now(), store=world.store)
    again.state = State.FAIL
    await again.start(nursery)
    await again.wait_until(at("09:05"))
    assert again.report.held(ACCOUNT) is None
    tomorrow = World(at("08:45", date(2026, 11, 24)), store=world.store)
    tomorrow.state = State.FAIL
    await tomorrow.start(nursery)
    assert tomorrow.report.held(ACCOUNT) is not None
