"""``engine run --demo``: something to look at without sending anything."""

import subprocess
import sys
from pathlib import Path

from tests.support.engine import EngineProcess


def test_demo_feeds_signals_that_become_filled_orders(tmp_path: Path, database_url: str, redis_url: str) -> None:
    engine = EngineProcess(tmp_path, "--demo", ENGINE__DATABASE__URL=database_url, ENGINE__REDIS__URL=redis_url)
    with engine:
        filled = engine.wait_for(
            "a sample signal filling",
            lambda: [order for order in engine.get("/executions/orders") if order["status"] == "COMPLETE"],
        )
        assert filled[0]["quantity"] == 1
        assert engine.stop() == 0


def test_demo_is_refused_where_real_orders_would_go_out(tmp_path: Path) -> None:
    (tmp_path / "engine.toml").write_text('[broker]\nmode = "kite"\n')
    done = subprocess.run(
        [sys.executable, "-m", "engine", "run", "--demo"], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 2
    assert "--demo" in done.stderr
