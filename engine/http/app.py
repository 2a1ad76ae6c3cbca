"""The application: a Quart-Trio app with one route per endpoint of a registry, and the fast lane beside it."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

import quart
import trio
from quart_trio import QuartTrio
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from engine.errors import NotFoundError, StartupError
from engine.http.client_ip import parse_networks
from engine.http.dispatch import MAX_BODY_BYTES, Dispatcher, Gate, Incoming, Outgoing, too_large
from engine.http.endpoint import Endpoint, EventStream, Registry
from engine.http.errors import envelope, to_api_error
from engine.http.fast_lane import FastLane
from engine.http.guard import REQUEST_ID_KEY, AsgiApp, Guard
from engine.http.header_proofs import HeaderProofs
from engine.http.hosts import Names
from engine.http.once import OnceKeeper
from engine.http.openapi import document_endpoints
from engine.http.ports import CoreServices
from engine.http.self_calls import SelfCalls
from engine.http.strangers import Strangers
from engine.http.turnstile import Turnstile

BODY_TIMEOUT_S = 8
RESPONSE_TIMEOUT_S = 30


class EngineApp(QuartTrio):
    """The Quart-Trio application; ``draining`` is set when the server begins to close.

    ``fast_lane`` answers plain signals without Quart, through the same checks. Who serves it runs ``turnstile``.
    """

    draining: trio.Event
    fast_lane: FastLane
    turnstile: Turnstile
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


def create_app(
    services: CoreServices, registry: Registry, *, gate: Gate | None = None, once: OnceKeeper | None = None
) -> EngineApp:
    """Build the application of *registry*; the API document is added to it.

    *gate*, when given, is asked before each handler and may raise, for example UnavailableError while
    the engine is on standby. *once* keeps the answers of calls with an Idempotency-Key. Raises StartupError
    when a route would be reachable without a permission.
    """
    app = EngineApp("engine", static_folder=None)
    app.draining = trio.Event()
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES, BODY_TIMEOUT=BODY_TIMEOUT_S, RESPONSE_TIMEOUT=RESPONSE_TIMEOUT_S
    )
    app.url_map.merge_slashes = False
    endpoints = [*registry, *document_endpoints(registry)]
    server = services.config.server
    trusted = parse_networks(server.trusted_proxies)
    dispatcher = Dispatcher(services, draining=app.draining, trusted=trusted, gate=gate, once=once)
    dispatcher.calls = SelfCalls(dispatcher, registry)
    faults = _Faults(services, dispatcher)
    for item in endpoints:
        _route(app, item, dispatcher, faults)
    app.register_error_handler(HTTPException, faults.http_exception)
    app.register_error_handler(Exception, faults.exception)
    app.declared = frozenset(item.rule for item in endpoints)
    app.refuse_bare_routes()
    names = Names(server.allowed_hosts, server.public_url, trusted)
    strangers = Strangers(HeaderProofs(services))
    app.turnstile = Turnstile()

    def guarded(inner: AsgiApp) -> Guard:
        return Guard(inner, services.clock, names, strangers, dispatcher.client_ip, app.turnstile)

    app.asgi_app = cast("Any", guarded(cast("Any", app.asgi_app)))  # type: ignore[method-assign]
    app.fast_lane = FastLane(registry, dispatcher, clock=services.clock, guarded=guarded)
    return app


def _route(app: QuartTrio, item: Endpoint, dispatcher: Dispatcher, faults: "_Faults") -> None:
    name = f"{item.method} {item.template}"
    if item.bare:
        faults.bare.add(name)

    async def view(**path: str) -> quart.Response:
        incoming = Incoming(
            scope=cast("Mapping[str, Any]", quart.request.scope), path=path, query=_query, read_body=_read_body
        )
        return _response(await dispatcher.serve(item, incoming))

    app.add_url_rule(
        item.rule,
        endpoint=name,
        view_func=view,
        methods=[item.method],
        provide_automatic_options=False,
    )


def _query() -> Mapping[str, list[str]]:
    return quart.request.args.to_dict(flat=False)


async def _read_body() -> bytes:
    return await quart.request.get_data(cache=True, as_text=False, parse_form_data=False)


class _Faults:
    """The answers for what is refused before or beside a handler; ``bare`` names routes without our envelope."""

    def __init__(self, services: CoreServices, dispatcher: Dispatcher) -> None:
        self._services = services
        self._dispatcher = dispatcher
        self.bare: set[str | None] = set()

    async def exception(self, error: Exception) -> quart.Response:
        """Answer for an exception that was raised outside a handler."""
        scope = cast("Mapping[str, Any]", quart.request.scope)
        return _response(self._dispatcher.failure(to_api_error(error, request_id=scope[REQUEST_ID_KEY])))

    async def http_exception(self, error: HTTPException) -> quart.Response:
        """Answer for what the router or the body reader refused."""
        status, bare = HTTPStatus(error.code or 500), quart.request.endpoint in self.bare
        if status is HTTPStatus.NOT_FOUND:
            return _response(self._dispatcher.failure(NotFoundError("there is nothing at this address")))
        if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return _response(self._dispatcher.failure(too_large(), bare=bare))
        headers = {}
        text = "the request cannot be served"
        if isinstance(error, MethodNotAllowed):
            headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
            text = f"this address answers {headers['Allow']} only"
        elif status is HTTPStatus.REQUEST_TIMEOUT:
            text = "the body did not arrive in time"
        body = envelope(status, status.name, text, self._services.clock.now(), bare=bare)
        return _response(Outgoing(status=status, body=body, headers=headers))


def _response(answer: Outgoing) -> quart.Response:
    if isinstance(answer.body, EventStream):
        response = quart.Response(answer.body.chunks, status=answer.status, content_type=answer.media_type)
        response.timeout = None
    else:
        response = quart.Response(answer.body, status=answer.status, content_type=answer.media_type)
    response.headers["Cache-Control"] = "no-store"
    response.headers.update(dict(answer.headers))
    return response
