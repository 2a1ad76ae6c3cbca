"""Plain HTTP/1.1 requests read out of a buffer, and answers made of bytes: no tasks, no event objects.

It reads only what an ordinary client sends: an ASCII head with one Host, a body announced by its length,
keep-alive. Whatever else comes is ODD: a full HTTP implementation must have it, from its first byte.
"""

import re
from collections.abc import Callable
from email.utils import formatdate
from enum import Enum, auto
from typing import Final

import httptools
import msgspec

MOST_HEAD_BYTES = 16 * 1024

_END_OF_HEAD = b"\r\n\r\n"
_HOST = re.compile(rb"[A-Za-z0-9.:\[\]_-]+")
# these change what a request means, who makes it, where its body ends or what must be done before it is read
_MEANINGFUL = frozenset({b"transfer-encoding", b"upgrade", b"expect", b"te", b"trailer", b"http2-settings", b"origin"})
_ONLY_ONCE = frozenset({b"host", b"content-length", b"authorization", b"connection"})


class Unread(Enum):
    """Why there is no request: more bytes must come, or it is no request for this reader."""

    PARTIAL = auto()
    ODD = auto()


PARTIAL: Final = Unread.PARTIAL
ODD: Final = Unread.ODD


class Request(msgspec.Struct, frozen=True, gc=False):
    """One whole request; ``end`` is where it ends in the buffer, ``query`` what follows the question mark."""

    method: bytes
    path: str
    query: str
    authorization: str
    body: bytes
    end: int


class _Head:
    """What httptools says of a head."""

    __slots__ = ("headers", "is_odd", "is_whole", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: dict[bytes, bytes] = {}
        self.is_odd = False
        self.is_whole = False

    def on_url(self, target: bytes) -> None:
        self.target += target

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _MEANINGFUL or (name in _ONLY_ONCE and name in self.headers):
            self.is_odd = True
        self.headers[name] = value

    def on_headers_complete(self) -> None:
        self.is_whole = True


def read_request(buffer: bytes, start: int, most_body_bytes: int) -> Request | Unread:
    """Return the request that begins at *start* of *buffer*: PARTIAL when its rest has not come yet,
    ODD for what this reader does not take, a body over *most_body_bytes* included."""
    end = buffer.find(_END_OF_HEAD, start, start + MOST_HEAD_BYTES)
    if end < 0:
        return PARTIAL if len(buffer) - start < MOST_HEAD_BYTES else ODD
    end += len(_END_OF_HEAD)
    octets = buffer[start:end]
    if not octets.isascii():
        return ODD
    head = _Head()
    parser = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(octets)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return ODD
    headers = head.headers
    length = headers.get(b"content-length", b"0")
    if (
        head.is_odd
        or not head.is_whole
        or parser.get_http_version() != "1.1"
        or not _HOST.fullmatch(headers.get(b"host", b""))
        or headers.get(b"connection", b"keep-alive").lower() != b"keep-alive"
        or not (length.isdigit() and len(length) < 10)
    ):
        return ODD
    size = int(length)
    if size > most_body_bytes:
        return ODD
    if len(buffer) - end < size:
        return PARTIAL
    path, _, query = head.target.decode().partition("?")
    return Request(
        method=parser.get_method(),
        path=path,
        query=query,
        authorization=headers.get(b"authorization", b"").decode().strip(" \t"),
        body=buffer[end : end + size],
        end=end + size,
    )


class Answers:
    """Makes answers in the form in which Hypercorn sends them; *time* is seconds since 1970 for ``date``."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._second = -1
        self._date = b""

    def json(self, status: int, *body: bytes) -> tuple[bytes, ...]:
        """Return the answer that carries the JSON of *body*, in parts: a large body is copied nowhere."""
        second = int(self._time())
        if second != self._second:
            self._second, self._date = second, formatdate(second, usegmt=True).encode()
        head = b"HTTP/1.1 %d \r\ncontent-type: application/json\r\ncontent-length: %d\r\ndate: %b\r\n\r\n" % (
            status,
            sum(map(len, body)),
            self._date,
        )
        return (head, *body)
