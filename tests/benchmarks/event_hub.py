"""What the event stream costs the path of orders: microseconds for a ledger's entry, with and without readers.

Run: python -m tests.benchmarks.event_hub. Prints figures, asserts none.
"""

import statistics
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import trio
import trio.lowlevel
import trio.testing

from engine.actors.event_hub import EventHub
from engine.actors.ledger_entry import LedgerEntry
from engine.domain.enums import OrderStatus, Role
from engine.domain.stream_event import StreamType
from engine.http.event_stream import EventStreamReader, StreamSeats
from engine.http.permissions import Principal
from engine.http.views.stream import EventViews
from tests.support.ledger_rows import Trader, order_event

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
ENTRIES, BATCH, READERS = 20_000, 16, 20


class Clock:
    def now(self) -> datetime:
        return NOW

    def boottime_ns(self) -> int:
        return 0


def _none(*_: Any) -> None:
    return None


def reader(hub: EventHub, owner: UUID, seats: StreamSeats) -> EventStreamReader:
    caller = Principal(user_id=owner, email="a@b.c", name="A", role=Role.TRADER, session_id=uuid4(), signed_in_at=NOW)
    return EventStreamReader(
        hub,
        EventViews(kill_view=_none, pnl_view=_none, instrument=_none),
        caller=caller,
        again=lambda: caller,
        place=hub.ring.place(None),
        had_place=False,
        kinds=frozenset(StreamType),
        account_id=None,
        seats=seats,
        draining=trio.Event(),
        clock=Clock(),
    )


async def measure(readers: int) -> tuple[list[float], float, int]:
    """Return microseconds of each call for an entry, seconds of the whole, and bytes that went to readers."""
    trader = Trader()
    hub = EventHub(1, owner_of=lambda _kind, _id: trader.user_id, max_lag=10_000)
    seats = StreamSeats()
    entries = []
    for _ in range(ENTRIES):
        order = trader.order(status=OrderStatus.OPEN)
        entries.append(LedgerEntry(order_updates=(order,), order_events=(order_event(order, OrderStatus.OPEN),)))
    costs: list[float] = []
    sent = 0

    async def read() -> None:
        nonlocal sent
        async for chunk in reader(hub, trader.user_id, seats):
            sent += len(chunk)

    async with trio.open_nursery() as nursery:
        for _ in range(readers):
            nursery.start_soon(read)
        await trio.testing.wait_all_tasks_blocked()
        began = time.perf_counter()
        for start in range(0, ENTRIES, BATCH):
            batch = entries[start : start + BATCH]
            at = time.perf_counter_ns()
            hub.committed(batch)
            costs.append((time.perf_counter_ns() - at) / 1000 / len(batch))
            await trio.lowlevel.checkpoint()
        took = time.perf_counter() - began
        await trio.sleep(0.5)
        nursery.cancel_scope.cancel()
    return costs, took, sent


def main() -> None:
    for readers in (0, READERS):
        costs, took, sent = trio.run(measure, readers)
        costs.sort()
        print(
            f"{readers:2} readers: {statistics.median(costs):.1f} us an entry, "
            f"p99 {costs[len(costs) * 99 // 100]:.0f} us, {ENTRIES} in {took:.2f} s, {sent / 1e6:.0f} MB to readers"
        )


if __name__ == "__main__":
    main()
