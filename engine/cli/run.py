"""``engine run``: the engine in the foreground."""

import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import trio
import typer

from engine.app import Demo, Engine
from engine.cli.places import ConfigOption, DataDirOption, config_of, data_dir_of
from engine.config import Config
from engine.config.sections import BackupConfig, DrillConfig
from engine.demo.director import DAY_S
from engine.demo.world import claim, is_demos
from engine.errors import StartupError
from engine.observability.gc_watch import watch_collections
from engine.observability.logs import configure
from engine.runtime import garbage, memory, threads
from engine.security.environment import ConsultedEnvironment, deny_inspection, forget_variables

_DEMO_DIR = Path(".engine-demo")


def run(
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    port: Annotated[int | None, typer.Option("--port", min=0, max=65535, help="Port; 0 picks a free one.")] = None,
    demo: Annotated[
        bool, typer.Option("--demo", help="Play a seeded trading day at speed, in a folder of its own (.engine-demo).")
    ] = False,
    demo_seed: Annotated[int, typer.Option("--demo-seed", min=0, help="Which day the demo plays.")] = 1,
    demo_seconds: Annotated[
        float, typer.Option("--demo-seconds", min=5, max=86_400, help="How long its first day takes.")
    ] = DAY_S,
) -> None:
    """Run the engine until Ctrl-C or SIGTERM."""
    environ = ConsultedEnvironment(os.environ)
    settings = config_of(config, environ)
    if port is not None:
        settings = msgspec.structs.replace(settings, server=msgspec.structs.replace(settings.server, port=port))
    if demo and settings.broker.mode != "paper":
        raise typer.BadParameter('sample signals are for [broker] mode = "paper"', param_hint="--demo")
    folder = data_dir_of(data_dir or (None if not demo or os.environ.get("ENGINE_DATA_DIR") else _DEMO_DIR))
    if demo:
        claim(folder, demo_seed)
        settings = _by_itself(settings, folder)
    elif settings.broker.mode != "paper" and is_demos(folder):
        raise StartupError(f"{folder} was made by --demo: use --data-dir DIR with a folder of its own")
    log = configure(
        Path(settings.logging.dir).absolute(),
        settings.logging.level,
        settings.logging.retention_days,
        console=settings.logging.console,
        max_file_bytes=settings.logging.max_file_mb * 1_000_000,
    )
    played = Demo(seed=demo_seed, day_s=demo_seconds) if demo else None
    engine = Engine(settings, folder, environ=dict(os.environ), announce=_announce, demo=played)
    forget_variables(environ.consulted | {"ENGINE_ADMIN_PASSWORD"})
    deny_inspection()
    garbage.begin()
    memory.return_large_blocks()
    watch_collections()
    threads.yield_soon()
    try:
        trio.run(engine.run)
    finally:
        log.close()


def _announce(line: str) -> None:
    if line.startswith("engine ready "):
        garbage.settle()
    announce(line)


def _by_itself(settings: Config, folder: Path) -> Config:
    """Return *settings* so that a demo speaks to no chat and writes nowhere but into its own *folder*."""
    return msgspec.structs.replace(
        settings,
        telegram=msgspec.structs.replace(settings.telegram, mode="off"),
        backup=BackupConfig(),
        drill=DrillConfig(),
        logging=msgspec.structs.replace(settings.logging, dir=str(folder / "logs")),
    )


def announce(line: str) -> None:
    """Print a line for the operator, flushed, so that whoever waits for it sees it."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
