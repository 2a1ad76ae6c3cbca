"""Seeds 1 to 75 of the deterministic simulation; the other half is a file of its own, for another worker."""

from tests.support.simulation import run_simulation


def test_every_oracle_agrees_on_seeds_1_to_75() -> None:
    ended = run_simulation("--first", "1", "--seeds", "75")
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-3000:]
    assert "75 seeds, 0 failed" in ended.stdout
