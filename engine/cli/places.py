"""What all commands share: where configuration and data are, and how to reach the stores."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
import trio
import typer

from engine.config import Config, SecurityConfig, load
from engine.data_dir import lock_if_free, locked_by
from engine.embedded import EmbeddedUrls, embedded_servers, running_urls, silent_server
from engine.errors import ConfigError, StartupError
from engine.observability.redaction import escape_controls
from engine.runtime import holder
from engine.runtime.asyncio_bridge import open_aio
from engine.security.keys import Keys, load_or_create

_log = structlog.get_logger(__name__)
_WAIT_S = 15.0
_LOOK_EVERY_S = 0.1

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


def load_keys(security: SecurityConfig, data_dir: Path) -> Keys:
    """Return the engine's keys as *security* and *data_dir* have them. Raises StartupError, ConfigError."""
    return load_or_create(
        master_key=security.master_key,
        jwt_secret=security.jwt_secret,
        data_dir=data_dir,
        previous=security.master_key_previous,
    )


class Stores(msgspec.Struct, frozen=True, kw_only=True):
    """Where the stores are, for the time of a command; PostgreSQL by the login that owns the schema."""

    database_url: str
    redis_url: str


@asynccontextmanager
async def open_stores(config: Config, data_dir: Path) -> AsyncIterator[Stores]:
    """Reach the stores: the configured ones, those of a running engine, or embedded ones started for now."""
    async with open_aio(lambda context: _log.error("asyncio.stray", message=str(context.get("message")))):
        if not (config.database.is_embedded or config.redis.is_embedded):
            yield _mixed(config, "", "")
            return
        found = await _running_or_locked(config, data_dir)
        if isinstance(found, EmbeddedUrls):
            yield _mixed(config, found.database_url, found.redis_url)
            return
        lock = found
        try:
            async with embedded_servers(data_dir) as started:
                yield _mixed(config, started.database_url, started.redis_url)
        finally:
            os.close(lock)


async def _running_or_locked(config: Config, data_dir: Path) -> EmbeddedUrls | int:
    """Return where the servers of a running engine are, or the lock of *data_dir* when no engine has it.

    An engine that has just been started or is about to end has the lock, and its servers take no connections; one of
    them may be down for the moment. Another command's servers end with it, so its end is waited for.
    Raises StartupError when that takes too long.
    """
    embedded = {"with_postgres": config.database.is_embedded, "with_valkey": config.redis.is_embedded}
    engine, silent = "", None
    with trio.move_on_after(_WAIT_S):
        while True:
            lock = lock_if_free(data_dir)
            if lock is not None:
                return lock
            named, _ = locked_by(data_dir)
            # one that was killed leaves its name there, for whoever locks the directory next
            engine = "" if holder.is_dead(named) else named
            if engine:
                silent = await silent_server(data_dir, **embedded)
                running = running_urls(data_dir, **embedded)
                if silent is None and running is not None:
                    return running
            await trio.sleep(_LOOK_EVERY_S)
    if not engine:
        raise StartupError(f"another command works in {data_dir}: wait for its end, then try again")
    server = "a server" if silent is None else f"{silent.title} (see {silent.places.log})"
    raise StartupError(
        f"an engine runs in {data_dir}, but {server} of it took no connection for {_WAIT_S:.0f} s:"
        " try again when /system/ready says ok, or stop that engine first"
    )


def _mixed(config: Config, database_url: str, redis_url: str) -> Stores:
    return Stores(
        database_url=database_url if config.database.is_embedded else config.database.owner_url or config.database.url,
        redis_url=redis_url if config.redis.is_embedded else config.redis.url,
    )


def say(line: str) -> None:
    """Print one line at once; what others wrote into it cannot steer the terminal."""
    typer.echo(escape_controls(line))


def say_json(value: object) -> None:
    """Print a value as JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())
