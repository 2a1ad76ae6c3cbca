"""The whole table as text, Markdown, JSON and a plot, and its place in the README."""

import json
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from engine.bench.rows import Row
from tests.benchmarks.svg import Chart, Line, drawn

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().parent / "results"


class Table(msgspec.Struct, kw_only=True):
    """Everything that a run of the command found. ``latencies`` are (rate, p50, p99, p99.9 ms), ``throughputs``
    (accounts, orders a second)."""

    at: str
    machine: str
    fdatasync: dict[str, float]
    sizes: str
    rows: list[Row]
    latencies: list[tuple[float, float, float, float]]
    throughputs: list[tuple[float, float]]
    peer: bool


@contextmanager
def open_folder(prefix: str) -> Iterator[Path]:
    """Make a folder for the block that a server of another user may enter."""
    with tempfile.TemporaryDirectory(prefix=prefix) as made:
        folder = Path(made)
        folder.chmod(0o755)
        yield folder


def markdown(table: Table) -> str:
    """Return the table for a README."""
    lines = ["| what | target | measured | |", "| --- | --- | --- | --- |"]
    for row in table.rows:
        shown = row.shown + (f"<br>{row.note}" if row.note else "")
        lines.append(f"| {row.title} | {row.target} | {shown} | {row.verdict} |")
    lines += ["", told(table)]
    return "\n".join(lines)


def told(table: Table) -> str:
    """Say on what the table was measured."""
    p50, p99 = table.fdatasync["fdatasync_p50_ms"], table.fdatasync["fdatasync_p99_ms"]
    return (
        f"{table.at[:10]}, {table.machine}, load, engine, stores and broker all on it, fsync on;"
        f" fdatasync that day: p50 {p50:.2f} ms, p99 {p99:.2f} ms. {table.sizes}"
    )


def text(table: Table) -> str:
    """Return the table for a terminal."""
    lines = []
    for row in table.rows:
        lines += [row.title, f"    target    {row.target}", f"    measured  {row.shown}"]
        if row.note:
            lines.append(f"              {row.note}")
        lines += [f"    verdict   {row.verdict}", f"    alone     {row.command}"]
    return "\n".join((*lines, told(table)))


def charts(table: Table) -> list[Chart]:
    """Return the two panels of the plot."""
    names = ("p50", "p99", "p99.9")
    return [
        Chart(
            "Signal to order at the broker",
            "signals a second, open loop",
            "ms",
            [Line(name, [(each[0], each[n]) for each in table.latencies]) for n, name in enumerate(names, 1)],
        ),
        Chart(
            "Orders a second", "accounts that each signal goes to", "orders/s", [Line("orders/s", table.throughputs)]
        ),
    ]


def write(table: Table, folder: Path) -> None:
    """Write ``table.json`` and ``table.svg`` into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    # a figure that is not there is none, not NaN, which JSON lacks
    plain = _plain(msgspec.to_builtins(table))
    (folder / "table.json").write_text(json.dumps(plain, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (folder / "table.svg").write_text(drawn(charts(table)), encoding="utf-8")


def _plain(value: Any) -> Any:
    match value:
        case dict():
            return {name: _plain(each) for name, each in value.items()}
        case list() | tuple():
            return [_plain(each) for each in value]
        case float():
            return None if math.isnan(value) else round(value, 4)
    return value


def rows_before(folder: Path) -> list[Row]:
    """Return the rows of the table that `write` left in *folder*, each with the day on which it was measured.

    Raises OSError, ValueError where there is none.
    """
    found = json.loads((folder / "table.json").read_text(encoding="utf-8"))
    rows = []
    for raw in found["rows"]:
        for figure in raw["figures"].values():
            figure.update({name: math.nan for name, value in figure.items() if value is None})
        row = msgspec.convert(raw, Row)
        when = f"measured {found['at'][:10]}"
        if when not in row.note:
            row = msgspec.structs.replace(row, note=f"{row.note}; {when}" if row.note else when)
        rows.append(row)
    return rows


def into_readme(readme: Path, table: Table, image: str) -> None:
    """Put the table and its plot between the markers of *readme*. Raises ValueError where they are not."""
    whole = readme.read_text(encoding="utf-8")
    before, begin, rest = whole.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{readme} has no {BEGIN} followed by {END}")
    body = f"\n{markdown(table)}\n\n![latency against rate, throughput against accounts]({image})\n"
    readme.write_text(f"{before}{BEGIN}{body}{END}{after}", encoding="utf-8")


def verdicts(rows: Sequence[Row]) -> str:
    """Count them."""
    met, missed = (sum(row.ok is is_met for row in rows) for is_met in (True, False))
    return f"{met} met, {missed} missed, {len(rows) - met - missed} not judged"
