"""What the disk of the day takes to make bytes durable: the floor under every figure."""

import os
import time
from pathlib import Path

from engine.bench.figures import percentile

_BYTES = 256


def fdatasync_ms(folder: Path, *, times: int = 400) -> dict[str, float]:
    """Append and fdatasync *times* in *folder*; return p50 and p99 in ms. Run it in a thread."""
    path = folder / "fdatasync.probe"
    took = []
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for _ in range(times):
            begun = time.perf_counter_ns()
            os.write(file, b"x" * _BYTES)
            os.fdatasync(file)
            took.append((time.perf_counter_ns() - begun) / 1e6)
    finally:
        os.close(file)
        path.unlink()
    return {"fdatasync_p50_ms": percentile(took, 0.5), "fdatasync_p99_ms": percentile(took, 0.99)}
