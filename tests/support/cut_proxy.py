"""A proxy in front of a server's unix socket that loses requests, loses replies, stalls, or is away."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio


class CutProxy:
    """Forwards *path* to *server*; its faults are switched on and off while it runs.

    ``lose_reply_to`` and ``lose_request``: bytes that mark the request whose reply (or which itself) is
    lost, with the connection; each works once. ``stalled`` holds everything back; ``rewrite`` replaces
    bytes in requests.
    """

    def __init__(self, path: Path, server: str) -> None:
        self.path = path
        self.server = server
        self.lose_reply_to: bytes | None = None
        self.lose_request: bytes | None = None
        self.rewrite: tuple[bytes, bytes] | None = None
        self.lost = 0
        self._flowing = trio.Event()
        self._flowing.set()
        self._scopes: set[trio.CancelScope] = set()
        self._nursery: trio.Nursery | None = None
        self._listening: trio.CancelScope | None = None

    def stall(self) -> None:
        """Hold back every byte, in both directions."""
        self._flowing = trio.Event()

    def flow(self) -> None:
        """Let bytes pass again."""
        self._flowing.set()

    async def up(self) -> None:
        """Listen."""
        assert self._nursery is not None
        await self._nursery.start(self._listen)

    def down(self) -> None:
        """Stop listening and cut every connection."""
        assert self._listening is not None
        self._listening.cancel()
        self.cut()

    def cut(self) -> None:
        """Cut every connection."""
        for scope in list(self._scopes):
            scope.cancel()

    async def _listen(self, *, task_status: trio.TaskStatus[None]) -> None:
        self.path.unlink(missing_ok=True)
        listener = trio.socket.socket(trio.socket.AF_UNIX)
        await listener.bind(str(self.path))
        listener.listen(64)
        with trio.CancelScope() as self._listening, listener:
            task_status.started()
            while True:
                client, _ = await listener.accept()
                assert self._nursery is not None
                self._nursery.start_soon(self._serve, trio.SocketStream(client))
        self.path.unlink(missing_ok=True)

    async def _serve(self, client: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                async with client, await trio.open_unix_socket(self.server) as server:
                    losing = trio.Event()
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._requests, client, server, losing, scope)
                        nursery.start_soon(self._replies, server, client, losing, scope)
            except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            finally:
                self._scopes.discard(scope)

    async def _requests(
        self, client: trio.abc.Stream, server: trio.abc.Stream, losing: trio.Event, scope: trio.CancelScope
    ) -> None:
        async for data in client:
            await self._flowing.wait()
            if self.lose_request is not None and self.lose_request in data:
                self.lose_request = None
                self.lost += 1
                scope.cancel()
                return
            if self.lose_reply_to is not None and self.lose_reply_to in data:
                self.lose_reply_to = None
                losing.set()
            if self.rewrite is not None:
                data = data.replace(*self.rewrite)
            await server.send_all(data)
        scope.cancel()

    async def _replies(
        self, server: trio.abc.Stream, client: trio.abc.Stream, losing: trio.Event, scope: trio.CancelScope
    ) -> None:
        async for data in server:
            await self._flowing.wait()
            if losing.is_set():
                self.lost += 1
                scope.cancel()
                return
            await client.send_all(data)
        scope.cancel()


@asynccontextmanager
async def cut_proxy(path: Path, server: str) -> AsyncIterator[CutProxy]:
    """Run a proxy on *path* for the body."""
    proxy = CutProxy(path, server)
    async with trio.open_nursery() as nursery:
        proxy._nursery = nursery
        await proxy.up()
        yield proxy
        nursery.cancel_scope.cancel()
