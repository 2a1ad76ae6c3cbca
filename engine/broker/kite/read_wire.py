"""The wire of what the order protocol reads: as the order wire, without its care for the bytes that left.

A general HTTP client spends most of a millisecond on a request, which is most of what an idle engine does and of what
it takes to open a thousand accounts. One request in flight per connection; a connection that died while idle is found
before use. No redirects, no proxies, no retries. A cancelled or failed request closes its connection.
"""

import ssl
from collections import deque
from collections.abc import Callable

import msgspec
import trio

from engine.broker.kite.answer import AnswerReader, OversizeError, ProtocolError
from engine.broker.kite.channel import Channel
from engine.broker.kite.origin import Origin
from engine.errors import BrokerUnavailable

_MAX_IDLE_S = 30.0


class ReadAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer; ``encoding`` is that of its body."""

    status: int
    encoding: str
    body: bytes


class _Reader(AnswerReader):
    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.date: str | None = None
        self.encoding = ""
        self.has_headers = False

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        match name.lower():
            case b"date":
                self.date = value.decode("latin-1")
            case b"content-encoding":
                self.encoding = value.decode("latin-1").lower()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.has_headers = self.status >= 200 and not self.complete


class ReadWire:
    """Connections to *origin*; *timeout_s* bounds each phase of a request, *max_bytes* an answer.

    *heard* is told the ``Date`` of every answer and how many seconds after the request it came. How many requests
    there are at once is bounded by the caller.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        timeout_s: float,
        max_bytes: int,
        context: ssl.SSLContext | None,
        local_address: str | None,
        heard: Callable[[str | None, float], None] | None,
    ) -> None:
        self._origin = origin
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._context = context
        self._local_address = local_address
        self._heard = heard
        self._idle: deque[Channel] = deque()
        self._is_closed = False

    async def get(self, target: str, head: str) -> ReadAnswer:
        """Ask for *target* with the header lines *head*. Raises BrokerUnavailable when there is no whole answer."""
        if not target.startswith("/") or not target.isascii() or not target.isprintable() or " " in target:
            raise BrokerUnavailable(f"{target!r}: no path at the broker")
        if self._is_closed:
            raise BrokerUnavailable(f"{target}: the client is closed")
        asked = trio.current_time()
        # what it stands in changes with every step, so that a timeout says where
        phase = "Connect"
        channel: Channel | None = None
        try:
            with trio.fail_after(self._timeout_s):
                channel = self._take_idle() or await Channel.connect(
                    self._origin.host, self._origin.port, context=self._context, local_address=self._local_address
                )
                phase = "Write"
                channel.begin(f"GET {target} HTTP/1.1\r\nHost: {self._origin.authority}\r\n{head}\r\n".encode("ascii"))
                while not channel.flush():
                    await channel.wait_writable()
            phase = "Read"
            reader = await self._read(channel, asked)
        except trio.TooSlowError:
            raise BrokerUnavailable(f"{_path(target)}: {phase}Timeout: nothing for {self._timeout_s:g} s") from None
        except (OSError, ValueError, ProtocolError, OversizeError) as exc:
            # ValueError is a host name that cannot be encoded; TLS errors are OSErrors
            raise BrokerUnavailable(f"{_path(target)}: {phase}Error: {exc or type(exc).__name__}") from exc
        else:
            if reader.reusable and not self._is_closed:
                channel.idle_since = trio.current_time()
                self._idle.append(channel)
                channel = None
            return ReadAnswer(status=reader.status, encoding=reader.encoding, body=reader.body)
        finally:
            if channel is not None:
                channel.close()

    async def aclose(self) -> None:
        """Close the idle connections; those in use close when their request ends."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()
        await trio.lowlevel.checkpoint()

    async def _read(self, channel: Channel, asked: float) -> _Reader:
        with _Reader(self._max_bytes) as reader:
            is_told = self._heard is None
            while not reader.complete:
                with trio.fail_after(self._timeout_s):
                    await channel.wait_readable()
                chunk = channel.read()
                if chunk is None:
                    continue
                if chunk:
                    reader.feed(chunk)
                else:
                    reader.feed_end()
                if reader.has_headers and not is_told and self._heard is not None:
                    is_told = True
                    self._heard(reader.date, trio.current_time() - asked)
                if not chunk and not reader.complete:
                    raise ProtocolError("the connection ended before the answer did")
            return reader

    def _take_idle(self) -> Channel | None:
        """Return the connection used last, the least likely to have been dropped; those gone cold are closed."""
        found: Channel | None = None
        cold = trio.current_time() - _MAX_IDLE_S
        while self._idle and self._idle[0].idle_since < cold:
            self._idle.popleft().close()
        while self._idle and found is None:
            found = self._idle.pop()
            if found.is_stale():
                found.close()
                found = None
        return found


def _path(target: str) -> str:
    return target.partition("?")[0]
