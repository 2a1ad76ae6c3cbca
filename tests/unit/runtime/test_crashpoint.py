"""Crash points: nothing happens at one unless a hook is there, and every name stands for one place."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import engine
from engine.runtime import crashpoint as module
from engine.runtime.crashpoint import POINTS, crashpoint, install

SOURCE = Path(engine.__file__).parent


@pytest.fixture(autouse=True)
def _no_hook_stays() -> Iterator[None]:
    yield
    install(None)


def test_crashpoint_without_a_hook_does_nothing() -> None:
    assert module._hook is None
    crashpoint("S1.taken")


def test_crashpoint_calls_the_hook_with_its_name() -> None:
    passed: list[str] = []
    install(passed.append)
    crashpoint("S1.taken")
    install(None)
    crashpoint("S2.after_append")
    assert passed == ["S1.taken"]


def test_every_point_stands_in_the_source_once_and_no_other_name_does() -> None:
    placed: Counter[str] = Counter()
    for path in SOURCE.rglob("*.py"):
        if path.name == "crashpoint.py":
            continue
        for argument in re.findall(r"\bcrashpoint\(([^)]*)\)", path.read_text()):
            name = re.fullmatch(r'"([^"]+)"', argument)
            assert name is not None, f"{path.name}: the name must be written out: {argument}"
            placed[name[1]] += 1
    assert placed == Counter(POINTS)
