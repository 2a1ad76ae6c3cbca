"""The program ``engine``: its commands, its exit codes, and how its errors look.

Exit 0 success, 1 failure, 2 usage. An error is one line on stderr that names the mend; a traceback is
shown only with ``--debug``.
"""

import sys
import traceback
from collections.abc import Iterator
from typing import Annotated

import typer

from engine.cli import (
    audit,
    dead_letters,
    doctor,
    drill,
    exchange,
    flatten,
    init,
    instruments,
    killswitch,
    login,
    migrate,
    risk,
    run,
    user,
    version,
)
from engine.errors import EngineError
from engine.observability.redaction import escape_controls
from engine.security.environment import harden_process

app = typer.Typer(
    name="engine",
    help="Turns trading signals into risk-checked, audited orders on Zerodha, exactly once.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Turn trading signals into risk-checked, audited orders on Zerodha, exactly once."""


app.command("run")(run.run)
app.command("init")(init.init)
app.command("migrate")(migrate.migrate)
app.command("doctor")(doctor.doctor)
app.command("exchange")(exchange.exchange)
app.command("flatten")(flatten.flatten)
app.command("drill")(drill.drill)
app.command("login")(login.login)
app.command("explain")(risk.explain)
app.command("replay")(risk.replay)
app.command("codes")(risk.codes)
app.command("version")(version.version)
app.add_typer(user.app, name="user")
app.add_typer(killswitch.app, name="killswitch")
app.add_typer(audit.app, name="audit")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(instruments.app, name="instruments")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit."""
    harden_process()
    words = sys.argv[1:] if arguments is None else arguments
    is_debug = "--debug" in words
    # --debug is understood wherever it stands
    words = [word for word in words if word != "--debug"]
    try:
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
