"""Signal to wire while somebody attacks: what each attack does to the engine, next to the same engine left alone.

``python -m tests.benchmarks.floods [--seconds 3] [--rounds 8] [--only NAME]`` starts the real engine against the
exchange, with stores that sync. For each attack of ``tests.benchmarks.attackers``, in turns: some seconds of signals
alone, some under attack. The attackers have one core, and what nobody else wants of it. From the moment a signal is
sent to the first byte of its order on the wire, by one clock; and the share of a core that the engine uses.
Then SIGTERM with the attack going on. Prints p50 and p99 of both, their ratio, the growth of memory and how long the
end took. Exits 1 when a signal was not taken, memory grew by more than 100 MB, or the end took more than 15 s; times
are printed, not judged: a machine that does other things as well says little about p99.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.benchmarks.attackers import ATTACKS
from tests.support.engine import EngineProcess, limit_order, signed
from tests.support.exchange_process import ExchangeProcess
from tests.support.kite_mode import OPEN_LIMITS, kite_environment, set_up
from tests.support.noting_engine import LOG
from tests.support.servers import TestServers

_MOST_GROWTH_MB = 100
_MOST_END_S = 15.0
_ROOT = Path(__file__).resolve().parents[2]


class _Engine(EngineProcess):
    program = ("-m", "tests.support.noting_engine")


class Probe:
    """Sends signals one after the other and looks when each is on the wire."""

    def __init__(self, engine: EngineProcess, source: tuple[str, str]) -> None:
        self._engine = engine
        self._source = source
        self._log = engine.folder / LOG
        self._client = httpx.Client(timeout=20)
        self._number = 0
        self.failed = 0

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def run(self, seconds: float, *, per_second: float = 25.0) -> list[float]:
        """Return the milliseconds from each signal to its wire."""
        until = time.monotonic() + seconds
        took = []
        while time.monotonic() < until:
            begun = time.monotonic()
            found = self._one()
            if found is not None:
                took.append(found)
            time.sleep(max(0.0, begun + 1 / per_second - time.monotonic()))
        return took

    def _one(self) -> float | None:
        self._number += 1
        side = "BUY" if self._number % 2 else "SELL"
        raw = json.dumps(limit_order("SBIN", price=815.0, transactionType=side)).encode()
        headers = signed(raw, *self._source) | {"Idempotency-Key": f"probe-{time.time_ns()}"}
        size = self._log.stat().st_size if self._log.exists() else 0
        sent = time.time()
        try:
            answer = self._client.post(
                f"{self._engine.base_url}/api/v1/signals/sheets/webhook", content=raw, headers=headers
            )
        except httpx.TransportError:
            self.failed += 1
            return None
        if answer.status_code != 202:
            self.failed += 1
            return None
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            if self._log.exists() and self._log.stat().st_size > size:
                with self._log.open("rb") as log:
                    log.seek(size)
                    line = log.readline()
                if line.endswith(b"\n"):
                    return (float(line) - sent) * 1000
            time.sleep(0.001)
        self.failed += 1
        return None


def _stand_apart() -> None:
    """Leave the engine its processor: attackers are on machines of their own, and take none of its time."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with suppress(PermissionError):
        os.nice(15)


@contextmanager
def attacked(name: str, engine: EngineProcess, key: str) -> Iterator[subprocess.Popen[bytes]]:
    """Have *engine* attacked for the time of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.attackers", name, engine.base_url, key, engine.login()],
        cwd=_ROOT,
        stderr=subprocess.DEVNULL,
        preexec_fn=_stand_apart,
    )
    try:
        time.sleep(2.0)
        if process.poll() is not None:
            raise RuntimeError(f"the attackers of {name!r} did not start")
        yield process
    finally:
        process.kill()
        process.wait(10)


def _share(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def measure(name: str, folder: Path, servers: TestServers, *, seconds: float, rounds: int) -> dict[str, Any]:
    """Measure one attack on an engine of its own."""
    redis_url = f"{servers.redis_url}?db=1"
    servers.flush(redis_url)
    database = f"floods_{abs(hash((name, time.time_ns())))}"
    with ExchangeProcess(folder / "exchange") as exchange:
        engine = _Engine(
            folder / "engine",
            ENGINE__DATABASE__URL=servers.create_database(database),
            ENGINE__REDIS__URL=redis_url,
            ENGINE__SECURITY__ACCESS_TTL_S="86400",
            PYTHONPATH=str(_ROOT),
            **kite_environment(exchange.base_url),
            **OPEN_LIMITS,
        )
        with engine:
            key = (exchange.api_key, exchange.login(), exchange.api_secret)
            source = set_up(engine, api_key=key[0], access_token=key[1], api_secret=key[2])
            probe = Probe(engine, source)
            probe.run(3)  # warm
            assert engine.process is not None
            process = psutil.Process(engine.process.pid)
            before, most = process.memory_info().rss, 0
            busy = {True: 0.0, False: 0.0}

            def phase(is_attacked: bool) -> list[float]:
                spent, begun = sum(process.cpu_times()[:2]), time.monotonic()
                took = probe.run(seconds)
                share = (sum(process.cpu_times()[:2]) - spent) / (time.monotonic() - begun)
                busy[is_attacked] += share / rounds
                return took

            alone: list[float] = []
            under: list[float] = []
            with attacked(name, engine, source[0]) as attackers:
                for _ in range(rounds):
                    attackers.send_signal(signal.SIGSTOP)
                    time.sleep(0.3)
                    alone += phase(False)
                    attackers.send_signal(signal.SIGCONT)
                    under += phase(True)
                    most = max(most, process.memory_info().rss)
                probe.close()
                begun = time.monotonic()
                code = engine.stop()
                ended = time.monotonic() - begun
    servers.drop_database(database)
    return {
        "attack": name,
        "signals": len(alone) + len(under),
        "failed": probe.failed,
        "alone_p50_ms": round(_share(alone, 0.5), 2),
        "alone_p99_ms": round(_share(alone, 0.99), 2),
        "under_p50_ms": round(_share(under, 0.5), 2),
        "under_p99_ms": round(_share(under, 0.99), 2),
        "p99_ratio": round(_share(under, 0.99) / _share(alone, 0.99), 2),
        "alone_cpu": round(busy[False], 2),
        "under_cpu": round(busy[True], 2),
        "grew_mb": round((most - before) / 1e6, 1),
        "end_s": round(ended, 2),
        "exit_code": code,
    }


def main() -> int:
    """Run every attack, or one."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.floods", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--only", choices=sorted(ATTACKS))
    options = parser.parse_args()
    failed = False
    with suppress(PermissionError):
        # before what else runs on the machine: what is measured is the attack, and all started here inherits it
        os.nice(-15)
    with TestServers(durable=True) as servers:
        for name in [options.only] if options.only else list(ATTACKS):
            with tempfile.TemporaryDirectory(prefix="floods-") as folder:
                figures = measure(name, Path(folder), servers, seconds=options.seconds, rounds=options.rounds)
            print(json.dumps(figures), flush=True)
            failed |= bool(figures["failed"] or figures["exit_code"])
            failed |= figures["grew_mb"] > _MOST_GROWTH_MB or figures["end_s"] > _MOST_END_S
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
