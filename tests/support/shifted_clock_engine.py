"""``engine`` whose wall clock is off by the seconds that the file ``TEST_CLOCK_FILE`` holds, changed while it runs.

Run as ``python shifted_clock_engine.py run ...``. Durations go by the machine's boot clock as always.
With ``TEST_HORIZON_S`` the horizon of rule R is short, and with ``TEST_DATE_TOO`` the answers of the
paper exchange inside of it bear the shifted time as well.
"""

import os
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import hypercorn.config

from engine.__main__ import main
from engine.clock import SystemClock
from tests.support import short_horizon_engine

PROGRAM = (str(Path(__file__).resolve()),)


class Shift:
    """The seconds in a file, read again whenever the file was written."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._seen = 0
        self._seconds = 0.0

    def seconds(self) -> float:
        """Return how far off the clock is now."""
        written = os.stat(self._file).st_mtime_ns
        if written != self._seen:
            self._seen = written
            self._seconds = float(Path(self._file).read_text())
        return self._seconds


def install(shift: Shift) -> None:
    """Put the shifted clock in place of the machine's."""
    real = SystemClock.now

    def now(self: SystemClock) -> datetime:
        return real(self) + timedelta(seconds=shift.seconds())

    SystemClock.now = now
    if "TEST_DATE_TOO" in os.environ:
        hypercorn.config.time = lambda: time.time() + shift.seconds()


if __name__ == "__main__":
    install(Shift(os.environ["TEST_CLOCK_FILE"]))
    if "TEST_HORIZON_S" in os.environ:
        short_horizon_engine.shorten(float(os.environ["TEST_HORIZON_S"]))
    main()
