"""/stream: server-sent events of what becomes known, as it does (contract sections 4 and 8)."""

from datetime import timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec

from engine.actors.event_hub import EventHub
from engine.domain.killswitch import KillRecord
from engine.domain.rearming import strategy_accounts
from engine.domain.stream_event import StreamType
from engine.errors import NotFoundError, RateLimitError
from engine.http.authentication import authenticate
from engine.http.endpoint import ApiRequest, EventStream, Raw, endpoint
from engine.http.event_stream import EventStreamReader, StreamSeats
from engine.http.json_body import invalid
from engine.http.permissions import Permission, Principal, require
from engine.http.routes.killswitch import books_of, told_scope
from engine.http.routes.pnl import live_pnl
from engine.http.services import Services
from engine.http.views.kill import scope_view
from engine.http.views.ownership import may_reach, reachable
from engine.http.views.stream import EventViews
from engine.security.tokens import LEEWAY_S

_TYPES = ", ".join(StreamType)
_SEATS = "stream_seats"

TypeList = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class StreamQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """``types`` are names of events with commas between them, all without it; ``accountId`` leaves out what is of
    no account or of another."""

    types: TypeList | None = None
    account_id: UUID | None = None


@endpoint(
    "GET",
    "/stream",
    permission=Permission.READ,
    summary="Follow what happens",
    query=StreamQuery,
    response=Raw,
    media_type="text/event-stream",
    errors=(NotFoundError, RateLimitError),
    tags=("stream",),
)
async def follow(request: ApiRequest) -> EventStream:
    """Server-sent events: intent, order, fill, position, pnl, killswitch and alert, each with the REST API's own shape.

    ``data`` of an intent and of an order has in ``timeline``, ``events`` and ``fills`` what this event brought, and no
    ``orders``; pnl is the day of a user as `GET /executions/pnl` shows it, killswitch one scope. The stream begins
    with ``hello`` and goes on from ``Last-Event-ID`` where it can; where it cannot, ``reset`` says that the state must
    be loaded anew. Positions and profit and loss come at most a few times in a second, and whole at the beginning. A
    caller hears of what it may read. A comment every 15 s shows that the stream lives. It ends with the session or
    the access token that opened it; send the token as a header, never in the URL.
    """
    services: Services = request.services
    query: StreamQuery = request.query
    if query.account_id is not None:
        reachable(request.user, services.directory.accounts.get(query.account_id), "account")
    kinds = _kinds(query.types)
    seats: StreamSeats = services.extras.setdefault(_SEATS, StreamSeats())
    seats.check(request.user.user_id)
    hub: EventHub = services.extras["hub"]
    last_event_id = request.header("last-event-id")
    return EventStream(
        EventStreamReader(
            hub,
            event_views(services),
            caller=request.user,
            again=lambda: _again(request),
            place=hub.ring.place(last_event_id),
            had_place=bool(last_event_id),
            kinds=kinds,
            account_id=query.account_id,
            seats=seats,
            draining=request.draining,
            clock=services.clock,
        )
    )


def event_views(services: Services) -> EventViews:
    """Return what makes the events of *services* into text."""
    return EventViews(
        kill_view=lambda record, caller: _kill_view(services, record, caller),
        pnl_view=lambda about: live_pnl(services, about.user_id, about.day, about.at, about.figures),
        instrument=services.master.book.get,
    )


def _again(request: ApiRequest) -> Principal:
    """Return who the caller is now: by the same check as at the door. Raises UnauthorizedError, ForbiddenError."""
    services: Services = request.services
    # the grace for clocks that differ is for calls that are on their way; a stream was opened long ago
    now = services.clock.now() + timedelta(seconds=LEEWAY_S)
    caller = authenticate(services, request.header("authorization"), now, request.client_ip)
    require(request.endpoint.permission, caller)
    return caller


def _kinds(types: str | None) -> frozenset[StreamType]:
    if types is None:
        return frozenset(StreamType)
    try:
        return frozenset(StreamType(name.strip()) for name in types.split(","))
    except ValueError:
        raise invalid({"types": f"must be of {_TYPES}, with commas between them"}) from None


def _kill_view(services: Services, record: KillRecord, caller: Principal) -> Any:
    books = [held for held in books_of(services) if may_reach(caller, held.user_id, held.account_id)]
    view = scope_view(record.scope, record, books, strategy_accounts(record.scope, services.directory))
    return told_scope(services, view, record)
