"""Seeds 151 to 300 of the deterministic simulation."""

import pytest

from tests.support.simulation import run_simulation

OPEN_SEED = 157


def test_every_oracle_agrees_on_seeds_151_to_300() -> None:
    for first, count in ((151, OPEN_SEED - 151), (OPEN_SEED + 1, 300 - OPEN_SEED)):
        ended = run_simulation("--first", str(first), "--seeds", str(count))
        assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-3000:]
        assert f"{count} seeds, 0 failed" in ended.stdout


@pytest.mark.xfail(
    strict=True,
    reason="a stop whose trigger was passed while no engine ran is refused three times and left to a person, by alert; "
    "going at market on the refusal's own word is to come",
)
def test_stop_that_the_price_has_passed_while_nobody_looked_is_brought_about() -> None:
    ended = run_simulation("--first", str(OPEN_SEED), "--seeds", "1")
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-3000:]
