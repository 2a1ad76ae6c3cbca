"""Trips the kill switch again and again in random states under load, and counts what still reached the exchange.

``python -m tests.benchmarks.killswitch --trips 500 --rate 50 --seed 1 --out trips.jsonl`` runs real processes in a
temporary folder. The states: healthy, PostgreSQL or Valkey or both gone or hung since a moment, six times the load,
and the engine's own restart, during which the command is given instead of the request. A line for each trip is
appended to *out* after every chunk; a second run with the same seed goes on from there, other seeds may run beside
it, and ``--sum trips.jsonl ...`` adds files up. Told is, by state: how long after it was asked for the gate was closed
(with the way of the request) and the trip answered, how many orders the engine began to send after the block and
before the release was asked for, and how many the exchange had not read yet when it came (they were on the wire). The
engine, the exchange's record and this program read one clock. Exits 1 when anything was sent after a block.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Self

import httpx
import msgspec

from engine.clock import SystemClock
from tests.support.engine import EngineProcess, limit_order, signed
from tests.support.noting_engine import LOG
from tests.support.store_stand import StoreStand
from tests.support.trio_thread import TrioThread

_LIMITS = {"ENGINE__SECURITY__ACCESS_TTL_S": "86400", "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
_SIGN_IN_EVERY_S = 200.0
_SENDERS = 4
_OVERLOAD = 6
_CHUNK = 100
_CLOCK = SystemClock()
_STATES = {
    "healthy": 4,
    "ledger gone": 2,
    "ledger hung": 2,
    "journal gone": 2,
    "journal hung": 2,
    "both gone": 2,
    "both hung": 2,
    "overload": 4,
    "restart": 1,
}


class Trip(msgspec.Struct, kw_only=True):
    """One trip. *gate_ms* is None where nothing tells when the gate closed: by command, or joined to another trip.

    *sent_before* counts the second before it was asked for, *sent_after* what the engine began to send after the block;
    *on_the_wire* what reached the exchange after it, at most *read_ms* later.
    """

    seed: int
    number: int
    state: str
    answered_ms: float
    gate_ms: float | None
    sent_before: int
    sent_after: int
    on_the_wire: int
    read_ms: float
    load: float


class Load:
    """Signals at a steady rate, half to buy and half to sell, from a few connections."""

    def __init__(self, engine: EngineProcess, source: tuple[str, str], rate: float) -> None:
        self._engine = engine
        self._source = source
        self._apart_s = _SENDERS / rate
        self._numbers = count()
        self._ended = threading.Event()
        self.answers: dict[int, int] = {}
        self.times = 1.0
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
        with httpx.Client(timeout=5) as client:
            while not self._ended.is_set():
                status = self._one(client)
                self.answers[status] = self.answers.get(status, 0) + 1
                next_at = max(next_at + self._apart_s / self.times, time.monotonic() - 0.2)
                time.sleep(max(next_at - time.monotonic(), 0 if status else 0.05))

    def _one(self, client: httpx.Client) -> int:
        number = next(self._numbers)
        side = "BUY" if number % 2 else "SELL"
        symbol, price = (("INFY", 1450.0), ("SBIN", 815.0))[number // 2 % 2]
        raw = json.dumps(limit_order(symbol, price=price, transactionType=side)).encode()
        headers = signed(raw, *self._source) | {"Idempotency-Key": f"load-{number}"}
        url = f"{self._engine.base_url}/api/v1/signals/sheets/webhook"
        try:
            return client.post(url, content=raw, headers=headers).status_code
        except httpx.TransportError:
            return 0


class _Engine(EngineProcess):
    program = ("-m", "tests.support.noting_engine")


class _Stand(StoreStand):
    engine_kind = _Engine


class Trips:
    """Blocks and lets go, noting the instants."""

    def __init__(self, stand: StoreStand, load: Load) -> None:
        self._stand = stand
        self._engine = stand.engine
        self._load = load
        self._client = httpx.Client(timeout=20)
        self._signed_in_at = 0.0
        # trip, asked, blocked, answered, until: the counts of orders come from the exchange's record later
        self.done: list[tuple[Trip, datetime, datetime, datetime, datetime]] = []

    def one(self, seed: int, number: int) -> None:
        """Bring the state about, trip in it, and let go once it is over."""
        random = Random(f"{seed} {number}")
        (state,) = random.choices(list(_STATES), weights=list(_STATES.values()))
        self._sign_in()
        time.sleep(random.uniform(0.05, 0.3))
        trip = self._restart if state == "restart" else self._trip
        with self._state(state, random):
            asked, blocked, answered = trip(random)
            if state == "restart":
                self._engine.wait_ready()
            time.sleep(random.uniform(0.1, 0.4))
            until = _CLOCK.now()
        joined = blocked < asked
        known = None if joined or state == "restart" else (blocked - asked).total_seconds() * 1000
        record = Trip(
            seed=seed,
            number=number,
            state=state,
            answered_ms=(answered - asked).total_seconds() * 1000,
            gate_ms=known,
            sent_before=0,
            sent_after=0,
            on_the_wire=0,
            read_ms=0.0,
            load=round(os.getloadavg()[0], 1),
        )
        self.done.append((record, asked, blocked, answered, until))
        self._let_go()

    def _sign_in(self) -> None:
        if time.monotonic() - self._signed_in_at > _SIGN_IN_EVERY_S:
            self._engine._token = ""
            self._engine.login()
            self._signed_in_at = time.monotonic()

    @contextmanager
    def _state(self, state: str, random: Random) -> Iterator[None]:
        stand = self._stand
        proxies = {"ledger": [stand.postgres_proxy], "journal": [stand.valkey_proxy]}
        proxies["both"] = [*proxies["ledger"], *proxies["journal"]]
        which, _, how = state.partition(" ")
        with ExitStack() as stack:
            for proxy in proxies.get(which, []):
                stack.enter_context(proxy.away() if how == "gone" else proxy.stalled())
            if state == "overload":
                self._load.times = _OVERLOAD
                stack.callback(setattr, self._load, "times", 1.0)
            if state != "restart":
                time.sleep(random.uniform(0.0, 0.5))
            yield

    def _trip(self, _: Random) -> tuple[datetime, datetime, datetime]:
        asked_at = _CLOCK.now()
        shown = self._post("enable", {"scope": "global", "reason": "a trip", "mode": "BLOCK"})
        answered_at = _CLOCK.now()
        return asked_at, datetime.fromisoformat(shown["enabledAt"]), answered_at

    def _restart(self, random: Random) -> tuple[datetime, datetime, datetime]:
        if random.random() < 0.5:
            self._engine.kill()
        else:
            self._engine.stop()
        self._signed_in_at = 0.0
        self._engine.start(wait=False)
        time.sleep(random.uniform(0.0, 3.5))
        asked_at = _CLOCK.now()
        words = ("killswitch", "on", "--mode", "BLOCK", "--data-dir", str(self._engine.data_dir))
        subprocess.run([sys.executable, "-m", "engine", *words], check=True, capture_output=True, timeout=30)
        answered_at = _CLOCK.now()
        return asked_at, answered_at, answered_at

    def _let_go(self) -> None:
        """Release every scope that is on, those that tripped by themselves too, once the stores are back."""
        self._sign_in()
        for scope in self._engine.get("/risk/killswitch/status")["scopes"]:
            if scope["enabled"]:
                body = {"scope": scope["scope"], "reason": "over", "force": True}
                self._until(lambda body=body: self._ask("disable", body).status_code == 200)  # type: ignore[misc]
        self._stand.whole()

    def _until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while not is_so():
            if time.monotonic() > deadline:
                raise SystemExit("the release is refused for half a minute")
            time.sleep(0.1)

    def _ask(self, path: str, body: dict[str, Any]) -> httpx.Response:
        url = f"{self._engine.base_url}/api/v1/risk/killswitch/{path}"
        return self._client.post(url, json=body, headers={"Authorization": f"Bearer {self._engine.login()}"})

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._ask(path, body)
        if answer.status_code != 200:
            raise SystemExit(f"{path}: {answer.status_code} {answer.text}")
        data: dict[str, Any] = answer.json()["data"]
        return data

    def judged(self) -> list[Trip]:
        """Return the trips with the orders around them, as the engine and the exchange noted them."""
        arrivals = sorted(request.at.timestamp() for request in self._stand.exchange.places())
        sends = sorted(float(line) for line in (self._engine.folder / LOG).read_text().split())

        def between(instants: list[float], since: datetime, until: datetime) -> list[float]:
            return instants[bisect_left(instants, since.timestamp()) : bisect_left(instants, until.timestamp())]

        for trip, asked, blocked, _, until in self.done:
            trip.sent_before = len(between(sends, asked - timedelta(seconds=1), asked))
            trip.sent_after = len(between(sends, blocked, until))
            late = between(arrivals, blocked, until)
            trip.on_the_wire = len(late)
            trip.read_ms = round((late[-1] - blocked.timestamp()) * 1000, 1) if late else 0.0
        return [trip for trip, *_ in self.done]


def quantile(values: Sequence[float], q: float) -> float:
    """Return the *q*-quantile of *values*, the next one above."""
    ordered = sorted(values)
    return round(ordered[min(int(len(ordered) * q), len(ordered) - 1)], 2)


def figures_of(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the 99th percentile and the greatest of *values*."""
    if not values:
        return {}
    return {"p50": quantile(values, 0.5), "p99": quantile(values, 0.99), "max": quantile(values, 1.0)}


def measure(folder: Path, numbers: range, rate: float, seed: int) -> list[Trip]:
    """Run the trips of *numbers* in *folder*."""
    with TrioThread() as thread, _Stand(folder, thread).running(**_LIMITS) as stand:
        with Load(stand.engine, stand.source, rate) as load:
            work = Trips(stand, load)
            for number in numbers:
                work.one(seed, number)
        found = work.judged()
        answers = {str(status): number for status, number in sorted(load.answers.items())}
        print(f"trips {numbers.start} to {numbers.stop - 1}: signals answered {answers}", file=sys.stderr)
    return found


def read(path: Path) -> list[Trip]:
    """Return the trips of a file; a line that a death cut short is none."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line, type=Trip) for line in lines if line.endswith(b"}")]


def summary(trips: Sequence[Trip]) -> dict[str, Any]:
    """Return the figures over all, and by state."""

    def of(chosen: Sequence[Trip]) -> dict[str, Any]:
        return {
            "trips": len(chosen),
            "ordersSentInTheSecondBefore": sum(trip.sent_before for trip in chosen),
            "ordersSentAfterBlock": sum(trip.sent_after for trip in chosen),
            "ordersOnTheWire": sum(trip.on_the_wire for trip in chosen),
            "readAtMostMsLater": max((trip.read_ms for trip in chosen), default=0.0),
            "gateClosedMs": figures_of([trip.gate_ms for trip in chosen if trip.gate_ms is not None]),
            "answeredMs": figures_of([trip.answered_ms for trip in chosen if trip.gate_ms is not None]),
            "load": figures_of([trip.load for trip in chosen]),
        }

    states = {state: of([trip for trip in trips if trip.state == state]) for state in _STATES}
    return {"all": of(trips)} | {state: figures for state, figures in states.items() if figures["trips"]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trips", type=int, default=500)
    parser.add_argument("--rate", type=float, default=50.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=list(_STATES), help="trip in this state alone")
    parser.add_argument("--out", type=Path, default=None, help="where the trips are kept, to go on after a stop")
    parser.add_argument("--sum", type=Path, nargs="+", default=(), help="only add up these files")
    chosen = parser.parse_args()
    if chosen.only:
        for state in _STATES:
            _STATES[state] = int(state == chosen.only)
    trips = [trip for path in chosen.sum for trip in read(path)]
    if not chosen.sum:
        with tempfile.TemporaryDirectory() as folder:
            out = chosen.out or Path(folder) / "trips.jsonl"
            while (held := sum(trip.seed == chosen.seed for trip in read(out))) < chosen.trips:
                numbers = range(held, min(held + _CHUNK, chosen.trips))
                found = measure(Path(folder) / str(held), numbers, chosen.rate, chosen.seed)
                with out.open("ab") as file:
                    file.write(b"".join(msgspec.json.encode(trip) + b"\n" for trip in found))
            trips = read(out)
    figures = summary(trips)
    print(json.dumps(figures))
    raise SystemExit(1 if figures["all"]["ordersSentAfterBlock"] else 0)


if __name__ == "__main__":
    main()
