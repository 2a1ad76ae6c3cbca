"""Signals to orders under load, measured from outside by the comparison tools beside the project.

Prints figures, asserts correctness only: nothing lost, nothing doubled. Run it alone with
``pytest tests/benchmarks -s``.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.engine import EngineProcess
from tests.support.kite_mode import OPEN_LIMITS, kite_environment, set_up
from tests.support.ports import free_port

TOOLS = Path(__file__).resolve().parents[3] / "shared" / "bench"

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.skipif(not (TOOLS / "storm.py").exists(), reason="the comparison tools are not beside the project"),
]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    port, log = free_port(), tmp_path / "orders.jsonl"
    process = subprocess.Popen(
        [sys.executable, str(TOOLS / "fake_kite.py"), "--port", str(port), "--log", str(log)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(100):
        try:
            httpx.get(f"{url}/_control/stats", timeout=1)
            break
        except httpx.TransportError:
            time.sleep(0.05)
    yield url, log
    process.terminate()
    process.wait(10)


@pytest.fixture
def engine(tmp_path: Path, broker: tuple[str, Path], database_url: str, redis_url: str) -> Iterator[EngineProcess]:
    environment = kite_environment(broker[0]) | OPEN_LIMITS
    with EngineProcess(
        tmp_path / "engine",
        ENGINE__DATABASE__URL=database_url,
        ENGINE__REDIS__URL=redis_url,
        **environment,
    ) as running:
        yield running


def storm(engine: EngineProcess, broker: tuple[str, Path], source: tuple[str, str], *load: str) -> dict[str, Any]:
    done = subprocess.run(
        [
            sys.executable,
            str(TOOLS / "storm.py"),
            *("--url", engine.base_url, "--kite", broker[0], "--kite-log", str(broker[1])),
            *("--key", source[0], "--secret", source[1], "--sign", "ts.body", "--reset", "--grace", "10"),
            *load,
        ],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:] or done.stdout[-2000:]
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_storm_open_and_closed_loop_loses_and_doubles_nothing(
    engine: EngineProcess, broker: tuple[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source = set_up(engine)
    loads = {
        "100/s open loop": ("--rate", "100", "--duration", "5", "--warmup", "300"),
        "closed loop, 32 connections": ("--closed-loop", "--duration", "5", "--connections", "32"),
    }
    for name, load in loads.items():
        figures = storm(engine, broker, source, *load)
        with capsys.disabled():
            print(f"\n{name}: {json.dumps(figures)}")
        assert figures["lost"] == 0
        assert figures["duplicates"] == 0
        assert figures["wrong_fields"] == 0
