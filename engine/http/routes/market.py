"""/market: when the exchanges trade."""

from datetime import date

import msgspec

from engine.clock import trading_day
from engine.domain.calendar import Calendar
from engine.domain.enums import Exchange
from engine.http.endpoint import ApiRequest, endpoint
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.views.instruments import SessionView, session_view

_TAGS = ("market",)


class SessionQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """``date`` is a day in India, today when left out."""

    day: date | None = msgspec.field(name="date", default=None)


@endpoint(
    "GET",
    "/market/sessions",
    permission=Permission.READ,
    summary="Show market sessions",
    query=SessionQuery,
    response=list[SessionView],
    tags=_TAGS,
)
async def market_sessions(request: ApiRequest) -> list[SessionView]:
    """The phases of a day for each exchange, what each is doing now, and when it opens next."""
    services: Services = request.services
    query: SessionQuery = request.query
    calendar: Calendar = services.extras["calendar"]
    now = services.clock.now()
    day = query.day or trading_day(now)
    return [session_view(exchange, day, now, calendar) for exchange in Exchange]
