"""`engine drill` as a user runs it: an engine and an exchange of its own, faults, a verdict, and nothing left."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

from engine.domain.drill import read_report

ONE_REFUSED = "on=place,takes=never,answer=bad_input,symbol=SBIN,count=1"


def test_drill_blocks_flattens_and_proves_it_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "engine.toml").write_text("[server]\nport = 'not for the drill'\n")
    home = tmp_path / "home"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "engine", "drill", "--json", "--orders", "2", "--positions", "2"),
            *("--faults", ONE_REFUSED, "--faults", "on=orders,answer=partial,count=1", "--data-dir", str(home)),
        ],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "ENGINE__BROKER__MODE": "nonsense"},
        capture_output=True,
        text=True,
        timeout=150,
    )
    report = read_report(done.stdout)
    assert report is not None, done.stderr
    assert (done.returncode, report.verdict.value, report.problems) == (0, "PASS", ())
    assert json.loads(done.stdout)["certificateVerified"] is True
    assert (report.orders_after_block, report.over_flattens, report.positions_left) == (0, 0, ())
    assert [fault.hits for fault in report.faults] == [1, 1]
    assert (report.positions, report.exits_sent, report.exits_refused) == (2, 3, 1)
    assert report.orders >= 2
    assert report.signals.after_block > 0
    assert None not in (report.time_to_block_s, report.time_to_cancelled_s, report.time_to_flat_s)
    assert list(home.iterdir()) == []


def test_drill_that_is_interrupted_removes_what_it_made(tmp_path: Path) -> None:
    drill = subprocess.Popen(
        [sys.executable, "-m", "engine", "drill", "--data-dir", str(tmp_path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not any("exchange ready" in log.read_text() for log in tmp_path.glob("*/exchange.log")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    drill.send_signal(signal.SIGINT)
    _, errors = drill.communicate(timeout=60)
    assert drill.returncode == 1
    assert "interrupted" in errors
    assert list(tmp_path.iterdir()) == []
