"""A raw-socket stand-in for Kite: answers exactly the bytes that a test scripts, however odd.

Without a script it keeps a minimal order book (tests/support/kite_book.py), so that the conformance
suite has two venues that were written apart.
"""

import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import parse_qsl, urlsplit

import trio

from tests.support.kite_book import KiteBook, reply


@dataclass
class Request:
    """One request as it came: ``raw`` is head and body, byte for byte."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    raw: bytes
    connection: int

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> list[tuple[str, str]]:
        return parse_qsl(urlsplit(self.target).query)

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


class Wire:
    """The server's end of a connection, for scripted steps."""

    def __init__(self, stream: trio.abc.Stream, sock: trio.socket.SocketType) -> None:
        self._stream = stream
        self._sock = sock
        self.is_open = True

    async def send(self, raw: bytes) -> None:
        await self._stream.send_all(raw)

    async def reset(self) -> None:
        """Send RST rather than FIN."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.close()

    async def close(self) -> None:
        self.is_open = False
        await trio.aclose_forcefully(self._stream)


Step = Callable[[Wire, Request], Awaitable[None]]


def raw(answer: bytes) -> Step:
    """Answer these bytes and keep the connection."""

    async def step(wire: Wire, _: Request) -> None:
        await wire.send(answer)

    return step


def answer(status: int, body: bytes, content_type: str | None = "application/json", extra: str = "") -> Step:
    """Answer with a content length and keep the connection."""
    return raw(reply(status, body, content_type, extra))


def in_pieces(data: bytes, size: int = 1) -> Step:
    """Answer in pieces of *size* bytes."""

    async def step(wire: Wire, _: Request) -> None:
        for start in range(0, len(data), size):
            await wire.send(data[start : start + size])

    return step


def then_close(data: bytes = b"") -> Step:
    """Answer these bytes and close."""

    async def step(wire: Wire, _: Request) -> None:
        if data:
            await wire.send(data)
        await wire.close()

    return step


async def reset(wire: Wire, _: Request) -> None:
    """Reset the connection instead of answering."""
    await wire.reset()


async def hang(_wire: Wire, _: Request) -> None:
    """Never answer."""
    await trio.sleep_forever()


@dataclass
class KiteStub:
    """The running stand-in. ``script`` steps are used up in order, one per request."""

    base_url: str = ""
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    script: deque[Step] = field(default_factory=deque)
    book: KiteBook = field(default_factory=KiteBook)
    arrived: trio.Event = field(default_factory=trio.Event)
    wires: list[Wire] = field(default_factory=list)
    api_key: str = "stubkey"
    api_secret: str = "stubsecret"
    access_token: str = "stubtoken"

    def next(self, *steps: Step) -> None:
        """Script the answers to the requests to come."""
        self.script.extend(steps)

    @property
    def writes(self) -> list[Request]:
        """The requests that would change something."""
        return [request for request in self.requests if request.method != "GET"]

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection, keep-alive."""
        self.connections += 1
        number = self.connections
        transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        wire = Wire(stream, transport.socket)
        self.wires.append(wire)
        buffer = b""
        try:
            while wire.is_open:
                while b"\r\n\r\n" not in buffer:
                    chunk = await stream.receive_some()
                    if not chunk:
                        return
                    buffer += chunk
                head, _, rest = buffer.partition(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
                length = int(headers.get("content-length", "0"))
                while len(rest) < length:
                    chunk = await stream.receive_some()
                    if not chunk:
                        return
                    rest += chunk
                method, target, _ = lines[0].split(" ")
                body, buffer = rest[:length], rest[length:]
                request = Request(method, target, headers, body, head + b"\r\n\r\n" + body, number)
                self.requests.append(request)
                self.arrived.set()
                step = self.script.popleft() if self.script else self._by_book
                await step(wire, request)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            # The client went away, which is what many tests are about.
            return
        finally:
            await trio.aclose_forcefully(stream)

    async def _by_book(self, wire: Wire, request: Request) -> None:
        await wire.send(self.book.answer(request.method, request.target, request.body))


@asynccontextmanager
async def running_stub(server_context: ssl.SSLContext | None = None) -> AsyncIterator[KiteStub]:
    """Run a stand-in on a free loopback port, over TLS when *server_context* is given."""
    stub = KiteStub()
    async with trio.open_nursery() as nursery:
        if server_context is None:
            serve = partial(trio.serve_tcp, stub.serve, 0, host="127.0.0.1")
        else:
            serve = partial(
                trio.serve_ssl_over_tcp, stub.serve, 0, server_context, host="127.0.0.1", https_compatible=True
            )
        listeners = await nursery.start(serve)
        tcp = listeners[0] if server_context is None else listeners[0].transport_listener
        scheme, host = ("http", "127.0.0.1") if server_context is None else ("https", "localhost")
        stub.base_url = f"{scheme}://{host}:{tcp.socket.getsockname()[1]}"
        yield stub
        nursery.cancel_scope.cancel()


def free_port_url() -> str:
    """An address where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"
