"""Both embedded servers of a data directory: found running, or run for the length of a block."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import trio

from engine.embedded.postgres import EmbeddedPostgres
from engine.embedded.server import EmbeddedServer
from engine.embedded.stale import marked_pid
from engine.embedded.valkey import EmbeddedValkey
from engine.errors import EngineError

_ANSWER_S = 2.0


class EmbeddedUrls(msgspec.Struct, frozen=True, kw_only=True):
    """Where the embedded servers are: ``postgresql://…?host=FOLDER`` and ``unix://SOCKET``."""

    database_url: str
    redis_url: str


def running_urls(data_dir: Path, *, with_postgres: bool = True, with_valkey: bool = True) -> EmbeddedUrls | None:
    """Return the URLs of the servers that an engine keeps up in *data_dir*, None unless all that it should have are."""
    postgres = EmbeddedPostgres(data_dir)
    valkey = EmbeddedValkey(data_dir)
    for server in ((postgres,) if with_postgres else ()) + ((valkey,) if with_valkey else ()):
        if marked_pid(server.places.mark) is None or not server.places.socket().exists():
            return None
    return EmbeddedUrls(database_url=postgres.url(), redis_url=valkey.url())


async def silent_server(
    data_dir: Path, *, with_postgres: bool = True, with_valkey: bool = True
) -> EmbeddedServer | None:
    """Return the first server in *data_dir* that takes no connections; None when all that there should be do."""
    wanted = ((EmbeddedPostgres,) if with_postgres else ()) + ((EmbeddedValkey,) if with_valkey else ())
    for server in (kind(data_dir) for kind in wanted):
        is_up = False
        if marked_pid(server.places.mark) is not None:
            with trio.move_on_after(_ANSWER_S), suppress(OSError):
                is_up = await server.is_up()
        if not is_up:
            return server
    return None


@asynccontextmanager
async def embedded_servers(data_dir: Path, *, durable: bool = True) -> AsyncIterator[EmbeddedUrls]:
    """Run both servers while the block runs. The caller must hold the directory's lock.

    Raises what ``EmbeddedServer.run`` raises; an error of the block itself comes out as it is,
    and when both servers fail, the first failure does.
    """
    try:
        async with trio.open_nursery() as servers:
            urls = await _start_both(servers, data_dir, durable=durable)
            yield urls
            servers.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _first_cause(group) from None


async def _start_both(servers: trio.Nursery, data_dir: Path, *, durable: bool) -> EmbeddedUrls:
    urls: dict[str, str] = {}

    async def start(server: EmbeddedServer) -> None:
        urls[server.name] = await servers.start(server.run)

    async with trio.open_nursery() as starting:
        starting.start_soon(start, EmbeddedPostgres(data_dir, durable=durable))
        starting.start_soon(start, EmbeddedValkey(data_dir))
    return EmbeddedUrls(database_url=urls["postgres"], redis_url=urls["valkey"])


def _first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    causes = list(_leaves(group))
    if len(causes) == 1 or all(isinstance(cause, EngineError) for cause in causes):
        return causes[0]
    return group


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for cause in group.exceptions:
        if isinstance(cause, BaseExceptionGroup):
            yield from _leaves(cause)
        else:
            yield cause
