"""Orders a second through ``engine exchange``, each on its fsynced record before it is answered.

Prints figures and the ratio to the floor of `order_floor`, measured in the same run by the same driver; asserts
correctness only. Run it alone: ``pytest -n0 -s tests/benchmarks/test_exchange_speed.py``.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.exchange_process import ExchangeProcess

pytestmark = pytest.mark.benchmark
HERE = Path(__file__).parent
CONNECTIONS = 32
SECONDS = 6.0


def load(url: str, server: psutil.Process, key: str = "k", token: str = "t") -> dict[str, Any]:
    before = server.cpu_times()
    done = subprocess.run(
        [sys.executable, str(HERE / "order_load.py"), url, key, token, str(CONNECTIONS), str(SECONDS)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    after = server.cpu_times()
    figures: dict[str, Any] = json.loads(done.stdout)
    spent = after.user + after.system - before.user - before.system
    return figures | {"server_cpu_ms": round(spent / figures["orders"] * 1000, 4)}


@contextmanager
def floor(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    program = [sys.executable, str(HERE / "order_floor.py"), str(folder / "floor.log")]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip(), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def test_exchange_takes_orders_at_speed_and_records_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with floor(tmp_path) as (url, process):
        least = load(url, process)
    with ExchangeProcess(tmp_path / "exchange") as exchange:
        token = exchange.login()
        figures = load(exchange.base_url, psutil.Process(exchange.pid), exchange.api_key, token)
        headers = {"Authorization": f"token {exchange.api_key}:{token}"}
        with httpx.Client(base_url=exchange.base_url, headers=headers, timeout=30) as client:
            rows = client.get("/orders").json()["data"]
            began = time.perf_counter()
            client.get("/orders")
            read_ms = (time.perf_counter() - began) * 1000
    with capsys.disabled():
        print(f"\nfloor:    {json.dumps(least)}")
        print(f"exchange: {json.dumps(figures)}")
        print(f"exchange / floor: {figures['per_s'] / least['per_s']:.2f} in orders a second, ", end="")
        print(f"{figures['server_cpu_ms'] / least['server_cpu_ms']:.1f} in CPU an order")
        print(f"GET /orders of {len(rows)} rows: {read_ms:.0f} ms")
    assert figures["statuses"] == {"200": figures["orders"]}
    recorded = [place.order_id for place in exchange.places() if place.accepted]
    assert len(recorded) == len(set(recorded)) == figures["orders"]
    assert [row["order_id"] for row in rows] == recorded
