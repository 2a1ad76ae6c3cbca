"""What a signal costs the ledger, and what a read and a start cost, with ever more rows of history behind them.

``python -m tests.benchmarks.history [--rows 10,100000,1000000,10000000] [--json FILE]`` runs a PostgreSQL of its own
(fsync on), fills the tables to each number of rows, and at each commits the same signals: alone and fifty to a batch.
Prints microseconds, WAL bytes and their ratios to the first column. Ten million rows take some 4 GB of disk below
TMPDIR and some minutes; they are put in without syncing, and measured by a server with the settings of every day.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from engine.actors.ledger_entry import LedgerEntry, pack
from engine.clock import SystemClock, trading_day
from engine.embedded.postgres import EmbeddedPostgres
from engine.runtime.asyncio_bridge import open_aio
from engine.store import history, late, lease
from engine.store.database import APP_ROLE, Database
from engine.store.ledger import Head, LedgerStore
from engine.store.migrate import migrate
from engine.store.parts import keep_parts
from engine.store.queries import audit_log, holdings, intents, orders
from tests.support.history import fill
from tests.support.ledger_rows import Trader, sql
from tests.support.signal_entries import SignalEntries

ROWS_OF_A_SIGNAL = 14
DAYS = 365
# what a day holds is no history: it must be the same at each size
REST_DAYS = 16
_CHUNK = 100_000
_TICKS = 100


class Bench:
    """One server, filled further and further."""

    def __init__(self, url: str, epoch: int, past: Trader, today: Trader, database: Database) -> None:
        # whose signals are measured has no history: what a day holds of it must not count as one
        self._url, self._epoch, self._trader, self._today, self._database = url, epoch, past, today, database
        self._store = LedgerStore(url, role=APP_ROLE)
        self._head = Head(seq=0, hash=b"")
        self.number = 0
        self.filled = 0

    async def fill_to(self, rows: int) -> None:
        """Fill the tables to *rows* rows."""
        signals = max(1, rows // ROWS_OF_A_SIGNAL)
        while self.filled < signals:
            last = min(signals, self.filled + _CHUNK)
            first = self.filled + 1
            await self._database.run(
                lambda c, first=first, last=last: fill(c, self._trader, first, last, days=DAYS, rest=REST_DAYS),
                timeout_s=900,
            )
            self.filled = last
        await sql(self._url, "ANALYZE")
        await sql(self._url, "CHECKPOINT")

    async def close(self) -> None:
        """Close the ledger's connection."""
        await self._store.close()

    async def measure(self) -> dict[str, float]:
        """Return what a signal, the reads and the start cost now; times in microseconds."""
        await keep_parts(self._database)
        await self._store.close()
        # the filled records are no chain: what follows them is
        self._head = Head(seq=(await self._store.head()).seq, hash=bytes(32))
        figures: dict[str, float] = {}
        await self._signals(1, 30)
        for size, rounds in ((1, 300), (50, 20)):
            figures |= await self._signals(size, rounds)
        figures |= await self._reads()
        return figures

    async def _signals(self, size: int, rounds: int) -> dict[str, float]:
        batches = []
        for _ in range(rounds):
            now = SystemClock().now()
            batches.append([SignalEntries(self._today, self.number + n, now) for n in range(size)])
            self.number += size
        wal = await self._wal()
        walls: list[float] = []
        engine_s, server_s = time.process_time(), self._server_s()
        for signals in batches:
            began = time.perf_counter()
            await self._commit([entry for signal in signals for entry in signal.on_the_path])
            walls.append(time.perf_counter() - began)
            await self._commit([entry for signal in signals for entry in signal.afterwards])
        count = size * rounds
        name = "alone" if size == 1 else f"{size} to a batch"
        return {
            f"{name}: write-ahead commit, p50": statistics.median(walls) * 1e6,
            f"{name}: engine CPU per signal": (time.process_time() - engine_s) / count * 1e6,
            f"{name}: PostgreSQL CPU per signal": (self._server_s() - server_s) / count * 1e6,
            f"{name}: WAL bytes per signal": (await self._wal() - wal) / count,
        }

    async def _commit(self, entries: list[LedgerEntry]) -> None:
        batch, self._head = pack(entries, self._head)
        await self._store.commit(batch, epoch=self._epoch, timeout_s=30)

    async def _wal(self) -> float:
        return float((await sql(self._url, "SELECT pg_current_wal_lsn() - '0/0'"))[0][0])

    def _server_s(self) -> float:
        backend = self._store._backend
        assert backend is not None
        fields = Path(f"/proc/{backend[0]}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    async def _reads(self) -> dict[str, float]:
        now = SystemClock().now()
        day, user, account = trading_day(now), self._trader.user_id, self._trader.account_id
        (order_id, at) = (
            await sql(self._url, "SELECT id, created_at FROM orders ORDER BY created_at DESC OFFSET 500 LIMIT 1")
            or await sql(self._url, "SELECT id, created_at FROM orders ORDER BY created_at LIMIT 1")
        )[0]
        page = {"limit": 50, "after": (at, order_id), "user_id": user}
        reads: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "read: page of intents": lambda c: intents.list_intents(c, intents.IntentFilter(**page)),
            "read: page of orders": lambda c: orders.list_orders(c, orders.OrderFilter(**page)),
            "read: page of trades": lambda c: holdings.list_trades(c, holdings.TradeFilter(limit=50, user_id=user)),
            "read: one order": lambda c: orders.find_order(c, order_id),
            "read: audit of an order": lambda c: audit_log.list_records(
                c, audit_log.AuditFilter(limit=50, subject=f"order:{order_id}")
            ),
            "read: newest audit records": lambda c: audit_log.list_records(c, audit_log.AuditFilter(limit=50)),
            "start: what is going on": history.busy,
            "start: late fills": late.users_ended_short,
            "start: deliveries of the last hour": lambda c: history.delivered_since(c, now, 3600),
            "start: an account": lambda c: history.account(c, account, day),
            "start: a user": lambda c: history.user(c, user, day),
        }
        figures = {}
        for name, read in reads.items():
            times = []
            for _ in range(7):
                began = time.perf_counter()
                await self._database.run(read, timeout_s=60)
                times.append(time.perf_counter() - began)
            figures[name] = statistics.median(times) * 1e6
        return figures


class _Filling(EmbeddedPostgres):
    """A server that is quick to fill: what it holds needs no saving."""

    def command(self) -> list[str]:
        settings = {"shared_buffers": "2GB", "max_wal_size": "8GB", "autovacuum": "off", "wal_level": "minimal"}
        return [*super().command(), *(word for key, value in settings.items() for word in ("-c", f"{key}={value}"))]


async def measured(folder: Path, sizes: list[int]) -> dict[int, dict[str, float]]:
    """Return the figures at each of *sizes* (rows), of a server in *folder*."""
    found: dict[int, dict[str, float]] = {}
    past, today = Trader(), Trader()
    filled = number = 0
    async with open_aio(lambda context: print(context, file=sys.stderr)):
        for rows in sizes:
            began = time.perf_counter()
            async with serving(_Filling(folder, durable=False), past, today) as bench:
                bench.filled = filled
                await bench.fill_to(rows)
                filled = bench.filled
            print(f"{rows} rows after {time.perf_counter() - began:.0f} s", file=sys.stderr)
            async with serving(EmbeddedPostgres(folder), past, today) as bench:
                bench.number = number
                found[rows] = await bench.measure()
                number = bench.number
            print(json.dumps(found[rows]), file=sys.stderr)
    return found


@asynccontextmanager
async def serving(server: EmbeddedPostgres, past: Trader, today: Trader) -> AsyncIterator[Bench]:
    """Run *server* with the schema, a lease and both traders in it."""
    async with trio.open_nursery() as nursery:
        url = await nursery.start(server.run)
        if await migrate(url):
            await past.seed(url)
            await today.seed(url)
        database = Database(url)
        await database.open()
        seen = await database.run(lease.read)
        epoch = await database.run(lambda c: lease.take(c, holder="benchmark", seen=seen))
        bench = Bench(url, epoch or 0, past, today, database)
        yield bench
        await bench.close()
        await database.close()
        nursery.cancel_scope.cancel()


def main(sizes: list[int], out: Path | None) -> None:
    """Measure at each of *sizes* (rows) and print."""
    folder = Path(tempfile.mkdtemp(prefix="engine-history-"))
    folder.chmod(0o755)
    try:
        found = trio.run(measured, folder, sizes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    _print(found)
    if out is not None:
        out.write_text(json.dumps(found, indent=2))


def _print(found: dict[int, dict[str, float]]) -> None:
    sizes = list(found)
    print(f"{'rows of history':45}" + "".join(f"{size:>12,}" for size in sizes) + "   last to first")
    for name, first in found[sizes[0]].items():
        values = [found[size][name] for size in sizes]
        ratio = f"{values[-1] / first:10.2f}" if first else ""
        print(f"{name:45}" + "".join(f"{value:12.0f}" for value in values) + ratio)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", default="10,100000,1000000,10000000")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    main([int(size) for size in chosen.rows.split(",")], chosen.json)
