"""The simulation finds every bug that is planted, and a seed is the same scenario wherever it runs."""

import ast
import json
from pathlib import Path

from tests.simulation.found import FOUND
from tests.support.simulation import run_simulation


def _planted() -> list[str]:
    # read, not imported: the bugs' modules reach deep into the engine
    files = ("bugs.py", "bugs_of_exits.py")
    return [
        node.name
        for file in files
        for node in ast.parse((Path(__file__).parent / file).read_text()).body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(mark, ast.Name) and mark.id == "bug" for mark in node.decorator_list)
    ]


def test_every_third_planted_bug_is_found_near_its_known_seed() -> None:
    names = _planted()
    assert len(names) >= 44
    assert sorted(names) == sorted(FOUND)
    # all of them by hand: python -m tests.simulation --known
    names = names[::3]
    ended = run_simulation("--known", "--only", ",".join(names))
    assert ended.returncode == 0, ended.stdout[-6000:] + ended.stderr[-3000:]
    assert ended.stdout.count("  O") + ended.stdout.count("  F43") + ended.stdout.count("  I2") >= len(names)


def test_same_seed_in_another_process_with_other_hashes_gives_the_same_trace() -> None:
    seeds = ("--first", "1007", "--seeds", "3", "--also", "7", "--digests")
    once = json.loads(run_simulation(*seeds, hash_seed=1).stdout)
    again = json.loads(run_simulation(*seeds, hash_seed=2).stdout)
    assert once == again
    assert len(set(once.values())) == 4
