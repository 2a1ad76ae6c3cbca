"""The whole table of speed in one command: ``python -m tests.benchmarks [--peer DIR] [--write-readme]``.

Every row runs a real engine with stores of its own that sync, against a broker that only answers; orders are matched
to signals one for one. ``--only ROW`` measures a row alone, ``--quick`` all of them in small. Prints the table and
writes ``table.json`` and ``table.svg`` (latency against rate, throughput against accounts) into ``--out``;
``--write-readme`` puts both between the markers of the README. ``--keep DIR`` takes rows that are not measured now, as
the one that takes an hour, from the table that an earlier run wrote there. The Node peer runs with ``--peer DIR`` or
``ENGINE_BENCH_PEER``, otherwise the rows say that it was not compared. Nothing else should run on the machine
meanwhile. Exits 1 when a target was missed.
"""

import argparse
import os
import platform
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import structlog
import trio

from engine.bench.rows import Row, latency, latency_row, throughput, throughput_row, warm
from engine.bench.stand import BrokerSide, running_broker, running_engine
from engine.clock import SystemClock
from tests.benchmarks import big_rows, peer
from tests.benchmarks.report import RESULTS, ROOT, Table, into_readme, open_folder, rows_before, text, verdicts, write
from tests.benchmarks.sizes import Sizes, add_arguments, chosen, peer_path

ROWS = ("latency", "throughput", "fanout", "accounts", "kill9", "killswitch", "idle", "growth")


def _tell(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


def own_broker(folder: Path) -> AbstractAsyncContextManager[BrokerSide]:
    """Make *folder*, and run a broker in it for the block."""
    folder.mkdir()
    return running_broker(folder)


async def measure(sizes: Sizes, names: set[str], source: Path | None, *, plot: bool) -> Table:
    """Measure the rows *names*; with *plot* the latencies against rate too."""
    rows: dict[str, Row] = {}
    latencies: list[tuple[float, float, float, float]] = []
    throughputs: list[tuple[float, float]] = []
    against: peer.Runs = {}
    disk: dict[str, float] = {}
    with open_folder("bench-") as folder:
        async with running_broker(folder) as broker:
            reason = peer.why_not(source)
            compared = names & {"latency", "throughput"}
            if compared and reason is None and source is not None:
                against = await peer.measured(source, broker, sizes, compared, _tell)
            (folder / "one").mkdir()
            async with running_engine(folder / "one", broker) as stand:
                await stand.open_accounts(1)
                disk = await stand.fdatasync()
                await warm(stand)
                if "latency" in names:
                    runs = await latency(stand, rate=sizes.rate, seconds=sizes.seconds, runs=sizes.runs, tell=_tell)
                    rows["latency"] = latency_row(
                        runs, rate=sizes.rate, command=sizes.command("latency"), peer=against.get("latency", ())
                    )
                for rate in sizes.rates if plot else ():
                    (at,) = await latency(stand, rate=rate, seconds=min(sizes.seconds, 10.0), runs=1, tell=_tell)
                    latencies.append((rate, at["order_p50_ms"], at["order_p99_ms"], at["order_p999_ms"]))
                if "throughput" in names:
                    runs = await throughput(stand, seconds=sizes.seconds, runs=sizes.runs, tell=_tell)
                    command = sizes.command("throughput")
                    rows["throughput"] = throughput_row(runs, command=command, peer=against.get("throughput", ()))
                if "growth" in names:
                    rows["growth"] = await big_rows.growth(stand, sizes, _tell, big_rows.history)
        # each with a broker of its own: what one row traded stands in the books that the next one would begin with
        if "fanout" in names:
            async with own_broker(folder / "fanout") as broker:
                rows["fanout"], throughputs = await big_rows.fan_out(folder / "fanout", broker, sizes, _tell)
        for name, row in (("accounts", big_rows.many_accounts), ("kill9", big_rows.kill), ("idle", big_rows.idle)):
            if name in names:
                async with own_broker(folder / name) as broker:
                    rows[name] = await row(folder / name, broker, sizes, _tell)
    if "killswitch" in names:
        _tell("tripping the kill switch")
        rows["killswitch"] = await trio.to_thread.run_sync(big_rows.kill_switch, sizes)
    return Table(
        at=SystemClock().now().isoformat(timespec="seconds"),
        machine=f"{os.cpu_count()} cores, Python {platform.python_version()}",
        fdatasync=disk,
        sizes=sizes.told(),
        rows=[rows[name] for name in ROWS if name in rows],
        latencies=latencies,
        throughputs=throughputs,
        peer=bool(against),
    )


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", choices=ROWS, action="append", help="this row alone; repeatable")
    parser.add_argument("--peer", type=peer_path, default=None, help="folder of the Node peer to compare with")
    parser.add_argument("--out", type=Path, default=None, help="where JSON and plot go; tests/benchmarks/results")
    parser.add_argument(
        "--keep", type=Path, default=None, help="folder of an earlier table, whose rows stand where none is measured"
    )
    parser.add_argument("--write-readme", action="store_true", help="renew the table of the README")
    add_arguments(parser)
    asked = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    source = asked.peer
    if source is None and os.environ.get("ENGINE_BENCH_PEER"):
        source = peer_path(os.environ["ENGINE_BENCH_PEER"])
    names = set(asked.only or ROWS)
    table = trio.run(lambda: measure(chosen(asked), names, source, plot=asked.only is None or asked.out is not None))
    if asked.keep is not None:
        measured = {row.name for row in table.rows}
        rows = [*table.rows, *(row for row in rows_before(asked.keep) if row.name not in measured)]
        table = msgspec.structs.replace(table, rows=sorted(rows, key=lambda row: ROWS.index(row.name)))
    print(text(table))
    print(verdicts(table.rows))
    # a row alone is no table: it is kept only where that is asked for
    if asked.out is not None or asked.only is None:
        write(table, asked.out or RESULTS)
    if asked.write_readme:
        into_readme(ROOT / "README.md", table, (RESULTS / "table.svg").relative_to(ROOT).as_posix())
    return 1 if any(row.ok is False for row in table.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
