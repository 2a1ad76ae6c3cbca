"""``engine killswitch`` where no engine runs: it is written to the file and holds from the next start on."""

import json
import subprocess
import sys
from pathlib import Path

from tests.support.engine import EngineProcess, market_order


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine", "killswitch", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
    )


def is_on(folder: Path) -> bool:
    scopes = json.loads(command(folder, "status", "--json").stdout)
    return bool({scope["scope"]: scope["enabled"] for scope in scopes}["global"])


def test_switch_set_while_no_engine_runs_holds_at_the_next_start(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    engine = EngineProcess(tmp_path, ENGINE__DATABASE__URL=database_url, ENGINE__REDIS__URL=redis_url)
    try:
        engine.start()
        assert engine.stop() == 0
        assert not is_on(tmp_path)
        on = command(tmp_path, "on", "--reason", "before the open")
        assert on.returncode == 0, on.stderr
        assert is_on(tmp_path)

        engine.start()
        assert engine.signal(market_order(), key="blocked").status_code == 503
        assert engine.stop() == 0
        assert is_on(tmp_path)

        assert command(tmp_path, "off", "--reason", "open").returncode == 0
        assert not is_on(tmp_path)
        engine.start()
        assert engine.signal(market_order(), key="free").status_code == 202
        actions = [record["action"] for record in engine.get("/audit", limit=100)]
        assert {"KILLSWITCH_ENABLED", "KILLSWITCH_DISABLED"} <= set(actions)
        assert engine.stop() == 0
    finally:
        engine.kill()


def test_blocking_works_over_a_damaged_line_and_letting_go_does_not(tmp_path: Path) -> None:
    assert command(tmp_path, "on").returncode == 0
    path = tmp_path / ".engine" / "state" / "kill.wal"
    path.write_bytes(b"deadbeef {}\n" + path.read_bytes())
    off = command(tmp_path, "off")
    assert off.returncode == 1
    assert "damaged" in off.stderr
    assert "Traceback" not in off.stderr
    assert command(tmp_path, "on", "--reason", "again").returncode == 0
