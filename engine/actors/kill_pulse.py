"""Whether the kill switch could act now, for whoever restarts an engine that could not.

The block itself is a change in memory, so a loop that runs can always make it; what can hang is what follows: the
parts that trip it and carry it out, and the file that a restart would believe.
"""

from collections.abc import Callable

import trio

from engine.actors.kill_triggers import TriggerKeeper
from engine.actors.killswitch_guardian import KillSwitchGuardian
from engine.runtime.child import ChildState, Status

PARTS = ("killswitch-guardian", "kill-triggers", "kill-sequence")
_LOOKED_WITHIN_S = 10.0
_WRITTEN_WITHIN_S = 10.0


class KillPulse:
    """Looks at the guardian, the triggers and, through *oversight*, at whether their tasks run."""

    def __init__(
        self, guardian: KillSwitchGuardian, triggers: TriggerKeeper, oversight: Callable[[], ChildState]
    ) -> None:
        self._guardian = guardian
        self._triggers = triggers
        self._oversight = oversight

    def fault(self) -> str | None:
        """Return what keeps the kill switch from acting, None while nothing does."""
        now_s = trio.current_time()
        down = [
            f"{child.name} is {child.state.lower()}"
            for child in self._oversight().children
            if child.name in PARTS and child.state is not Status.RUNNING
        ]
        looked_s = self._triggers.looked_at
        if looked_s is not None and now_s - looked_s > _LOOKED_WITHIN_S:
            down.append(f"nothing has looked for a reason to trip for {now_s - looked_s:.0f} s")
        writing_s = self._guardian.writing_since
        if writing_s is not None and now_s - writing_s > _WRITTEN_WITHIN_S:
            down.append(f"the file of the kill switch has hung for {now_s - writing_s:.0f} s")
        return "; ".join(down) or None
