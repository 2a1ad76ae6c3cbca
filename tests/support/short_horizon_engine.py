"""``engine`` that believes the order book sooner: the horizon of rule R is ``TEST_HORIZON_S`` seconds.

Run as ``python short_horizon_engine.py run ...``. Proof of absence then takes seconds rather than
three minutes, and so do the waits around it; everything else is the real thing. The real lengths are
tested in virtual time.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

# all of the engine before the lengths change: its start holds the configured ages against the real ones
import engine.cli.run  # noqa: F401
from engine.__main__ import main
from engine.actors import dispatching, order_watch
from engine.domain import reconcile

PROGRAM = (str(Path(__file__).resolve()),)


def shorten(horizon_s: float) -> None:
    """Put *horizon_s* in place of every length that rule R knows."""
    _put(reconcile, MIN_HORIZON_S=horizon_s, HORIZON_S=horizon_s, PARK_GRACE_S=1.0)
    _put(reconcile, _POLLS_AT_S=tuple(0.25 * n for n in range(1, 14)))
    _put(order_watch, _LATE_HORIZON=timedelta(seconds=1), _UNPLACED_LOOK_S=1.0)
    _put(dispatching, COOL_DOWN_S=2.0)
    defaults = reconcile.AbsenceProof.__init__.__kwdefaults__
    assert "horizon_s" in defaults
    defaults["horizon_s"] = horizon_s


def _put(module: ModuleType, **values: Any) -> None:
    for name, value in values.items():
        assert hasattr(module, name), f"{module.__name__}.{name} has another name now"
        setattr(module, name, value)


if __name__ == "__main__":
    shorten(float(os.environ["TEST_HORIZON_S"]))
    main()
