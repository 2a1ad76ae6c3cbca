"""Everything about the journal that is not the hot path: settings, epoch, replay, trimming.

Uses the redis package through the asyncio bridge, one crossing per call.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import redis.asyncio
import trio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from engine.domain.killswitch import KillRecord
from engine.errors import JournalUnavailable
from engine.journal import keys
from engine.journal.address import parse
from engine.runtime.asyncio_bridge import BridgeCancelled, run_aio

_PAGE = 500
_TRIM_PAGES = 40
_SETTINGS = (
    "appendonly",
    "appendfsync",
    "maxmemory-policy",
    "no-appendfsync-on-rewrite",
    "aof-load-truncated",
)

_CLAIM = """
local name = redis.call('GET', KEYS[1])
local fence = name and string.match(name, ':(%d+)$')
if fence and tonumber(fence) > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""


# "version flag record": the flag is 1 where the record blocks, which stays of two with one version
_PUT_KILL = """
local held = redis.call('HGET', KEYS[1], ARGV[1])
if held then
  local version, blocks = string.match(held, '^(%d+) (%d) ')
  if tonumber(version) > tonumber(ARGV[2]) then return 0 end
  if tonumber(version) == tonumber(ARGV[2]) and blocks == '1' and ARGV[3] == '0' then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
return 1
"""
_KILL_TIMEOUT_S = 2.0
_LOAD_TIMEOUT_S = 120.0


class JournalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What decides whether the server can keep the journal's promise; empty text where not readable.

    ``role`` is master, or slave for a replica, which takes no writes.
    """

    version: str
    server: str
    appendonly: str
    appendfsync: str
    maxmemory_policy: str
    no_appendfsync_on_rewrite: str = "no"
    aof_load_truncated: str = "yes"
    role: str = "master"

    def problems(self) -> list[str]:
        """Return what must be mended before the engine may rely on this server."""
        found = []
        if self.role not in ("master", ""):
            found.append("the server is a replica and takes no writes: name its primary in [redis] url")
        if not self.appendonly:
            found.append("its settings cannot be read: allow the user CONFIG GET (+config|get)")
            return found
        if self.appendonly != "yes":
            found.append("appendonly is off, so accepted signals would not survive a crash: CONFIG SET appendonly yes")
        if self.appendonly == "yes" and self.appendfsync != "always":
            found.append(
                f"appendfsync is {self.appendfsync or 'unreadable'}, so the last second can be lost: "
                "CONFIG SET appendfsync always"
            )
        if self.no_appendfsync_on_rewrite != "no":
            found.append(
                "no-appendfsync-on-rewrite is on, so entries are not on disk while the file is rewritten: "
                "CONFIG SET no-appendfsync-on-rewrite no"
            )
        if self.aof_load_truncated != "yes":
            found.append(
                "aof-load-truncated is off, so the server would not start again after a power cut: "
                "CONFIG SET aof-load-truncated yes"
            )
        if self.maxmemory_policy != "noeviction":
            found.append(
                f"maxmemory-policy is {self.maxmemory_policy or 'unreadable'}, so entries can be evicted: "
                "CONFIG SET maxmemory-policy noeviction"
            )
        major = self.version.split(".", 1)[0]
        if major.isdigit() and int(major) < 6:
            found.append(f"the server is version {self.version}: use Redis 6 or newer, or Valkey")
        return found


class JournalStore:
    """The journal's server seen through the redis package."""

    def __init__(self, url: str, *, deployment: str = "") -> None:
        """*deployment* names the engines that share a kill switch: others on the same server do not heed it."""
        self._address = parse(url)
        self._kill_key = keys.kill(deployment)

    async def settings(self) -> JournalSettings:
        """Read the server's durability settings. Raises JournalUnavailable."""

        async def readable(asked: Any) -> dict[str, Any]:
            try:
                found: dict[str, Any] = await asked
            except ResponseError:  # not allowed to this user, or not offered by this service
                return {}
            return found

        async def work(client: Any) -> JournalSettings:
            info = {**await readable(client.info("server")), **await readable(client.info("replication"))}
            config: dict[str, Any] = {}
            for name in _SETTINGS:
                config.update(await readable(client.config_get(name)))
            return JournalSettings(
                version=str(info.get("valkey_version") or info.get("redis_version", "")),
                server=str(info.get("server_name", "redis")),
                role=str(info.get("role", "")),
                **{name.replace("-", "_"): str(config.get(name, "")) for name in _SETTINGS},
            )

        found: JournalSettings = await self._run(work)
        return found

    async def epoch(self) -> str | None:
        """Return the journal's name for itself, None when it was wiped or never used."""
        found: str | None = await self._run(lambda client: client.get(keys.EPOCH))
        return found

    async def set_epoch(self, epoch: str) -> None:
        """Name the journal."""
        await self._run(lambda client: client.set(keys.EPOCH, epoch))

    async def claim(self, epoch: str, fence: int) -> bool:
        """Name the journal for the engine with the lease *fence*; False when a later one has it already.

        From then on no writer of an earlier lease can append: what it would take in, nobody would execute.
        """
        named = await self._run(lambda client: client.eval(_CLAIM, 1, keys.EPOCH, keys.name(epoch, fence), fence))
        return bool(named)

    async def read_after(self, epoch: str, position: str, *, limit: int = _PAGE) -> list[tuple[str, bytes]]:
        """Return up to *limit* entries after *position* (``0-0`` for all), oldest first, as (id, bytes)."""

        async def work(client: Any) -> list[tuple[str, bytes]]:
            # the entries are bytes; ids are text
            rows = await client.xrange(keys.stream(epoch), min=keys.after(position), count=limit)
            return [(row_id.decode(), fields.get(b"e", b"")) for row_id, fields in rows]

        found: list[tuple[str, bytes]] = await self._run(work, decode=False)
        return found

    async def load(self, epoch: str, entries: Sequence[tuple[str, bytes]], *, position: str) -> None:
        """Put *entries* into an empty server as the journal *epoch*, which has been as far as *position* before.

        Nothing is replaced: raises JournalUnavailable when the server holds a journal. The name is set last, so one
        that was cut short is no journal.
        """

        async def work(client: Any) -> None:
            if await client.exists(keys.EPOCH):
                raise JournalUnavailable("the server holds a journal already: name an empty one in [redis] url")
            stream = keys.stream(epoch)
            await client.delete(stream)
            if keys.order_of(position) > (0, 0):
                # the stream must know that it has been there, or a start would take it for an older copy
                await client.xadd(stream, {"e": b""}, id=position)
                await client.xdel(stream, position)
            for start in range(0, len(entries), _PAGE):
                pipeline = client.pipeline(transaction=False)
                for entry_id, content in entries[start : start + _PAGE]:
                    if keys.order_of(entry_id) > keys.order_of(position):
                        pipeline.xadd(stream, {"e": content}, id=entry_id)
                await pipeline.execute()
            await client.set(keys.EPOCH, epoch)

        await self._run(work, decode=False, timeout_s=_LOAD_TIMEOUT_S)

    async def unload(self, epoch: str) -> None:
        """Take back what `load` put there."""
        await self._run(lambda client: client.delete(keys.EPOCH, keys.stream(epoch)))

    async def last_position(self, epoch: str) -> str | None:
        """Return the position of the newest entry ever appended, trimmed ones included; None for no stream."""

        async def work(client: Any) -> str | None:
            if not await client.exists(keys.stream(epoch)):
                return None
            # undecoded: the answer also holds the first and the last entry, which are no text
            newest: bytes = (await client.xinfo_stream(keys.stream(epoch)))["last-generated-id"]
            return newest.decode()

        found: str | None = await self._run(work, decode=False)
        return found

    async def trim(self, epoch: str, position: str) -> None:
        """Drop entries older than *position*: the ledger has them."""

        async def work(client: Any) -> None:
            try:
                await client.xtrim(keys.stream(epoch), minid=position, approximate=True)
            except ResponseError:  # MINID came with Redis 6.2
                await _delete_before(client, keys.stream(epoch), position)

        await self._run(work)

    async def length(self, epoch: str) -> int:
        """Return how many entries the stream holds."""
        return int(await self._run(lambda client: client.xlen(keys.stream(epoch))))

    async def put_kill(self, record: KillRecord) -> None:
        """Keep a kill record; an older version never replaces a newer one. Raises JournalUnavailable."""
        key, arguments = (
            self._kill_key,
            (record.scope, record.version, int(record.enabled), msgspec.json.encode(record)),
        )
        await self._run(
            lambda client: client.eval(_PUT_KILL, 1, key, *arguments),
            decode=False,
            timeout_s=_KILL_TIMEOUT_S,
        )

    async def kill_records(self) -> list[KillRecord]:
        """Return the kill records; none where the server was emptied. Raises JournalUnavailable.

        One record that cannot be read makes the whole copy unreadable: which scope it was of is not known.
        """
        found: dict[bytes, bytes] = await self._run(
            lambda client: client.hgetall(self._kill_key), decode=False, timeout_s=_KILL_TIMEOUT_S
        )
        try:
            return [msgspec.json.decode(kept.split(b" ", 2)[2], type=KillRecord) for kept in found.values()]
        except (IndexError, msgspec.MsgspecError) as error:
            raise JournalUnavailable("a kill record in the journal's server is damaged") from error

    async def _run(self, work: Any, *, decode: bool = True, timeout_s: float = 5.0) -> Any:
        @asynccontextmanager
        async def client() -> AsyncIterator[Any]:
            # the same reading of the URL as the writer's: both must mean one database
            where: dict[str, Any] = {"host": self._address.host, "port": self._address.port, "ssl": self._address.tls}
            if self._address.path:
                where = {"unix_socket_path": self._address.path}
            made = redis.asyncio.Redis(
                **where,
                db=self._address.database,
                username=self._address.username,
                password=self._address.password,
                decode_responses=decode,
                protocol=2,
                socket_timeout=timeout_s,
                socket_connect_timeout=2,
                retry=Retry(NoBackoff(), 0),
            )
            try:
                yield made
            finally:
                await made.aclose()

        async def crossing() -> Any:
            async with client() as made:
                return await work(made)

        try:
            return await run_aio(crossing, timeout_s=timeout_s)
        except (RedisError, OSError, TimeoutError, trio.TooSlowError, BridgeCancelled) as exc:
            raise JournalUnavailable(f"the journal's server: {exc or type(exc).__name__}") from exc


async def _delete_before(client: Any, stream: str, position: str) -> None:
    if keys.order_of(position) == (0, 0):
        return
    for _ in range(_TRIM_PAGES):
        rows = await client.xrange(stream, max=keys.before(position), count=_PAGE)
        if not rows:
            return
        await client.xdel(stream, *[row_id for row_id, _ in rows])
