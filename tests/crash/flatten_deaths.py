"""SIGKILL at every point of the kill sequence of a real engine at a real exchange, and how each ends.

python -m tests.crash.flatten_deaths --point K3.before_cancel --point K4.placed --times 5 --seed 1

Without --point all of them. Each death has positions in several symbols, resting orders and partial fills; the next
life has to prove flat by itself. The exchange's record is the judge: nothing closed past zero, nothing bought or
opened after the block, no ticket twice. One JSON line a death, a table at the end; exits 1 when anything is found.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random

import httpx

from engine.clock import SystemClock
from engine.exchange.events import OrderRequested, Traded
from engine.exchange.record import read_record
from tests.support.flatten_desk import Desk, flatten_desk
from tests.support.servers import TestServers

POINTS = (
    *("K0.blocked", "K1.before_file", "K1.after_file", "K1.recorded", "K2.begun", "K3.before_cancel", "K3.cancelled"),
    *("K4.positions_read", "K4.written_ahead", "K4.placed", "K5.looked", "K6.flat", "K6.certified"),
)
# points that are passed once for each order, position or look
_OFTEN = {"K3.before_cancel": 3, "K3.cancelled": 3, "K4.positions_read": 3, "K4.placed": 2, "K5.looked": 3}
_SYMBOLS = {"SBIN": 800.0, "INFY": 1400.0, "TCS": 3890.0}
_SLOW_S = 40.0
_CLOCK = SystemClock()


@dataclass
class Death:
    """How one went: *findings* are what must not be."""

    point: str
    hit: int
    flat_after_s: float = 0.0
    asked_again: bool = False
    tickets: int = 0
    findings: list[str] = field(default_factory=list)


def die_once(desk: Desk, point: str, hit: int, random: Random, following: tuple[str, int]) -> Death:
    """Fill the account, trip, die at the *hit*-th passing of *point*, start again and judge the end.

    The life after it is to die at *following*.
    """
    death = Death(point, hit)
    held: dict[str, int] = {}
    for symbol in random.sample(sorted(_SYMBOLS), 2):
        last, quantity = _SYMBOLS[symbol], random.randint(2, 40)
        desk.hold(symbol, last, quantity)
        desk.signal(symbol, round(last * 0.96, 1), random.randint(1, 9))
        held[symbol] = quantity
    desk.engine.wait_for("the resting orders", lambda: desk.at_broker()[1] == 4)
    asked_at = _CLOCK.now()
    desk.engine.arm()
    answered = True
    try:
        desk.kill()
    except httpx.TransportError:
        answered = False
    desk.await_death(f"{point} x {hit}", within_s=40)
    desk.engine.plan(*following)
    began = time.monotonic()
    desk.engine.start()
    if not answered and not desk.scope()["enabled"]:
        death.asked_again = True
        desk.kill()  # it had died before the block was on disk, and had promised nothing
    scope = desk.flat()
    death.flat_after_s = round(time.monotonic() - began, 1)
    death.findings += judge(desk, scope, held, asked_at, death)
    if death.flat_after_s > _SLOW_S:
        words = ("flatten.", "position", "order.unknown", "unreadable", "kill.")
        told = [line for line in [*desk.engine.lines, *desk.engine.errors] if any(word in line for word in words)]
        print(f"slow: {vars(death)}", json.dumps(scope), *told[-60:], sep="\n", file=sys.stderr)
    desk.release()
    return death


def judge(desk: Desk, scope: dict[str, object], held: dict[str, int], asked_at: datetime, death: Death) -> list[str]:
    """Return what the exchange's record, its books and the certificate have against the end."""
    found = []
    if desk.at_broker() != ({}, 0):
        found.append(f"called flat, and the broker has {desk.at_broker()}")
    (newest, *_) = desk.engine.get("/risk/killswitch/certificates")
    if not (newest["valid"] and newest["outcome"] == "FLAT_VERIFIED" and scope["flat"]):
        found.append(f"certificate {newest['outcome']}, valid: {newest['valid']}, flat: {scope['flat']}")
    nets: Counter[str] = Counter()
    closed: Counter[str] = Counter()
    tags: Counter[str] = Counter()
    for event in read_record(desk.exchange.record_path):
        if isinstance(event, Traded):
            trade = event.trade
            is_sale = trade.transaction_type == "SELL"
            nets[trade.tradingsymbol] += -trade.quantity if is_sale else trade.quantity
            if nets[trade.tradingsymbol] < 0:
                found.append(f"OVER-FLATTEN: {trade.tradingsymbol} went to {nets[trade.tradingsymbol]}")
            if event.at > asked_at and is_sale:
                closed[trade.tradingsymbol] += trade.quantity
        elif isinstance(event, OrderRequested) and event.action == "place" and event.at > asked_at:
            death.tickets += 1
            tags[event.tag_sent or ""] += event.accepted
            if event.params["transaction_type"] != "SELL":
                found.append(f"ORDER AFTER BLOCK: {event.params}")
    found += [f"DOUBLED: tag {tag} {count} times" for tag, count in tags.items() if count > 1]
    if closed != Counter(held):
        found.append(f"held {held}, closed {dict(closed)}")
    return found


def run(folder: Path, servers: TestServers, points: list[str], times: int, seed: int) -> list[Death]:
    """Run every point *times* times on one desk, until one has findings."""
    plan = []
    for number in range(times):
        for point in points:
            random = Random(f"{seed} {number} {point}")
            plan.append((point, random.randint(1, _OFTEN.get(point, 1)), random))
    deaths = []
    with flatten_desk(folder, servers, "--partial-fills", orders_per_second=10) as desk:
        desk.engine.kill()
        desk.engine.plan(*plan[0][:2])
        desk.engine.start()
        for (point, hit, random), following in zip(plan, [*plan[1:], ("", 1, None)], strict=True):
            try:
                deaths.append(die_once(desk, point, hit, random, following[:2]))
            except (AssertionError, httpx.HTTPError) as error:
                deaths.append(Death(point, hit, findings=[f"{type(error).__name__}: {error}"]))
                print(*desk.engine.errors[-30:], *desk.engine.lines[-30:], sep="\n", file=sys.stderr)
            print(json.dumps(vars(deaths[-1])), flush=True)
            if deaths[-1].findings:
                return deaths
    return deaths


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--point", action="append", choices=POINTS)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with TestServers(durable=True) as servers, tempfile.TemporaryDirectory(prefix="deaths-") as folder:
        deaths = run(Path(folder) / "desk", servers, given.point or list(POINTS), given.times, given.seed)
    by_point = defaultdict(list)
    for death in deaths:
        by_point[death.point].append(death)
    for point, ended in by_point.items():
        bad = sum(bool(death.findings) for death in ended)
        took = sorted(death.flat_after_s for death in ended)
        print(
            f"{point:20} {len(ended):3} deaths, {bad} with findings; flat {took[len(took) // 2]:.1f} s after the start "
            f"(median), {took[-1]:.1f} s (most); {sum(death.tickets for death in ended)} closing orders, "
            f"{sum(death.asked_again for death in ended)} asked again"
        )
    print(f"load average {os.getloadavg()}")
    return 1 if any(death.findings for death in deaths) else 0


if __name__ == "__main__":
    raise SystemExit(main())
