"""A ticker client for tests: a WebSocket over trio, as little as wsproto needs, and the official parser as oracle."""

import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from tests.support.exchange import RunningExchange

DEADLINE_S = 10


class Refused(Exception):
    """The handshake was refused with an HTTP status and a body."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status} {body!r}")
        self.status = status
        self.body = body


class Closed(Exception):
    """The server closed the connection; the code is None when it went without a word."""

    def __init__(self, code: int | None) -> None:
        super().__init__(str(code))
        self.code = code


class TickerClient:
    """An open connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.ws = WSConnection(ConnectionType.CLIENT)
        self._messages: list[str | bytes] = []
        self._parts: list[Any] = []

    async def shake_hands(self, host: str, target: str) -> None:
        await self.stream.send_all(self.ws.send(Request(host=host, target=target)))
        status, body = 0, b""
        while True:
            for event in await self._events():
                match event:
                    case AcceptConnection():
                        return
                    case RejectConnection():
                        status = event.status_code
                        if not event.has_body:
                            raise Refused(status, b"")
                    case RejectData():
                        body += event.data
                        if event.body_finished:
                            raise Refused(status, body)

    async def send(self, message: Any) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        await self.stream.send_all(self.ws.send(TextMessage(data=text)))

    async def subscribe(self, mode: str, *tokens: int) -> None:
        await self.send({"a": "subscribe", "v": list(tokens)})
        await self.send({"a": "mode", "v": [mode, list(tokens)]})

    async def receive(self) -> str | bytes:
        """Return the next message; raises Closed."""
        while not self._messages:
            for event in await self._events():
                match event:
                    case Message():
                        self._parts.append(event.data)
                        if event.message_finished:
                            joined = b"".join(self._parts) if isinstance(event, BytesMessage) else "".join(self._parts)
                            self._messages.append(joined)
                            self._parts.clear()
                    case Ping():
                        await self.stream.send_all(self.ws.send(event.response()))
                    case CloseConnection():
                        raise Closed(event.code)
        return self._messages.pop(0)

    async def text(self) -> dict[str, Any]:
        """Return the next text message, decoded; ticks and heartbeats in between are dropped."""
        with trio.fail_after(DEADLINE_S):
            while True:
                message = await self.receive()
                if isinstance(message, str):
                    return dict(json.loads(message))

    async def order(self) -> dict[str, Any]:
        """Return the data of the next order update."""
        message = await self.text()
        assert (message["type"], message["id"]) == ("order", ""), message
        return dict(message["data"])

    async def ticks(self) -> list[dict[str, Any]]:
        """Return the next frame of ticks as the official client parses it."""
        with trio.fail_after(DEADLINE_S):
            while True:
                message = await self.receive()
                if isinstance(message, bytes) and len(message) > 1:
                    return official_parse(message)

    async def closed(self) -> int | None:
        """Wait until the server closes; returns the code."""
        with trio.fail_after(DEADLINE_S):
            while True:
                try:
                    await self.receive()
                except Closed as exc:
                    return exc.code

    async def _events(self) -> list[Any]:
        with trio.fail_after(DEADLINE_S):
            try:
                data = await self.stream.receive_some(65536)
            except trio.BrokenResourceError as exc:
                raise Closed(None) from exc
        if not data:
            raise Closed(None)
        self.ws.receive_data(bytes(data))
        return list(self.ws.events())


def official_parse(frame: bytes) -> list[dict[str, Any]]:
    """Return what the official client makes of a binary message."""
    from kiteconnect import KiteTicker

    return list(KiteTicker("", "")._parse_binary(frame))


def packets_of(frame: bytes) -> list[bytes]:
    """Split a frame by hand."""
    (count,), found, at = struct.unpack(">H", frame[:2]), [], 2
    for _ in range(count):
        (length,) = struct.unpack(">H", frame[at : at + 2])
        found.append(frame[at + 2 : at + 2 + length])
        at += 2 + length
    assert at == len(frame)
    return found


@asynccontextmanager
async def ticker(
    exchange: RunningExchange, *, api_key: str | None = None, access_token: str | None = None, path: str = "/"
) -> AsyncIterator[TickerClient]:
    """Open a connection as the official client does. Raises Refused."""
    where = urlsplit(exchange.base_url)
    query = urlencode({"api_key": api_key or exchange.api_key, "access_token": access_token or exchange.access_token})
    stream = await trio.open_tcp_stream(where.hostname or "", where.port or 0)
    async with stream:
        client = TickerClient(stream)
        await client.shake_hands(where.netloc, f"{path}?{query}")
        yield client
