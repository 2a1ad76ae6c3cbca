"""The host's time zone changes nothing (reliability.md F37): same days, same stamps, same tests green."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ZONES = ("UTC", "Asia/Kolkata", "America/New_York", "Pacific/Auckland")
SUITES = (
    "tests/unit/domain/test_calendar.py",
    "tests/unit/domain/test_pacing.py",
    "tests/unit/exchange/test_sessions.py",
    "tests/unit/exchange/test_ratelimit.py",
)


def start(zone: str, *words: str) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")} | {"TZ": zone}
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_days_stamps_and_hours_are_the_same_in_every_zone() -> None:
    running = {zone: start(zone, "tests/support/zone_scenario.py") for zone in ZONES}
    printed = {zone: process.communicate(timeout=60)[0] for zone, process in running.items()}
    found = {zone: json.loads(text) for zone, text in printed.items()}
    # the zones were really in force
    assert len({tuple(each["zone"]) for each in found.values()}) == len(ZONES)
    first = found["UTC"]["outcome"]
    assert len(first["days"]) > 500
    for zone in ZONES:
        differing = [name for name in first if found[zone]["outcome"][name] != first[name]]
        assert differing == [], zone


def test_suites_about_time_pass_in_another_zone() -> None:
    words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-n", "0", *SUITES)
    process = start("Pacific/Auckland", *words)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0, said[-2000:]
    assert " passed" in said
