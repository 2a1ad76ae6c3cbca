"""One keep-alive connection that sends bytes as they are given and reads whole answers back."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

import trio

_WITHIN_S = 10


class Answer(NamedTuple):
    """An answer as it stood on the wire; ``headers`` in their order, without ``date``."""

    status_line: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.status_line.split()[1])


class RawConnection:
    """The client's side. Every wait ends within seconds."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._received = b""

    async def send(self, octets: bytes) -> None:
        """Send *octets*."""
        with trio.fail_after(_WITHIN_S):
            await self.stream.send_all(octets)

    async def ask(self, octets: bytes) -> Answer:
        """Send *octets* and return the next answer."""
        await self.send(octets)
        return await self.answer()

    async def answer(self) -> Answer:
        """Return the next answer."""
        while b"\r\n\r\n" not in self._received:
            await self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        headers = tuple((name, value.strip()) for name, _, value in (line.partition(b":") for line in lines))
        size = int(dict(headers).get(b"content-length", b"0"))
        while len(self._received) < size:
            await self._more()
        body, self._received = self._received[:size], self._received[size:]
        return Answer(status_line, tuple(pair for pair in headers if pair[0] != b"date"), body)

    async def is_closed(self) -> bool:
        """Wait until the server closes; False when it sends something instead."""
        with trio.fail_after(_WITHIN_S):
            return not self._received and await self.stream.receive_some(1) == b""

    async def _more(self) -> None:
        with trio.fail_after(_WITHIN_S):
            octets = await self.stream.receive_some(65536)
        assert octets, f"closed by the server after {self._received!r}"
        self._received += octets


@asynccontextmanager
async def raw_connection(base_url: str) -> AsyncIterator[RawConnection]:
    """Connect to the host and port of *base_url*."""
    parts = urlsplit(base_url)
    stream = await trio.open_tcp_stream(parts.hostname or "127.0.0.1", parts.port or 80)
    async with stream:
        yield RawConnection(stream)
