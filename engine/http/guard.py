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

import structlog
import trio

from engine.clock import Clock
from engine.http.errors import envelope

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_HEADERS = 64
MAX_HEADER_BYTES = 8 * 1024
MAX_TARGET_BYTES = 4 * 1024
REQUEST_ID_KEY = "engine.request_id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_OURS = frozenset({b"x-request-id", b"x-content-type-options", b"server"})
PROTECTIVE_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
"""On every answer that does not set its own; a page brings a policy that fits it."""

logger = logging.getLogger("engine.http")


class Guard:
    """ASGI application around *app*."""

    def __init__(self, app: AsgiApp, clock: Clock) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope of ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            with structlog.contextvars.bound_contextvars(request_id=_request_id(scope["headers"])) as _:
                await self._serve(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = structlog.contextvars.get_contextvars()["request_id"]
        scope[REQUEST_ID_KEY] = request_id
        began = trio.current_time()
        started = False

        async def send_marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message = {**message, "headers": _with_ours(message.get("headers", ()), request_id)}
                elapsed_ms = (trio.current_time() - began) * 1000
                logger.info("%s %s %s %.1f ms", scope["method"], scope["path"], message["status"], elapsed_ms)
            await send(message)

        fault = _fault(scope)
        if fault is not None:
            await self._refuse(send_marked, *fault)
            return
        try:
            await self._app(scope, receive, send_marked)
        except Exception:
            logger.exception("request %s failed outside its handler", request_id)
            if not started:
                text = f"internal error; the log has it under request {request_id}"
                await self._refuse(send_marked, HTTPStatus.INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", text)

    async def _refuse(self, send: Send, status: int, code: str, text: str) -> None:
        body = envelope(status, code, text, self._clock.now())
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ]
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


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


def _fault(scope: Scope) -> tuple[int, str, str] | None:
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
