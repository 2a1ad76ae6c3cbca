"""Deaths during recovery, several in a row: recovery is a start like any other and ends in the same state.

python -m tests.crash.nested --rounds 40 --seed 1
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.crash.matrix import Chain, told
from tests.crash.trials import SIGNALS, STARTS, Trial
from tests.support.crash_world import World
from tests.support.servers import TestServers

IN_A_ROW = 5
# what recovery itself passes on its way, wherever the death before it was
_RECOVERY = [
    *(trial for trial in STARTS if trial.by == "start"),
    *(
        Trial(point, hit, "maybe")
        for point in ("W.before_commit", "W.after_commit", "S9.before_commit", "S9.after_commit", "S10.book_taken")
        for hit in (1, 2)
    ),
    *(Trial(point, 1, "maybe") for point in ("S4.decided", "S5.before_commit", "S5.after_commit", "S6.sent")),
]
_ROUNDS_OF_A_WORLD = 10


def nest(folder: Path, servers: TestServers, *, rounds: int, seed: int, name: str = "nested") -> Chain:
    """Run *rounds* of one death at work, or with a backlog, and `IN_A_ROW` deaths in the recoveries from it."""
    world = World(folder, servers, name=f"{name}_{seed}", redis_db=6, seed=seed)
    deaths = [trial for trial in SIGNALS if trial.by == "signals" and not trial.point.startswith(("S1.", "S11."))]
    backlogs = [trial for trial in STARTS if trial.by in ("backlog", "zombie")]
    trials: list[Trial] = []
    for number in range(rounds):
        trials.append(world.rng.choice(backlogs if number % 3 == 1 else deaths))
        trials += [world.rng.choice(_RECOVERY) for _ in range(IN_A_ROW)]
    try:
        return Chain(world).run(trials)
    finally:
        world.close()


def main() -> int:
    """Run the long version."""
    parser = argparse.ArgumentParser(description="kill the real engine in its recovery, again and again")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    bad = 0
    with TestServers(durable=True) as servers, tempfile.TemporaryDirectory(prefix="nested-") as folder:
        for number, start in enumerate(range(0, given.rounds, _ROUNDS_OF_A_WORLD)):
            began, seed = time.monotonic(), given.seed + number
            rounds = min(_ROUNDS_OF_A_WORLD, given.rounds - start)
            chain = nest(Path(folder) / str(seed), servers, rounds=rounds, seed=seed)
            words = f"{rounds} rounds, {told([chain])}"
            print(f"seed {seed}: {words}; {time.monotonic() - began:.0f} s", *chain.problems, sep="\n  ", flush=True)
            bad += len(chain.problems)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
