"""Valkey as the journal sees it: one server that outlives engines, spoken to in its own protocol.

The engine's real JournalWriter talks to it over a stream in memory. What it was sent it carries out, even when
whoever sent it has gone: a server that hung does so when it goes on.
"""

from typing import Any

import hiredis
import trio

from engine.errors import JournalUnavailable
from engine.journal import keys, writer
from engine.journal.store import JournalSettings
from tests.simulation.plan import START

_WAY_S = 0.0003
_EPOCH_MS = int(START.timestamp() * 1000)


def _bulk(value: bytes | None) -> bytes:
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


class Server:
    """The journal's server and what it has on disk."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.values: dict[bytes, bytes] = {}
        self.streams: dict[str, dict[str, bytes]] = {}
        self.last: dict[str, str] = {}
        self.down = 0
        self.hangs = 0
        self.lose = 0
        self.generation = 0
        self.wiped = 0
        self.backlog: list[list[list[bytes]]] = []
        self.repeated: list[bytes] = []
        self.appended: list[tuple[float, bytes]] = []
        # for a bug to take away
        self.dedupes = True

    def crash(self) -> None:
        """The server dies; what it had answered is on disk."""
        self.down += 1
        self.generation += 1
        self.backlog.clear()

    def wipe(self) -> None:
        """Somebody runs FLUSHALL."""
        self.values.clear()
        self.streams.clear()
        self.last.clear()
        self.wiped += 1

    def go_on(self) -> None:
        """After a hang: do what was sent meanwhile."""
        backlog, self.backlog = self.backlog, []
        for commands in backlog:
            for command in commands:
                self.execute(command)

    def append(self, stream: str, entry: bytes) -> str:
        """Append an entry; return its id."""
        milliseconds, sequence = keys.order_of(self.last.get(stream, "0-0"))
        now = _EPOCH_MS + int(trio.current_time() * 1000)
        entry_id = f"{now}-0" if now > milliseconds else f"{milliseconds}-{sequence + 1}"
        self.streams.setdefault(stream, {})[entry_id] = entry
        self.last[stream] = entry_id
        self.appended.append((trio.current_time(), entry))
        return entry_id

    def execute(self, command: list[bytes]) -> bytes:
        """Carry out one command and return its answer."""
        name = command[0].upper()
        if name == b"GET":
            return _bulk(self.values.get(command[1]))
        if name == b"SET":
            if b"NX" in command and command[1] in self.values:
                return _bulk(None)
            self.values[command[1]] = command[2]
            return b"+OK\r\n"
        if name == b"SCRIPT":
            return _bulk(command[2])  # a script is its own name here
        if name in (b"EVALSHA", b"EVAL"):
            if command[1] == writer._APPEND:
                return self._append_script(command)
            if command[1] == writer._GO_ON:
                return self._go_on_script(command[3].decode(), command[4].decode())
        if name in (b"AUTH", b"SELECT", b"PING"):
            return b"+OK\r\n"
        raise AssertionError(f"the simulated journal server does not know {command[:3]}")

    def _append_script(self, command: list[bytes]) -> bytes:
        seen, stream, named, _ttl, entry, epoch = command[3:9]
        if self.values.get(named) != epoch:
            return b"-WIPED the journal lost its name\r\n"
        held = self.values.get(seen)
        if held is not None and self.dedupes:
            return b"*2\r\n" + _bulk(held) + b":1\r\n"
        if held is not None:
            self.repeated.append(seen)
        entry_id = self.append(stream.decode(), entry).encode()
        self.values[seen] = entry_id
        return b"*2\r\n" + _bulk(entry_id) + b":0\r\n"

    def _go_on_script(self, stream: str, entry_id: str) -> bytes:
        if stream in self.last:
            return b":0\r\n"
        self.streams[stream] = {}
        self.last[stream] = entry_id
        return b":1\r\n"

    def claim(self, epoch: str, fence: int) -> bool:
        """Do what the script of JournalStore.claim does."""
        held = self.values.get(keys.EPOCH.encode())
        if held is not None and keys.read_name(held.decode())[1] > fence:
            return False
        self.values[keys.EPOCH.encode()] = keys.name(epoch, fence).encode()
        return True


class SimStream(trio.abc.Stream):
    """A connection of one life to the server."""

    def __init__(self, life: Any, server: Server) -> None:
        self._life = life
        self._server = server
        self._generation = server.generation
        self._parser = hiredis.Reader()
        self._sent: list[list[bytes]] = []
        self._closed = False

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("closed")
        server = self._server
        if self._life.is_dead or server.down or server.generation != self._generation:
            raise trio.BrokenResourceError("the server went away")

    async def send_all(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self._check()
        self._parser.feed(data)
        while (command := self._parser.gets()) is not False:
            self._sent.append([part if isinstance(part, bytes) else str(part).encode() for part in command])

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        server = self._server
        if server.hangs:
            # it will be done when the server goes on, whoever waits for the answer then
            sent, self._sent = self._sent, []
            server.backlog.append(sent)
            await trio.sleep_forever()
        await trio.sleep(_WAY_S)
        self._check()
        if not self._sent:
            await trio.sleep_forever()
        sent, self._sent = self._sent, []
        answer = b"".join(map(server.execute, sent))
        appended = any(command[0] == b"EVALSHA" for command in sent)
        if appended:
            self._life.point("journal.applied")
        if appended and server.lose:
            server.lose -= 1
            await trio.sleep(_WAY_S)
            raise trio.BrokenResourceError("the connection broke")
        await trio.sleep(_WAY_S)
        self._check()
        return answer

    async def aclose(self) -> None:
        self._closed = True
        await trio.lowlevel.checkpoint()


async def connect(life: Any, server: Server) -> SimStream:
    """Stands for engine.journal.address.connect."""
    await trio.sleep(_WAY_S)
    if server.hangs:
        await trio.sleep_forever()
    if server.down or life.is_dead:
        raise OSError("connection refused")
    return SimStream(life, server)


class SimJournalStore:
    """Stands for engine.journal.store.JournalStore."""

    def __init__(self, life: Any, server: Server) -> None:
        self._life = life
        self._server = server

    async def _ask(self) -> Server:
        server = self._server
        await trio.sleep(_WAY_S)
        if server.hangs:
            await trio.sleep(5.0)
            raise JournalUnavailable("no answer within 5 s")
        if server.down or self._life.is_dead:
            raise JournalUnavailable("connection refused")
        return server

    async def settings(self) -> JournalSettings:
        await self._ask()
        return JournalSettings(
            version="9.1.2", server="valkey", appendonly="yes", appendfsync="always", maxmemory_policy="noeviction"
        )

    async def epoch(self) -> str | None:
        found = (await self._ask()).values.get(keys.EPOCH.encode())
        return None if found is None else found.decode()

    async def set_epoch(self, epoch: str) -> None:
        (await self._ask()).values[keys.EPOCH.encode()] = epoch.encode()

    async def claim(self, epoch: str, fence: int) -> bool:
        return (await self._ask()).claim(epoch, fence)

    async def read_after(self, epoch: str, position: str, *, limit: int = 500) -> list[tuple[str, bytes]]:
        stream = (await self._ask()).streams.get(keys.stream(epoch), {})
        after = keys.order_of(position)
        return [(entry_id, entry) for entry_id, entry in stream.items() if keys.order_of(entry_id) > after][:limit]

    async def last_position(self, epoch: str) -> str | None:
        return (await self._ask()).last.get(keys.stream(epoch))

    async def trim(self, epoch: str, position: str) -> None:
        stream = (await self._ask()).streams.get(keys.stream(epoch), {})
        for entry_id in [e for e in stream if keys.order_of(e) < keys.order_of(position)]:
            del stream[entry_id]

    async def length(self, epoch: str) -> int:
        return len((await self._ask()).streams.get(keys.stream(epoch), {}))
