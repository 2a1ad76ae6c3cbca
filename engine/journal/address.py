"""Where the journal's server is: the URL forms of ``[redis] url``."""

import socket
import ssl
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec
import trio

from engine.errors import ConfigError


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A parsed ``redis://``, ``rediss://`` or ``unix://`` URL; ``path`` is set for a unix socket."""

    host: str = ""
    port: int = 6379
    path: str = ""
    tls: bool = False
    username: str | None = None
    password: str | None = None
    database: int = 0


def parse(url: str) -> Address:
    """Return the address of *url*. Raises ConfigError that says what is wrong, never with the password."""
    try:
        parts = urlsplit(url)
        port = parts.port or 6379
    except ValueError as exc:
        raise ConfigError(f"[redis] url: {exc}") from None
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    number = options.pop("db", "")
    if options:
        raise ConfigError(f"[redis] url: unknown option {', '.join(sorted(options))}; only db=NUMBER is known")
    username = unquote(parts.username) if parts.username else None
    password = unquote(parts.password) if parts.password else None
    if parts.scheme == "unix":
        if not parts.path.startswith("/"):
            raise ConfigError("[redis] url: a unix socket needs its whole path: unix:///path/to.sock")
        return Address(path=unquote(parts.path), username=username, password=password, database=_database(number))
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise ConfigError("[redis] url must be embedded, redis://…, rediss://… or unix:///path/to.sock")
    return Address(
        host=parts.hostname,
        port=port,
        tls=parts.scheme == "rediss",
        username=username,
        password=password,
        database=_database(number or parts.path.strip("/")),
    )


def _database(number: str) -> int:
    if number and not (number.isascii() and number.isdigit()):
        raise ConfigError("[redis] url: the database after the slash, or after db=, must be a number")
    return int(number or 0)


async def connect(address: Address) -> trio.abc.Stream:
    """Open a stream to the server. Raises OSError or trio.BrokenResourceError; the caller sets the deadline."""
    if address.path:
        return await trio.open_unix_socket(address.path)
    stream = await trio.open_tcp_stream(address.host, address.port)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not address.tls:
        return stream
    secure = trio.SSLStream(stream, ssl.create_default_context(), server_hostname=address.host)
    try:
        await secure.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secure
