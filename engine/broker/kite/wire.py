"""The order wire: the only way by which an order leaves the process.

Keep-alive HTTP/1.1 to one origin, one request in flight per connection, a pool that grows to a bound.
No redirects, no proxies, no retries. It knows for every request how many bytes left, which is what
decides between "not sent" and "unknown".

A connection that died while idle is found before use (`Channel.is_stale`) or by the first ``send``
failing: no byte has left then, and another connection is taken. Once the kernel has taken a byte,
whatever goes wrong ends the request. A cancelled request closes its connection, and the cancellation
goes on to the caller.
"""

import ssl
from collections import deque

import msgspec
import trio

from engine.broker.kite.answer import AnswerReader, OversizeError, ProtocolError
from engine.broker.kite.channel import Channel
from engine.broker.kite.errors import Failure
from engine.broker.kite.origin import Origin
from engine.broker.outcome import Gate
from engine.runtime.crashpoint import crashpoint


class WireAnswer(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A whole answer (``failure`` None), or why there is none. ``bytes_written`` is of the request."""

    bytes_written: int
    status: int | None = None
    content_type: str = ""
    body: bytes = b""
    failure: Failure | None = None
    detail: str = ""


class OrderWire:
    """Connections to *origin*, shared by every account that trades there.

    *timeout_s* bounds a whole request, the wait for a connection included; *max_connections* the
    requests in flight; *max_idle_s* how long an unused connection is trusted (routers drop silent
    ones without a word); *max_answer_bytes* an answer. *local_address* is the address to leave by,
    which is how a registered static address, or IPv4, is enforced.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        timeout_s: float = 7.0,
        max_connections: int = 96,
        max_idle_s: float = 30.0,
        max_answer_bytes: int = 1 << 20,
        ssl_context: ssl.SSLContext | None = None,
        local_address: str | None = None,
    ) -> None:
        self._origin = origin
        self._timeout_s = timeout_s
        self._max_connections = max_connections
        self._max_idle_s = max_idle_s
        self._max_answer_bytes = max_answer_bytes
        self._context = (ssl_context or ssl.create_default_context()) if origin.is_tls else None
        self._local_address = local_address
        self._idle: deque[Channel] = deque()
        self._slots = trio.Semaphore(max_connections)
        self._closed = False

    @property
    def _way(self) -> str:
        """Say by which address it leaves, in messages: a wrong one looks like a broker that is down."""
        return "" if self._local_address is None else f" from {self._local_address} (broker.kite.local_address)"

    @property
    def idle_connections(self) -> int:
        """How many connections wait for a request."""
        return len(self._idle)

    async def send(self, request: bytes, gate: Gate) -> WireAnswer:
        """Send *request* (head and body) and return the answer, or why there is none.

        *gate* is asked before the first byte. Never raises for what happens on the wire.
        """
        exchange = _Exchange(request, gate, self._max_answer_bytes)
        with trio.move_on_after(self._timeout_s):
            if self._slots.value:
                self._slots.acquire_nowait()
            else:
                await self._slots.acquire()
            try:
                return await self._run(exchange)
            finally:
                self._slots.release()
        where = "waiting for the answer" if exchange.sent else "before the first byte"
        return exchange.failed(Failure.DEADLINE, f"{self._timeout_s:g} s passed {where}")

    async def warm(self, connections: int = 1) -> None:
        """Open connections ahead of use, up to *connections* idle ones. Raises OSError or trio.TooSlowError."""
        self._drop_stale()
        with trio.fail_after(self._timeout_s):
            while len(self._idle) < min(connections, self._max_connections) and not self._closed:
                self._keep(await self._connect())

    async def aclose(self) -> None:
        """Close the idle connections; those in use close when their request ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()
        await trio.lowlevel.checkpoint()

    async def _run(self, exchange: "_Exchange") -> WireAnswer:
        # One round per idle connection at most, and one on a fresh one.
        while True:
            channel = self._take_idle()
            if channel is None:
                if self._closed:
                    return exchange.failed(Failure.CONNECT, "the wire is closed")
                try:
                    channel = await self._connect()
                except (OSError, ValueError) as exc:
                    # ValueError is a host name that cannot be encoded; TLS errors are OSErrors.
                    return exchange.failed(Failure.CONNECT, f"cannot connect to {self._origin}{self._way}: {exc}")
            was_used = channel.used
            try:
                answer = await exchange.run(channel)
            finally:
                if exchange.is_channel_clean and not self._closed:
                    self._keep(channel)
                else:
                    channel.close()
            if answer.failure is Failure.LOST and answer.bytes_written == 0 and was_used:
                continue
            return answer

    def _take_idle(self) -> Channel | None:
        # The last one used first: it is the least likely to have been dropped.
        while self._idle:
            channel = self._idle.pop()
            if self._is_fresh(channel):
                return channel
            channel.close()
        return None

    def _is_fresh(self, channel: Channel) -> bool:
        return trio.current_time() - channel.idle_since < self._max_idle_s and not channel.is_stale()

    def _drop_stale(self) -> None:
        for _ in range(len(self._idle)):
            channel = self._idle.popleft()
            if self._is_fresh(channel):
                self._idle.append(channel)
            else:
                channel.close()

    async def _connect(self) -> Channel:
        return await Channel.connect(
            self._origin.host, self._origin.port, context=self._context, local_address=self._local_address
        )

    def _keep(self, channel: Channel) -> None:
        channel.idle_since = trio.current_time()
        self._idle.append(channel)
        # What a burst opened and nobody took since has gone cold at the other end of the queue.
        while channel.idle_since - self._idle[0].idle_since > self._max_idle_s:
            self._idle.popleft().close()


class _Exchange:
    """One request on its way; survives the deadline, so that the bytes that left stay known."""

    def __init__(self, request: bytes, gate: Gate, limit: int) -> None:
        self.sent = 0
        self.is_channel_clean = False
        self._request = request
        self._gate = gate
        self._limit = limit

    def failed(self, failure: Failure, detail: str) -> WireAnswer:
        return WireAnswer(bytes_written=self.sent, failure=failure, detail=detail)

    async def run(self, channel: Channel) -> WireAnswer:
        self.is_channel_clean = False
        # A cancelled task must not send; this yields only to raise.
        await trio.lowlevel.checkpoint_if_cancelled()
        begun = False
        try:
            while True:
                # From the gate's answer to the kernel's there is no await: `begin` (which encrypts) and
                # `flush` (which calls send) are plain functions, so no other task can run between.
                reason = self._gate()
                if reason is not None:
                    self.is_channel_clean = not begun
                    return self.failed(Failure.GATED, reason)
                crashpoint("S6.gate_passed")
                if not begun:
                    channel.begin(self._request)
                    begun = True
                done = channel.flush()
                self.sent = channel.sent
                if self.sent:
                    break
                # The kernel took nothing: the wait makes the gate's answer old, so it is asked again.
                await channel.wait_writable()
            while not done:
                await channel.wait_writable()
                done = channel.flush()
                self.sent = channel.sent
            crashpoint("S6.sent")
            return await self._read(channel)
        except OSError as exc:
            self.sent = channel.sent if begun else 0
            return self.failed(Failure.LOST, str(exc) or type(exc).__name__)

    async def _read(self, channel: Channel) -> WireAnswer:
        with AnswerReader(self._limit) as reader:
            try:
                while not reader.complete:
                    await channel.wait_readable()
                    crashpoint("S7.answer_arrived")
                    chunk = channel.read()
                    if chunk is None:
                        continue
                    if chunk:
                        reader.feed(chunk)
                        continue
                    reader.feed_end()
                    if not reader.complete:
                        return self.failed(Failure.LOST, "the connection ended before the answer did")
            except ProtocolError as exc:
                return self.failed(Failure.PROTOCOL, str(exc))
            except OversizeError as exc:
                return self.failed(Failure.OVERSIZE, str(exc))
            self.is_channel_clean = reader.reusable
            return WireAnswer(
                bytes_written=self.sent, status=reader.status, content_type=reader.content_type, body=reader.body
            )
