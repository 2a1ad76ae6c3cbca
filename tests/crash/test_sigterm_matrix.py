"""SIGTERM at every step of an order's way: a clean end in time, and nothing lost, doubled or orphaned."""

from pathlib import Path

import pytest

from tests.crash.matrix import run_chains, told
from tests.crash.trials import Trial
from tests.support.servers import TestServers

pytestmark = pytest.mark.crash

CHAINS = [
    [
        Trial("R1.mid_migration", 1, "fresh"),
        Trial("S1.taken", 4),
        Trial("S2.append_written", 2),
        Trial("S5.before_commit"),
        Trial("R4.executor_restored", by="start"),
        Trial("S6.gate_passed", 4),
        Trial("S7.answer_arrived", 3),
        Trial("K1.before_file", by="kill"),
    ],
    [
        Trial("R3.first_run_planned", by="fresh"),
        Trial("S3.before_answer", 3),
        Trial("S5.told", 5),
        Trial("R5.after_page", by="backlog"),
        Trial("S6.sent", 5),
        Trial("S9.before_commit"),
        Trial("S11.cursor_noted", by="quiet"),
        Trial("C.before_request", by="cancel"),
        Trial("R6.intake_open", by="start"),
    ],
]


def test_sigterm_at_a_point_ends_cleanly_and_loses_none(
    tmp_path: Path, servers: TestServers, capsys: pytest.CaptureFixture[str]
) -> None:
    chains = run_chains(tmp_path, servers, CHAINS, name="term", seed=1, signals=10, term=True)
    with capsys.disabled():
        print(f"\nSIGTERM matrix: {told(chains)}; stopped after {max(max(c.stop_s) for c in chains):.2f} s (most)")
    assert [problem for chain in chains for problem in chain.problems] == []
