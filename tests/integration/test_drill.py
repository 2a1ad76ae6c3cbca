"""`engine drill` as a user runs it: an engine and an exchange of its own, faults, a verdict, and nothing left."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from engine.domain.drill import read_report
from tests.support.engine import EngineProcess

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


def test_drill_is_started_through_the_api_once_and_ends_with_the_engine(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    stores = {"ENGINE__DATABASE__URL": database_url, "ENGINE__REDIS__URL": redis_url}
    with EngineProcess(tmp_path, **stores) as engine:
        assert engine.get("/risk/killswitch/drills") == []
        started = engine.request("POST", "/risk/killswitch/drills")
        assert started.status_code == 202, started.text
        drill = started.json()["data"]
        assert (drill["status"], drill["report"]) == ("RUNNING", None)
        assert engine.request("POST", "/risk/killswitch/drills").status_code == 409
        assert [row["id"] for row in engine.get("/risk/killswitch/drills")] == [drill["id"]]
        assert engine.process is not None
        # the drill and at least its exchange
        family = psutil.Process(engine.process.pid)
        of_drill = engine.wait_for(
            "the processes of the drill",
            lambda: found if len(found := family.children(recursive=True)) > 1 else None,
        )
        assert engine.stop() == 0
        _, alive = psutil.wait_procs(of_drill, timeout=30)
        assert alive == []
        engine.start()
        (row,) = engine.get("/risk/killswitch/drills")
        assert (row["status"], row["why"]) == ("NOT_RUN", "the engine ended while it ran")
        actions = [(record["action"], record["subject"]) for record in engine.get("/audit", limit=100)]
        assert ("DRILL", f"drill:{drill['id']}") in actions
