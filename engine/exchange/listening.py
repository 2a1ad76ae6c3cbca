"""The listening socket: each connection's requests go to the fast lane or to Hypercorn, one by one.

A connection belongs to the fast lane between requests. What the lane does not take goes, from its first byte,
to Hypercorn's own protocol, which keeps the connection until it has answered and nothing is left over; a
WebSocket keeps it for good.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import repr_socket_addr, wrap_app

from engine.exchange.config import ExchangeError
from engine.exchange.fast_lane import FastLane
from engine.exchange.lean_http import PARTIAL, Request, read_request

# of one pipelining client, before it is sent what it has asked for so far
_MOST_PARTS = 128
_MOST_BYTES = 1024 * 1024
# one write of a copy is cheaper than several writes, up to here
_WORTH_COPYING = 64 * 1024


class _Connection(TCPServer):
    """One connection. ``_is_ours`` says that the next byte begins a request, or goes on with one in ``_pending``."""

    def __init__(self, lane: FastLane, most_body_bytes: int, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._lane = lane
        self._address: str | None = None
        self._most_body_bytes = most_body_bytes
        self._is_open = True
        self._is_ours = True
        self._is_answering = False
        self._pending = b""
        self._receiving = trio.CancelScope()
        self._heard_at = trio.current_time()

    async def protocol_send(self, event: Event) -> None:
        """Take an event of Hypercorn's protocol."""
        if isinstance(event, Updated) and event.idle:
            protocol = self.protocol.protocol
            self._heard_at = trio.current_time()
            # HTTP/2 counts streams, and what h11 has read ahead is a request that it must answer
            self._is_ours = isinstance(protocol, H11Protocol) and not protocol.connection.trailing_data[0]
            self._receiving.cancel()
        await super().protocol_send(event)

    async def _read_data(self) -> None:
        client = self.protocol.client
        self._address = client[0] if client is not None else None
        try:
            while self._is_open:
                try:
                    octets = await self._receive()
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    break
                if octets is None:
                    # Hypercorn has answered while the next requests had come already
                    await self._serve_pending()
                elif self._is_ours and octets:
                    self._heard_at = trio.current_time()
                    self._pending += octets
                    await self._serve_pending()
                elif octets and self._waits_for_hypercorn and len(self._pending) < MAX_RECV:
                    self._pending += octets
                else:
                    await self._hand_over()
                    await self.protocol.handle(RawData(octets))
                    self._is_open = octets != b""
            await self.protocol.handle(Closed())
        finally:
            # a connection that its client has closed is not kept for the rest of its idle time
            await self.idle_task.stop()

    @property
    def _waits_for_hypercorn(self) -> bool:
        """Whether what comes now begins another request than the one that Hypercorn answers."""
        protocol = self.protocol.protocol
        return isinstance(protocol, H11Protocol) and protocol.connection.their_state is h11.DONE

    async def _receive(self) -> bytes | None:
        """Return what comes next; None when Hypercorn has given the connection back instead."""
        if self._is_ours:
            return bytes(await self.stream.receive_some(MAX_RECV))
        with trio.CancelScope() as self._receiving:
            return bytes(await self.stream.receive_some(MAX_RECV))
        return None

    async def _serve_pending(self) -> None:
        """Answer the requests that have come whole, and hand on what is not for the lane."""
        self._is_answering = True
        try:
            start, parts, size, lane = 0, list[bytes](), 0, self._lane
            while start < len(self._pending):
                request = read_request(self._pending, start, self._most_body_bytes)
                if request is PARTIAL:
                    break
                answer = lane.answer(request, self._address) if isinstance(request, Request) else None
                if answer is None or not isinstance(request, Request):
                    self._is_ours = False
                    break
                start = request.end
                parts += answer
                size += sum(map(len, answer))
                if len(parts) > _MOST_PARTS or size > _MOST_BYTES:
                    await self._send(parts, size)
                    parts, size = [], 0
            self._pending = self._pending[start:]
            if parts:
                await self._send(parts, size)
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            self._is_open = False
            return
        finally:
            self._is_answering = False
        if not self._is_ours:
            await self._hand_over()
        elif self.context.terminated.is_set():
            self._is_open = False

    async def _send(self, parts: list[bytes], size: int) -> None:
        await self._lane.settle()
        for octets in [b"".join(parts)] if size < _WORTH_COPYING else parts:
            await self.stream.send_all(octets)

    async def _hand_over(self) -> None:
        octets, self._pending = self._pending, b""
        self._is_ours = False
        if octets:
            await self.protocol.handle(RawData(octets))

    async def _idle_timeout(self) -> None:
        # Hypercorn starts this anew for each of its requests; those of the fast lane only move `_heard_at`
        kept = self.config.keep_alive_timeout
        while trio.current_time() < self._heard_at + kept and not self.context.terminated.is_set():
            with trio.move_on_at(self._heard_at + kept):
                await self.context.terminated.wait()
        if self._is_answering:
            return  # the answer goes out first; the reader closes after it
        with trio.CancelScope(shield=True):
            await self._initiate_server_close()


async def serve(
    app: Any,
    config: Config,
    lane: FastLane,
    *,
    most_body_bytes: int,
    shutdown_trigger: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve *app* behind *lane* on ``config.bind`` until *shutdown_trigger* returns; reports the URLs it listens on.

    As ``hypercorn.trio.serve``: requests at hand have ``config.graceful_timeout`` to finish. Requests with a
    body over *most_body_bytes* are left to *app*. Raises an exception group with an ExchangeError when the
    address cannot be had.
    """
    wrapped = wrap_app(app, config.wsgi_max_body_size, "asgi")
    lifespan = Lifespan(wrapped, config, {})
    context = WorkerContext(None)
    async with trio.open_nursery() as lifespan_nursery:
        await lifespan_nursery.start(lifespan.handle_lifespan)
        await lifespan.wait_for_startup()
        async with trio.open_nursery() as connections:
            listeners = _listen(config)
            names = [listener.socket.getsockname() for listener in listeners]
            task_status.started(
                [
                    f"http://{repr_socket_addr(listener.socket.family, name)}"
                    for listener, name in zip(listeners, names, strict=True)
                ]
            )
            connect = partial(
                _Connection, lane, most_body_bytes, wrapped, config, context, ConnectionState(lifespan.state.copy())
            )
            try:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(partial(trio.serve_listeners, connect, listeners, handler_nursery=connections))
                    await shutdown_trigger()
                    accepting.cancel_scope.cancel()
            finally:
                await context.terminated.set()
                connections.cancel_scope.deadline = trio.current_time() + config.graceful_timeout
        await lifespan.wait_for_shutdown()
        lifespan_nursery.cancel_scope.cancel()


def _listen(config: Config) -> list[trio.SocketListener]:
    try:
        sockets = config.create_sockets().insecure_sockets
        for sock in sockets:
            sock.listen(config.backlog)
    except OSError as exc:
        where, reason = ", ".join(config.bind), exc.strerror or exc
        mend = "take another port (0: a free one) and an address of this machine"
        raise ExchangeError(f"cannot listen on {where}: {reason}; {mend}") from exc
    return [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]
