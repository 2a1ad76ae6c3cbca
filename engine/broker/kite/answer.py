"""Reading one HTTP/1.1 answer: httptools does the parsing, this keeps the bounds."""

from typing import Self

import httptools

# RFC 9110, section 15: what begins with 0 is no status; 0 means to others that nothing was sent.
_LEAST_STATUS = 100
_FIRST_FINAL = 200


class AnswerReader:
    """Collects one final answer from the bytes of a connection.

    ``complete`` once the whole answer is there, ``reusable`` if the connection may carry another
    request. Interim answers (1xx) are skipped. Raises ProtocolError for what is not HTTP, and for
    more than *limit* bytes raises OversizeError. A context manager: at the end of the block the parser, which knows
    this object as this object knows it, is let go of, so that a body does not live until the cyclic collector comes by.
    """

    def __init__(self, limit: int) -> None:
        self.status = 0
        self.content_type = ""
        self.complete = False
        self.reusable = False
        self._limit = limit
        self._seen = 0
        self._parts: list[bytes] = []
        self._framed = False
        self._in_headers = True
        self._extra = False
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._parser = None

    @property
    def body(self) -> bytes:
        """The body so far."""
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    def feed(self, chunk: bytes) -> None:
        """Take *chunk* in. Raises ProtocolError or OversizeError."""
        parser = self._parser
        if parser is None:
            raise ProtocolError("the answer is over")
        self._seen += len(chunk)
        if self._seen > self._limit:
            raise OversizeError(f"answer is over {self._limit} bytes")
        try:
            parser.feed_data(chunk)
        except httptools.HttpParserUpgrade as exc:
            raise ProtocolError("the answer switches protocols") from exc
        except httptools.HttpParserError as exc:
            if not self.complete:
                raise ProtocolError(f"the answer is not HTTP: {exc}") from exc
            self._extra = True
        if self._extra:
            self.reusable = False

    def feed_end(self) -> None:
        """Take in the end of the connection: it completes an answer whose length was not given."""
        is_final = self.status >= _FIRST_FINAL
        if not self.complete and is_final and not self._in_headers and not self._framed:
            self.complete = True

    def on_message_begin(self) -> None:
        """Start an answer; one after the complete one was not asked for."""
        if self.complete:
            self._extra = True
            return
        self._framed = False
        self._in_headers = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note what matters of a header."""
        if self.complete:
            return
        name = name.lower()
        if name == b"content-type":
            self.content_type = value.decode("latin-1")
        elif name in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        """Note the status."""
        if not self.complete and self._parser is not None:
            status = self._parser.get_status_code()
            if status < _LEAST_STATUS:
                raise ProtocolError(f"the answer has the status {status:03}")
            self.status = status
            self._in_headers = False

    def on_body(self, chunk: bytes) -> None:
        """Collect the body."""
        if not self.complete:
            self._parts.append(chunk)

    def on_message_complete(self) -> None:
        """Finish, unless it was an interim answer."""
        if self.complete or self.status < _FIRST_FINAL:
            return
        self.complete = True
        self.reusable = self._parser is not None and self._parser.should_keep_alive()


class ProtocolError(Exception):
    """The peer does not speak HTTP/1.1."""


class OversizeError(Exception):
    """The answer is larger than it may be."""
