"""The rows of the table that need many accounts, a kill, idleness or an hour."""

import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import trio

from engine.bench.figures import Figure, figures, percentile, slope
from engine.bench.rows import Row, Tell, is_exact, lost_words, ms, of_latency, spread, warm
from engine.bench.stand import BrokerSide, Stand, running_engine
from engine.embedded import running_urls
from engine.embedded.postgres import binaries
from tests.benchmarks.report import ROOT
from tests.benchmarks.sizes import Sizes

_MB = 1e6
_SETTLE_S = 10.0
_MOST_BY_API = 200
_OVERLOAD = 6

# what is measured twice on a shared machine differs by as much
_FLAT = 1.3


def _memory_mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss) / _MB


@asynccontextmanager
async def wide_engine(folder: Path, broker: BrokerSide, number: int, active: int, known: Stand) -> AsyncIterator[Stand]:
    """Run an engine with *number* accounts of which *active* take each signal, started anew once they are there.

    The API takes 200 accounts of a strategy; more are entered into the store, which the next start reads.
    """
    async with running_engine(folder, broker, known=known) as first:
        await first.open_accounts(number, active=min(active, _MOST_BY_API))
        if active > _MOST_BY_API:
            await trio.to_thread.run_sync(_widen, first, active)
            first.count_on(active)
    async with running_engine(folder, broker, known=first) as stand:
        yield stand


def _widen(stand: Stand, active: int) -> None:
    urls = running_urls(stand.data_dir)
    if urls is None:
        raise RuntimeError("the stores of the benchmark's engine are not up")
    statement = (
        "INSERT INTO strategy_accounts (strategy_id, account_id, sizing_mode, sizing_value)"
        f" SELECT '{UUID(stand.strategy_id)}', id, 'multiplier', 1 FROM kite_accounts"
        f" WHERE label LIKE 'bench-%' AND substr(label, 7)::int < {active} ON CONFLICT DO NOTHING"
    )
    subprocess.run(
        [str(binaries() / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", urls.database_url, "-c", statement],
        check=True,
        capture_output=True,
        timeout=60,
    )


async def fan_out(folder: Path, broker: BrokerSide, sizes: Sizes, tell: Tell) -> tuple[Row, list[tuple[float, float]]]:
    """One signal to many accounts; and orders a second by how many accounts each signal goes to."""
    points: list[tuple[float, float]] = []
    runs: list[dict[str, float]] = []

    async def measure(stand: Stand) -> None:
        number = len(stand.accounts)
        tell(f"one signal to {number} account(s)")
        await stand.burst(1)  # their executors start with it
        many = await stand.burst(max(1, 2 * sizes.fan_out // number), connections=4)
        points.append((float(number), many.orders_per_s))

    async with running_engine(folder, broker) as known:
        number = 1
        while number < sizes.fan_out:
            await known.open_accounts(min(number, _MOST_BY_API))
            await measure(known)
            number *= 10
    tell(f"making {sizes.fan_out} accounts")
    async with wide_engine(folder, broker, sizes.fan_out, sizes.fan_out, known) as stand:
        await measure(stand)
        for _ in range(max(3, sizes.runs)):
            await trio.sleep(2.0)
            one = await stand.burst(1)
            last = one.order_ms[0] if one.order_ms else float("nan")
            refused = one.sent - one.accepted
            runs.append({"last_order_ms": last, "lost": one.lost, "doubled": one.doubled, "refused": refused})
    found = figures(runs)
    last_ms = found["last_order_ms"]
    row = Row(
        name="fanout",
        title=f"one signal to {sizes.fan_out:,} accounts",
        target="last order on the wire within 0.5 s",
        shown=f"last order after {spread(last_ms, '.0f')} ms; {lost_words(found)}",
        ok=last_ms.median <= 500 and is_exact(found),
        command=sizes.command("fanout"),
        figures=found,
    )
    return row, points


async def many_accounts(folder: Path, broker: BrokerSide, sizes: Sizes, tell: Tell) -> Row:
    """Many accounts configured and a tenth of them active: memory, start, and latency next to one account's."""
    runs = []
    async with running_engine(folder, broker) as first:
        await first.open_accounts(1)
        await warm(first)
        alone = of_latency(await first.open_loop(sizes.rate, sizes.seconds))
        await broker.reset()
    tell(f"making {sizes.accounts} accounts")
    async with running_engine(folder, broker, known=first) as first:
        await first.open_accounts(sizes.accounts, active=1)
        first.count_on(sizes.active)
        await first.open_own_sources()
        await broker.reset()
    for run in range(sizes.runs):
        tell(f"starting with {sizes.accounts} accounts, run {run + 1} of {sizes.runs}")
        async with running_engine(folder, broker, known=first) as stand:
            # the executors of all start with it
            await stand.burst(sizes.active, connections=4, one_each=True)
            stand.count_on(1)
            one = of_latency(await stand.open_loop(sizes.rate, sizes.seconds))
            stand.count_on(sizes.active)
            many = of_latency(await stand.open_loop(sizes.rate, sizes.seconds, one_each=True))
            # the next start goes on behind what this one sent
            first = stand
            runs.append(
                {
                    "rss_mb": _memory_mb(stand.pid),
                    "start_s": stand.ready_s,
                    "one_ratio_p50": one["order_p50_ms"] / alone["order_p50_ms"],
                    "one_ratio_p99": one["order_p99_ms"] / alone["order_p99_ms"],
                    "ratio_p50": many["order_p50_ms"] / alone["order_p50_ms"],
                    "ratio_p99": many["order_p99_ms"] / alone["order_p99_ms"],
                    **{name: many[name] for name in ("order_p50_ms", "order_p99_ms", "lost", "doubled", "refused")},
                }
            )
    found = figures(runs)
    ok = found["rss_mb"].median < 600 and found["start_s"].median < 10 and found["ratio_p50"].median <= 1.3
    return Row(
        name="accounts",
        title=f"{sizes.accounts:,} accounts configured, {sizes.active:,} active",
        target="under 600 MB, start under 10 s, latency within 1.3 times of one account",
        shown=f"{spread(found['rss_mb'], '.0f')} MB, start {spread(found['start_s'], '.1f')} s,"
        f" signals spread over the active: p50 {spread(found['ratio_p50'], '.2f')} and p99"
        f" {spread(found['ratio_p99'], '.2f')} times; all to one of them: {spread(found['one_ratio_p50'], '.2f')} and"
        f" {spread(found['one_ratio_p99'], '.2f')};"
        f" {lost_words(found)}",
        ok=ok and is_exact(found),
        command=sizes.command("accounts"),
        figures=found,
    )


async def kill(folder: Path, broker: BrokerSide, sizes: Sizes, tell: Tell) -> Row:
    """SIGKILL with many open signals, which wait for their turn at ten orders a second; then until it is ready."""
    runs = []
    for run in range(sizes.runs):
        home = folder / f"kill-{run}"
        home.mkdir()
        slow = {"orders_per_second": 10, "max_age_s": 119}
        async with running_engine(home, broker, **slow) as stand:
            await stand.open_accounts(1)
            await broker.reset()
            tell(f"{sizes.open_signals} signals, run {run + 1} of {sizes.runs}")
            load = stand.load(connections=64)
            sent = await trio.to_thread.run_sync(load.burst, sizes.open_signals)
            accepted = sum(each.accepted for each in sent)
            left = accepted - await broker.count()
            stand.kill()
        async with running_engine(home, broker, known=stand, **slow) as again:
            numbers: dict[int, int] = {}
            for order in await broker.received():
                numbers[order.number] = numbers.get(order.number, 0) + 1
            doubled = sum(times - 1 for times in numbers.values())
            runs.append({"ready_s": again.ready_s, "open": float(left), "doubled": float(doubled)})
    found = figures(runs)
    return Row(
        name="kill9",
        title=f"kill -9 with {sizes.open_signals:,} open signals",
        target="ready within 5 s",
        shown=f"ready after {spread(found['ready_s'], '.1f')} s with {found['open'].median:,.0f} open,"
        f" its own PostgreSQL and Valkey recovered in that time; {found['doubled'].greatest:.0f} doubled",
        ok=found["ready_s"].median <= 5 and not found["doubled"].greatest,
        command=sizes.command("kill9"),
        figures=found,
    )


def kill_switch(sizes: Sizes) -> Row:
    """Trip after trip under six times the load, by the program that measures those."""
    options = ["--trips", str(sizes.trips), "--rate", str(sizes.trip_rate), "--only", "overload"]
    command = [sys.executable, "-m", "tests.benchmarks.killswitch", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=7200)
    if not done.stdout.strip():
        raise RuntimeError(f"the kill switch's benchmark failed: {done.stderr.strip()[-500:]}")
    told = json.loads(done.stdout)["all"]
    gate = told["gateClosedMs"]
    return Row(
        name="killswitch",
        title=f"kill switch block under full load ({_OVERLOAD * sizes.trip_rate:g} signals/s)",
        target="p99 at most 50 ms",
        shown=f"gate closed p50 {gate['p50']} ms, p99 {gate['p99']} ms of {told['trips']} trips;"
        f" {told['ordersSentAfterBlock']} orders sent after a block",
        ok=gate["p99"] <= 50 and not told["ordersSentAfterBlock"],
        command=sizes.command("killswitch"),
        figures={
            "gate_p50_ms": Figure.of([gate["p50"]]),
            "gate_p99_ms": Figure.of([gate["p99"]]),
            "answered_p99_ms": Figure.of([told["answeredMs"]["p99"]]),
            "sent_after_block": Figure.of([told["ordersSentAfterBlock"]]),
        },
    )


async def idle(folder: Path, broker: BrokerSide, sizes: Sizes, tell: Tell) -> Row:
    """Ten accounts that traded once and have nothing to do."""
    runs = []
    async with running_engine(folder, broker) as stand:
        await stand.open_accounts(10)
        await stand.burst(2)
        await broker.reset()
        await trio.sleep(_SETTLE_S)
        process = psutil.Process(stand.pid)
        for run in range(sizes.runs):
            tell(f"idle, run {run + 1} of {sizes.runs}")
            before = sum(process.cpu_times()[:2])
            await trio.sleep(sizes.idle_s)
            used = sum(process.cpu_times()[:2]) - before
            runs.append({"cpu_pct": used / sizes.idle_s * 100, "rss_mb": _memory_mb(stand.pid)})
    found = figures(runs)
    return Row(
        name="idle",
        title="idle engine, 10 accounts",
        target="under 1 % of a core; engine process under 150 MB",
        shown=f"{spread(found['cpu_pct'], '.2f')} % of a core, {spread(found['rss_mb'], '.0f')} MB",
        ok=found["cpu_pct"].median < 1 and found["rss_mb"].median < 150,
        command=sizes.command("idle"),
        figures=found,
    )


async def growth(stand: Stand, sizes: Sizes, tell: Tell, run_history: Callable[[], dict[str, Any]]) -> Row:
    """Memory and cost over a long load, and what millions of rows of history cost."""
    # ten accounts, so that no day's order book is longer than a real one could be
    await stand.open_accounts(10)
    await stand.open_own_sources()
    points: list[tuple[float, float]] = []
    process = psutil.Process(stand.pid)
    cpu: list[tuple[float, float]] = []

    async def watch() -> None:
        began = trio.current_time()
        while True:
            at = trio.current_time() - began
            points.append((at, _memory_mb(stand.pid)))
            cpu.append((at, sum(process.cpu_times()[:2])))
            tell(f"growth: {at:.0f} of {sizes.growth_s:g} s, {points[-1][1]:.0f} MB")
            await trio.sleep(max(0.5, sizes.growth_s / 400))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        matched = await stand.open_loop(sizes.rate, sizes.growth_s, one_each=True)
        nursery.cancel_scope.cancel()
    third = sizes.growth_s / 3
    late = [point for point in points if third <= point[0] <= sizes.growth_s]
    per_hour = slope(late) * 3600
    grew = late[-1][1] - late[0][1] if late else 0.0
    first, last = (_cpu_ms(cpu, begin, begin + third, sizes.rate) for begin in (0.0, 2 * third))
    found = {
        "rss_mb_per_hour": Figure.of([per_hour]),
        "rss_grew_mb": Figure.of([grew]),
        "rss_mb": Figure.of([points[-1][1]]),
        "cpu_ms_per_signal_first": Figure.of([first]),
        "cpu_ms_per_signal_last": Figure.of([last]),
        "order_p99_ms": Figure.of([percentile(matched.order_ms, 0.99)]),
        "lost": Figure.of([matched.lost]),
        "doubled": Figure.of([matched.doubled]),
        "refused": Figure.of([matched.sent - matched.accepted]),
    }
    history = await trio.to_thread.run_sync(run_history)
    return Row(
        name="growth",
        title=f"growth over {sizes.growth_s:,.0f} s at {sizes.rate:g}/s",
        target="memory flat over an hour, cost per signal flat from 10 to 10 million rows",
        shown=f"{per_hour:+.0f} MB an hour after the first third (grew {grew:.1f} MB),"
        f" {first:.2f} then {last:.2f} ms of CPU a signal, p99 {ms(found['order_p99_ms'])};"
        f" {lost_words(found)}",
        # a slope over less than the hour says little
        ok=None
        if sizes.growth_s < 3600
        else grew < 20 and last < 1.2 * first and bool(history["ok"]) and is_exact(found),
        command=sizes.command("growth"),
        figures=found,
        note=f"history: {history['shown']}",
    )


def _cpu_ms(points: list[tuple[float, float]], begin: float, end: float, rate: float) -> float:
    within = [point for point in points if begin <= point[0] <= end]
    if len(within) < 2:
        return 0.0
    (from_s, from_cpu), (to_s, to_cpu) = within[0], within[-1]
    return (to_cpu - from_cpu) / ((to_s - from_s) * rate) * 1000


def history() -> dict[str, Any]:
    """Run the benchmark of the history, a program of its own: what a signal costs with millions of rows behind it."""
    with tempfile.TemporaryDirectory(prefix="engine-history-") as folder:
        out = Path(folder) / "history.json"
        command = [sys.executable, "-m", "tests.benchmarks.history", "--json", str(out)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=7200)
        if done.returncode != 0 or not out.exists():
            return {"shown": f"failed: {done.stderr.strip()[-200:]}", "ok": False}
        found: dict[str, dict[str, float]] = json.loads(out.read_text())
    return history_shown(found)


def history_shown(found: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Say what commits cost behind the fewest and the most rows of *found* (figures by rows), and if that is flat."""
    (least, first), *_, (most, last) = found.items()
    told, ok = [], True
    for name, before in first.items():
        if "commit, p50" in name:
            told.append(f"{name} {before:,.0f} to {last[name]:,.0f} us")
            ok = ok and last[name] <= _FLAT * before
    return {"shown": f"{int(least):,} to {int(most):,} rows: {'; '.join(told)}", "ok": ok}
