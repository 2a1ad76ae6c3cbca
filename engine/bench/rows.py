"""The rows of the table that need one account: how fast a signal is at the broker, and how many a second there are."""

import math
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import trio

from engine.bench.figures import Figure, Matched, figures, percentile
from engine.bench.load import Load
from engine.bench.stand import Stand

WARM_UP = 300
CONNECTIONS = 32

Tell = Callable[[str], None]
"""Is told how far it is."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. ``ok`` is None where nothing was judged; ``command`` measures this row alone."""

    name: str
    title: str
    target: str
    shown: str
    ok: bool | None
    command: str
    figures: dict[str, Figure] = {}
    note: str = ""

    @property
    def verdict(self) -> str:
        """In a word."""
        return "not judged" if self.ok is None else "met" if self.ok else "MISSED"


def of_latency(matched: Matched) -> dict[str, float]:
    """Return the numbers of an open loop."""
    return {
        **{f"order_{name}_ms": percentile(matched.order_ms, share) for name, share in SHARES.items()},
        "ack_p50_ms": percentile(matched.ack_ms, 0.5),
        "ack_p99_ms": percentile(matched.ack_ms, 0.99),
        **_counts(matched),
    }


def of_throughput(matched: Matched) -> dict[str, float]:
    """Return the numbers of a closed loop."""
    return {"signals_per_s": matched.orders_per_s, **_counts(matched)}


SHARES = {"p50": 0.5, "p99": 0.99, "p999": 0.999}


def _counts(matched: Matched) -> dict[str, float]:
    return {
        "sent": matched.sent,
        "accepted": matched.accepted,
        "refused": matched.sent - matched.accepted,
        "lost": matched.lost,
        "doubled": matched.doubled,
        "foreign": matched.foreign,
    }


async def warm(stand: Stand, *, signals: int = WARM_UP) -> None:
    """Send some signals that do not count: first calls of everything cost more."""
    await stand.burst(signals, connections=4)


async def latency(stand: Stand, *, rate: float, seconds: float, runs: int, tell: Tell) -> list[dict[str, float]]:
    """Measure an open loop *runs* times."""
    found = []
    for run in range(runs):
        load = stand.load(connections=64)
        what = f"{rate:g} signals a second, run {run + 1} of {runs}"
        found.append(of_latency(await _told(stand.open_loop(rate, seconds, load=load), load, what, tell)))
    return found


async def throughput(stand: Stand, *, seconds: float, runs: int, tell: Tell) -> list[dict[str, float]]:
    """Measure a closed loop of 32 connections *runs* times."""
    found = []
    for run in range(runs):
        load = stand.load(connections=CONNECTIONS)
        what = f"{CONNECTIONS} connections, run {run + 1} of {runs}"
        found.append(of_throughput(await _told(stand.closed_loop(seconds, load=load), load, what, tell)))
    return found


async def _told(work: Awaitable[Matched], load: Load, what: str, tell: Tell) -> Matched:
    """Wait for *work* and tell meanwhile how many signals it has sent."""
    found: list[Matched] = []
    async with trio.open_nursery() as nursery:

        async def watch() -> None:
            while True:
                tell(f"{what}: {len(load.sent)} sent")
                await trio.sleep(0.5)

        nursery.start_soon(watch)
        found.append(await work)
        nursery.cancel_scope.cancel()
    return found[0]


def latency_row(
    runs: Sequence[dict[str, float]], *, rate: float, command: str, peer: Sequence[dict[str, float]] = ()
) -> Row:
    """Return the row of an open loop, next to the peer's where that ran."""
    found, other = figures(runs), figures(peer)
    p50, p99 = found["order_p50_ms"], found["order_p99_ms"]
    shown = f"p50 {ms(p50)}, p99 {ms(p99)}, p99.9 {ms(found['order_p999_ms'])}"
    ok: bool | None = None
    note = "peer: not compared"
    if other:
        ratio50, ratio99 = other["order_p50_ms"].median / p50.median, other["order_p99_ms"].median / p99.median
        note = (
            f"peer p50 {ms(other['order_p50_ms'])}, p99 {ms(other['order_p99_ms'])}:"
            f" {ratio50:.1f} and {ratio99:.1f} times this engine's"
        )
        found |= {f"peer_{name}": figure for name, figure in other.items()}
        found |= {"ratio_p50": Figure.of([ratio50]), "ratio_p99": Figure.of([ratio99])}
        ok = ratio50 >= 10 and ratio99 >= 8 and is_exact(found)
    return Row(
        name="latency",
        title=f"signal received to order at the broker, {rate:g}/s open loop",
        target="p50 10 times and p99 8 times below the peer's (1.8 ms, 8 ms)",
        shown=f"{shown}; {lost_words(found)}",
        ok=ok,
        command=command,
        figures=found,
        note=note,
    )


def throughput_row(runs: Sequence[dict[str, float]], *, command: str, peer: Sequence[dict[str, float]] = ()) -> Row:
    """Return the row of a closed loop, next to the peer's where that ran."""
    found, other = figures(runs), figures(peer)
    rate = found["signals_per_s"]
    note, is_far = "peer: not compared", True
    if other:
        ratio = rate.median / other["signals_per_s"].median
        note = f"peer {spread(other['signals_per_s'], '.0f')}/s: this engine does {ratio:.1f} times that"
        found |= {f"peer_{name}": figure for name, figure in other.items()}
        found["ratio"] = Figure.of([ratio])
        is_far = ratio >= 8
    return Row(
        name="throughput",
        title=f"closed loop, {CONNECTIONS} connections, signal to order",
        target="2,000/s, 8 times the peer's, 0 lost, 0 doubled",
        shown=f"{spread(rate, ',.0f')}/s; {lost_words(found)}",
        ok=rate.median >= 2000 and is_far and is_exact(found),
        command=command,
        figures=found,
        note=note,
    )


def is_exact(found: dict[str, Figure]) -> bool:
    """Whether no run lost or doubled anything, or had a signal refused."""
    return not any(found[name].greatest for name in ("lost", "doubled", "refused"))


def lost_words(found: dict[str, Figure]) -> str:
    """Say how many were lost and doubled, and refused if any were, the worst of the runs."""
    refused = found["refused"].greatest
    said = f"{found['lost'].greatest:.0f} lost, {found['doubled'].greatest:.0f} doubled"
    return f"{said}, {refused:.0f} refused" if refused else said


def spread(figure: Figure, form: str) -> str:
    """Return a figure as text, with its extremes where there were several runs."""
    if math.isnan(figure.median):
        return "-"
    if figure.least == figure.greatest:
        return f"{figure.median:{form}}"
    return f"{figure.median:{form}} ({figure.least:{form}} to {figure.greatest:{form}})"


def ms(figure: Figure) -> str:
    """Return a figure of milliseconds as text."""
    return f"{spread(figure, '.2f')} ms"
