"""/executions/gtts: the exits that the broker keeps."""

from typing import Annotated
from uuid import UUID

import msgspec

from engine.domain.gtt import Gtt, GttStatus
from engine.errors import ConflictError, NotFoundError, OrderExecutionError, UnavailableError
from engine.http.endpoint import ApiRequest, Once, Page, endpoint
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.ratelimit import RateClass
from engine.http.services import Services
from engine.http.views.gtts import GttView, gtt_view
from engine.http.views.ownership import reachable, visible_to
from engine.store.queries import gtts

_TAGS = ("executions",)

Symbol = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]


class GttQuery(PageQuery, frozen=True, kw_only=True):
    """Filters of the list; ``from`` and ``to`` speak of the time of making."""

    status: GttStatus | None = None
    symbol: Symbol | None = None
    account_id: UUID | None = None


@endpoint(
    "GET",
    "/executions/gtts",
    permission=Permission.READ,
    summary="List triggers (GTT)",
    query=GttQuery,
    list_of=GttView,
    tags=_TAGS,
)
async def list_gtts(request: ApiRequest) -> Page[GttView]:
    """Exits that the broker keeps for entries of the caller, newest first; an ADMIN sees those of everybody."""
    services: Services = request.services
    query: GttQuery = request.query
    window = query.window()
    wanted = gtts.GttFilter(
        limit=window.limit + 1,
        visible=visible_to(request.user),
        status=query.status,
        symbol=None if query.symbol is None else query.symbol.upper(),
        account_id=query.account_id,
        start=window.start,
        end=window.end,
        after=window.after(),
    )
    await services.read_your_writes()
    found = await services.database.run(lambda connection: gtts.list_gtts(connection, wanted))
    return Page.cut(found, window, key=lambda gtt: (gtt.created_at, gtt.id)).map(gtt_view)


@endpoint(
    "POST",
    "/executions/gtts/{id}/cancel",
    permission=Permission.TRADE,
    summary="Cancel a trigger (GTT)",
    once=Once.REPEATABLE,
    response=GttView,
    errors=(NotFoundError, ConflictError, OrderExecutionError, UnavailableError),
    rate=RateClass.CANCEL,
    tags=_TAGS,
)
async def cancel_gtt(request: ApiRequest) -> GttView:
    """Ends a trigger at the broker. It is not placed again: what it was for has no exit then.

    A trigger may still fire while the broker ends it: the state in the answer is what counts.
    """
    services: Services = request.services
    gtt = await _find(request)
    if not gtt.status.is_live:
        raise ConflictError(f"the trigger is {gtt.status} already", code="ORDER_FINISHED")
    try:
        await services.crew.executor(gtt.account_id).cancel_gtt(gtt.id, by=f"user:{request.user.user_id}")
    except NotFoundError:
        # it exists: its books have not been opened again after a start
        raise ConflictError("the trigger is not open; read it again", code="ORDER_NOT_OPEN") from None
    return gtt_view(await _find(request))


async def _find(request: ApiRequest) -> Gtt:
    services: Services = request.services
    gtt_id: UUID = request.path["id"]
    await services.read_your_writes()
    found = await services.database.run(lambda connection: gtts.find_gtt(connection, gtt_id))
    return reachable(request.user, found, "trigger", account_id=None if found is None else found.account_id)
