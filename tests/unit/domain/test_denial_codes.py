"""Every code of a verdict is in the table that people read."""

import re
from pathlib import Path

from engine.domain.denial_codes import CODES, Code, document
from engine.domain.enums import AccountStatus
from engine.domain.limits import RiskLimits

ROOT = Path(__file__).parents[3]


def test_every_code_is_explained_once_and_mended() -> None:
    assert [entry.code for entry in CODES] == list(Code)
    assert all(entry.meaning and entry.mend for entry in CODES)


def test_page_in_the_project_is_the_one_that_the_codes_make() -> None:
    assert (ROOT / "engine" / "CODES.md").read_text() == document(), "write it anew: engine codes > engine/CODES.md"


def test_no_code_is_written_that_the_table_does_not_have() -> None:
    written = set()
    for path in [*(ROOT / "engine/domain").glob("*.py"), *(ROOT / "engine/actors").glob("*.py")]:
        written |= set(re.findall(r'Denial\(\s*code="([A-Z_]+)"', path.read_text()))
        written |= set(re.findall(r'RuleResult\(\s*"([A-Z_]+)"', path.read_text()))
    assert written <= set(Code), written - set(Code)
    assert {status.value for status in AccountStatus} - {"ACTIVE"} <= set(Code)


def test_every_limit_has_a_code_of_its_name() -> None:
    parts = {"circuit_breaker_cooldown_s", "cooldown_s", "profit_lock_trigger_amount"}
    for name in set(RiskLimits.__struct_fields__) - parts:
        assert name.upper() in set(Code), name
