"""Power loss by count and seed: ``python -m tests.powerloss --drops 300 --commits 100 --cuts 50 --seed 1``."""

import argparse
import statistics
import sys
import time

from tests.powerloss.engine_cuts import careless_cut, cuts, draft, first_starts
from tests.powerloss.lossy import why_not
from tests.powerloss.postgres_drops import commits
from tests.powerloss.valkey_drops import drops


def main() -> int:
    """Run what was asked for; returns 1 when anything accepted was lost, or nothing was where it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.powerloss", description=__doc__)
    parser.add_argument("--drops", type=int, default=0, help="power cuts of Valkey")
    parser.add_argument("--commits", type=int, default=0, help="power cuts of PostgreSQL")
    parser.add_argument("--cuts", type=int, default=0, help="power cuts of the whole engine")
    parser.add_argument(
        "--first-starts", type=int, default=0, help="power cuts in the first seconds of an engine's life"
    )
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if not (asked.drops or asked.commits or asked.cuts or asked.first_starts):
        parser.error("say how many: --drops, --commits, --cuts, --first-starts")
    if (reason := why_not()) is not None:
        print(reason)
        return 2
    good = [
        not asked.drops or _valkey(asked.drops, asked.seed),
        not asked.commits or _postgres(asked.commits, asked.seed),
        not asked.cuts or _engine(asked.cuts, asked.seed),
        not asked.first_starts or _first_starts(asked.first_starts, asked.seed),
    ]
    return 0 if all(good) else 1


def _valkey(count: int, seed: int) -> bool:
    loose = drops(min(count, 20), policy="everysec", seed=seed)
    losing = sum(1 for drop in loose if drop.lost)
    print(f"everysec: {losing} of {len(loose)} drops lost confirmed entries, {sum(d.lost for d in loose)} in all")
    began = time.monotonic()
    tight = drops(count, policy="always", seed=seed)
    lost = sum(drop.lost for drop in tight)
    print(f"always: {lost} of {sum(d.acked for d in tight)} confirmed entries lost in {count} drops", end=", ")
    print(f"{sum(d.forgotten_bytes for d in tight)} bytes forgotten, {time.monotonic() - began:.0f} s")
    return losing > 0 and lost == 0


def _postgres(count: int, seed: int) -> bool:
    loose = commits(1, seed=seed, durable=False)
    print(f"fsync off: {loose[0].lost} of {loose[0].acked} commits lost in 1 cut")
    began = time.monotonic()
    tight = commits(count, seed=seed)
    lost, damaged = sum(cut.lost for cut in tight), [cut.damage for cut in tight if cut.damage]
    print(f"fsync on: {lost} of {sum(c.acked for c in tight)} commits lost in {count} cuts", end=", ")
    print(f"{len(damaged)} damaged, {sum(c.forgotten_bytes for c in tight)} bytes forgotten", end=", ")
    print(f"{time.monotonic() - began:.0f} s")
    print("\n".join(damaged[:3]), end="")
    return loose[0].lost > 0 and lost == 0 and not damaged


def _engine(count: int, seed: int) -> bool:
    with draft() as made:
        careless = careless_cut(made, seed=seed)
        began = time.monotonic()
        outcome = cuts(count, made, seed=seed)
    print(f"engine on stores that do not sync: {len(careless.wrong)} things wrong after 1 cut")
    print(
        f"engine: {count} cuts, {outcome.acked} signals accepted, {outcome.placed} placed once,"
        f" {sum(outcome.named.values())} ended unplaced by name, {outcome.unanswered} sent again,"
        f" {outcome.kills} cuts after the kill switch, {outcome.forgotten_bytes} bytes forgotten,"
        f" ready in {statistics.median(outcome.ready_s):.1f} s at the median, {max(outcome.ready_s):.1f} s at most,"
        f" {time.monotonic() - began:.0f} s"
    )
    for reason, times in outcome.named.most_common():
        print(f"  {times} {reason}")
    for wrong in outcome.wrong:
        print(f"  WRONG {wrong}")
    return bool(careless.wrong) and not outcome.wrong


def _first_starts(count: int, seed: int) -> bool:
    began = time.monotonic()
    wrong = first_starts(count, seed=seed)
    print(f"first starts: {len(wrong)} of {count} went wrong after the cut, {time.monotonic() - began:.0f} s")
    for words in wrong:
        print(f"  WRONG {words}")
    return not wrong


if __name__ == "__main__":
    sys.exit(main())
