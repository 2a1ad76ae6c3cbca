"""Run seeds by hand.

python -m tests.simulation --seeds 300 --first 1 --jobs 2     scenarios
python -m tests.simulation --seed 4711 --trace                one again, with what happened
python -m tests.simulation --bug NAME --seeds 500             until one finds the bug
python -m tests.simulation --hunt --seeds 500                 every bug: the first seed that finds it
python -m tests.simulation --known                            every bug, near the seeds of found.py
"""

import argparse
import json
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

_NEAR = 10


def _run(seed: int, bug: str | None = None) -> Any:
    from tests.simulation.bugs import planted
    from tests.simulation.runner import run_seed

    return run_seed(seed, bug=planted(bug) if bug else None, to_first=bug is not None)


def _around(seed: int) -> list[int]:
    """Return *seed* and those near it, nearest first."""
    return sorted(range(max(1, seed - _NEAR), seed + _NEAR + 1), key=lambda other: (abs(other - seed), other))


def _hunt(bug: str, seeds: Iterable[int] | None) -> tuple[str, int | None, str, float]:
    from tests.simulation.found import FOUND

    began = time.process_time()
    for seed in seeds or _around(FOUND.get(bug, 1)):
        found = _run(seed, bug)
        if found.violations:
            return bug, seed, found.violations[0], time.process_time() - began
    return bug, None, "", time.process_time() - began


def _replay(seed: int, bug: str | None) -> int:
    from tests.simulation.bugs import planted
    from tests.simulation.runner import run_seed

    found = run_seed(seed, trace=True, bug=planted(bug) if bug else None)
    print("\n".join(found.trace))
    print(f"seed {seed}: {found.violations or 'all oracles agree'}; trace {found.digest[:16]}, {found.cpu_s:.2f} s")
    return bool(found.violations)


def _seeds(seeds: Iterable[int], pool: ProcessPoolExecutor, *, quiet: bool) -> int:
    failed = 0
    cpu = []
    counts: dict[str, int] = {}
    for found in pool.map(_run, seeds, chunksize=4):
        cpu.append(found.cpu_s)
        for name, count in found.counts.items():
            counts[name] = counts.get(name, 0) + count
        if found.violations:
            failed += 1
            print(f"seed {found.seed} failed; replay it with: python -m tests.simulation --seed {found.seed} --trace")
            print("\n".join(f"    {line}" for line in found.violations[:5]), flush=True)
    if not quiet:
        shown = (
            *("accepted_2xx", "sent", "accepted", "fault", "killed", "ready", "lease", "stopped", "gated"),
            *("exits", "exit_fills", "over_exits", "modify", "cancel", "person"),
        )
        print(", ".join(f"{name} {counts.get(name, 0)}" for name in shown))
    print(f"{len(cpu)} seeds, {failed} failed, {sum(cpu) / len(cpu):.2f} s CPU each, {max(cpu):.2f} s the longest")
    return failed


def main() -> int:
    """Do what the command line asks; exit 1 when an oracle said no, or a bug was not found."""
    parser = argparse.ArgumentParser(prog="tests.simulation", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=300)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--also", default="", help="further seeds, comma separated")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--trace", action="store_true")
    parser.add_argument("--bug")
    parser.add_argument("--hunt", action="store_true")
    parser.add_argument("--known", action="store_true", help="every bug, near the seed that is known to find it")
    parser.add_argument("--only", default="", help="with --hunt: names of bugs, comma separated")
    parser.add_argument("--digests", action="store_true", help="print the digest of each seed's trace")
    parser.add_argument("--json", action="store_true", help="with --hunt: print one object, bug to seed")
    asked = parser.parse_args()
    if asked.seed is not None:
        return _replay(asked.seed, asked.bug)
    seeds = [*range(asked.first, asked.first + asked.seeds), *map(int, filter(None, asked.also.split(",")))]
    with ProcessPoolExecutor(asked.jobs) as pool:
        if asked.digests:
            print(json.dumps({found.seed: found.digest for found in pool.map(_run, seeds)}))
            return 0
        if not (asked.hunt or asked.bug or asked.known):
            return min(_seeds(seeds, pool, quiet=False), 1)
        from tests.simulation.bugs import BUGS

        names = [asked.bug] if asked.bug else [n for n in asked.only.split(",") if n] or list(BUGS)
        missed = 0
        table = {}
        hunt = partial(_hunt, seeds=None if asked.known else seeds)
        for name, seed, why, cpu_s in pool.map(hunt, names):
            missed += seed is None
            table[name] = seed
            if not asked.json:
                print(f"{name:42} {'NOT FOUND' if seed is None else seed:>9}  {cpu_s:6.1f} s  {why[:110]}", flush=True)
        if asked.json:
            print(json.dumps(table))
        return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
