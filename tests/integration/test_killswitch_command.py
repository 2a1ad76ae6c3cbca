"""``engine killswitch`` where no engine runs: it is written to the file and holds from the next start on."""

import json
import signal
import subprocess
from pathlib import Path

from tests.support import forks
from tests.support.engine import EngineProcess, market_order


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return forks.command(
        "killswitch",
        *words,
        cwd=folder,
        timeout=30,
    )


def is_on(folder: Path) -> bool:
    scopes = json.loads(command(folder, "status", "--json").stdout)
    return bool({scope["scope"]: scope["enabled"] for scope in scopes}["global"])


def trips_of_every_kind(engine: EngineProcess, folder: Path) -> None:
    """With the engine up: a source alone, a mode that only grows, the signal, the file, and what was missed."""
    source = next(found for found in engine.get("/sources") if found["type"] == "sheets")["id"]
    scope = f"source:{source}"

    def switch(path: str, scope: str, **fields: object) -> None:
        answer = engine.request("POST", f"/risk/killswitch/{path}", json={"scope": scope, "reason": "t", **fields})
        assert answer.status_code == 200, answer.text

    def shown(scope: str) -> dict[str, object]:
        scopes: dict[str, dict[str, object]] = {s["scope"]: s for s in engine.get("/risk/killswitch/status")["scopes"]}
        return scopes[scope]

    before = len(engine.get("/signals/intents", limit=50))
    assert command(folder, "on", "--scope", scope, "--mode", "cancel").returncode == 0
    assert engine.signal(market_order(), key="by-source").status_code == 503
    switch("enable", scope, mode="BLOCK")
    assert (shown(scope)["mode"], shown("global")["enabled"]) == ("CANCEL", False)
    off = command(folder, "off", "--scope", scope)
    assert off.returncode == 0, off.stderr

    assert engine.process is not None
    engine.process.send_signal(signal.SIGUSR2)
    engine.wait_for("the signal to stop everything", lambda: shown("global")["enabled"])
    assert (shown("global")["mode"], shown("global")["actor"]) == ("SQUARE_OFF", "signal")
    switch("disable", "global", force=True)
    now = engine.data_dir / "kill.now"
    now.write_text(f"{scope} CANCEL seen by eye")
    engine.wait_for("the file to be taken", lambda: not now.exists())
    assert engine.signal(market_order(), key="by-file").status_code == 503
    switch("disable", scope, force=True)
    assert engine.signal(market_order(), key="after").status_code == 202
    assert len(engine.get("/signals/intents", limit=50)) == before + 1, "what was refused meanwhile is made up for"


def test_switch_set_while_no_engine_runs_holds_at_the_next_start(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    engine = EngineProcess(tmp_path, ENGINE__DATABASE__URL=database_url, ENGINE__REDIS__URL=redis_url)
    try:
        on = command(tmp_path, "on", "--reason", "before the open")
        assert on.returncode == 0, on.stderr
        assert is_on(tmp_path)

        engine.start()
        assert engine.signal(market_order(), key="blocked").status_code == 503
        assert engine.stop() == 0

        assert command(tmp_path, "off", "--reason", "open").returncode == 0
        assert not is_on(tmp_path)
        engine.start()
        assert engine.signal(market_order(), key="free").status_code == 202
        trips_of_every_kind(engine, tmp_path)
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
