"""Tells people which kill switches went on or off: compares what is on now with what was told last.

No task and no mailbox of its own: called by the guardian's change, never waits and never raises.
"""

from collections.abc import Callable

from engine.domain.killswitch import KillRecord, KillSwitches


class KillWords:
    """Raises an alert for every kill switch that went on or off."""

    def __init__(self, alert: Callable[[str, str], None]) -> None:
        self._alert = alert
        self._on: dict[str, KillRecord] = {}

    def know(self, switches: KillSwitches) -> None:
        """Take what is on at a start as known."""
        self._on = {scope: record for scope, record in switches.records.items() if record.enabled}

    def changed(self, switches: KillSwitches) -> None:
        """Tell which kill switches went on or off since the last call."""
        before, now = self._on, {scope: record for scope, record in switches.records.items() if record.enabled}
        self._on = now
        for scope, record in now.items():
            if scope not in before:
                self._alert(
                    f"killswitch:{scope}",
                    f"the kill switch of {scope} is ON ({record.mode}), version {record.version}, "
                    f"by {record.actor}: {record.reason}",
                )
        for scope in before.keys() - now.keys():
            held = switches.records.get(scope)
            if held is not None:
                self._alert(
                    f"killswitch:{scope}",
                    f"the kill switch of {scope} is off, version {held.version}, by {held.actor}: {held.reason}",
                )
