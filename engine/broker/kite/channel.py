"""One keep-alive connection to the broker, at the level of bytes.

Built on the bare non-blocking socket rather than on trio's streams for two reasons. The gate must be
asked and the first byte handed to the kernel with nothing in between: here both happen in plain
functions, so there is no checkpoint that could hide. And the bytes that left must be counted exactly:
``sent`` is the sum of what ``send`` returned. For TLS the same holds, because encryption goes through
memory (`ssl.MemoryBIO`) and the ciphertext is sent by the same call.
"""

import socket
import ssl
from types import TracebackType
from typing import Self

import trio

_CHUNK = 65536


class Channel:
    """A plain TCP connection. ``sent`` counts the bytes of the current request that the kernel took."""

    def __init__(self, sock: socket.socket) -> None:
        self.sent = 0
        self.used = False
        self.idle_since = trio.current_time()
        self._sock = sock
        self._pending = memoryview(b"")

    @classmethod
    async def connect(
        cls, host: str, port: int, *, context: ssl.SSLContext | None, local_address: str | None
    ) -> "Channel":
        """Connect, and shake hands if *context* is given. Raises OSError (ssl.SSLError is one)."""
        stream = await trio.open_tcp_stream(host, port, local_address=local_address)
        # detach: from here on the socket is ours; TCP_NODELAY and non-blocking mode are set already.
        sock = socket.socket(fileno=stream.socket.detach())
        sock.setblocking(False)
        if context is None:
            return cls(sock)
        channel = TlsChannel(sock, context, host)
        try:
            await channel.shake_hands()
        except BaseException:
            channel.close()
            raise
        return channel

    def begin(self, request: bytes) -> None:
        """Make *request* the one to be flushed, and count from zero."""
        self.sent = 0
        self.used = True
        self._pending = memoryview(request)

    def flush(self) -> bool:
        """Hand the kernel what it takes, without waiting; True when all is gone. Raises OSError."""
        while self._pending:
            try:
                taken = self._sock.send(self._pending)
            except BlockingIOError:
                return False
            self.sent += taken
            self._pending = self._pending[taken:]
        return True

    def read(self) -> bytes | None:
        """Return bytes that have come, b"" at the end, None when there are none yet. Raises OSError."""
        try:
            return self._sock.recv(_CHUNK)
        except BlockingIOError:
            return None

    def is_stale(self) -> bool:
        """Whether this idle connection has ended or carries bytes that nobody asked for."""
        try:
            self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    async def wait_readable(self) -> None:
        """Wait until something can be read."""
        await trio.lowlevel.wait_readable(self._sock)

    async def wait_writable(self) -> None:
        """Wait until something can be written."""
        await trio.lowlevel.wait_writable(self._sock)

    def close(self) -> None:
        """Close; harmless when closed already."""
        if self._sock.fileno() != -1:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TlsChannel(Channel):
    """A TLS connection: encrypts in memory, so that the ciphertext is sent by `Channel.flush`."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        super().__init__(sock)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)

    async def shake_hands(self) -> None:
        """Do the handshake. Raises OSError."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush_all()
                await self._receive()
            else:
                await self._flush_all()
                self.sent = 0
                return

    def begin(self, request: bytes) -> None:
        """Encrypt *request* and make it the one to be flushed, and count from zero."""
        self._tls.write(request)
        super().begin(self._outgoing.read())

    def read(self) -> bytes | None:
        """Return decrypted bytes that have come, b"" at the end, None when there are none yet. Raises OSError."""
        while True:
            try:
                return self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                arrived = super().read()
                if arrived is None:
                    return None
                self._take(arrived)
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    def is_stale(self) -> bool:
        """Whether this idle connection has ended or carries bytes that nobody asked for.

        Session tickets and key updates come unasked and are no such bytes: reading swallows them.
        """
        try:
            return self.read() is not None
        except OSError:
            return True

    async def _flush_all(self) -> None:
        self._pending = memoryview(self._outgoing.read())
        while not self.flush():
            await self.wait_writable()

    async def _receive(self) -> None:
        while (arrived := super().read()) is None:
            await self.wait_readable()
        self._take(arrived)

    def _take(self, arrived: bytes) -> None:
        if arrived:
            self._incoming.write(arrived)
        else:
            self._incoming.write_eof()
