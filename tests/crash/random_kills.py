"""SIGKILL at random times under a steady load.

python -m tests.crash.random_kills --kills 1000 --seed 1
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.support.crash_load import kill_at_random
from tests.support.crash_oracles import Truth, findings
from tests.support.crash_world import World
from tests.support.servers import TestServers

RATE = 50.0
_KILLS_OF_A_WORLD = 25


def storm(
    folder: Path, servers: TestServers, *, kills: int, seed: int, longest_s: float = 5.0, rate: float = RATE
) -> tuple[str, list[str]]:
    """Run one world through *kills* kills; return the count in words, and what was found."""
    world = World(folder, servers, name=f"storm_{seed}", redis_db=5, seed=seed)
    try:
        world.start()
        world.set_up()
        assert world.engine is not None
        assert world.engine.stop() == 0
        kill_at_random(world, kills=kills, rate=rate, longest_s=longest_s)
        world.settle(within_s=240)
        found = findings(world)
        assert world.engine.stop() == 0
        ready = sorted(world.ready_s)
        words = (
            f"{kills} kills, {len(world.signals)} signals, {len(Truth(world).accepted)} orders at the exchange; "
            f"ready after {ready[len(ready) // 2]:.2f} s (median), {ready[-1]:.2f} s (most); {len(found)} findings"
        )
        return words, found
    finally:
        world.close()


def main() -> int:
    """Run the long version."""
    parser = argparse.ArgumentParser(description="kill the real engine at random times under load")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    bad = 0
    with TestServers(durable=True) as servers, tempfile.TemporaryDirectory(prefix="storm-") as folder:
        for number, start in enumerate(range(0, given.kills, _KILLS_OF_A_WORLD)):
            began, seed = time.monotonic(), given.seed + number
            kills = min(_KILLS_OF_A_WORLD, given.kills - start)
            words, found = storm(Path(folder) / str(seed), servers, kills=kills, seed=seed)
            print(f"seed {seed}: {words}; {time.monotonic() - began:.0f} s", *found, sep="\n  ", flush=True)
            bad += len(found)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
