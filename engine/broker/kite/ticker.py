"""One connection to Kite's WebSocket: prices and order updates as they come, for as long as it runs.

Dead after five seconds without any frame (the server's heartbeats count), closed then and opened anew
with exponential backoff; everything that is wanted is subscribed to again after each connect. It never
pings: a server that is silent is dead, whatever its TCP stack answers (Kite Connect v3, WebSocket;
zerodha/pykiteconnect#229). Every wait has a deadline, and nothing that the broker does raises out of
`Ticker.run`: failures are told to the `TickerSink`.
"""

import random
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Protocol
from urllib.parse import SplitResult, urlencode, urlsplit

import msgspec
import structlog
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    WebSocketConnection,
    wrap_client_stream,
)

from engine import __version__
from engine.broker.kite import routes
from engine.broker.kite.origin import is_loopback
from engine.broker.kite.ticker_frames import Mode, Notice, Tick, decode_frame, decode_text, subscription_texts
from engine.broker.values import BrokerOrder
from engine.errors import BrokerUnavailable, ConfigError

_log = structlog.get_logger(__name__)

MAX_INSTRUMENTS = 3000
"""Instruments of one connection (kite.trade, WebSocket limits)."""

SILENCE_S = 5.0
"""Seconds without any frame after which a connection is dead; the server's heartbeats come every two or so."""

_CONNECT_S = 10.0
_SEND_S = 5.0
_CLOSE_S = 1.0
_LOOK_S = 1.0
_MAX_MESSAGE = 4 * 1024 * 1024
_RECEIVE_BYTES = 64 * 1024
# So many messages in a row that cannot be read are a broken connection, fewer a broken message.
_GARBLED_LIMIT = 10
# A connection that held so long was a good one: the next waits begin small again.
_STEADY_S = 30.0
_FORBIDDEN, _TOO_MANY = 403, 429


class TickerLost(BrokerUnavailable):
    """The connection could not be made, fell silent, or ended."""


class TickerRefused(BrokerUnavailable):
    """The handshake was answered 403: the token is dead, or the plan has no market data."""


class TickerCrowded(BrokerUnavailable):
    """The handshake was answered 429: too many connections of this API key."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds to the next try: ``first`` doubled with each failure, at most ``longest``, half of it by chance."""

    first: float
    longest: float

    def delay_s(self, failures: int, rng: random.Random) -> float:
        """Return the seconds to wait after so many *failures* in a row (counted from 1)."""
        whole = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return whole * (0.5 + rng.random() / 2)


BACKOFFS: Mapping[type[BrokerUnavailable], Backoff] = {
    TickerLost: Backoff(first=1.0, longest=30.0),
    # neither goes away by itself within seconds, and storming is what gets an app suspended
    TickerRefused: Backoff(first=30.0, longest=600.0),
    TickerCrowded: Backoff(first=10.0, longest=120.0),
}


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """What opens a connection: the address, the app's key and the session's token, which is a secret."""

    url: str
    api_key: str
    access_token: str

    def __repr__(self) -> str:
        return f"Ticket(url={self.url!r}, api_key=…, access_token=…)"


class TickerSink(Protocol):
    """Who is told what comes. Only `order` may wait, and that holds up the connection's reading."""

    def opened(self, ticker: "Ticker") -> None:
        """*ticker* is connected."""

    def lost(self, ticker: "Ticker", error: BrokerUnavailable) -> None:
        """*ticker* is not connected any more, or a try to connect has failed."""

    def ticks(self, ticks: Sequence[Tick]) -> None:
        """Prices came."""

    async def order(self, update: BrokerOrder) -> None:
        """An order update came."""

    def notice(self, notice: Notice) -> None:
        """The broker says something to the client."""

    def garbled(self, error: BrokerUnavailable) -> None:
        """A message came that cannot be read; it may have been an order update."""


class Ticker:
    """Keeps one connection open. *ticket* returns what to open it with, None while there is no session."""

    def __init__(self, ticket: Callable[[], Ticket | None], sink: TickerSink, *, rng: random.Random) -> None:
        self._ticket = ticket
        self._sink = sink
        self._rng = rng
        self._wanted: Mapping[int, Mode] = {}
        self._changed = trio.Event()
        self._failures = 0
        self.is_open = False
        self.connects = 0

    @property
    def wanted(self) -> Mapping[int, Mode]:
        """What is subscribed to, now and after each connect: mode by instrument token."""
        return self._wanted

    def want(self, tokens: Mapping[int, Mode]) -> None:
        """Subscribe to *tokens* and to nothing else. Raises ValueError above 3,000."""
        if len(tokens) > MAX_INSTRUMENTS:
            raise ValueError(f"{len(tokens)} instruments; one connection takes {MAX_INSTRUMENTS}")
        if tokens != self._wanted:
            self._wanted = dict(tokens)
            self._changed.set()

    async def run(self) -> None:
        """Be connected whenever there is a session, until cancelled."""
        while True:
            ticket = self._ticket()
            if ticket is None:
                await trio.sleep(_LOOK_S)
                continue
            began = trio.current_time()
            try:
                await self._converse(ticket)
            except BrokerUnavailable as error:
                was_open, self.is_open = self.is_open, False
                if was_open and trio.current_time() - began >= _STEADY_S:
                    self._failures = 0
                self._failures += 1
                delay = BACKOFFS.get(type(error), BACKOFFS[TickerLost]).delay_s(self._failures, self._rng)
                _log.info("ticker.lost", reason=str(error), was_open=was_open, retry_s=round(delay, 1))
                self._sink.lost(self, error)
                await self._rest(delay, ticket)

    async def _rest(self, delay_s: float, ticket: Ticket) -> None:
        """Wait, but not for what a new session makes worth trying at once."""
        until = trio.current_time() + delay_s
        while (left := until - trio.current_time()) > 0:
            await trio.sleep(min(left, _LOOK_S))
            if (now := self._ticket()) is not None and now != ticket:
                self._failures = 0
                return

    async def _converse(self, ticket: Ticket) -> None:
        """Connect and take what comes; ends only by an error, one of `BACKOFFS`."""
        stream, host, resource = await _connect(ticket)
        try:
            async with trio.open_nursery() as nursery:
                with trio.fail_after(_CONNECT_S):
                    socket = await wrap_client_stream(
                        nursery,
                        stream,
                        host,
                        resource,
                        extra_headers=_headers(),
                        max_message_size=_MAX_MESSAGE,
                        receive_buffer_size=_RECEIVE_BYTES,
                    )
                try:
                    self.is_open = True
                    self.connects += 1
                    with _telling():
                        self._sink.opened(self)
                    nursery.start_soon(self._keep_subscribed, socket, ticket)
                    await self._receive(socket)
                finally:
                    # a farewell, no more: a server that does not answer it is not waited for
                    with trio.move_on_after(_CLOSE_S, shield=True):
                        await socket.aclose()
        except BaseExceptionGroup as group:
            raise _typed(group) from None
        finally:
            with trio.CancelScope(shield=True):  # closes at once, waits for nobody
                await trio.aclose_forcefully(stream)

    async def _receive(self, socket: WebSocketConnection) -> None:
        garbled = 0
        while True:
            with trio.move_on_after(SILENCE_S) as silence:
                message = await socket.get_message()
            if silence.cancelled_caught:
                raise TickerLost(f"silent for {SILENCE_S:g} s")
            try:
                if isinstance(message, bytes):
                    if ticks := decode_frame(message):
                        with _telling():
                            self._sink.ticks(ticks)
                else:
                    await self._take_text(message)
                garbled = 0
            except BrokerUnavailable as error:
                garbled += 1
                _log.warning("ticker.garbled", error=str(error))
                with _telling():
                    self._sink.garbled(error)
                if garbled >= _GARBLED_LIMIT:
                    raise TickerLost(f"{garbled} messages in a row cannot be read: {error}") from error

    async def _take_text(self, text: str) -> None:
        told = decode_text(text)
        with _telling():
            if isinstance(told, BrokerOrder):
                await self._sink.order(told)
            elif told is not None:
                self._sink.notice(told)

    async def _keep_subscribed(self, socket: WebSocketConnection, ticket: Ticket) -> None:
        sent: Mapping[int, Mode] = {}
        while True:
            wanted = self._wanted
            for text in subscription_texts(sent, wanted):
                with trio.fail_after(_SEND_S):
                    await socket.send_message(text)
            sent = wanted
            with trio.move_on_after(_LOOK_S):
                await self._changed.wait()
            self._changed = trio.Event()
            if self._ticket() != ticket:
                raise TickerLost("the session has ended")


class _SinkFailed(Exception):
    """Carries, as its cause, what the sink raised: that is a fault of this program and no broken connection."""


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except Exception as exc:
        raise _SinkFailed from exc


def _typed(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the one error that tells why a connection ended, or *group* if that is not the broker's doing.

    The WebSocket library raises what its own libraries do when a server talks nonsense (h11, wsproto), so
    that any error out of it is a lost connection. A cancel from outside is delivered again by itself.
    """
    _, errors = group.split(trio.Cancelled)
    if not isinstance(errors, ExceptionGroup):
        return group
    leaves = _leaves(errors)
    for leaf in leaves:
        if isinstance(leaf, _SinkFailed):
            return leaf.__cause__ or leaf
    for leaf in leaves:
        if isinstance(leaf, ConnectionRejected):
            return _rejected(leaf)
    return next((leaf for leaf in leaves if isinstance(leaf, BrokerUnavailable)), None) or _lost(leaves[0])


def _leaves(group: ExceptionGroup[Exception]) -> list[Exception]:
    found: list[Exception] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, ExceptionGroup) else [error]
    return found


def _rejected(error: ConnectionRejected) -> BrokerUnavailable:
    if error.status_code == _FORBIDDEN:
        return TickerRefused("the handshake was answered 403: no live session, or a plan without market data")
    if error.status_code == _TOO_MANY:
        return TickerCrowded("the handshake was answered 429: too many connections of this API key")
    return TickerLost(f"the handshake was answered {error.status_code}")


def _lost(error: Exception) -> TickerLost:
    if isinstance(error, ConnectionClosed):
        reason = error.reason
        return TickerLost("closed by the broker" if reason is None else f"closed by the broker, code {reason.code}")
    if isinstance(error, trio.TooSlowError):
        return TickerLost("no answer in time")
    return TickerLost(f"{type(error).__name__}: {error}")


Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]


async def _connect(ticket: Ticket) -> tuple[Stream, str, str]:
    """Open the stream; return it with the Host header and the target. Raises TickerLost."""
    parts = _address(ticket.url)
    host, is_tls = str(parts.hostname), parts.scheme == "wss"
    port = parts.port or (443 if is_tls else 80)
    query = urlencode({"api_key": ticket.api_key, "access_token": ticket.access_token})
    try:
        with trio.fail_after(_CONNECT_S):
            stream = await trio.open_tcp_stream(host, port)
    except (OSError, trio.TooSlowError) as exc:
        raise TickerLost(f"{host}:{port} cannot be reached: {exc or 'no answer'}") from exc
    target = f"{parts.path or '/'}?{query}"
    return await _encrypted(stream, host) if is_tls else stream, parts.netloc, target


async def _encrypted(stream: trio.SocketStream, host: str) -> Stream:
    """Return *stream* over TLS once the server has proven that it is *host*. Raises TickerLost."""
    encrypted = trio.SSLStream(stream, _tls(), server_hostname=host, https_compatible=True)
    is_done = False
    try:
        # the WebSocket library would wait for its answer when this fails, and say no more than that
        with trio.fail_after(_CONNECT_S):
            await encrypted.do_handshake()
        is_done = True
    except (trio.BrokenResourceError, trio.TooSlowError) as exc:
        raise TickerLost(f"{host}: no TLS: {exc.__cause__ or 'no answer'}") from exc
    finally:
        if not is_done:
            with trio.CancelScope(shield=True):  # closes at once, waits for nobody
                await trio.aclose_forcefully(stream)
    return encrypted


def _address(url: str) -> SplitResult:
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in ("ws", "wss") or "@" in parts.netloc or parts.query:
        raise ConfigError(f"broker.kite.ws_url: {url!r} is not usable; expected wss://host[:port]")
    if parts.scheme == "ws" and not is_loopback(parts.hostname):
        raise ConfigError(f"broker.kite.ws_url: {url!r} is not encrypted; use wss://")
    return parts


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def _headers() -> list[tuple[bytes, bytes]]:
    agent = f"trading-execution-engine/{__version__}"
    return [(b"X-Kite-Version", routes.API_VERSION.encode()), (b"User-Agent", agent.encode())]
