"""Fuzz the readers: ``python -m tests.fuzz --seconds 600 [--only NAME]``; the seconds are for all of them together.

Guided by coverage where atheris can be imported (``pip install atheris``; Python 3.11), else by chance from the good
inputs. A finding is written to ``fuzz-NAME-...`` in *--out* and named; ``--only NAME --replay FILE`` runs it again.
Exits 1 when there was one.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz all targets in turn, each in a process of its own; or one, or replay a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only")
    parser.add_argument("--out", type=Path, default=Path.cwd())
    parser.add_argument("--replay", type=Path)
    options = parser.parse_args()
    if options.only and options.only not in TARGETS:
        parser.error(f"--only: one of {', '.join(TARGETS)}")
    if options.replay and not options.only:
        parser.error("--replay: which reader? give --only NAME")
    if options.replay:
        TARGETS[options.only].run(options.replay.read_bytes())
        return 0
    names = [options.only] if options.only else list(TARGETS)
    failed = []
    for name in names:
        command = [sys.executable, "-m", "tests.fuzz.alone", name, str(options.seconds / len(names)), str(options.out)]
        done = subprocess.run(command, capture_output=True, text=True)
        told = [line for line in (done.stdout + done.stderr).splitlines() if line and not line.startswith("INFO: ")]
        if done.returncode:
            failed.append(name)
            print("\n".join(told[-40:]))
        runs = [line.split()[-1] for line in told if line.startswith("stat::number_of_executed_units")]
        shown = f"{runs[0]} inputs by coverage" if runs else (told[-1].partition(": ")[2] if told else "")
        print(f"{name}: {'FOUND' if done.returncode else shown}", flush=True)
    print(f"{len(names)} readers, found: {', '.join(failed) or 'nothing'}")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
