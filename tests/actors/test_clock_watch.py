"""The clock watch as an actor: seen at the gate at once, told to people once, and over when it is over."""

from datetime import timedelta
from email.utils import format_datetime
from types import SimpleNamespace

import pytest
import trio

from engine.actors.clock_watch import ClockKeeper
from engine.http.routes.readiness import _clock_fault
from tests.support.desk import TrioClock


class Rig:
    def __init__(self) -> None:
        self.clock = TrioClock()
        self.alerts: list[str] = []
        self.trusted = 0
        self.keeper = ClockKeeper(self.clock, alert=lambda _subject, text: self.alerts.append(text), trusted=self._on)

    def _on(self) -> None:
        self.trusted += 1

    def hear(self, off_s: float = 0.0, took_s: float = 0.1) -> None:
        date = self.clock.now() + timedelta(seconds=off_s)
        self.keeper.heard(format_datetime(date, usegmt=True), took_s)


@pytest.fixture
async def rig(autojump_clock, nursery):
    rig = Rig()
    await nursery.start(rig.keeper.run)
    return rig


async def test_step_is_seen_by_who_asks_before_the_next_tick(rig, autojump_clock):
    assert rig.keeper.suspect() is None
    rig.clock.step = 3600
    assert "+3600.0 s" in rig.keeper.suspect()


async def test_step_is_told_once_and_its_end_wakes_the_orders(rig, autojump_clock):
    rig.clock.step = 3600
    await trio.sleep(30)
    assert len(rig.alerts) == 1
    assert rig.alerts[0].startswith("CLOCK_SUSPECT: the wall clock was set by +3600.0 s")
    assert rig.trusted == 0
    await trio.sleep(40)
    assert rig.trusted == 1
    assert rig.keeper.suspect() is None


async def test_broker_that_agrees_ends_it_and_a_person_still_hears_of_the_step(rig, autojump_clock):
    rig.clock.step = -3600
    rig.hear()
    assert rig.keeper.suspect() is None
    await trio.sleep(2)
    assert len(rig.alerts) == 1
    assert rig.trusted == 1


async def test_broker_that_disagrees_makes_it_suspect_until_it_agrees(rig, autojump_clock):
    rig.hear(-30)
    await trio.sleep(200)
    assert "ahead of the broker's" in rig.keeper.suspect()
    rig.hear(0.5)
    assert rig.keeper.suspect() is None


async def test_slow_answer_of_a_good_clock_is_no_disagreement(rig, autojump_clock):
    rig.hear(-6, took_s=6.5)
    assert rig.keeper.suspect() is None


@pytest.mark.parametrize("date", [None, "", "yesterday", "Wed, 99 Nov 2026 04:30:00 GMT"])
async def test_date_that_is_none_changes_nothing(rig, date, autojump_clock):
    rig.keeper.heard(date, 0.1)
    assert rig.keeper.suspect() is None


async def test_machine_that_slept_keeps_its_clock(rig, autojump_clock):
    rig.clock.sleep(3600)
    await trio.sleep(5)
    assert rig.keeper.suspect() is None
    assert not rig.alerts


async def test_readiness_says_what_the_send_gate_sees(rig, autojump_clock):
    services = SimpleNamespace(extras={"clock_watch": rig.keeper})
    assert _clock_fault(services) is None
    rig.clock.step = -5
    assert _clock_fault(services) == "the wall clock was set by -5.0 s"
