"""What commands show on a terminal: bars, tables and colours. In a pipe all of it is plain lines, as ever.

Colours go when ``NO_COLOR`` is set, all of it in a terminal that is called ``dumb``. What others wrote into a line
cannot steer the terminal. Bars and tables are drawn by rich, which is imported only where there is something to draw.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

import typer

from engine.observability.redaction import escape_controls

Advance = Callable[[int, int], None]
"""Told how much is done, and of how much; 0 where the whole is not known."""

_WORD_EVERY_S = 10.0


def can_draw(stream: TextIO) -> bool:
    """Whether *stream* is a terminal that can do more than print lines."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def say_mark(word: str, rest: str, *, ok: bool) -> None:
    """Print a line that begins with a verdict: *word* green or red on a terminal with colours."""
    if can_draw(sys.stdout) and not os.environ.get("NO_COLOR"):
        word = typer.style(word, fg=typer.colors.GREEN if ok else typer.colors.RED, bold=not ok)
    typer.echo(word + escape_controls(rest))


def say_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, plain: Iterable[str]) -> None:
    """Print *rows* under *columns* on a terminal, the lines *plain* anywhere else.

    A column whose name begins with ``>`` is set to the right.
    """
    if not can_draw(sys.stdout):
        for line in plain:
            typer.echo(escape_controls(line))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(escape_controls(str(cell))) for cell in row))
    Console(soft_wrap=False, highlight=False).print(table)


@contextmanager
def progress(label: str) -> Iterator[Advance]:
    """Show on stderr how far a long command is: a bar on a terminal, else a line every ten seconds."""
    if not can_draw(sys.stderr):
        yield _lines(label)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(show_speed=True))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)

        def advance(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of or None)

        yield advance


def _lines(label: str) -> Advance:
    told_at = time.monotonic()

    def advance(done: int, of: int) -> None:
        nonlocal told_at
        now = time.monotonic()
        if now - told_at >= _WORD_EVERY_S:
            told_at = now
            print(f"{label}: {done * 100 // of} %" if of else f"{label}: {done}", file=sys.stderr, flush=True)

    return advance
