"""One connection, TCP or TLS: Hypercorn's HTTP/1.1 with the deadlines and the manners it does not have.

Differences from Hypercorn's own: a request must arrive whole within a deadline, its head sooner, its body without
long silences; a write that nobody
reads ends the connection, the body of an answered request is read away for a moment before the close
(or the client would never see the answer), HTTP/2 and WebSocket upgrades are not offered, and a
refusal by the parser has the form of every other error.
"""

import os
import re
import secrets
import socket
import ssl
from http import HTTPStatus
from typing import Any

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.events import EndBody
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup, _handle
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from engine.clock import Clock
from engine.http.errors import envelope
from engine.http.fast_lane import FastLane
from engine.http.guard import CONNECTION_KEY, PROTECTIVE_HEADERS, STRICT_TRANSPORT
from engine.http.limits import ServerLimits
from engine.http.phase import Phase
from engine.http.plain_post import PlainPost, Verdict, has_whole_head, whole_size
from engine.runtime.crashpoint import crashpoint

_CHUNK = 2**16
_HEAD_END = re.compile(rb"\n\r?\n")
_FOLDED = re.compile(rb"\n[ \t]")


class _Unfolded(h11.Connection):
    """h11's, without headers that go on in the next line: readers differ about them (RFC 9112, section 5.2)."""

    def next_event(self) -> Any:
        """Return what h11 does. Raises h11.RemoteProtocolError."""
        if self.their_state is h11.IDLE:
            waiting, _ = self.trailing_data
            end = _HEAD_END.search(waiting)
            if _FOLDED.search(waiting, 0, len(waiting) if end is None else end.end()) is not None:
                raise h11.RemoteProtocolError("a header goes on in the next line")
        return super().next_event()


class _Protocol(H11Protocol):
    clock: Clock
    _is_whole = False

    @property
    def is_answering(self) -> bool:
        """Whether a request is being answered that what follows it on the connection cannot spoil."""
        return self.stream is not None and (self._is_whole or self.connection.our_state is h11.SEND_BODY)

    async def _check_protocol(self, event: h11.Request) -> None:
        """Offer no HTTP/2: neither by upgrade nor by prior knowledge (the guard refuses version 2.0)."""

    async def _create_stream(self, request: h11.Request) -> None:
        kept = [(name, value) for name, value in request.headers if name != b"upgrade"]
        await super()._create_stream(
            h11.Request(method=request.method, target=request.target, headers=kept, http_version=request.http_version)
            if len(kept) != len(list(request.headers))
            else request
        )
        self._is_whole = False
        if self.stream is not None:
            hand_on = self.stream.handle

            async def handle(event: Any) -> None:
                self._is_whole = self._is_whole or isinstance(event, EndBody)
                await hand_on(event)

            self.stream.handle = handle  # type: ignore[method-assign]

    async def _send_h11_event(self, event: Any) -> None:
        # an answer given before the body came ends the connection: the client must not send its next request on it
        if isinstance(event, h11.Response) and self.connection.their_state is h11.SEND_BODY:
            kept = [(name, value) for name, value in event.headers if name != b"connection"]
            event = h11.Response(status_code=event.status_code, headers=[*kept, (b"connection", b"close")])
        await super()._send_h11_event(event)

    async def _send_error_response(self, status_code: int) -> None:
        if self.is_answering:
            return
        body = envelope(
            status_code, HTTPStatus(status_code).name, "this is not a request that can be read", self.clock.now()
        )
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *PROTECTIVE_HEADERS,
            *([STRICT_TRANSPORT] if self.ssl else []),
            (b"x-request-id", secrets.token_hex(12).encode()),
            (b"x-content-type-options", b"nosniff"),
            *self.config.response_headers("h11"),
        ]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


class _Tasks(TaskGroup):
    """The tasks of a connection; what is put to an application that has ended, or never reads, cannot block."""

    async def spawn_app(self, app: Any, config: Config, scope: Any, send: Any) -> Any:
        """Start *app* for one request; return what takes the request's messages."""
        sender, receiver = trio.open_memory_channel[Any](config.max_app_queue_size)

        async def serve() -> None:
            with receiver:
                await _handle(app, config, scope, receiver.receive, send, trio.to_thread.run_sync, trio.from_thread.run)

        async def put(message: Any) -> None:
            try:
                if message["type"] == "http.disconnect":
                    _put_last(sender, receiver, message)
                else:
                    await sender.send(message)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the application has answered already: nobody wants the rest of the body

        self.spawn(serve)
        return put


def _put_last(sender: trio.MemorySendChannel[Any], receiver: trio.MemoryReceiveChannel[Any], message: Any) -> None:
    # after the end of the connection no part of the body matters any more, the end itself does
    while True:
        try:
            sender.send_nowait(message)
        except trio.WouldBlock:
            receiver.receive_nowait()
        else:
            return


class Connection(TCPServer):
    """One accepted connection; ``await connection.run()`` serves it to its end."""

    protocol: Any

    def __init__(
        self,
        app: Any,
        config: Config,
        context: WorkerContext,
        state: dict[str, Any],
        transport: trio.SocketStream,
        *,
        clock: Clock,
        limits: ServerLimits,
        tls: ssl.SSLContext | None = None,
        peer: str = "",
        fast_lane: FastLane | None = None,
    ) -> None:
        """Serve over *transport*, encrypted when *tls* is given; *peer* is what it is counted under."""
        self._fast_lane = fast_lane
        self._held = b""
        self._held_until = 0
        self._requests = 0
        self._in_fast_lane = False
        self._addresses: tuple[Any, Any] = (None, None)
        self._transport = transport
        self._is_tls = tls is not None
        # https_compatible: no close_notify at the end, every answer says itself where it ends
        stream = trio.SSLStream(transport, tls, server_side=True, https_compatible=True) if tls else transport
        super().__init__(app, config, context, state, stream)  # type: ignore[arg-type]
        self.peer = peer
        self.gives_way = False
        self.unproven = 0
        self._socket = transport.socket
        self._clock = clock
        self._limits = limits
        self._receive_began: float | None = trio.current_time()
        self._heard_at = trio.current_time()
        self._writing_since: float | None = None
        self._serving = False
        self._lingering = False
        self._deaf = False
        self._reader = trio.CancelScope()
        self._idle_since = trio.current_time()

    @property
    def phase(self) -> Phase:
        """What the connection is doing now."""
        if self._writing_since is not None:
            return Phase.WRITING
        if self.gives_way:
            return Phase.RECEIVING
        if self._in_fast_lane:
            return Phase.BUSY
        if self._serving:
            return Phase.RECEIVING if self._is_receiving() else Phase.BUSY
        return Phase.RECEIVING if self._has_partial_request() else Phase.IDLE

    @property
    def since(self) -> float:
        """The instant, in trio's time, from which the present phase counts."""
        return self._writing_since or self._receive_began or self._idle_since

    async def run(self) -> None:
        """Serve until either side closes, a deadline passes or `abort` is called."""
        try:
            _set_options(self._socket, self._limits)
            client = parse_socket_addr(self._socket.family, self._socket.getpeername())
            server = parse_socket_addr(self._socket.family, self._socket.getsockname())
            self._addresses = (client, server)
            if self._is_tls and not await self._shake_hands():
                return
            async with _Tasks() as task_group:
                self._task_group = task_group
                self.protocol = _Protocol(
                    self.app,
                    self.config,
                    self.context,
                    task_group,
                    ConnectionState({**self.state, CONNECTION_KEY: self}),
                    self._is_tls,
                    client,
                    server,
                    self.protocol_send,
                )
                self.protocol.clock = self._clock
                most = self.config.h11_max_incomplete_size
                self.protocol.connection = _Unfolded(h11.SERVER, max_incomplete_event_size=most)
                await self._read_data()
        except OSError:
            pass  # the peer is gone; there is nobody to tell
        finally:
            self.abort()

    async def _shake_hands(self) -> bool:
        try:
            with trio.fail_after(self._limits.handshake_s):
                await self.stream.do_handshake()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            return False  # no TLS, none that is good enough, or nobody there: there is no way to say more
        self._receive_began = trio.current_time()
        return True

    def let_go(self) -> None:
        """After the end: forget what knows this object in turn, so that it does not live on as a cycle."""
        self.protocol = None

    def abort(self) -> None:
        """Close the socket at once: whoever waits on it, shielded or not, wakes up."""
        self._socket.close()

    async def protocol_send(self, event: Event) -> None:
        """Take an event of the protocol: bytes to send, the end, or whether a request is being served."""
        if isinstance(event, RawData):
            await self._send(event.data)
        elif isinstance(event, Closed) and self.protocol.is_answering:
            self._deaf = True  # what came after the request is no request: answer, then close
        elif isinstance(event, Closed):
            self._half_close()
            await self.protocol.handle(Closed())
        elif isinstance(event, Updated):
            self._serving = not event.idle
            if event.idle:
                self._idle_since = trio.current_time()
                self._receive_began = self._idle_since if self._has_partial_request() else None
                self._reader.cancel()

    def _send_at_once(self, octets: bytes) -> bytes:
        """Hand the kernel what it takes of *octets*, without waiting; return the rest, which mostly is nothing."""
        if self._is_tls or self.send_lock.locked():
            return octets
        try:
            # the bare descriptor: what trio adds is the waiting, and there is none
            octets = octets[os.write(self._socket.fileno(), octets) :]
        except OSError:
            return octets  # it is full, or gone: the other road says which
        return octets

    async def _send(self, octets: bytes) -> None:
        rest = self._send_at_once(octets)
        if not rest or await self._send_whole(rest):
            crashpoint("S3.after_answer")

    async def _send_whole(self, octets: bytes) -> bool:
        """Send *octets*, waiting as long as may be; tell whether they are gone."""
        async with self.send_lock:
            self._writing_since = trio.current_time()
            try:
                # shielded as in Hypercorn, for half a message must not be cut short, but never for ever
                with trio.fail_after(self._limits.write_s, shield=True):
                    await self.stream.send_all(octets)
                return True
            except trio.TooSlowError:
                self.abort()
                await self.protocol.handle(Closed())
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self.protocol.handle(Closed())
            finally:
                self._writing_since = None
        return False

    async def _read_data(self) -> None:
        while not self._lingering:
            octets = await self._receive(self._receive_deadline())
            if octets is None:
                break
            if octets == b"":
                if not await self._refuse_held():
                    await self.protocol.handle(RawData(b""))
                break
            if self._deaf:
                continue
            self._heard_at = trio.current_time()
            if self._receive_began is None:
                self._receive_began = self._heard_at
            octets = await self._take_fast(octets)
            if octets:
                await self.protocol.handle(RawData(octets))
        await self._refuse_held()
        await self.protocol.handle(Closed())
        if self._lingering:
            await self._read_away()

    async def _refuse_held(self) -> bool:
        """Say that the part of a plain request after which nothing more comes is none; tell whether there was one.

        The slow road would start to serve it, and a crowd that leaves at one moment would have all of that done.
        """
        held, self._held = self._held, b""
        if not held or self._lingering:
            return False
        await self.protocol._send_error_response(HTTPStatus.BAD_REQUEST)
        return True

    async def _take_fast(self, octets: bytes) -> bytes:
        """Answer what is for the fast lane; return what goes the slow road, nothing while more has to come."""
        lane = self._fast_lane
        if lane is None or self._serving or not self._is_between_requests():
            return octets
        buffer, self._held = self._held + octets, b""
        if len(buffer) < self._held_until:
            self._held = buffer
            return b""
        while buffer:
            post = lane.read(buffer)
            if post is Verdict.HAND_ON:
                return buffer
            if post is Verdict.WAIT:
                self._held, self._held_until = buffer, whole_size(buffer)
                return b""
            self._held_until = 0
            buffer = buffer[post.size :]
            if not await self._answer_fast(lane, post):
                return b""
            self._idle_since = trio.current_time()
            self._receive_began = self._idle_since if buffer else None
        return b""

    async def _answer_fast(self, lane: FastLane, post: PlainPost) -> bool:
        """Answer one request; tell whether the connection goes on."""
        client, server = self._addresses
        self._requests += 1
        is_last = self._requests >= self._limits.keep_alive_requests
        self._in_fast_lane = True
        try:
            octets, stays = await lane.answer(
                post,
                client=client,
                server=server,
                scheme="https" if self._is_tls else "http",
                state={CONNECTION_KEY: self},
                is_last=is_last,
            )
        finally:
            self._in_fast_lane = False
        await self._send(octets)
        if stays and not self.context.terminated.is_set():
            return True
        self._half_close()
        return False

    def _is_between_requests(self) -> bool:
        connection = self.protocol.connection
        return (
            self.protocol.stream is None
            and connection.their_state is h11.IDLE
            and connection.our_state is h11.IDLE
            and not connection.trailing_data[0]
        )

    async def _receive(self, deadline: float) -> bytes | None:
        """Return bytes, nothing at the end of the stream, or None when the deadline passed."""
        while True:
            self._reader = trio.CancelScope(deadline=deadline)
            try:
                with self._reader:
                    return await self._read_some()
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                return None
            deadline = self._receive_deadline()
            if self._lingering or trio.current_time() >= deadline:
                return None

    async def _read_some(self) -> bytes:
        if self._is_tls:
            return bytes(await self.stream.receive_some(_CHUNK))
        while True:
            # the next request is hardly ever there already: a try before the wait would be one for nothing
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return os.read(self._socket.fileno(), _CHUNK)
            except BlockingIOError:
                continue  # it was there, and is no more: the kernel may take it back
            except OSError as exc:
                raise trio.BrokenResourceError from exc

    def _receive_deadline(self) -> float:
        if self._serving and not self._is_receiving():
            return float("inf")
        if self._receive_began is None:
            return self._idle_since + self._limits.keep_alive_s
        if not self._serving and not has_whole_head(self._held):
            return self._receive_began + min(self._limits.head_s, self._limits.request_s)
        return min(self._receive_began + self._limits.request_s, self._heard_at + self._limits.body_silence_s)

    def _is_receiving(self) -> bool:
        return self.protocol.connection.their_state in {h11.IDLE, h11.SEND_BODY}

    def _has_partial_request(self) -> bool:
        protocol = getattr(self, "protocol", None)
        return bool(self._held) or (protocol is not None and bool(protocol.connection.trailing_data[0]))

    def _half_close(self) -> None:
        """Let the reader end the connection: it must not depend on a task that is being cancelled."""
        self._lingering = True
        self._reader.cancel()

    async def _read_away(self) -> None:
        """Send the end, and read away for a moment what the client still sends of its body."""
        try:
            async with self.send_lock:
                await self._transport.send_eof()
        except (trio.BrokenResourceError, trio.BusyResourceError, trio.ClosedResourceError):
            return
        left = self._limits.linger_bytes
        with trio.move_on_after(self._limits.linger_s):
            while left > 0:
                try:
                    octets = await self._transport.receive_some(_CHUNK)
                except (trio.ClosedResourceError, trio.BrokenResourceError):
                    return
                if not octets:
                    return
                left -= len(octets)


def _set_options(sock: trio.socket.SocketType, limits: ServerLimits) -> None:
    if sock.family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # a peer that acknowledges nothing, or never opens its window again, is dropped by the kernel
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.write_s * 1000))
