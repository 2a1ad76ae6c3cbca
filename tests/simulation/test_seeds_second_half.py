"""Seeds 151 to 300 of the deterministic simulation."""

from tests.support.simulation import run_simulation


def test_every_oracle_agrees_on_seeds_151_to_300() -> None:
    ended = run_simulation("--first", "151", "--seeds", "150")
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-3000:]
    assert "150 seeds, 0 failed" in ended.stdout
