"""What all commands share: where configuration and data are, and how to reach the stores."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
import typer

from engine.config import Config, load
from engine.data_dir import lock_data_dir
from engine.embedded import embedded_servers, running_urls
from engine.errors import ConfigError
from engine.observability.redaction import escape_controls
from engine.runtime.asyncio_bridge import open_aio

_log = structlog.get_logger(__name__)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; ./engine.toml if it is there.", dir_okay=False)
]
DataDirOption = Annotated[
    Path | None, typer.Option("--data-dir", help="Data directory; ./.engine unless told otherwise.", file_okay=False)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def config_of(path: Path | None, environ: Mapping[str, str] | None = None) -> Config:
    """Load the configuration, overridden by *environ* (None: the process's own). Raises ConfigError."""
    if path is None:
        default = Path("engine.toml")
        path = default if default.exists() else None
    elif not path.exists():
        raise ConfigError(f"there is no configuration file {path}; `engine init` writes one")
    return load(path, os.environ if environ is None else environ)


def data_dir_of(path: Path | None) -> Path:
    """Return the data directory."""
    return (path or Path(os.environ.get("ENGINE_DATA_DIR") or ".engine")).absolute()


class Stores(msgspec.Struct, frozen=True, kw_only=True):
    """Where the stores are, for the time of a command."""

    database_url: str
    redis_url: str


@asynccontextmanager
async def open_stores(config: Config, data_dir: Path) -> AsyncIterator[Stores]:
    """Reach the stores: the configured ones, those of a running engine, or embedded ones started for now."""
    async with open_aio(lambda context: _log.error("asyncio.stray", message=str(context.get("message")))):
        if not (config.database.is_embedded or config.redis.is_embedded):
            yield Stores(database_url=config.database.url, redis_url=config.redis.url)
            return
        running = running_urls(data_dir)
        if running is not None:
            yield _mixed(config, running.database_url, running.redis_url)
            return
        lock = lock_data_dir(data_dir)
        try:
            async with embedded_servers(data_dir) as started:
                yield _mixed(config, started.database_url, started.redis_url)
        finally:
            os.close(lock)


def _mixed(config: Config, database_url: str, redis_url: str) -> Stores:
    return Stores(
        database_url=database_url if config.database.is_embedded else config.database.url,
        redis_url=redis_url if config.redis.is_embedded else config.redis.url,
    )


def say(line: str) -> None:
    """Print one line at once; what others wrote into it cannot steer the terminal."""
    typer.echo(escape_controls(line))


def say_json(value: object) -> None:
    """Print a value as JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())
