"""SIGKILL at every named point of the real engine: nothing lost, nothing doubled, nothing orphaned."""

from pathlib import Path

import pytest

from engine.runtime.crashpoint import POINTS
from tests.crash.matrix import Chain, run_chains, told
from tests.crash.trials import FLATTENING, Trial, two_chains
from tests.support.crash_world import World
from tests.support.crashing_engine import MADE
from tests.support.servers import TestServers

pytestmark = pytest.mark.crash


def test_kill_at_every_second_point_loses_doubles_and_orphans_none(
    tmp_path: Path, servers: TestServers, capsys: pytest.CaptureFixture[str]
) -> None:
    # all of them by hand: python -m tests.crash.matrix
    planned = [chain[::2] for chain in two_chains(0)]
    chains = run_chains(tmp_path, servers, planned, name="kill", seed=0, signals=4, term=False)
    with capsys.disabled():
        print(f"\nkill matrix: {told(chains)}")
    assert [problem for chain in chains for problem in chain.problems] == []
    assert set().union(*(chain.hit for chain in chains)) == {trial.point for chain in planned for trial in chain}
    named = {trial.point for chain in two_chains(0) for trial in chain}
    assert named == (POINTS - FLATTENING) | MADE


@pytest.mark.long
@pytest.mark.parametrize(
    ("bug", "trials", "finding"),
    [
        ("forget_write_ahead", [Trial("S6.sent", 3), Trial("S8.answer_parsed", 4)], ("O2 ", "O4 ")),
        ("skip_replay", [Trial("R6.recovered", by="backlog")], ("O1 ",)),
        ("send_early", [Trial("R6.recovered", by="backlog")], ("O3 ",)),
    ],
)
def test_planted_bug_is_found(
    tmp_path: Path, servers: TestServers, bug: str, trials: list[Trial], finding: tuple[str, ...]
) -> None:
    world = World(tmp_path, servers, name=f"bug_{bug}", redis_db=4, seed=3)
    world.bug = bug
    try:
        found = Chain(world).run(trials).problems
    finally:
        world.close()
    assert [line for line in found if line.startswith(finding)], found
