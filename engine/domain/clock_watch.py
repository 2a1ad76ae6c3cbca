"""Whether the wall clock can be trusted: its progress beside the boot-time clock, and what the broker's says.

The age of a signal and the trading day are read off the wall clock, so while it is suspect nothing goes
that adds exposure (reliability.md F36). A machine that was suspended or a process that was stopped makes
no step: both clocks count that time.
"""

from datetime import datetime, timedelta

STEP_S = 0.5
"""A step beyond this makes the clock suspect."""

BROKER_S = 2.0
"""A distance from the broker's clock beyond this makes the clock suspect."""

CALM_S = 60.0
"""How long a clock must keep pace to be believed again when no broker is heard."""

_BROKER_RESOLUTION = timedelta(seconds=1)  # an HTTP date has no fractions


class ClockWatch:
    """Judges one wall clock; every instant is handed in (wall: aware UTC, boot: ns of CLOCK_BOOTTIME)."""

    def __init__(self, wall: datetime, boot_ns: int) -> None:
        self.reason: str | None = None
        self._wall = wall
        self._boot_ns = boot_ns
        self._since_ns = boot_ns
        self._by_broker = False

    def look(self, wall: datetime, boot_ns: int) -> str | None:
        """Take in how both clocks stand; return why the wall clock is suspect, or None."""
        passed_s = (boot_ns - self._boot_ns) / 1e9
        step_s = (wall - self._wall).total_seconds() - passed_s
        if self.reason is None and passed_s < CALM_S and -STEP_S <= step_s <= STEP_S:
            return None
        if abs(step_s) > STEP_S:
            self._by_broker = False
            self._suspect(f"the wall clock was set by {step_s:+.1f} s", boot_ns)
            self._wall, self._boot_ns = wall, boot_ns
        elif passed_s >= CALM_S:
            # slewing is no step: what is compared lies at most a minute apart
            self._wall, self._boot_ns = wall, boot_ns
        if self.reason is not None and not self._by_broker and (boot_ns - self._since_ns) / 1e9 >= CALM_S:
            self.reason = None
        return self.reason

    def heard(self, broker_at: datetime, asked_at: datetime, answered_at: datetime, boot_ns: int) -> str | None:
        """Take in the broker's clock (whole seconds), read between two instants of the wall clock.

        Call `look` first. Returns why the wall clock is suspect, or None.
        """
        behind_s = (broker_at - answered_at).total_seconds()
        ahead_s = (asked_at - (broker_at + _BROKER_RESOLUTION)).total_seconds()
        if behind_s > BROKER_S or ahead_s > BROKER_S:
            self._by_broker = True
            where = f"{behind_s:.1f} s behind" if behind_s > 0 else f"{ahead_s:.1f} s ahead of"
            self._suspect(f"the wall clock is {where} the broker's", boot_ns)
        else:
            self.reason = None
            self._by_broker = False
        return self.reason

    def _suspect(self, reason: str, boot_ns: int) -> None:
        self.reason = reason
        self._since_ns = boot_ns
