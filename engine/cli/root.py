"""The program ``engine``: its commands, its exit codes, and how its errors look.

Exit 0 success, 1 failure, 2 usage. An error is one line on stderr that names the mend; a traceback is
shown only with ``--debug``.
"""

import gc
import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Annotated

import typer

from engine.errors import EngineError
from engine.observability.redaction import escape_controls
from engine.runtime.imports import left_out
from engine.security.environment import deny_inspection, harden_process

_COMMANDS = {
    "run": "run",
    "init": "init",
    "migrate": "migrate",
    "backup": "backup",
    "restore": "backup",
    "backup-job": "backup",
    "bench-broker": "bench",
    "doctor": "doctor",
    "exchange": "exchange",
    "flatten": "flatten",
    "drill": "drill",
    "login": "login",
    "explain": "risk",
    "trace": "trace",
    "bench": "bench",
    "replay": "risk",
    "codes": "risk",
    "version": "version",
    "user": "user",
    "killswitch": "killswitch",
    "audit": "audit",
    "keys": "keys",
    "dead-letters": "dead_letters",
    "alerts": "alerts",
    "ops": "ops",
    "instruments": "instruments",
}
"""Every command in the order of the help page, with its module in this package."""

_HIDDEN = frozenset({"backup-job", "bench-broker"})
"""What only an engine or a benchmark asks for."""


_LEFT_OUT = ("twisted", "opentelemetry", "rich", "pygments")
"""What structlog, redis and httpx import along where it is there, a fifth of a start; who wants it imports it later."""


def program(*names: str, names_only: bool = False) -> typer.Typer:
    """Build the program with the commands *names*, with all of them when none is given.

    With *names_only* the commands do nothing: to complete the name of one, a shell asks for no more.

    A command's module is imported only here: one command alone starts in a third of the time of all.
    """
    app = typer.Typer(
        name="engine",
        help="Turns trading signals into risk-checked, audited orders on Zerodha, exactly once.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(options)
    for name in names or _COMMANDS:
        if names_only:
            app.command(name, hidden=name in _HIDDEN, help=" ")(options)
            continue
        with left_out(*_LEFT_OUT):
            module = importlib.import_module(f"engine.cli.{_COMMANDS[name]}")
        # a module is one command, some commands, or a group of them
        group = getattr(module, "app", None)
        if group is None:
            app.command(name, hidden=name in _HIDDEN)(getattr(module, name.replace("-", "_")))
        else:
            app.add_typer(group, name=name)
    return app


def _completed() -> list[str]:
    """Return the words, without the program's, that a shell asks to complete; none when it asks nothing."""
    if "_ENGINE_COMPLETE" not in os.environ:
        return []
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS") or ""
    return line.split()[1:]


def options(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Turn trading signals into risk-checked, audited orders on Zerodha, exactly once."""
    if context.invoked_subcommand != "run":  # it has something to do to itself before
        deny_inspection()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    harden_process()
    words = sys.argv[1:] if arguments is None else arguments
    is_debug = "--debug" in words
    # --debug is understood wherever it stands
    words = [word for word in words if word != "--debug"]
    asked = next((word for word in (words or _completed()) if not word.startswith("-")), None)
    try:
        # what importing makes stays: looking it over again and again would be an eighth of a command's start
        gc.disable()
        app = program(asked) if asked in _COMMANDS else program(names_only="_ENGINE_COMPLETE" in os.environ)
        gc.freeze()
        gc.enable()
        app(args=words, prog_name="engine", standalone_mode=True)
    except Exception as error:
        _fail(error, is_debug=is_debug)
    except BaseExceptionGroup as group:
        _fail(group, is_debug=is_debug)


def _fail(error: BaseException, *, is_debug: bool) -> None:
    if is_debug:
        traceback.print_exception(error)
        sys.exit(1)
    leaves = list(_leaves(error))
    known = [leaf for leaf in leaves if isinstance(leaf, EngineError | OSError)]
    interrupted = [leaf for leaf in leaves if isinstance(leaf, KeyboardInterrupt)]
    if known:
        line = " ".join(str(known[0]).split())
    elif interrupted:
        line = "interrupted"
    else:
        line = f"unexpected {type(leaves[0]).__name__}: {' '.join(str(leaves[0]).split())}; --debug shows where"
    print(f"engine: {escape_controls(line)}", file=sys.stderr)
    sys.exit(1)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
