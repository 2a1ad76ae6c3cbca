"""The deterministic simulation as a command: it changes how trio schedules, so it has a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def run_simulation(*arguments: str, hash_seed: int = 0, timeout_s: float = 500) -> subprocess.CompletedProcess[str]:
    """Run ``python -m tests.simulation`` with *arguments* from the project's root."""
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        check=False,
    )
