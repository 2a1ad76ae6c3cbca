"""From a request that has found its endpoint to the answer: who asks, whether it may, how often, what it says.

The order for every request is the contract's: who asks (401), whether it may (403), how often (429),
whether the address can exist (404), and only then the body (415, 413, 400, 422). Nothing here knows how the
bytes came in: Quart hands requests over, and so does the fast lane.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache, partial
from time import perf_counter_ns
from typing import Any
from uuid import UUID

import msgspec
import trio
from werkzeug.exceptions import HTTPException

from engine.errors import ApiError, NotFoundError, PayloadTooLargeError
from engine.http.authentication import authenticate, require_fresh
from engine.http.client_ip import Network, client_ip
from engine.http.endpoint import ApiRequest, Endpoint, EventStream, InnerClient, Once, Page, Raw, Reply
from engine.http.errors import encode, error_body, error_headers, to_api_error
from engine.http.guard import REQUEST_ID_KEY
from engine.http.json_body import check_content_type, decode_body, decode_query
from engine.http.once import Answer, OnceKeeper
from engine.http.permissions import WITHOUT_BEARER, Permission, require, require_enrolled
from engine.http.ports import CoreServices
from engine.http.read_lanes import ReadLanes
from engine.http.refusals import RefusalLog
from engine.http.walls import seen_by
from engine.observability.measures import REQUEST, SIGNAL_REQUEST

MAX_BODY_BYTES = 64 * 1024
_FORWARDED = frozenset({b"x-forwarded-for", b"forwarded"})
_REMEMBERED = 1_024
Gate = Callable[[Endpoint, ApiRequest], Awaitable[None]]


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """A request as its server has it: ASGI's *scope*, the parts of its path, its query, and how its body is read.

    ``read_body`` may raise werkzeug's HTTPException, which passes through to whoever serves it.
    """

    scope: Mapping[str, Any]
    path: Mapping[str, str]
    query: Callable[[], Mapping[str, list[str]]]
    read_body: Callable[[], Awaitable[bytes]]


class Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, ready to be sent; a stream has no end and no length."""

    status: int
    body: bytes | EventStream
    media_type: str = "application/json"
    headers: Mapping[str, str] = {}


class Dispatcher:
    """Takes requests through their checks to their handlers; *draining* is set when the server begins to close.

    ``calls``, once set, is what handlers ask other endpoints with.
    """

    calls: InnerClient | None = None

    def __init__(
        self,
        services: CoreServices,
        *,
        draining: trio.Event,
        trusted: Sequence[Network],
        gate: Gate | None = None,
        once: OnceKeeper | None = None,
    ) -> None:
        self._services = services
        self._draining = draining
        self._trusted = trusted
        self._of_peer = lru_cache(maxsize=_REMEMBERED)(partial(client_ip, forwarded_for=(), trusted=trusted))
        self._gate = gate
        self._once = once
        self._refusals = RefusalLog(services)
        self._lanes = ReadLanes()

    async def serve(self, item: Endpoint, incoming: Incoming) -> Outgoing:
        """Answer a request for *item*; every failure has its answer too, but for HTTPException of the body's reader."""
        began_ns = perf_counter_ns()
        try:
            return await self._serve(item, incoming)
        finally:
            measured = SIGNAL_REQUEST if item.permission is Permission.WEBHOOK else REQUEST
            measured.observe_ns(perf_counter_ns() - began_ns)

    async def _serve(self, item: Endpoint, incoming: Incoming) -> Outgoing:
        scope = incoming.scope
        try:
            client = self.client_ip(scope)
        except ApiError as torn:
            return self.failure(torn, bare=item.bare)
        request = ApiRequest(
            services=self._services,
            endpoint=item,
            method=scope["method"],
            headers=_headers(scope),
            request_id=scope[REQUEST_ID_KEY],
            client_ip=client,
            draining=self._draining,
            calls=self.calls,
        )
        request.received_ns = self._services.clock.boottime_ns()
        try:
            await self._check(request, item, incoming)
            if request.method != "GET":
                return await self._run(item, request)
            async with self._lanes.of(request):
                return await self._run(item, request)
        except HTTPException:
            raise
        except Exception as exc:
            error = to_api_error(exc, request_id=request.request_id)
            self._refusals.note(request, error)
            return self.failure(error, bare=item.bare)

    async def _run(self, item: Endpoint, request: ApiRequest) -> Outgoing:
        if self._once is None or request.principal is None or item.once is Once.NO:
            return _success(item, await item(request))
        kept = await self._once.answer(request, lambda: _finished(item, request))
        return Outgoing(status=kept.status, body=kept.body, headers=kept.headers)

    async def _check(self, request: ApiRequest, item: Endpoint, incoming: Incoming) -> None:
        if item.permission not in WITHOUT_BEARER:
            now = self._services.clock.now()
            header = request.header("authorization")
            request.principal = authenticate(self._services, header, now, request.client_ip)
            require(item.permission, request.principal)
            require_enrolled(item.permission, request.principal, self._services.config.security.require_mfa)
            if item.fresh:
                require_fresh(request.principal, now)
            self._services.rate_limits.charge(item.rate, request.principal.user_id)
            request.services = seen_by(self._services, request.principal)
        request.path = _path_values(item, incoming.path)
        if self._gate is not None:
            await self._gate(item, request)
        if item.query is not None:
            request.query = decode_query(incoming.query(), item.query)
        if item.raw_body or item.body is not None:
            await self._read_body(request, item, incoming)

    async def _read_body(self, request: ApiRequest, item: Endpoint, incoming: Incoming) -> None:
        declared = request.header("content-length")
        if declared is not None and declared.isdecimal() and int(declared) > MAX_BODY_BYTES:
            raise too_large()
        if item.body is not None and not item.raw_body and (item.body_required or declared not in {None, "0"}):
            check_content_type(request.header("content-type"))
        request.raw = await incoming.read_body()
        if item.body is not None and not item.raw_body and (request.raw or item.body_required):
            request.body = decode_body(request.raw, item.body)

    def client_ip(self, scope: Mapping[str, Any]) -> str:
        """Return who sends a request. Raises BadRequestError when a proxy says two things."""
        peer = scope.get("client")
        given: dict[bytes, list[str]] = {}
        for name, value in scope["headers"]:
            if name in _FORWARDED:
                given.setdefault(name, []).append(value.decode("latin-1"))
        if not given:
            return self._of_peer(peer[0] if peer else None)
        return client_ip(
            peer[0] if peer else None,
            given.get(b"x-forwarded-for", ()),
            self._trusted,
            forwarded=given.get(b"forwarded", ()),
        )

    def failure(self, error: ApiError, *, bare: bool = False) -> Outgoing:
        """Return the answer for *error*."""
        body = error_body(error, self._services.clock.now(), bare=bare)
        return Outgoing(status=error.status_code, body=body, headers=error_headers(error))


def too_large() -> PayloadTooLargeError:
    """Return the error for a body of more than 64 KiB."""
    return PayloadTooLargeError(f"the body may have at most {MAX_BODY_BYTES} bytes")


async def _finished(item: Endpoint, request: ApiRequest) -> Answer:
    """Run the handler of a call whose answer is kept: it is always the JSON envelope."""
    value = await item(request)
    status, headers = item.status, dict[str, str]()
    if isinstance(value, Reply):
        status, headers, value = value.status, dict(value.headers), value.value
    return Answer(status=status, body=encode({"success": True, "data": value}), headers=headers)


def _success(item: Endpoint, value: Any) -> Outgoing:
    status, headers = item.status, {}
    if isinstance(value, EventStream):
        return Outgoing(
            status=200, body=value, media_type=value.media_type, headers={"X-Accel-Buffering": "no", **value.headers}
        )
    if isinstance(value, Raw):
        return Outgoing(status=value.status, body=value.body, media_type=value.media_type, headers=value.headers)
    if isinstance(value, Reply):
        status, headers, value = value.status, dict(value.headers), value.value
    content: dict[str, Any] = {"success": True, "data": value}
    if isinstance(value, Page):
        page = {"limit": value.limit, "nextCursor": value.next_cursor}
        content = {"success": True, "data": value.items, "page": page}
    return Outgoing(status=status, body=encode(value if item.bare else content), headers=headers)


def _headers(scope: Mapping[str, Any]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _path_values(item: Endpoint, path: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, type_ in item.parameters:
        try:
            values[name] = msgspec.convert(path[name], UUID) if type_ is UUID else path[name]
        except msgspec.ValidationError:
            raise NotFoundError("there is no such object") from None
    return values
