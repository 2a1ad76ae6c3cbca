"""Twenty-five seeds of the deterministic simulation, and those that found something once.

By hand as many as one likes: ``python -m tests.simulation --first 26 --seeds 3000 --jobs 2``.
"""

from tests.support.simulation import run_simulation

# what they found has tests of its own: their scenarios stay rare ones
REMEMBERED = (157, 215, 277)


def test_every_oracle_agrees_on_twenty_five_seeds_and_on_those_that_found_something() -> None:
    ended = run_simulation("--first", "1", "--seeds", "25", "--also", ",".join(map(str, REMEMBERED)))
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-3000:]
    assert f"{25 + len(REMEMBERED)} seeds, 0 failed" in ended.stdout
