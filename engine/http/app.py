"""The application: a Quart-Trio app with one route per endpoint of a registry.

The order for every request is the contract's: who asks (401), whether it may (403), how often (429),
whether the address can exist (404), and only then the body (415, 413, 400, 422).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast
from uuid import UUID

import msgspec
import quart
import trio
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from engine.errors import ApiError, NotFoundError, PayloadTooLargeError, StartupError
from engine.http.authentication import authenticate
from engine.http.client_ip import Network, client_ip, parse_networks
from engine.http.endpoint import ApiRequest, Endpoint, EventStream, Page, Raw, Registry, Reply
from engine.http.errors import encode, envelope, error_body, error_headers, to_api_error
from engine.http.guard import REQUEST_ID_KEY, Guard
from engine.http.json_body import check_content_type, decode_body, decode_query
from engine.http.openapi import document_endpoints
from engine.http.permissions import WITHOUT_BEARER, require
from engine.http.ports import CoreServices

MAX_BODY_BYTES = 64 * 1024
BODY_TIMEOUT_S = 8
RESPONSE_TIMEOUT_S = 30
Gate = Callable[[Endpoint, ApiRequest], Awaitable[None]]


class EngineApp(QuartTrio):
    """The Quart-Trio application; ``draining`` is set when the server begins to close."""

    draining: trio.Event
    declared: frozenset[str] = frozenset()

    def refuse_bare_routes(self) -> None:
        """Raise StartupError for a route that no endpoint declares."""
        for rule in self.url_map.iter_rules():
            if rule.rule not in self.declared:
                raise StartupError(f"the route {rule.rule} declares no permission; use @endpoint")

    async def startup(self) -> None:
        """Start to serve, unless a route was added past the registry."""
        self.refuse_bare_routes()
        await super().startup()


def create_app(services: CoreServices, registry: Registry, *, gate: Gate | None = None) -> EngineApp:
    """Build the application of *registry*; the API document is added to it.

    *gate*, when given, is asked before each handler and may raise, for example UnavailableError while
    the engine is on standby. Raises StartupError when a route would be reachable without a permission.
    """
    app = EngineApp("engine", static_folder=None)
    app.draining = trio.Event()
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES, BODY_TIMEOUT=BODY_TIMEOUT_S, RESPONSE_TIMEOUT=RESPONSE_TIMEOUT_S
    )
    app.url_map.merge_slashes = False
    endpoints = [*registry, *document_endpoints(registry)]
    dispatcher = _Dispatcher(app, services, parse_networks(services.config.server.trusted_proxies), gate)
    for item in endpoints:
        _route(app, item, dispatcher)
    app.register_error_handler(HTTPException, dispatcher.http_exception)
    app.register_error_handler(Exception, dispatcher.exception)
    app.declared = frozenset(item.rule for item in endpoints)
    app.refuse_bare_routes()
    app.asgi_app = cast("Any", Guard(cast("Any", app.asgi_app), services.clock))  # type: ignore[method-assign]
    return app


def _route(app: QuartTrio, item: Endpoint, dispatcher: "_Dispatcher") -> None:
    async def view(**path: str) -> quart.Response:
        return await dispatcher.serve(item, path)

    app.add_url_rule(
        item.rule,
        endpoint=f"{item.method} {item.template}",
        view_func=view,
        methods=[item.method],
        provide_automatic_options=False,
    )


class _Dispatcher:
    """Takes a routed request through its checks to its handler."""

    def __init__(self, app: EngineApp, services: CoreServices, trusted: Sequence[Network], gate: Gate | None) -> None:
        self._app = app
        self._services = services
        self._trusted = trusted
        self._gate = gate

    async def serve(self, item: Endpoint, path: Mapping[str, str]) -> quart.Response:
        raw_request = quart.request
        scope = cast("Mapping[str, Any]", raw_request.scope)
        request = ApiRequest(
            services=self._services,
            endpoint=item,
            method=raw_request.method,
            headers=_headers(scope),
            request_id=scope[REQUEST_ID_KEY],
            client_ip=self._client_ip(scope),
            draining=self._app.draining,
        )
        try:
            await self._check(request, item, path)
            return self._success(item, await item(request))
        except HTTPException:
            raise
        except Exception as exc:
            return self._failure(to_api_error(exc, request_id=request.request_id))

    async def _check(self, request: ApiRequest, item: Endpoint, path: Mapping[str, str]) -> None:
        if item.permission not in WITHOUT_BEARER:
            now = self._services.clock.now()
            request.principal = authenticate(self._services, request.header("authorization"), now)
            require(item.permission, request.principal)
            self._services.rate_limits.charge(item.rate, request.principal.user_id)
        request.path = _path_values(item, path)
        if self._gate is not None:
            await self._gate(item, request)
        if item.query is not None:
            request.query = decode_query(quart.request.args.to_dict(flat=False), item.query)
        if item.raw_body or item.body is not None:
            await self._read_body(request, item)

    async def _read_body(self, request: ApiRequest, item: Endpoint) -> None:
        declared = request.header("content-length")
        if declared is not None and declared.isdecimal() and int(declared) > MAX_BODY_BYTES:
            raise _too_large()
        if item.body is not None and (item.body_required or declared not in {None, "0"}):
            check_content_type(request.header("content-type"))
        request.raw = await quart.request.get_data(cache=True, as_text=False, parse_form_data=False)
        if item.body is not None and (request.raw or item.body_required):
            request.body = decode_body(request.raw, item.body)

    def _client_ip(self, scope: Mapping[str, Any]) -> str:
        peer = scope.get("client")
        forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
        return client_ip(peer[0] if peer else None, forwarded, self._trusted)

    def _success(self, item: Endpoint, value: Any) -> quart.Response:
        status, headers = item.status, {}
        if isinstance(value, EventStream):
            return _stream(value)
        if isinstance(value, Raw):
            return _response(value.body, value.status, value.media_type, value.headers)
        if isinstance(value, Reply):
            status, headers, value = value.status, dict(value.headers), value.value
        content: dict[str, Any] = {"success": True, "data": value}
        if isinstance(value, Page):
            page = {"limit": value.limit, "nextCursor": value.next_cursor}
            content = {"success": True, "data": value.items, "page": page}
        return _response(encode(content), status, "application/json", headers)

    def _failure(self, error: ApiError) -> quart.Response:
        body = error_body(error, self._services.clock.now())
        return _response(body, error.status_code, "application/json", error_headers(error))

    async def exception(self, error: Exception) -> quart.Response:
        """Answer for an exception that was raised outside a handler."""
        scope = cast("Mapping[str, Any]", quart.request.scope)
        return self._failure(to_api_error(error, request_id=scope[REQUEST_ID_KEY]))

    async def http_exception(self, error: HTTPException) -> quart.Response:
        """Answer for what the router or the body reader refused."""
        status = HTTPStatus(error.code or 500)
        if status is HTTPStatus.NOT_FOUND:
            return self._failure(NotFoundError("there is nothing at this address"))
        if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return self._failure(_too_large())
        headers = {}
        text = "the request cannot be served"
        if isinstance(error, MethodNotAllowed):
            headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
            text = f"this address answers {headers['Allow']} only"
        elif status is HTTPStatus.REQUEST_TIMEOUT:
            text = "the body did not arrive in time"
        body = envelope(status, status.name, text, self._services.clock.now())
        return _response(body, status, "application/json", headers)


def _too_large() -> PayloadTooLargeError:
    return PayloadTooLargeError(f"the body may have at most {MAX_BODY_BYTES} bytes")


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


def _response(body: bytes, status: int, media_type: str, headers: Mapping[str, str]) -> quart.Response:
    response = quart.Response(body, status=status, content_type=media_type)
    response.headers["Cache-Control"] = "no-store"
    response.headers.update(dict(headers))
    return response


def _stream(value: EventStream) -> quart.Response:
    response = quart.Response(value.chunks, content_type=value.media_type)
    response.timeout = None
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"
    return response
