"""A plain POST in a buffer: the one shape of a request that may be answered without Hypercorn.

Pure. Whatever is not exactly that shape is somebody else's: it is handed on with all of its bytes, so a request
that two parsers could read differently is never decided about here (RFC 9112, sections 6 and 11.2).
"""

import re
from collections.abc import Callable
from enum import Enum, auto

import httptools
import msgspec

from engine.http.dispatch import MAX_BODY_BYTES
from engine.http.guard import MAX_HEADERS

_END = b"\r\n\r\n"
_START = b"POST /"
_LINE_END = b" HTTP/1.1\r\n"
MAX_HEAD_BYTES = 8 * 1024
_CONTROLS = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_OTHERS = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"te", b"trailer", b"connection"})
_ONCE = frozenset({b"host", b"content-length"})


class PlainPost(msgspec.Struct, frozen=True):
    """A request that is all there: target, headers with lower-case names in their order, body, the bytes it took."""

    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes
    size: int


class Verdict(Enum):
    """What is to be done with a buffer that holds no plain POST."""

    WAIT = auto()
    """It may become one: more bytes are needed."""
    HAND_ON = auto()
    """It is none and never will be."""


class _Head:
    """Takes note of what the parser finds."""

    __slots__ = ("headers", "is_complete", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.is_complete = False

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header."""
        self.headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        """The end of the head."""
        self.is_complete = True


def read(buffer: bytes, *, is_ours: Callable[[bytes], bool]) -> PlainPost | Verdict:
    """Read the first request of *buffer*; *is_ours* says of a target whether it is one that is answered here.

    Plain is: POST of a target of ours by HTTP/1.1, one Host, one Content-Length of at most 64 KiB in digits, none of
    the headers that change how a message is read or what becomes of the connection, a head of at most 8 KiB.
    """
    if not buffer.startswith(_START):
        return Verdict.WAIT if _START.startswith(buffer) else Verdict.HAND_ON
    line_end = buffer.find(_LINE_END)
    if line_end < 0:
        # the line is not all there, or it is of another version
        return Verdict.HAND_ON if b"\n" in buffer or len(buffer) > MAX_HEAD_BYTES else Verdict.WAIT
    if not is_ours(buffer[len(_START) - 1 : line_end]):
        return Verdict.HAND_ON
    head_end = buffer.find(_END)
    if head_end < 0:
        return Verdict.HAND_ON if len(buffer) > MAX_HEAD_BYTES else Verdict.WAIT
    if head_end > MAX_HEAD_BYTES:
        return Verdict.HAND_ON
    begin = head_end + len(_END)
    head = _parsed(buffer[:begin])
    length = None if head is None else _length(head.headers)
    if head is None or length is None:
        return Verdict.HAND_ON
    end = begin + length
    if len(buffer) < end:
        return Verdict.WAIT
    return PlainPost(head.target, head.headers, buffer[begin:end], end)


def whole_size(buffer: bytes) -> int:
    """Return how many bytes the first request of *buffer*, for whose body `read` waits, will have; 0 without a head.

    A body that comes byte by byte must not have its head read anew for each.
    """
    head_end = buffer.find(_END)
    if head_end < 0:
        return 0
    begin = head_end + len(_END)
    head = _parsed(buffer[:begin])
    length = None if head is None else _length(head.headers)
    return 0 if length is None else begin + length


def has_whole_head(buffer: bytes) -> bool:
    """Tell whether all headers of the first request of *buffer* are there."""
    return _END in buffer


def _parsed(octets: bytes) -> _Head | None:
    head = _Head()
    try:
        httptools.HttpRequestParser(head).feed_data(octets)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    if not head.is_complete or head.target != octets[len(_START) - 1 : octets.index(_LINE_END)]:
        return None
    if _CONTROLS.search(octets):
        return None
    # a bare line feed or carriage return is where readers differ
    lines = octets.count(b"\r\n")
    if lines != octets.count(b"\n") or lines != octets.count(b"\r") or lines != len(head.headers) + 2:
        return None
    return head


def _length(headers: list[tuple[bytes, bytes]]) -> int | None:
    """Return how long the body is; None when it is not plain."""
    if len(headers) > MAX_HEADERS:
        return None
    given: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _OTHERS and not (name == b"connection" and value.lower() == b"keep-alive"):
            return None
        if name in _ONCE:
            if name in given:
                return None
            given[name] = value
    digits = given.get(b"content-length", b"")
    if not given.get(b"host") or not digits.isdigit() or len(digits) > len(str(MAX_BODY_BYTES)):
        return None
    length = int(digits)
    return length if length <= MAX_BODY_BYTES else None
