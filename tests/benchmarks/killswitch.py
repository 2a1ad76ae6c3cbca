"""Trips the kill switch again and again under load, and counts what still reached the exchange.

``python -m tests.benchmarks.killswitch --trips 500 --rate 50`` starts an exchange and an engine of its own in a
temporary folder and prints one JSON object: how long after it was asked for the gate was closed and the trip answered,
both with the load of signals in front of it, how many orders reached the exchange
after the answer of a trip and before the release was asked for, and how many signals were taken meanwhile. The
exchange's record and this program read one clock. Exits 1 when anything came after a block.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Self

import httpx

from engine.clock import SystemClock
from tests.support.engine import EngineProcess, limit_order, signed
from tests.support.exchange_process import ExchangeProcess
from tests.support.kite_mode import OPEN_LIMITS, kite_environment, set_up

_LIMITS = {"ENGINE__LIMITS__API_PER_MINUTE": "1000000", "ENGINE__SECURITY__ACCESS_TTL_S": "86400"}
_SIGN_IN_EVERY_S = 200.0
_SENDERS = 4
_CLOCK = SystemClock()


class Load:
    """Signals at a steady rate, half to buy and half to sell, from a few connections."""

    def __init__(self, engine: EngineProcess, source: tuple[str, str], rate: float) -> None:
        self._engine = engine
        self._source = source
        self._apart_s = _SENDERS / rate
        self._numbers = count()
        self._ended = threading.Event()
        self.answers: dict[int, int] = {}
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(_SENDERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(20)

    def _send(self) -> None:
        next_at = time.monotonic()
        with httpx.Client(timeout=10) as client:
            while not self._ended.is_set():
                number = next(self._numbers)
                side = "BUY" if number % 2 else "SELL"
                symbol, price = (("INFY", 1450.0), ("SBIN", 815.0))[number // 2 % 2]
                raw = json.dumps(limit_order(symbol, price=price, transactionType=side)).encode()
                headers = signed(raw, *self._source) | {"Idempotency-Key": f"load-{number}"}
                url = f"{self._engine.base_url}/api/v1/signals/sheets/webhook"
                status = client.post(url, content=raw, headers=headers).status_code
                self.answers[status] = self.answers.get(status, 0) + 1
                next_at += self._apart_s
                time.sleep(max(next_at - time.monotonic(), 0))


class Trips:
    """Blocks and lets go, noting both instants."""

    def __init__(self, engine: EngineProcess, random: Random) -> None:
        self._engine = engine
        self._random = random
        self._client = httpx.Client(timeout=20)
        self._signed_in_at = 0.0
        self.took_ms: list[float] = []
        self.gate_ms: list[float] = []
        self.blocked: list[tuple[datetime, datetime]] = []

    def one(self) -> None:
        if time.monotonic() - self._signed_in_at > _SIGN_IN_EVERY_S:
            self._engine._token = ""
            self._engine.login()
            self._signed_in_at = time.monotonic()
        time.sleep(self._random.uniform(0.05, 0.3))
        began, asked_at = time.perf_counter(), _CLOCK.now()
        shown = self._post("enable", {"scope": "global", "reason": "a trip", "mode": "BLOCK"})
        self.took_ms.append((time.perf_counter() - began) * 1000)
        closed_at = datetime.fromisoformat(shown["enabledAt"])
        self.gate_ms.append((closed_at - asked_at).total_seconds() * 1000)
        since = _CLOCK.now()
        time.sleep(self._random.uniform(0.1, 0.4))
        self.blocked.append((since, _CLOCK.now()))
        self._post("disable", {"scope": "global", "reason": "over", "force": True})

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        url = f"{self._engine.base_url}/api/v1/risk/killswitch/{path}"
        headers = {"Authorization": f"Bearer {self._engine.login()}"}
        answer = self._client.post(url, json=body, headers=headers)
        if answer.status_code != 200:
            raise SystemExit(f"{path}: {answer.status_code} {answer.text}")
        data: dict[str, Any] = answer.json()["data"]
        return data


def quantile(values: Sequence[float], q: float) -> float:
    """Return the *q*-quantile of *values*, the next one above."""
    ordered = sorted(values)
    return round(ordered[min(int(len(ordered) * q), len(ordered) - 1)], 2)


def figures_of(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the greatest of *values*."""
    return {"p50": quantile(values, 0.5), "p99": quantile(values, 0.99), "max": quantile(values, 1.0)}


def measure(folder: Path, trips: int, rate: float, seed: int) -> dict[str, Any]:
    """Run it all in *folder*; return the figures."""
    with ExchangeProcess(folder / "exchange") as exchange:
        environment = kite_environment(exchange.base_url) | OPEN_LIMITS | _LIMITS
        with EngineProcess(folder / "engine", **environment) as engine:
            source = set_up(
                engine, api_key=exchange.api_key, api_secret=exchange.api_secret, access_token=exchange.login()
            )
            work = Trips(engine, Random(seed))
            with Load(engine, source, rate) as load:
                for number in range(trips):
                    work.one()
                    if (number + 1) % 50 == 0:
                        print(f"{number + 1} trips", file=sys.stderr)
            engine.stop()
        arrivals = [request.at for request in exchange.places()]
    late = [at for at in arrivals if any(since < at < until for since, until in work.blocked)]
    return {
        "trips": trips,
        "signalsPerSecond": rate,
        "answers": {str(status): number for status, number in sorted(load.answers.items())},
        "ordersAtExchange": len(arrivals),
        "ordersAfterBlock": len(late),
        "gateClosedMs": figures_of(work.gate_ms),
        "answeredMs": figures_of(work.took_ms),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trips", type=int, default=500)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), chosen.trips, chosen.rate, chosen.seed)
    print(json.dumps(figures))
    raise SystemExit(1 if figures["ordersAfterBlock"] else 0)


if __name__ == "__main__":
    main()
