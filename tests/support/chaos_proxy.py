"""A proxy between a client and a server, TCP or unix socket on either side, that makes the network bad.

Faults are plain attributes, switched while it runs: see `ChaosProxy`. For a server's unix socket in a
trio test there is also the smaller tests/support/cut_proxy.py.
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import trio

from tests.support.trio_thread import TrioThread

_RST = struct.pack("ii", 1, 0)
Address = Path | tuple[str, int]


class ChaosProxy:
    """Forwards *listen* to *server*; port 0 picks a free one, see `address`.

    ``latency_s`` delays each piece of a reply by that much and up to ``jitter_s`` more. ``black_hole``
    takes every byte and passes none on. ``stalled`` holds bytes back until it is cleared with `flow`.
    ``slice_bytes`` passes replies on in pieces of at most so many bytes. ``limit_bytes`` resets a
    connection once that many bytes of its replies have passed. ``lose_replies`` of connections whose
    first bytes hold ``of``: as many requests reach the server, and their replies are lost with the connection.
    ``answer_with``: each command of a Valkey client is answered with these bytes and reaches no server.
    """

    def __init__(self, listen: Address, server: Address, *, seed: int = 1) -> None:
        self.address = listen
        self.server = server
        self.latency_s = self.jitter_s = 0.0
        self.black_hole = False
        self.slice_bytes: int | None = None
        self.limit_bytes: int | None = None
        self.lose_replies = 0
        self.of = b""
        self.lost = 0
        self.answer_with: bytes | None = None
        self._dice = Random(seed)
        self._flowing = trio.Event()
        self._flowing.set()
        self._open: set[_Pair] = set()
        self._listening: trio.CancelScope | None = None

    def stall(self) -> None:
        """Hold every byte back, in both directions."""
        self._flowing = trio.Event()

    def flow(self) -> None:
        """Let bytes pass again, and take none away."""
        self.black_hole = False
        self._flowing.set()

    def reset_all(self) -> None:
        """End every connection on both sides, TCP with a reset."""
        for pair in list(self._open):
            pair.reset()

    def half_open(self) -> None:
        """Close the server's side of every connection and tell the client nothing."""
        for pair in list(self._open):
            pair.keep_client = True
            pair.scope.cancel()

    def down(self) -> None:
        """Refuse connections from now on, and end those there are."""
        if self._listening is not None:
            self._listening.cancel()
        self.reset_all()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until `down`; may be called again."""
        listener = await self._bind()
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as self._listening, listener:
                task_status.started()
                while True:
                    client, _ = await listener.accept()
                    nursery.start_soon(self._serve, trio.SocketStream(client))
            if isinstance(self.address, Path):
                self.address.unlink(missing_ok=True)

    async def _bind(self) -> trio.socket.SocketType:
        if isinstance(self.address, Path):
            self.address.unlink(missing_ok=True)
            listener = trio.socket.socket(trio.socket.AF_UNIX)
            await listener.bind(str(self.address))
        else:
            listener = trio.socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            await listener.bind(self.address)
            self.address = listener.getsockname()
        listener.listen(128)
        return listener

    async def _serve(self, client: trio.SocketStream) -> None:
        try:
            if isinstance(self.server, Path):
                server = trio.SocketStream((await trio.open_unix_socket(str(self.server))).socket)
            else:
                server = await trio.open_tcp_stream(*self.server)
        except OSError:
            client.socket.close()
            return
        pair = _Pair(client, server)
        self._open.add(pair)
        try:
            with pair.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._requests, pair)
                    nursery.start_soon(self._replies, pair)
            if pair.keep_client:
                server.socket.close()
                await trio.sleep_forever()
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # one side went away, which is what this is about
        finally:
            self._open.discard(pair)
            client.socket.close()
            server.socket.close()

    async def _requests(self, pair: "_Pair") -> None:
        async for chunk in pair.client:
            await self._flowing.wait()
            if self.black_hole:
                continue
            if self.answer_with is not None:
                commands = chunk.startswith(b"*") + chunk.count(b"\n*")
                await pair.client.send_all(self.answer_with * commands)
                continue
            pair.first = pair.first or bytes(chunk)
            if self.lose_replies > 0 and self.of in pair.first and pair.has_answered:
                self.lose_replies -= 1
                pair.losing = True
            await pair.server.send_all(chunk)
        pair.scope.cancel()

    async def _replies(self, pair: "_Pair") -> None:
        passed = 0
        async for chunk in pair.server:
            await self._flowing.wait()
            if self.black_hole:
                continue
            if pair.losing:
                self.lost += 1
                break
            if self.latency_s or self.jitter_s:
                await trio.sleep(self.latency_s + self.jitter_s * self._dice.random())
            size = self.slice_bytes or len(chunk)
            for start in range(0, len(chunk), size):
                await pair.client.send_all(chunk[start : start + size])
            pair.has_answered = True
            passed += len(chunk)
            if self.limit_bytes is not None and passed >= self.limit_bytes:
                pair.reset()
                return
        pair.scope.cancel()


class _Pair:
    """One connection: both streams and what is to become of it."""

    def __init__(self, client: trio.SocketStream, server: trio.SocketStream) -> None:
        self.client = client
        self.server = server
        self.scope = trio.CancelScope()
        self.first = b""
        self.has_answered = False
        self.losing = False
        self.keep_client = False

    def reset(self) -> None:
        for stream in (self.client, self.server):
            if stream.socket.fileno() != -1 and stream.socket.family != socket.AF_UNIX:
                stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        self.keep_client = False
        self.scope.cancel()


class ThreadProxy:
    """A `ChaosProxy` on a `TrioThread`, for tests that are not trio's: set its faults on ``faults``."""

    def __init__(self, thread: TrioThread, listen: Address, server: Address) -> None:
        self.faults = ChaosProxy(listen, server)
        self._thread = thread

    def up(self) -> None:
        """Listen."""
        self._thread.start(self.faults.run)

    def down(self) -> None:
        """Refuse and cut."""
        self._thread.call_sync(self.faults.down)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Be down for the length of a block."""
        self.down()
        try:
            yield
        finally:
            self.up()

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Hold every byte back for the length of a block."""
        self._thread.call_sync(self.faults.stall)
        try:
            yield
        finally:
            self._thread.call_sync(self.faults.flow)

    def half_open(self) -> None:
        """Cut the server's side only."""
        self._thread.call_sync(self.faults.half_open)

    def reset_all(self) -> None:
        """Cut every connection."""
        self._thread.call_sync(self.faults.reset_all)
