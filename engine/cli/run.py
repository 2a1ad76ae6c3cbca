"""``engine run``: the engine in the foreground."""

import gc
import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import trio
import typer

from engine.app import Engine
from engine.cli.places import ConfigOption, DataDirOption, config_of, data_dir_of
from engine.observability.logs import configure
from engine.security.environment import ConsultedEnvironment, forget_variables


def run(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    port: Annotated[int | None, typer.Option("--port", min=0, max=65535, help="Port; 0 picks a free one.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Also feed itself sample signals; paper mode only.")] = False,
) -> None:
    """Run the engine until Ctrl-C or SIGTERM."""
    environ = ConsultedEnvironment(os.environ)
    settings = config_of(config, environ)
    if port is not None:
        settings = msgspec.structs.replace(settings, server=msgspec.structs.replace(settings.server, port=port))
    if demo and settings.broker.mode != "paper":
        raise typer.BadParameter('sample signals are for [broker] mode = "paper"', param_hint="--demo")
    folder = data_dir_of(data_dir)
    log = configure(
        Path(settings.logging.dir).absolute(),
        settings.logging.level,
        settings.logging.retention_days,
        stderr=sys.stderr.isatty(),
    )
    engine = Engine(settings, folder, environ=dict(os.environ), announce=announce, demo=demo)
    forget_variables(environ.consulted | {"ENGINE_ADMIN_PASSWORD"})
    gc.freeze()
    try:
        trio.run(engine.run)
    finally:
        log.close()


def announce(line: str) -> None:
    """Print a line for the operator, flushed, so that whoever waits for it sees it."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
