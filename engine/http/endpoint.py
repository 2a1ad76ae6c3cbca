"""Endpoints, declared: path, permission, shapes and errors stand next to the handler.

A handler is an ordinary coroutine; what it returns becomes the ``data`` of the success envelope::

    class CancelBody(ApiBody, frozen=True, kw_only=True):
        reason: str

    class OrderView(ApiStruct, frozen=True, kw_only=True):
        id: UUID
        status: OrderStatus

    @endpoint("POST", "/executions/orders/{id}/cancel", permission=Permission.TRADE,
              summary="Cancel an order", body=CancelBody, response=OrderView, status=202,
              errors=(NotFoundError, ConflictError), tags=("executions",))
    async def cancel_order(request: ApiRequest) -> OrderView:
        order = await request.services.orders.cancel(request.path["id"], by=request.user)
        return OrderView(id=order.id, status=order.status)

    @endpoint("GET", "/executions/orders", permission=Permission.READ, summary="List orders",
              list_of=OrderView, query=PageQuery, tags=("executions",))
    async def list_orders(request: ApiRequest) -> Page:
        window = request.query.window()
        rows = ...  # window.limit + 1 rows, newest first
        return Page.cut(rows, window, key=lambda order: (order.created_at, order.id))

``{id}`` in a path is a UUID (anything else answers 404 like a missing object); ``{name:str}`` is one
path segment of text. ``root=True`` leaves out the base path. The decorated name is an ``Endpoint``;
``Registry.of(module, ...)`` collects those of whole modules. Nothing is reachable by default: the
permission is a required argument and the application refuses a route that is in no registry.
"""

import re
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from types import ModuleType
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

import msgspec
import trio

from engine.errors import ApiError, BadRequestError, StartupError, UnauthorizedError
from engine.http.doors import Door
from engine.http.paging import PageWindow, encode_cursor
from engine.http.permissions import WITHOUT_BEARER, Permission, Principal
from engine.http.ratelimit import RateClass

T = TypeVar("T")
BASE_PATH = "/api/v1"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_PARAMETER = re.compile(r"\{([a-zA-Z]+)(:str)?\}")


class Once(StrEnum):
    """What a repeat of a call with the same Idempotency-Key comes to."""

    NO = "NO"
    """The header means nothing here: the call only reads, or changes a thing to what it says."""
    KEPT = "KEPT"
    """It never runs twice: the repeat gets the first answer, or is told that the outcome is unknown."""
    REPEATABLE = "REPEATABLE"
    """The repeat gets the first answer where it was kept, and else runs: twice does no more than once."""
    UNKEPT = "UNKEPT"
    """It never runs twice, and its answer, which shows a secret, is not kept: the repeat is told that it ran."""
    OWN = "OWN"
    """The handler sees to it itself, with what survives the loss of the store."""


class ApiStruct(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of what the API answers: camelCase keys."""


class ApiBody(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Base of what the API reads: camelCase keys, an unknown one is refused."""


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A slice of a list; ``next_cursor`` is None on the last one."""

    items: Sequence[T]
    limit: int
    next_cursor: str | None = None

    @classmethod
    def cut(cls, rows: Sequence[T], window: PageWindow, *, key: Callable[[T], Sequence[Any]]) -> "Page[T]":
        """Make a page of up to ``window.limit + 1`` *rows*: the one too many says that more follow.

        *key* gives the sort key of a row, for example ``(created_at, id)``.
        """
        kept = rows[: window.limit]
        more = len(rows) > window.limit
        return cls(items=kept, limit=window.limit, next_cursor=encode_cursor(*key(kept[-1])) if more else None)

    def map(self, view: Callable[[T], Any]) -> "Page[Any]":
        """Return the page with *view* of each item."""
        return Page(items=[view(item) for item in self.items], limit=self.limit, next_cursor=self.next_cursor)


class Reply(msgspec.Struct, frozen=True):
    """A success with a status of its own, and headers if need be."""

    status: int
    value: Any = None
    headers: Mapping[str, str] = {}


class Raw(msgspec.Struct, frozen=True):
    """An answer without envelope, for example a page or Prometheus text."""

    body: bytes
    media_type: str
    status: int = 200
    headers: Mapping[str, str] = {}


class EventStream(msgspec.Struct, frozen=True):
    """An endless answer (server-sent events); the source ends when ``request.draining`` is set."""

    chunks: AsyncIterable[bytes]
    media_type: str = "text/event-stream"
    headers: Mapping[str, str] = {}


class ApiRequest:
    """One request, checked: who asks, and what, already decoded.

    ``body`` and ``query`` are the declared structs (None where none is declared), ``raw`` the bytes
    of the body, ``path`` the path parameters, ``headers`` has lower-case names. ``calls`` asks other endpoints as a
    client would; None where nothing dispatches. ``received_ns`` is when its
    head was there (CLOCK_BOOTTIME), 0 where nobody looked.
    """

    __slots__ = (
        "body",
        "calls",
        "client_ip",
        "draining",
        "endpoint",
        "headers",
        "method",
        "path",
        "principal",
        "query",
        "raw",
        "received_ns",
        "request_id",
        "services",
    )

    def __init__(
        self,
        *,
        services: Any,
        endpoint: "Endpoint",
        method: str,
        headers: Mapping[str, str],
        request_id: str,
        client_ip: str,
        draining: trio.Event,
        calls: "InnerClient | None" = None,
    ) -> None:
        self.services = services
        self.endpoint = endpoint
        self.method = method
        self.headers = headers
        self.request_id = request_id
        self.client_ip = client_ip
        self.draining = draining
        self.calls = calls
        self.principal: Principal | None = None
        self.path: Mapping[str, Any] = {}
        self.body: Any = None
        self.query: Any = None
        self.raw = b""
        self.received_ns = 0

    @property
    def user(self) -> Principal:
        """The signed-in caller. Raises UnauthorizedError on an endpoint that needs none."""
        if self.principal is None:
            raise UnauthorizedError("sign in first: send Authorization: Bearer <access token>")
        return self.principal

    def header(self, name: str) -> str | None:
        """Return the value of one header, whatever the case of its name."""
        return self.headers.get(name.lower())


Handler = Callable[[ApiRequest], Awaitable[Any]]


class InnerClient(Protocol):
    """Sends calls of the API from inside the process, through every check that a call from outside passes."""

    async def send(
        self,
        request: ApiRequest,
        method: str,
        path: str,
        *,
        values: Mapping[str, str],
        query: Mapping[str, str],
        headers: Mapping[str, str],
        body: bytes,
    ) -> Any:
        """Return the answer (`engine.http.dispatch.Outgoing`) of the endpoint declared at *path*; KeyError for none."""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one path, with everything that the server and the API document need."""

    method: str
    path: str
    permission: Permission
    summary: str
    handler: Handler
    body: Any = None
    body_required: bool = True
    query: type[Any] | None = None
    response: Any = None
    list_of: Any = None
    status: int = 200
    errors: tuple[type[ApiError], ...] = ()
    raw_body: bool = False
    bare: bool = False
    media_type: str = "application/json"
    tags: tuple[str, ...] = ()
    description: str = ""
    rate: RateClass = RateClass.API
    fresh: bool = False
    once: Once = Once.NO
    door: Door | None = None
    listed: bool = True

    @property
    def name(self) -> str:
        """The name of the operation, for example ``cancel_order``."""
        return str(getattr(self.handler, "__name__", "operation"))

    @property
    def parameters(self) -> tuple[tuple[str, type[Any]], ...]:
        """The path parameters in order, each with its type (UUID or str)."""
        return _parameters(self.path)

    @property
    def rule(self) -> str:
        """The path in the router's notation."""
        return _PARAMETER.sub(r"<\1>", self.path)

    @property
    def template(self) -> str:
        """The path in OpenAPI's notation."""
        return _PARAMETER.sub(r"{\1}", self.path)

    async def __call__(self, request: ApiRequest) -> Any:
        """Run the handler."""
        return await self.handler(request)


@cache
def _parameters(path: str) -> tuple[tuple[str, type[Any]], ...]:
    return tuple((match[1], str if match[2] else UUID) for match in _PARAMETER.finditer(path))


def endpoint(
    method: str,
    path: str,
    *,
    permission: Permission,
    summary: str,
    body: Any = None,
    body_required: bool = True,
    response: Any = None,
    query: type[Any] | None = None,
    status: int = 200,
    list_of: Any = None,
    errors: tuple[type[ApiError], ...] = (),
    raw_body: bool = False,
    bare: bool = False,
    media_type: str = "application/json",
    tags: tuple[str, ...] = (),
    rate: RateClass | None = None,
    fresh: bool = False,
    once: Once | None = None,
    door: Door | None = None,
    root: bool = False,
    listed: bool = True,
) -> Callable[[Handler], Endpoint]:
    """Declare the decorated coroutine as the handler of *method* *path*; see the module's example.

    *body*, *query*, *response* and *list_of* are types that msgspec can read or write; *raw_body*
    leaves the reading to the handler (``request.raw``, any content type), and *body* is then only documented.
    *bare* answers without the envelope, for programs that know another form; its errors say ``status`` and
    ``message`` beside ours. *rate* is the bucket that a call is taken from; *fresh* is for what an old or stolen
    token must not do: the caller must have given its password or a code within five minutes, else 403
    STEP_UP_REQUIRED. *once* says what Idempotency-Key does: every POST of a signed-in caller keeps its answer
    unless it says otherwise. *door* tells the API document what a caller without a token shows;
    *listed* False leaves a page for people out of that document.

    Raises StartupError for a declaration that cannot be served.
    """
    if method not in METHODS:
        raise StartupError(f"{method} {path}: the method must be one of {', '.join(METHODS)}")
    if not isinstance(permission, Permission):
        raise StartupError(f"{method} {path}: declares no permission")
    if not path.startswith("/"):
        raise StartupError(f"{method} {path}: the path must start with /")
    if fresh and permission in WITHOUT_BEARER:
        raise StartupError(f"{method} {path}: fresh means a signed-in person, which it does not ask for")
    if rate is None:
        rate = RateClass.NONE if permission in {Permission.PUBLIC, Permission.WEBHOOK} else RateClass.API

    if once is None:
        once = Once.KEPT if method == "POST" and permission not in WITHOUT_BEARER else Once.NO

    def declare(handler: Handler) -> Endpoint:
        return Endpoint(
            method=method,
            path=path if root else BASE_PATH + path,
            permission=permission,
            summary=summary,
            handler=handler,
            body=body,
            body_required=body_required,
            query=query,
            response=response,
            list_of=list_of,
            status=status,
            errors=errors if body is None or BadRequestError in errors else (*errors, BadRequestError),
            raw_body=raw_body,
            bare=bare,
            media_type=media_type,
            tags=tags,
            description=(handler.__doc__ or "").strip(),
            rate=rate,
            fresh=fresh,
            once=once,
            door=door,
            listed=listed,
        )

    return declare


class Registry:
    """All endpoints of an application; no two share method and path."""

    def __init__(self, endpoints: Iterable[Endpoint] = ()) -> None:
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        for item in endpoints:
            self.add(item)

    @classmethod
    def of(cls, *modules: ModuleType) -> "Registry":
        """Collect the endpoints defined in *modules*, in the order of their definition."""
        return cls(item for module in modules for item in vars(module).values() if isinstance(item, Endpoint))

    def add(self, item: Endpoint) -> None:
        """Add one endpoint. Raises StartupError for a second one of the same method and path."""
        key = (item.method, item.template)
        if key in self._endpoints:
            raise StartupError(f"{item.method} {item.path} is declared twice")
        self._endpoints[key] = item

    def __iter__(self) -> Iterator[Endpoint]:
        return iter(self._endpoints.values())

    def __len__(self) -> int:
        return len(self._endpoints)
