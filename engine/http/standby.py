"""What an engine on standby answers: that it lives, and that everything else is elsewhere.

It needs no services and touches no store. The guard is around it, as around the whole application:
refusals, request ids and headers are the same.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import trio

from engine import __version__
from engine.clock import Clock
from engine.errors import UnavailableError
from engine.http.errors import encode, error_body, error_headers
from engine.http.guard import Guard, Message, Receive, Scope, Send

RETRY_AFTER_S = 5
_HEALTH = "/api/v1/system/health"
_BODY_BYTES = 64 * 1024
_BODY_WITHIN_S = 2.0

Leads = Callable[[], Mapping[str, Any]]


class StandbyApp:
    """ASGI application of an engine that waits; *why* says for what, *leads* who leads as far as is known."""

    def __init__(self, clock: Clock, *, why: Callable[[], str], leads: Leads) -> None:
        self.draining = trio.Event()
        self._clock = clock
        self._why = why
        self._leads = leads
        self._guarded = Guard(self._serve, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope of ASGI."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await self._guarded(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        with trio.move_on_after(_BODY_WITHIN_S):
            await _read_away(receive)
        if scope["path"] == _HEALTH and scope["method"] in ("GET", "HEAD"):
            await _answer(send, 200, _health(), {})
            return
        details = {"role": "standby", "leader": dict(self._leads())}
        error = UnavailableError(self._why(), details=details, retry_after_s=RETRY_AFTER_S)
        await _answer(send, error.status_code, error_body(error, self._clock.now()), error_headers(error))


@functools.cache
def _health() -> bytes:
    return encode({"success": True, "data": {"status": "ok", "version": __version__}})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _read_away(receive: Receive) -> None:
    """Read the body, as far as it is one that the engine would take: a client that is still sending hears nothing."""
    size = 0
    while size <= _BODY_BYTES:
        message: Message = await receive()
        if message["type"] != "http.request":
            return
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            return


async def _answer(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    fields = {"content-type": "application/json", "content-length": str(len(body)), **headers}
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(name.lower().encode(), value.encode()) for name, value in fields.items()],
        }
    )
    await send({"type": "http.response.body", "body": body, "more_body": False})
