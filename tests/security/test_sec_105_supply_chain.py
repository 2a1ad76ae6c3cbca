"""What comes in with the code: exact versions, licences, and nothing planted (SEC-105). Needs no network."""

import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.support.code_check import dangerous_calls, written_secrets

ROOT = Path(__file__).parents[2]
OWN = "trading-execution-engine"
LICENCES = re.compile(
    r"(?i)\b(?:MIT(?:-0)?|BSD(?:-[23]-Clause)?|Apache(?:[- ]2\.0| Software License| License)?|ISC|PSF(?:-2\.0)?"
    r"|MPL[- ]2\.0|Mozilla Public License 2\.0|Unlicense|Zope Public License|ZPL[- ]2\.1|PostgreSQL)\b"
)
COPYLEFT = re.compile(r"(?i)(?<!L)\b(?:A?GPL|GNU (?:Affero )?General Public)")
PLANTED = """
import os, pickle, subprocess, yaml
def attack(connection, name, blob):
    eval(name)
    exec(blob)
    pickle.loads(blob)
    yaml.load(blob)
    os.system("rm " + name)
    subprocess.run(name, shell=True)
    connection.execute(f"SELECT * FROM users WHERE name = '{name}'")
    connection.fetch("SELECT * FROM users WHERE name = '%s'" % name)
    connection.fetchval("SELECT " + f"{name}")
    connection.fetchrow("SELECT {}".format(name))
"""


def closure() -> dict[str, metadata.Distribution]:
    """Every distribution that the engine brings along, itself included."""
    found: dict[str, metadata.Distribution] = {}
    waiting = [OWN]
    while waiting:
        name = canonical(waiting.pop())
        if name in found:
            continue
        found[name] = metadata.distribution(name)
        for text in found[name].requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, timeout=30)
    if listed.returncode:
        pytest.skip("not a checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_sec_105_lock_file_pins_everything_that_the_engine_brings_along() -> None:
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.lock").read_text().splitlines()]
    pinned = {}
    for line in filter(None, lines):
        found = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)(?:\s*;.*)?", line)
        assert found, f"not an exact version: {line}"
        pinned[canonical(found[1])] = found[2]
    assert set(closure()) - {OWN} <= set(pinned)


def test_sec_105_licences_are_permissive() -> None:
    for name, distribution in closure().items():
        held = distribution.metadata
        told = [held.get("License-Expression") or "", (held.get("License") or "")[:200]]
        told += [text for text in held.get_all("Classifier") or () if text.startswith("License ::")]
        text = " | ".join(told)
        assert LICENCES.search(text), f"{name}: {text!r} is not a licence of the list"
        assert not COPYLEFT.search(text) or " OR " in text, f"{name}: {text!r}"


def test_sec_105_planted_calls_fail_both_checks(tmp_path: Path) -> None:
    assert len(list(dangerous_calls(PLANTED))) == 10
    path = tmp_path / "planted.py"
    path.write_text(PLANTED)
    command = [
        sys.executable,
        "-m",
        "ruff",
        "check",
        "--config",
        str(ROOT / "pyproject.toml"),
        "--output-format=json",
        path,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    rules = {finding["code"] for finding in json.loads(done.stdout)}
    assert {"S307", "S102", "S301", "S506", "S605", "S602", "S608"} <= rules


@pytest.mark.parametrize(
    "planted",
    [
        'MASTER_KEY = "q83vEjRWeJq83vEjRWeJkL0pQ7sT2uVwXyZ"',
        "{'api_secret': 'ZqW3rT5yU7iO9pA1sD2fG4hJ6kL8zX0c'}",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
        "8123456789:" + "AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0",
        "-----BEGIN " + "PRIVATE KEY-----\n" + "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n",
    ],
)
def test_sec_105_planted_secret_is_found(planted: str) -> None:
    assert list(written_secrets(planted))


def test_sec_105_source_holds_neither() -> None:
    paths = tracked()
    assert len(paths) > 300
    for path in paths:
        if path.suffix not in {".py", ".toml", ".md", ".sql", ".lock", ".example", ".html", ".js", ".gs", ""}:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.name != Path(__file__).name:
            assert list(written_secrets(text)) == [], path
        if path.suffix == ".py" and path.is_relative_to(ROOT / "engine"):
            assert list(dangerous_calls(text)) == [], path
