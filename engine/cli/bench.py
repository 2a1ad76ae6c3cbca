"""``engine bench``: how fast this machine takes a signal to a broker, measured on an engine of the benchmark's own."""

import os
import platform
import socket
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import structlog
import trio
import typer

from engine.bench.broker import Broker
from engine.bench.figures import Figure
from engine.bench.rows import Row, is_exact, latency, latency_row, throughput, throughput_row, warm
from engine.bench.stand import running_broker, running_engine
from engine.cli.interruptible import until_signal
from engine.cli.places import JsonOption, say, say_json
from engine.clock import SystemClock
from engine.drill.child import DrillError
from engine.drill.folder import drill_folder


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What ``engine bench`` found."""

    machine: str
    fdatasync_p50_ms: float
    fdatasync_p99_ms: float
    rows: list[Row]


def bench(
    seconds: Annotated[int, typer.Option("--seconds", min=1, max=3600, help="How long each load runs.")] = 10,
    rate: Annotated[float, typer.Option("--rate", min=1, max=20_000, help="Signals a second of the open loop.")] = 100,
    runs: Annotated[int, typer.Option("--runs", min=1, max=99, help="How often; the median counts.")] = 1,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="Where its folder is made for the time of it: its disk is measured.", file_okay=False
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure, on this machine, from a signal's receipt to its order at a broker, and how many go through in a second.

    An engine of its own with its own stores, synced as always, and a broker that only answers, in a folder that is
    removed afterwards: your engine, your accounts and your broker are not touched. Load and broker share the machine,
    so separate ones do better. Exits 1 when a signal was lost, doubled or refused.
    """
    # what is printed is the table alone
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    found = trio.run(_run, float(seconds), rate, runs, data_dir)
    if json:
        say_json(found)
    else:
        _say(found)
    if not all(is_exact(row.figures) for row in found.rows):
        raise typer.Exit(1)


async def _run(seconds: float, rate: float, runs: int, parent: Path | None) -> Measured:
    """Measure until it is over or a signal ends it; either way nothing of it stays."""
    found = await until_signal(lambda: _measure(seconds, rate, runs, parent))
    _tell("")
    if found is None:
        raise DrillError("interrupted: nothing was measured, and everything of it was removed")
    return found


async def _measure(seconds: float, rate: float, runs: int, parent: Path | None) -> Measured:
    _tell("starting an engine and a broker of the benchmark's own")
    with drill_folder(parent) as folder:
        async with running_broker(folder) as broker, running_engine(folder, broker) as stand:
            await stand.open_accounts(1)
            disk = await stand.fdatasync()
            _tell("warming up")
            await warm(stand)
            command = f"engine bench --seconds {seconds:g} --rate {rate:g} --runs {runs}"
            latencies = await latency(stand, rate=rate, seconds=seconds, runs=runs, tell=_tell)
            loops = await throughput(stand, seconds=seconds, runs=runs, tell=_tell)
    return Measured(
        machine=f"{os.cpu_count()} cores, Python {platform.python_version()}",
        rows=[latency_row(latencies, rate=rate, command=command), throughput_row(loops, command=command)],
        **disk,
    )


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        # one line that is written over, and gone in the end
        print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)


def _say(found: Measured) -> None:
    say(f"{found.machine}; load, engine, its stores and the broker on one machine, fsync on")
    for row in found.rows:
        say(f"{row.title}:")
        say(f"  {row.shown}")
        say(f"  target: {row.target}: {row.verdict}")
    say(f"fdatasync of this disk: p50 {found.fdatasync_p50_ms:.2f} ms, p99 {found.fdatasync_p99_ms:.2f} ms")
    acks: list[Any] = [row.figures[name] for row in found.rows[:1] for name in ("ack_p50_ms", "ack_p99_ms")]
    p50, p99 = (figure.median if isinstance(figure, Figure) else 0.0 for figure in acks)
    say(f"answered to the sender: p50 {p50:.2f} ms, p99 {p99:.2f} ms")


def bench_broker(delay_ms: Annotated[float, typer.Option("--delay-ms", min=0)] = 0.0) -> None:
    """Serve the benchmark's broker until the process is ended."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    say(f"broker ready http://127.0.0.1:{listener.getsockname()[1]}")
    sys.stdout.flush()
    Broker(SystemClock(), delay_ms=delay_ms).serve(listener)
