"""How long a kill switch takes to cancel everything and to prove flat, on a real engine and exchange.

``python -m tests.benchmarks.flatten --times 5`` trips ``SQUARE_OFF`` on an account with N working orders and M
positions, at Zerodha's pace of order calls (10 a second, 400 a minute), the exchange filling in several trades.
Times are from the block: all cancelled when the exchange has carried out the last cancel, flat when the certificate
is made. Targets (reliability.md 5.7): N/8 s + 2 s, and (N+M)/8 s + 10 s at p95. Exits 1 when one is missed or the
end is not flat.
"""

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from engine.exchange.events import OrderRequested
from engine.exchange.record import read_record
from engine.exchange.universe import NSE_EQUITIES
from tests.support.flatten_desk import Desk, flatten_desk
from tests.support.servers import TestServers

CASES = ((1, 0), (20, 0), (100, 0), (0, 5), (20, 10), (100, 20))
_PRICES = {
    line.split("|")[0]: float(line.split("|")[3])
    for line in NSE_EQUITIES.strip().splitlines()
    if 100 < float(line.split("|")[3]) < 4000
}
_MINUTE_S = 62.0


class Trip(msgspec.Struct, kw_only=True):
    """One trip: seconds from the block, cancels and closing orders at the exchange, and whether all is at its end."""

    orders: int
    positions: int
    cancelled_s: float | None
    flat_s: float
    cancels: int
    tickets: int
    protections: tuple[str, ...]
    is_flat: bool
    load: float


def set_out(desk: Desk, orders: int, positions: int, random: Random) -> None:
    """Have so many positions, and so many orders that rest far from the market."""
    symbols = random.sample(sorted(_PRICES), max(positions, min(orders, 20)))
    for symbol in symbols:
        desk.exchange.control("price", {"key": f"NSE:{symbol}", "price": f"{_PRICES[symbol]:.2f}"})
    for symbol in symbols[:positions]:
        desk.signal(symbol, round(_PRICES[symbol] * 1.004, 1), random.randint(5, 60))
    for number in range(orders):
        symbol = symbols[number % len(symbols)]
        desk.signal(symbol, round(_PRICES[symbol] * (0.97 - number / 5000), 1), random.randint(1, 9))

    def is_so() -> bool:
        held, resting = desk.at_broker()
        return len(held) == positions and resting == orders

    desk.engine.wait_for(f"{orders} orders and {positions} positions", is_so, within_s=90)


def trip_once(desk: Desk, orders: int, positions: int, random: Random) -> Trip:
    """Set out, trip, and measure."""
    set_out(desk, orders, positions, random)
    if orders + positions > 50:
        time.sleep(_MINUTE_S)  # the calls that it took to set out are not the kill switch's
    desk.kill()
    desk.flat()
    content = json.loads(desk.engine.get("/risk/killswitch/certificates")[0]["content"])
    blocked_at = datetime.fromisoformat(content["trippedAt"])
    calls = [
        event
        for event in read_record(desk.exchange.record_path)
        if isinstance(event, OrderRequested) and event.at >= blocked_at and event.accepted
    ]
    tickets = {event.order_id for event in calls if event.action == "place"}
    cancels = [event for event in calls if event.action == "cancel" and event.order_id not in tickets]
    last = max((stage.at for event in cancels for stage in event.stages), default=None)
    is_flat = desk.at_broker() == ({}, 0)
    desk.release()
    return Trip(
        orders=orders,
        positions=positions,
        cancelled_s=None if last is None else round((last - blocked_at).total_seconds(), 2),
        flat_s=round(content["timeToFlatS"], 2),
        cancels=len(cancels),
        tickets=len(tickets),
        protections=tuple(sorted({event.params["market_protection"] for event in calls if event.action == "place"})),
        is_flat=is_flat,
        load=round(os.getloadavg()[0], 1),
    )


def p95(values: list[float]) -> float:
    """Return the 95th percentile, the next one above."""
    return sorted(values)[min(int(len(values) * 0.95), len(values) - 1)]


def table(trips: list[Trip]) -> tuple[list[str], bool]:
    """Return the lines of the table, and whether every target was met."""
    lines, met = [], True
    by_case: dict[tuple[int, int], list[Trip]] = defaultdict(list)
    for trip in trips:
        by_case[trip.orders, trip.positions].append(trip)
    for (orders, positions), found in by_case.items():
        cancel_target, flat_target = orders / 8 + 2, (orders + positions) / 8 + 10
        cancelled = [trip.cancelled_s for trip in found if trip.cancelled_s is not None]
        flat = [trip.flat_s for trip in found]
        words = f"N={orders:3} M={positions:2} x {len(found)}"
        if cancelled:
            is_met = max(cancelled) <= cancel_target
            met = met and is_met
            words += f" | all cancelled at most {max(cancelled):5.2f} s, target {cancel_target:5.2f} {_said(is_met)}"
        is_met = p95(flat) <= flat_target and all(trip.is_flat for trip in found)
        met = met and is_met
        words += f" | flat p50 {sorted(flat)[len(flat) // 2]:5.2f} s, p95 {p95(flat):5.2f} s, target {flat_target:5.2f}"
        words += f" {_said(is_met)} | load {min(t.load for t in found)} to {max(t.load for t in found)}"
        lines.append(words)
    return lines, met


def _said(is_met: bool) -> str:
    return "OK" if is_met else "MISSED"


def measure(folder: Path, servers: TestServers, cases: list[tuple[int, int]], times: int, seed: int) -> list[Trip]:
    """Run every case *times* times on one desk."""
    trips: list[Trip] = []
    random = Random(seed)
    with flatten_desk(folder, servers, "--partial-fills", orders_per_second=10, orders_per_minute=400) as desk:
        for _ in range(times):
            for orders, positions in cases:
                trips.append(trip_once(desk, orders, positions, random))
                print(msgspec.json.encode(trips[-1]).decode(), flush=True)
    return trips


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", action="append", metavar="N,M")
    given = parser.parse_args()
    cases: list[Any] = [tuple(int(word) for word in case.split(",")) for case in given.case or ()] or list(CASES)
    with TestServers(durable=True) as servers, tempfile.TemporaryDirectory(prefix="flatten-") as folder:
        trips = measure(Path(folder) / "desk", servers, cases, given.times, given.seed)
    lines, met = table(trips)
    print(*lines, sep="\n")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
