"""When the kill switch could not act, and so systemd is to start the engine anew."""

from types import SimpleNamespace

import pytest

from engine.actors.kill_pulse import PARTS, KillPulse
from engine.runtime.child import ChildState, Status


def child(name, state=Status.RUNNING, children=()):
    return ChildState(name=name, state=state, restarts=0, last_error=None, started_at=None, children=tuple(children))


def pulse(*, looked=None, writing=None, states=None):
    parts = [child(name, (states or {}).get(name, Status.RUNNING)) for name in (*PARTS, "backups")]
    return KillPulse(
        SimpleNamespace(writing_since=writing),
        SimpleNamespace(looked_at=looked),
        lambda: child("oversight", children=parts),
    )


async def test_kill_switch_that_could_act_has_no_fault(autojump_clock):
    assert pulse().fault() is None
    assert pulse(looked=-5.0, writing=-5.0).fault() is None
    assert pulse(states={"backups": Status.STOPPED}).fault() is None


@pytest.mark.parametrize("part", PARTS)
async def test_part_that_does_not_run_is_a_fault(autojump_clock, part):
    others = [state for state in Status if state is not Status.RUNNING]
    assert all(part in (pulse(states={part: state}).fault() or "") for state in others)


async def test_triggers_that_look_no_more_and_a_write_that_hangs_are_faults(autojump_clock):
    assert "looked for a reason to trip for 11 s" in (pulse(looked=-11.0).fault() or "")
    assert "file of the kill switch has hung for 11 s" in (pulse(writing=-11.0).fault() or "")
