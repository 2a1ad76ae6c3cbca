"""`engine bench` as a user runs it: two figures of an engine of its own, and nothing left."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
def test_bench_measures_an_engine_of_its_own_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "engine.toml").write_text("[server]\nport = 'not for the benchmark'\n")
    home = tmp_path / "home"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "engine", "bench", "--seconds", "2", "--rate", "20", "--json"),
            *("--data-dir", str(home)),
        ],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "ENGINE__BROKER__MODE": "nonsense"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    latency, throughput = found["rows"]
    assert latency["figures"]["sent"]["median"] == 40
    assert 0 < latency["figures"]["order_p50_ms"]["median"] <= latency["figures"]["order_p99_ms"]["median"]
    assert throughput["figures"]["signals_per_s"]["median"] > 0
    for row in found["rows"]:
        for name in ("lost", "doubled", "foreign"):
            assert row["figures"][name]["greatest"] == 0, row["shown"]
    assert found["fdatasync_p50_ms"] > 0
    assert list(home.iterdir()) == []
