"""Flattening by the seed: nothing is closed twice, nothing is called flat that is not, and it comes to its end.

python -m tests.property.test_flatten_seeds 2000
"""

import sys
import time

import pytest

from tests.support.flatten_world import play


@pytest.mark.parametrize("first", range(0, 160, 40))
def test_no_seed_over_flattens_or_says_flat_too_early(first: int) -> None:
    bad = [outcome for seed in range(first, first + 40) if (outcome := play(seed)).findings]
    assert not bad, bad


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    begun = time.monotonic()
    outcomes = [play(seed) for seed in range(count)]
    took = sorted(outcome.took_s for outcome in outcomes if outcome.took_s is not None)
    for outcome in outcomes:
        if outcome.findings:
            print(outcome)
    print(
        f"{count} seeds in {time.monotonic() - begun:.0f} s: {sum(bool(o.findings) for o in outcomes)} with findings, "
        f"{sum(o.sent for o in outcomes)} orders, {sum(o.raced for o in outcomes)} crossed by trades of others; "
        f"time to flat p50 {took[len(took) // 2]:.1f} s, p95 {took[len(took) * 95 // 100]:.1f} s"
    )


if __name__ == "__main__":
    main()
