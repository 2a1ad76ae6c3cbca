"""``engine drill``: rehearse the kill switch on an engine and an exchange of its own, and report."""

import sys
from pathlib import Path
from typing import Annotated

import structlog
import trio
import typer

from engine.cli.interruptible import until_signal
from engine.cli.places import JsonOption, say, say_json
from engine.clock import SystemClock
from engine.domain.drill import DrillReport, DrillVerdict
from engine.drill.child import DrillError
from engine.drill.plan import MOST_ORDERS, POSITION_SYMBOLS, DrillPlan, read_faults
from engine.drill.rehearsal import rehearse


def drill(
    orders: Annotated[int, typer.Option("--orders", min=0, max=MOST_ORDERS, help="Orders that rest.")] = 20,
    positions: Annotated[
        int, typer.Option("--positions", min=1, max=len(POSITION_SYMBOLS), help="Positions that are held.")
    ] = 5,
    faults: Annotated[
        list[str] | None,
        typer.Option(
            "--faults",
            metavar="RULE",
            help="A way for the exchange to misbehave from just before the trip on, as `engine exchange --fault` "
            'takes it; repeatable. "none": none. Left out: exits refused and late, a slow and torn order book, '
            "entries without an answer.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of prices, sides, quantities and bad luck.")] = 1,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="Where its folder is made for the time of it.", file_okay=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Trip the kill switch of an engine of its own under load, on a paper exchange with faults, until all is flat.

    Your engine, its stores, its configuration and your broker are not touched. The verdict follows the exchange's own
    record: PASS when no order but square-offs came after the block, none went beyond flat, nothing is left, and the
    certificate holds. Exits 0 on PASS only.
    """
    plan = DrillPlan(
        orders=orders, positions=positions, faults=read_faults(faults, positions=positions, seed=seed), seed=seed
    )
    # what is printed is the report alone
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    report = trio.run(_run, plan, data_dir)
    if json:
        say_json(report)
    else:
        _say(report)
    if report.verdict is not DrillVerdict.PASS:
        raise typer.Exit(1)


async def _run(plan: DrillPlan, parent: Path | None) -> DrillReport:
    """Run it until it is over or a signal ends it; either way nothing of it stays."""
    report = await until_signal(lambda: rehearse(plan, parent=parent, clock=SystemClock(), tell=_tell))
    if report is None:
        raise DrillError("interrupted: the drill was not finished, and everything of it was removed")
    return report


def _tell(line: str) -> None:
    if sys.stderr.isatty():
        print(line, file=sys.stderr, flush=True)


def _say(report: DrillReport) -> None:
    signals = report.signals
    say(f"kill drill: {report.positions} positions, {report.orders} open orders, seed {report.seed}")
    for fault in report.faults:
        say(f"  fault {fault.rule}: struck {fault.hits}x")
    block_ms = "-" if report.time_to_block_s is None else f"{report.time_to_block_s * 1000:.1f} ms"
    say(f"time to block      {block_ms} (answered after {_seconds(report.time_to_answer_s)})")
    say(f"time to cancelled  {_seconds(report.time_to_cancelled_s)}")
    say(f"time to flat       {_seconds(report.time_to_flat_s)}")
    say(f"orders             {report.orders_sent} sent, {report.orders_refused} refused")
    say(f"square-offs        {report.exits_sent} sent, {report.exits_refused} refused")
    say(f"cancels            {report.cancels_sent} sent")
    say(
        f"signals            {signals.sent} sent, {signals.after_block} of them after the block,"
        f" {signals.taken_after_block} of those accepted"
    )
    say(f"orders after block {report.orders_after_block}")
    say(f"over-flattens      {report.over_flattens}")
    say(f"certificate        {report.certificate_id or 'none'}{' verified' if report.certificate_verified else ''}")
    for problem in report.problems:
        say(f"  {problem}")
    say(f"{report.verdict.value} after {report.took_s:.0f} s")


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f} s"
