"""The first and the last word on every request, around the whole application.

First: requests that two parsers could read differently, or that are out of proportion, are refused
before anything else looks at them. Last: the request id and the security headers are put on every
answer, and an exception that nothing else caught becomes a generic 500.
"""

import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any

import trio

from engine.clock import Clock
from engine.errors import ApiError
from engine.http.client_ip import UNKNOWN
from engine.http.errors import envelope
from engine.http.hosts import Names
from engine.http.strangers import Strangers
from engine.http.turnstile import Turnstile
from engine.observability.logs import IDS

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_HEADERS = 64
MAX_HEADER_BYTES = 8 * 1024
MAX_TARGET_BYTES = 4 * 1024
_SLICE = 64 * 1024
"""Bytes of a body that are handed on at a time: what waits for a slow reader is a copy of its own (SEC-099)."""
_DOUBTED_AFTER = 3
CONNECTION_KEY = "engine.connection"
"""Where the state of a connection scope holds the connection itself."""
_SIGNALS = "/api/v1/signals/"
_FLOOD = (HTTPStatus.TOO_MANY_REQUESTS, "RATE_LIMITED", "too many refused requests from here; sign in, or wait")
REQUEST_ID_KEY = "engine.request_id"
_CLIENT_KEY = "engine.client"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_OURS = frozenset({b"x-request-id", b"x-content-type-options", b"server"})
PROTECTIVE_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
"""On every answer that does not set its own; a page brings a policy that fits it."""
STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")
"""On every answer over TLS: a year, this name only (SEC-059)."""

logger = logging.getLogger("engine.http")


class Guard:
    """ASGI application around *app*.

    *names* says what requests may be addressed to, None for anything; *strangers* slows floods of refused requests
    down, *client_of* gives it the client's address. Signals of senders that are known pass *turnstile*.
    """

    def __init__(
        self,
        app: AsgiApp,
        clock: Clock,
        names: Names | None = None,
        strangers: Strangers | None = None,
        client_of: Callable[[Scope], str] = lambda scope: scope["client"][0],
        turnstile: Turnstile | None = None,
    ) -> None:
        self._app = app
        self._clock = clock
        self._names = names
        self._strangers = strangers
        self._client_of = client_of
        self._turnstile = turnstile

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope of ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            scope[REQUEST_ID_KEY] = request_id = _request_id(scope["headers"])
            # on every line that is logged on the way, of whatever module
            token = IDS.set({"request_id": request_id})
            try:
                await self._serve(scope, receive, send, request_id)
            finally:
                IDS.reset(token)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        began = trio.current_time()
        started = False
        is_secure = scope["scheme"] == "https"

        async def send_marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if message["status"] >= 400:
                    await self._count_refusal(scope, message["status"])
                elif scope["method"] == "POST":
                    # no POST is answered with success to somebody who proved nothing
                    self._welcome(scope)
                headers = _with_ours(message.get("headers", ()), request_id)
                message = {**message, "headers": [*headers, STRICT_TRANSPORT] if is_secure else headers}
                if logger.isEnabledFor(logging.INFO):
                    elapsed_ms = (trio.current_time() - began) * 1000
                    logger.info("%s %s %s %.1f ms", scope["method"], scope["path"], message["status"], elapsed_ms)
            body = message.get("body", b"")
            if len(body) <= _SLICE:
                await send(message)
                return
            for begin in range(0, len(body), _SLICE):
                is_last = begin + _SLICE >= len(body)
                more = message.get("more_body", False) or not is_last
                await send({**message, "body": body[begin : begin + _SLICE], "more_body": more})

        fault = fault_of(scope) or self._misaddressed(scope)
        if fault is not None:
            await self._refuse(send_marked, *fault)
            return
        try:
            if not await self._enters(scope):
                await self._refuse(send_marked, *_FLOOD, retry_after_s=5, close=False)
                return
            await self._app(scope, receive, send_marked)
        except Exception:
            logger.exception("request %s failed outside its handler", request_id)
            if not started:
                text = f"internal error; the log has it under request {request_id}"
                await self._refuse(send_marked, HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", text)

    def _misaddressed(self, scope: Scope) -> tuple[int, str, str] | None:
        if self._names is None:
            return None
        peer = scope.get("client")
        return self._names.fault(scope["method"], scope["headers"], peer[0] if peer else None, scope["scheme"])

    async def _enters(self, scope: Scope) -> bool:
        """Wait for the request's turn; tell whether it gets one."""
        if self._strangers is None:
            return True
        try:
            client = scope[_CLIENT_KEY] = self._client_of(scope)
        except ApiError:
            return True  # the application says what is wrong with it
        is_doubted = _unproven(scope, client) >= _DOUBTED_AFTER
        wait_s = self._strangers.enters(client, scope["path"], dict(scope["headers"]), is_doubted=is_doubted)
        if wait_s:
            await _wait(scope, wait_s)
        elif wait_s is not None and self._turnstile is not None and scope["path"].startswith(_SIGNALS):
            await self._turnstile.passed()
        return wait_s is not None

    async def _count_refusal(self, scope: Scope, status: int) -> None:
        if self._strangers is None:
            return
        try:
            client = self._client_of(scope)
        except ApiError:
            client = UNKNOWN
        connection = _connection(scope)
        if connection is not None and status == HTTPStatus.UNAUTHORIZED:
            connection.unproven += 1
        late_s = self._strangers.late_by(client, status, dict(scope["headers"]))
        if late_s > 0:
            await _wait(scope, late_s)

    def _welcome(self, scope: Scope) -> None:
        connection = _connection(scope)
        if connection is not None:
            connection.unproven = 0
        client = scope.get(_CLIENT_KEY)
        # nothing is answered with success whose client nobody could name
        if self._strangers is not None and client is not None:
            self._strangers.welcome(client)

    async def _refuse(
        self, send: Send, status: int, code: str, text: str, *, retry_after_s: int | None = None, close: bool = True
    ) -> None:
        body = envelope(status, code, text, self._clock.now())
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if close:
            headers.append((b"connection", b"close"))
        if retry_after_s is not None:
            headers.append((b"retry-after", str(retry_after_s).encode()))
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def _connection(scope: Scope) -> Any:
    return scope.get("state", {}).get(CONNECTION_KEY)


def _unproven(scope: Scope, client: str) -> int:
    """Return how many requests in a row of the connection of *client* proved nothing that they claimed."""
    connection, peer = _connection(scope), scope.get("client")
    # many share the connection of a proxy, and none answers for the others
    is_its_own = connection is not None and peer is not None and peer[0] == client
    return connection.unproven if is_its_own else 0


async def _wait(scope: Scope, seconds: float) -> None:
    """Sleep; meanwhile the connection is among those that give way to newcomers."""
    connection = _connection(scope)
    if connection is not None:
        connection.gives_way = True
    await trio.sleep(seconds)
    if connection is not None:
        connection.gives_way = False


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    given = [value.decode("latin-1") for name, value in headers if name.lower() == b"x-request-id"]
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return secrets.token_hex(12)


def _with_ours(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name.lower() not in _OURS]
    given = {name.lower() for name, _ in kept}
    kept += [header for header in PROTECTIVE_HEADERS if header[0] not in given]
    return [*kept, (b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]


def fault_of(scope: Scope) -> tuple[int, str, str] | None:
    """Return why a request is refused by its form alone: status, code and text; None when it may pass."""
    headers = scope["headers"]
    names = [name.lower() for name, _ in headers]
    if scope["http_version"] not in {"1.0", "1.1"}:
        return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP_VERSION_NOT_SUPPORTED", "speak HTTP/1.1"
    if len(scope["raw_path"]) + len(scope["query_string"]) > MAX_TARGET_BYTES:
        return HTTPStatus.REQUEST_URI_TOO_LONG, "URI_TOO_LONG", "the address is too long"
    if len(names) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEADER_BYTES:
        code = "REQUEST_HEADER_FIELDS_TOO_LARGE"
        return HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, code, "the headers are too large"
    if b"content-length" in names and b"transfer-encoding" in names:
        return HTTPStatus.BAD_REQUEST, "BAD_REQUEST", "Content-Length and Transfer-Encoding exclude each other"
    if names.count(b"host") > 1:
        return HTTPStatus.BAD_REQUEST, "BAD_REQUEST", "Host is given twice"
    if not scope["raw_path"].startswith(b"/"):
        return HTTPStatus.BAD_REQUEST, "BAD_REQUEST", "the request target must be a path"
    return None
