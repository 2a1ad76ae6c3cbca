"""The fast lane: signals in the plain shape are answered without Hypercorn's parser, the router and Quart.

So are sign-ins: not because they are in a hurry, but because a crowd of strangers can ask for them, and refusing one
should cost as little as refusing a signal does (SEC-098).

What comes in by it becomes the very scope that Hypercorn would have made of it and goes through the same guard, the
same dispatcher and the same handler: only the carrying is left out. Whatever is not plain goes the slow road with
all of its bytes (`engine.http.plain_post`).
"""

from collections.abc import Callable
from email.utils import format_datetime
from typing import Any

import trio

from engine.clock import Clock
from engine.errors import UnavailableError
from engine.http.dispatch import Dispatcher, Incoming, Outgoing
from engine.http.endpoint import BASE_PATH, Endpoint, Registry
from engine.http.guard import AsgiApp, Guard, Message, Receive, Scope, Send
from engine.http.permissions import Permission
from engine.http.plain_post import PlainPost, Verdict, read

_SIGNALS = f"{BASE_PATH}/signals/"
_SIGN_IN = f"{BASE_PATH}/auth/login"
_ANSWER_S = 30.0
_ITEM, _PATH, _BODY = "engine.item", "engine.path", "engine.body"


class FastLane:
    """Answers plain POSTs to the doors for signals of *registry*, and to that for signing in."""

    def __init__(
        self, registry: Registry, dispatcher: Dispatcher, *, clock: Clock, guarded: Callable[[AsgiApp], Guard]
    ) -> None:
        self._dispatcher = dispatcher
        self._clock = clock
        self._date = (0, b"")
        self._app = guarded(self._serve)
        self._whole: dict[bytes, Endpoint] = {}
        self._by_last: dict[bytes, Endpoint] = {}
        for item in registry:
            is_for_signals = item.permission is Permission.WEBHOOK and item.path.startswith(_SIGNALS)
            if item.method == "POST" and (is_for_signals or item.template == _SIGN_IN):
                self._add(item)

    def _add(self, item: Endpoint) -> None:
        head, _, last = item.template.rpartition("/")
        if not item.parameters:
            self._whole[item.template.encode()] = item
        elif len(item.parameters) == 1 and last == f"{{{item.parameters[0][0]}}}":
            self._by_last[head.encode()] = item

    def read(self, buffer: bytes) -> PlainPost | Verdict:
        """Return the first request of *buffer* if it is one for this lane, and else what is to be done with it."""
        return read(buffer, is_ours=self._is_ours)

    def _is_ours(self, target: bytes) -> bool:
        if target in self._whole:
            return True
        head, _, last = target.rpartition(b"/")
        # anything that a router would have to decode is the router's
        return head in self._by_last and last.replace(b"-", b"").isalnum()

    async def answer(
        self, post: PlainPost, *, client: Any, server: Any, scheme: str, state: dict[str, Any], is_last: bool = False
    ) -> tuple[bytes, bool]:
        """Return the whole answer to *post*, and whether the connection stays open after it.

        *client* and *server* are ASGI's address pairs, *state* what the connection is known by; with *is_last* it
        ends in any case.
        """
        item = self._whole.get(post.target)
        path = {}
        if item is None:
            head, _, last = post.target.rpartition(b"/")
            item = self._by_last[head]
            path[item.parameters[0][0]] = last.decode("ascii")
        sent = _Sent()
        scope = {
            "type": "http",
            "http_version": "1.1",
            "asgi": {"spec_version": "2.3", "version": "3.0"},
            "method": "POST",
            "scheme": scheme,
            "path": post.target.decode("ascii"),
            "raw_path": post.target,
            "query_string": b"",
            "root_path": "",
            "headers": post.headers,
            "client": client,
            "server": server,
            "state": state,
            "extensions": {},
            _ITEM: item,
            _PATH: path,
            _BODY: post.body,
        }
        await self._app(scope, _nothing_more, sent.take)
        if is_last and not sent.closes:
            sent.headers = [*sent.headers, (b"connection", b"close")]
        return sent.octets(self._today()), not sent.closes

    def _today(self) -> bytes:
        """Return the Date of an answer (RFC 9110, section 6.6.1); it is written anew once a second."""
        now = self._clock.now()
        second = int(now.timestamp())
        if second != self._date[0]:
            self._date = (second, format_datetime(now, usegmt=True).encode())
        return self._date[1]

    async def _serve(self, scope: Scope, _receive: Receive, send: Send) -> None:
        async def read_body() -> bytes:
            return bytes(scope[_BODY])

        incoming = Incoming(scope=scope, path=scope[_PATH], query=dict, read_body=read_body)
        answer: Outgoing | None = None
        with trio.move_on_after(_ANSWER_S):
            answer = await self._dispatcher.serve(scope[_ITEM], incoming)
        if answer is None:
            answer = self._dispatcher.failure(UnavailableError("the answer took too long; try again", retry_after_s=2))
        body = answer.body
        assert isinstance(body, bytes)  # noqa: S101 -- none of these doors answers with a stream
        headers = [
            (b"content-type", answer.media_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
            *((name.lower().encode(), value.encode()) for name, value in answer.headers.items()),
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


class _Sent:
    """What an application sends, put together."""

    def __init__(self) -> None:
        self.status = 500
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""

    async def take(self, message: Message) -> None:
        """Take one message of ASGI."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], message["headers"]
        else:
            self.body += message["body"]

    @property
    def closes(self) -> bool:
        """Whether the connection ends with this answer."""
        return (b"connection", b"close") in self.headers

    def octets(self, date: bytes) -> bytes:
        """Return the answer as HTTP/1.1, made at *date*."""
        lines = [b"HTTP/1.1 %d \r\n" % self.status]
        lines += [b"%b: %b\r\n" % header for header in self.headers]
        return b"".join((*lines, b"date: ", date, b"\r\n\r\n", self.body))


async def _nothing_more() -> Message:
    await trio.sleep_forever()
    raise AssertionError
