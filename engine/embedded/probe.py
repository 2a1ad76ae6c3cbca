"""The first words with a server: does it answer on its socket? Each call is one short connection."""

import struct
from pathlib import Path

import trio

from engine.errors import EngineError

_PROTOCOL_3 = 196608
_MAX_MESSAGE = 1 << 16
NO_SUCH_DATABASE = "3D000"


class Refused(EngineError):
    """PostgreSQL answered with an error; *sqlstate* is its code."""

    def __init__(self, sqlstate: str, message: str) -> None:
        super().__init__(f"{sqlstate} {message}")
        self.sqlstate = sqlstate


async def postgres_query(socket: Path, *, role: str, database: str, sql: str | None = None) -> None:
    """Log in without a password, run *sql* if given, and leave.

    Raises OSError when nobody listens or the line breaks, Refused when the server says no.
    """
    async with await trio.open_unix_socket(str(socket)) as stream:
        words = b"".join(part.encode() + b"\0" for part in ("user", role, "database", database)) + b"\0"
        await stream.send_all(struct.pack("!ii", 8 + len(words), _PROTOCOL_3) + words)
        reader = _Reader(stream)
        await _until_ready(reader)
        if sql is not None:
            body = sql.encode() + b"\0"
            await stream.send_all(b"Q" + struct.pack("!i", 4 + len(body)) + body)
            await _until_ready(reader)
        await stream.send_all(b"X" + struct.pack("!i", 4))


async def valkey_ping(socket: Path) -> bool:
    """Return whether the server answers PING; False while it loads. Raises OSError when nobody listens."""
    async with await trio.open_unix_socket(str(socket)) as stream:
        await stream.send_all(b"PING\r\n")
        return (await stream.receive_some(64)).startswith(b"+PONG")


class _Reader:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    async def exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            chunk = await self._stream.receive_some(4096)
            if not chunk:
                raise ConnectionResetError("the server closed the connection")
            self._buffer += chunk
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken


async def _until_ready(reader: _Reader) -> None:
    refused: Refused | None = None
    while True:
        kind, length = struct.unpack("!ci", await reader.exactly(5))
        if not 4 <= length <= _MAX_MESSAGE:
            raise ConnectionResetError("the server does not speak PostgreSQL's protocol")
        body = await reader.exactly(length - 4)
        if kind == b"E":
            fields = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
            refused = Refused(fields.get(b"C", ""), fields.get(b"M", ""))
            if fields.get(b"S") == "FATAL" or fields.get(b"V") == "FATAL":
                raise refused
        elif kind == b"R" and struct.unpack("!i", body[:4])[0] != 0:
            raise Refused("28000", "the server asks for a password")
        elif kind == b"Z":
            if refused is not None:
                raise refused
            return
