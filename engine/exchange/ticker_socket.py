"""The ticker's WebSocket at ``/``: an ASGI layer in front of the routes, which get everything else.

Two tasks a connection: one drains what the client says, within a budget, the other sends what is due. Both end with
the client, with its session, or when the server drains (1001).
"""

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec
import trio

from engine.clock import Clock
from engine.exchange.config import ExchangeConfig
from engine.exchange.core import Exchange
from engine.exchange.errors import KiteRefusal
from engine.exchange.ticker import Connection, Ticker
from engine.exchange.ticker_frames import HEARTBEAT, frames

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

# messages that a client may send in a second: subscribing anew after a reconnect takes a handful
MOST_MESSAGES_A_SECOND = 100


class TickerSocket:
    """The application with the ticker in front. *stopping* is set when the server drains."""

    def __init__(
        self, app: App, ticker: Ticker, exchange: Exchange, clock: Clock, config: ExchangeConfig, stopping: trio.Event
    ) -> None:
        self._app = app
        self._ticker = ticker
        self._exchange = exchange
        self._clock = clock
        self._config = config
        self._stopping = stopping

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "websocket":
            await self._shake_hands(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _shake_hands(self, scope: Any, receive: Receive, send: Send) -> None:
        query = parse_qs(scope["query_string"].decode("latin-1"))
        try:
            if scope["path"] not in ("", "/"):
                raise KiteRefusal(404, "GeneralException", "Route not found")
            api_key, access_token = (query.get(name, [""])[-1] for name in ("api_key", "access_token"))
            connection = self._ticker.admit(api_key, access_token)
        except KiteRefusal as refusal:
            await _refuse(refusal, send)
            return
        try:
            await send({"type": "websocket.accept", "headers": []})
            await self._serve(connection, receive, send)
        finally:
            self._ticker.leave(connection)

    async def _serve(self, connection: Connection, receive: Receive, send: Any) -> None:
        # WSStream.app_send -> H11Protocol.stream_send -> TCPServer.protocol_send (hypercorn is pinned): its sends
        # are shielded, so a client that takes nothing can only be got rid of under the server
        stream = send.__self__.send.__self__.send.__self__.stream
        # closing a socket is at once; what waits on it fails
        self._ticker.begin(connection, stream.socket.close)
        async with trio.open_nursery() as nursery:

            async def drain() -> None:
                await self._take_commands(connection, receive)
                nursery.cancel_scope.cancel()

            async def pump() -> None:
                await self._pump(connection, send)
                nursery.cancel_scope.cancel()

            async def end_with_server() -> None:
                try:
                    await self._stopping.wait()
                    connection.closing = (1001, "the exchange stops")
                    nursery.cancel_scope.cancel()
                finally:
                    if connection.sending_since is not None:
                        connection.cut()

            nursery.start_soon(drain)
            nursery.start_soon(pump)
            nursery.start_soon(end_with_server)
        if connection.closing is not None:
            code, reason = connection.closing
            await send({"type": "websocket.close", "code": code, "reason": reason})

    async def _take_commands(self, connection: Connection, receive: Receive) -> None:
        second, count = 0, 0
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return
            if message["type"] != "websocket.receive":
                continue
            now = int(trio.current_time())
            second, count = (second, count + 1) if now == second else (now, 1)
            if count > MOST_MESSAGES_A_SECOND:
                connection.close(1008, "too many messages")
            elif connection.closing is None:
                text = message.get("text")
                connection.take(message.get("bytes") if text is None else text, self._exchange.roll(self._clock.now()))

    async def _pump(self, connection: Connection, send: Send) -> None:
        """Send what is due until the connection is to be closed."""
        while True:
            with trio.move_on_after(self._config.heartbeat_s) as waiting:
                await connection.wake.wait()
            connection.wake = trio.Event()
            if connection.closing is not None:
                return
            if connection.is_silent:
                connection.texts.clear()
                connection.due.clear()
                continue
            sent = 0
            while connection.texts:
                await _say(connection, send, text=connection.texts.popleft())
                sent += 1
            for frame in frames(await self._ticker.packets(connection)):
                await _say(connection, send, content=frame)
                sent += 1
            if waiting.cancelled_caught and not sent and connection.has_heartbeat:
                await _say(connection, send, content=HEARTBEAT)


async def _say(connection: Connection, send: Send, *, text: str | None = None, content: bytes | None = None) -> None:
    connection.sending_since = trio.current_time()
    try:
        await send({"type": "websocket.send", "bytes": content, "text": text})
    finally:
        connection.sending_since = None


async def _refuse(refusal: KiteRefusal, send: Send) -> None:
    body = {"status": "error", "message": refusal.message, "data": None, "error_type": refusal.error_type}
    headers = [(b"content-type", b"application/json")]
    await send({"type": "websocket.http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": msgspec.json.encode(body), "more_body": False})
