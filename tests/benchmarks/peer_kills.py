"""Two engines killed under the same load: ``python -m tests.benchmarks.peer_kills --kills 25 --rate 50 --seed 1``.

This engine and the Node design of the comparison tools beside the project, one after the other, on one
PostgreSQL and one Valkey that sync everything and are never killed. Each gets the same signals at the same
rate and SIGKILL at the same random times after it was ready, and is started again at once. A signal is sent
once. What became of it is read from the broker's log; an engine that says by itself, in words, that a signal
was not placed and why has *named* it, everything else that was accepted and is not at the broker is lost.
Needs Node 20, npm and those tools; without them it says so and ends with 2.
"""

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx

from tests.benchmarks.contenders import Broker, Contender, Node, Ours, stores, why_not

_SYMBOLS = (
    *("RELIANCE", "TCS", "INFY", "HDFCBANK", "ICICIBANK", "SBIN", "ITC", "LT", "AXISBANK", "KOTAKBANK"),
    *("BHARTIARTL", "HINDUNILVR", "BAJFINANCE", "MARUTI", "ASIANPAINT", "TITAN", "SUNPHARMA", "WIPRO", "HCLTECH"),
    "NTPC",
)
_CONNECTIONS = 16
_QUIET_S = 90.0  # three of the peer's looks for stalled jobs
_SETTLED_WITHIN_S = 420.0


@dataclass
class Sent:
    """One signal and the intent that it was answered with, empty when it was not accepted."""

    symbol: str
    side: str
    price: str
    intent: str = ""


class Load:
    """Signals at a steady rate, due whether or not anybody listens; each is sent once."""

    def __init__(self, contender: Contender, rate: float) -> None:
        self._contender = contender
        self._rate = rate
        self.sent: list[Sent] = []
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._began = time.monotonic()
        self._threads = [threading.Thread(target=self._run) for _ in range(_CONNECTIONS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send no more."""
        self._ending.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self) -> None:
        with httpx.Client(timeout=15) as client:
            while True:
                with self._lock:
                    number = len(self.sent)
                    paise = 100_000 + 5 * number
                    one = Sent(
                        _SYMBOLS[(number // 2) % len(_SYMBOLS)],
                        "SELL" if number & 1 else "BUY",
                        f"{paise // 100}.{paise % 100:02d}",
                    )
                    self.sent.append(one)
                if self._ending.wait(max(0.0, self._began + number / self._rate - time.monotonic())):
                    return
                self._post(one, client)

    def _post(self, one: Sent, client: httpx.Client) -> None:
        raw = (
            f'{{"symbol":"{one.symbol}","exchange":"NSE","transactionType":"{one.side}","quantity":1,'
            f'"price":{one.price},"orderType":"LIMIT","productType":"MIS"}}'
        ).encode()
        headers = self._contender.headers(raw) | {"Idempotency-Key": str(uuid4())}
        try:
            answer = client.post(f"{self._contender.url}/api/v1/signals/sheets/webhook", content=raw, headers=headers)
        except httpx.TransportError:
            return
        if answer.is_success:
            one.intent = answer.json()["data"]["intentId"]


@dataclass
class Result:
    """What the kills of one engine left."""

    name: str
    kills: int = 0
    sent: int = 0
    acked: int = 0
    placed: int = 0
    lost: int = 0
    doubled: int = 0
    unacked_placed: int = 0
    named: Counter[str] = field(default_factory=Counter)
    ready_s: list[float] = field(default_factory=list)


def kill_under_load(contender: Contender, *, kills: int, rate: float, seed: int, longest_s: float) -> Result:
    """Send, kill and start again *kills* times; return what the broker has of what was accepted."""
    rng = random.Random(seed)
    result = Result(contender.name, kills=kills)
    contender.prepare()
    contender.start()
    load = Load(contender, rate)
    try:
        for _ in range(kills):
            time.sleep(rng.uniform(0.5, longest_s))
            contender.kill()
            began = time.monotonic()
            contender.start()
            result.ready_s.append(time.monotonic() - began)
        time.sleep(1.0)
        load.stop()
        _wait_until_quiet(contender)
        states = contender.states()
    finally:
        load.stop()
        contender.kill()
    taken = contender.broker.close()
    for one in load.sent:
        times = taken[one.symbol, one.side, one.price]
        result.sent += 1
        result.doubled += max(0, times - 1)
        if not one.intent:
            result.unacked_placed += min(times, 1)
            continue
        result.acked += 1
        if times:
            result.placed += 1
        elif one.intent in states:
            result.named[states[one.intent]] += 1
        else:
            result.lost += 1
    return result


def _wait_until_quiet(contender: Contender) -> None:
    deadline = time.monotonic() + _SETTLED_WITHIN_S
    seen, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        now = contender.broker.received()
        if now != seen:
            seen, since = now, time.monotonic()
        if time.monotonic() - since > _QUIET_S and contender.is_settled():
            return
        time.sleep(1.0)


def table(results: list[Result]) -> str:
    """Return the results side by side, as Markdown."""
    lines = [
        "| engine | kills | sent | accepted | lost | doubled | named as not placed | ready p50 / max s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        ready = f"{statistics.median(one.ready_s):.1f} / {max(one.ready_s):.1f}"
        lines.append(
            f"| {one.name} | {one.kills} | {one.sent} | {one.acked} | {one.lost} | {one.doubled}"
            f" | {sum(one.named.values())} | {ready} |"
        )
    for one in results:
        lines += [f"{one.name}: {times} {reason}" for reason, times in one.named.most_common(8)]
        lines.append(f"{one.name}: {one.unacked_placed} placed whose sender got no answer")
    return "\n".join(lines)


def main() -> int:
    """Run what was asked for and print the table; returns 1 when this engine lost or doubled anything."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peer_kills", description=__doc__)
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--rate", type=float, default=50.0, help="signals a second")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest-s", type=float, default=3.0, help="the longest that an engine lives once ready")
    parser.add_argument("--delay-ms", type=float, default=40.0, help="the broker's time to answer an order")
    parser.add_argument("--only", choices=("ours", "peer"))
    asked = parser.parse_args()
    if (reason := why_not()) is not None:
        print(f"not compared: {reason}")
        return 2
    contenders: list[type[Contender]] = [Node, Ours]
    if asked.only:
        contenders = [Ours] if asked.only == "ours" else [Node]
    results = []
    for kind in contenders:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peer-kills-")))
            folder.chmod(0o755)
            where = stack.enter_context(stores(folder))
            contender = kind(folder, where, Broker(folder, delay_ms=asked.delay_ms))
            load = {"kills": asked.kills, "rate": asked.rate, "seed": asked.seed, "longest_s": asked.longest_s}
            results.append(kill_under_load(contender, **load))
            print(table(results[-1:]), flush=True)
    print(table(results))
    return 1 if any(one.lost or one.doubled for one in results if one.name == Ours.name) else 0


if __name__ == "__main__":
    sys.exit(main())
