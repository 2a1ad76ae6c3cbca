"""n orders of which one in ten gets an ambiguous reply, by seed: nothing doubled, nothing lost, nothing sent again.

By hand: ``python -m tests.faults.ambiguity --orders 20000 --seed 1``; in CI the same with 150 orders.
"""

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from tests.support.fault_engines import fault_rig
from tests.support.fault_rig import AT_BROKER, ENDED_UNPLACED, Fate, FaultRig
from tests.support.servers import TestServers

AMBIGUOUS: tuple[dict[str, Any], ...] = (
    {"takes": "now", "answer": "drop"},
    {"takes": "now", "answer": "reset"},
    {"takes": "now", "answer": "bad_gateway_page"},
    {"takes": "now", "answer": "timed_out"},
    {"takes": "now", "answer": "truncated"},
    {"takes": "now", "answer": "no_order_id"},
    {"takes": "now", "answer": "none"},
    {"takes": "never", "answer": "drop"},
    {"takes": "never", "answer": "api_down"},
    {"takes": "late", "late_s": 0.7, "answer": "timed_out"},
    {"takes": "late", "late_s": 1.5, "answer": "drop"},
)
SHARE = 0.1
IN_FLIGHT = 300


def rules(seed: int, share: float = SHARE) -> list[dict[str, Any]]:
    """Return rules that together hit *share* of all orders, each kind alike."""
    chosen = []
    left = 1.0
    for number, rule in enumerate(AMBIGUOUS):
        # a request comes to a rule only if those before it let it pass
        probability = share / len(AMBIGUOUS) / left
        left -= share / len(AMBIGUOUS)
        chosen.append(rule | {"probability": probability, "seed": seed * 1000 + number})
    return chosen


def run(rig: FaultRig, orders: int, seed: int, *, within_s: float) -> Counter[str]:
    """Send *orders* signals and wait for their ends; return how many ended how. AssertionError names what is wrong."""
    dice = Random(seed)
    rig.exchange.set_faults(*rules(seed))
    deadline = time.monotonic() + within_s
    fates: list[Fate] = []
    symbols = rig.next_symbols(64)
    for number in range(orders):
        fates.append(rig.send(dice.choice(symbols)))
        if number % IN_FLIGHT == IN_FLIGHT - 1:
            # those of the last round may still be in doubt while the next is sent
            rig.settled(fates[-2 * IN_FLIGHT : -IN_FLIGHT], within_s=max(1.0, deadline - time.monotonic()))
    rig.settled(fates, within_s=max(1.0, deadline - time.monotonic()))
    rig.check()
    ambiguous = {(hit["symbol"], int(hit["quantity"])) for hit in rig.exchange.hits()}
    ends: Counter[str] = Counter()
    for fate in fates:
        was_hit = (fate.symbol, fate.quantity) in ambiguous
        ends[f"{'ambiguous' if was_hit else 'plain'}: {fate.status}"] += 1
        named = fate.status in AT_BROKER or (fate.status in ENDED_UNPLACED and fate.row.get("status_message"))
        assert named, f"no reason given: {fate}"
        assert fate.status == "COMPLETE" or was_hit or not fate.posts, f"sent, not hit, and yet not placed: {fate}"
    return ends


def main() -> None:
    """Run from the command line; prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--orders", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    began = time.monotonic()
    with TestServers(durable=True) as servers, tempfile.TemporaryDirectory(prefix="ambiguity-") as folder:
        url = f"{servers.redis_url}?db=1"
        with fault_rig(Path(folder), servers, "ambiguity", url) as rig:
            ends = run(rig, asked.orders, asked.seed, within_s=60 + asked.orders)
    for name, count in sorted(ends.items()):
        print(f"{name:30} {count}")
    print(f"{asked.orders} orders, seed {asked.seed}: 0 doubled, 0 lost, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
