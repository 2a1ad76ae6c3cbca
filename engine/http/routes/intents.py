"""/signals/intents: accepted signals and what became of them."""

from typing import Annotated, Any
from uuid import UUID

import msgspec

from engine.domain.enums import IntentStatus
from engine.domain.verdict import VerdictRow, decode
from engine.errors import NotFoundError
from engine.http.endpoint import ApiRequest, Page, endpoint
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.views.ownership import may_reach, only_owner
from engine.http.views.trading import IntentView, intent_view
from engine.store.queries import intents as queries
from engine.store.queries.verdicts import of_intent

_TAGS = ("signals",)

Symbol = Annotated[str, msgspec.Meta(min_length=1, max_length=40)]


class IntentQuery(PageQuery, frozen=True, kw_only=True):
    """Filters of the list; ``from`` and ``to`` speak of the time of receipt."""

    status: IntentStatus | None = None
    strategy_id: UUID | None = None
    symbol: Symbol | None = None


@endpoint(
    "GET",
    "/signals/intents",
    permission=Permission.READ,
    summary="List intents",
    query=IntentQuery,
    list_of=IntentView,
    tags=_TAGS,
)
async def list_intents(request: ApiRequest) -> Page[IntentView]:
    """Accepted signals of the caller, newest first; an ADMIN sees those of everybody."""
    services: Services = request.services
    query: IntentQuery = request.query
    window = query.window()
    wanted = queries.IntentFilter(
        limit=window.limit + 1,
        user_id=only_owner(request.user),
        status=query.status,
        strategy_id=query.strategy_id,
        symbol=None if query.symbol is None else query.symbol.upper(),
        start=window.start,
        end=window.end,
        after=window.after(),
    )
    await services.read_your_writes()
    found = await services.database.run(lambda connection: queries.list_intents(connection, wanted))
    page = Page.cut(found, window, key=lambda story: (story.intent.received_at, story.intent.id))
    return page.map(intent_view)


@endpoint(
    "GET",
    "/signals/intents/{id}",
    permission=Permission.READ,
    summary="Show an intent",
    response=IntentView,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def show_intent(request: ApiRequest) -> IntentView:
    """One intent with its orders, its timeline, and the verdict of risk: every rule with the numbers it saw."""
    services: Services = request.services
    intent_id: UUID = request.path["id"]
    await services.read_your_writes()

    async def unit(connection: Any) -> tuple[queries.IntentStory | None, list[VerdictRow]]:
        return await queries.find_intent(connection, intent_id), await of_intent(connection, intent_id)

    story, verdicts = await services.database.run(unit)
    if story is None or not may_reach(request.user, story.intent.user_id):
        raise NotFoundError("there is no such intent")
    return intent_view(story, decode(verdicts[-1].body) if verdicts else None)
