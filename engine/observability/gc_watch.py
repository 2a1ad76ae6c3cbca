"""How long the garbage collector held everything up: Python tells when a collection begins and ends."""

import gc
from time import perf_counter_ns

from engine.observability.measures import GC_PAUSE

_began_ns = 0


def watch_collections() -> None:
    """Measure every collection from now on; asked twice it is done once."""
    if _told not in gc.callbacks:
        gc.callbacks.append(_told)


def _told(phase: str, _info: dict[str, int]) -> None:
    global _began_ns
    if phase == "start":
        _began_ns = perf_counter_ns()
    else:
        GC_PAUSE.observe_ns(perf_counter_ns() - _began_ns)
