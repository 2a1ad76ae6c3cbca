"""SEC-001 to SEC-110: each has a test of its number that runs the attack, or a reason why it does not apply."""

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
ALL = range(1, 111)
_NAMED = re.compile(r"^\s*(?:async )?def (test_sec_(\d{3})_\w+)\(", re.MULTILINE)
_SKIPPED = re.compile(r"@pytest\.mark\.(?:skip|xfail)\b[^\n]*\n(?:@[^\n]*\n)*(?:async )?def (test_sec_\d{3}_\w+)\(")

NOT_APPLICABLE: dict[int, str] = {}
"""Items of the list that this engine has nothing to attack for, each with the reason."""


def named() -> dict[int, set[str]]:
    """The tests of each number, as they are written in the sources."""
    found: dict[int, set[str]] = {}
    for path in TESTS.rglob("test_*.py"):
        for name, number in _NAMED.findall(path.read_text()):
            found.setdefault(int(number), set()).add(name)
    return found


def test_every_item_has_its_test_or_its_reason() -> None:
    without = set(ALL) - named().keys() - NOT_APPLICABLE.keys()
    assert without == set(), "write test_sec_NNN_..., or say in NOT_APPLICABLE why there is nothing to attack"


def test_no_item_is_both_tested_and_called_not_applicable() -> None:
    assert named().keys() & NOT_APPLICABLE.keys() == set()
    assert all(len(reason) > 20 for reason in NOT_APPLICABLE.values())


def test_no_number_is_made_up() -> None:
    assert (named().keys() | NOT_APPLICABLE.keys()) <= set(ALL)


def test_no_attack_is_skipped() -> None:
    skipped = [name for path in TESTS.rglob("test_*.py") for name in _SKIPPED.findall(path.read_text())]
    assert skipped == []
