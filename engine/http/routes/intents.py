"""/signals/intents: accepted signals and what became of them."""

from typing import Annotated
from uuid import UUID

import msgspec
import trio

from engine.domain.audit import AuditDraft
from engine.domain.enums import IntentStatus
from engine.domain.intent import Intent
from engine.domain.verdict import decode
from engine.errors import ConflictError, NotFoundError, UnavailableError
from engine.http.endpoint import ApiBody, ApiRequest, Once, Page, endpoint
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.ratelimit import RateClass
from engine.http.services import Services
from engine.http.views.groups import group_view
from engine.http.views.ownership import may_reach, visible_to
from engine.http.views.trading import IntentView, intent_view
from engine.store.queries import intents as queries
from engine.store.queries.verdicts import of_intent

_ON_ITS_WAY_S = 6.0
_TAGS = ("signals",)

_CANCEL_S = 15.0

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
        visible=visible_to(request.user),
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
    """One intent with its orders, the verdict of risk, its timeline, and how it went on each account (``group``)."""
    return await _shown(request, await _find(request))


@endpoint(
    "POST",
    "/signals/intents/{id}/approve",
    permission=Permission.TRADE,
    summary="Approve an intent that waits for a person",
    once=Once.REPEATABLE,
    response=IntentView,
    errors=(NotFoundError, ConflictError, UnavailableError),
    tags=_TAGS,
)
async def approve_intent(request: ApiRequest) -> IntentView:
    """Executes an intent in PENDING_APPROVAL, if it is young enough, the price has not moved and risk allows it now.

    What stands against it makes it REJECTED (or EXPIRED), with the reason: the state in the answer is what counts.
    Approving again places nothing and answers with the intent as it is; one that ended otherwise answers 409.
    """
    services: Services = request.services
    intent = (await _find(request)).intent
    approvals = services.crew.risk(intent.user_id).approvals
    decided = None
    if intent.status is IntentStatus.PENDING_APPROVAL:
        decided = await approvals.approve(intent.id, by=f"user:{request.user.user_id}")
    story = await _find(request)
    # whatever came of one's own approval is the answer; another's decision only if it was an approval as well
    if story.intent.approved_at is None and (decided is None or _is_anothers(decided)):
        raise _not_pending(story.intent)
    return await _shown(request, story)


class RejectBody(ApiBody, frozen=True, kw_only=True):
    """Why, for the record."""

    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""


@endpoint(
    "POST",
    "/signals/intents/{id}/reject",
    permission=Permission.TRADE,
    summary="Reject an intent that waits for a person",
    once=Once.REPEATABLE,
    body=RejectBody,
    body_required=False,
    response=IntentView,
    errors=(NotFoundError, ConflictError, UnavailableError),
    tags=_TAGS,
)
async def reject_intent(request: ApiRequest) -> IntentView:
    """Ends an intent in PENDING_APPROVAL as REJECTED; one that does not wait (any more) answers 409."""
    services: Services = request.services
    intent = (await _find(request)).intent
    body: RejectBody = request.body or RejectBody()
    reason = "".join(letter for letter in body.reason if letter.isprintable()).strip()
    if intent.status is IntentStatus.PENDING_APPROVAL:
        approvals = services.crew.risk(intent.user_id).approvals
        await approvals.reject(intent.id, by=f"user:{request.user.user_id}", reason=reason)
    story = await _find(request)
    if not (story.intent.reason or "").startswith("REJECTED_BY_HAND"):
        raise _not_pending(story.intent)
    return await _shown(request, story)


@endpoint(
    "POST",
    "/signals/intents/{id}/cancel",
    permission=Permission.TRADE,
    summary="Cancel an intent",
    once=Once.REPEATABLE,
    response=IntentView,
    errors=(NotFoundError, ConflictError, UnavailableError),
    rate=RateClass.CANCEL,
    tags=_TAGS,
)
async def cancel_intent(request: ApiRequest) -> IntentView:
    """Takes back an intent that waits for a person, or cancels what of its orders has not filled, within 15 s.

    Exits attached to what has filled stay. An order may fill while the broker cancels it: the states in the answer
    are what counts. An intent that has ended answers 409.
    """
    services: Services = request.services
    intent = (await _find(request)).intent
    by = f"user:{request.user.user_id}"
    if intent.status is IntentStatus.PENDING_APPROVAL:
        await services.crew.risk(intent.user_id).approvals.cancel(intent.id, by=by)
        story = await _find(request)
        if story.intent.status is not IntentStatus.EXECUTING:
            if not (story.intent.reason or "").startswith("CANCELLED_BY_HAND"):
                raise _not_pending(story.intent)
            return await _shown(request, story)
        intent = story.intent  # it was approved meanwhile: then its orders are cancelled
    if intent.status.is_terminal:
        raise ConflictError(f"the intent is {intent.status} already", code="INTENT_FINISHED")
    await cancel_orders(services, intent, by=by)
    return await _shown(request, await _find(request))


async def cancel_orders(services: Services, intent: Intent, *, by: str) -> None:
    """Cancel what of an intent's orders has not filled, and let nothing of it be tried again; takes up to 15 s."""
    services.crew.risk(intent.user_id).cancel_requested(intent.id)
    services.ledger.record(
        AuditDraft(
            at=services.clock.now(),
            actor=by,
            action="INTENT_CANCEL_REQUESTED",
            subject=f"intent:{intent.id}",
            content={},
        )
    )
    # read after that: what was tried again until now is among them
    await services.read_your_writes()
    story = await services.database.run(lambda connection: queries.find_intent(connection, intent.id))
    live = {s.order.account_id for s in (() if story is None else story.orders) if not s.order.status.is_terminal}
    asked = [services.crew.cancel_intent(account, intent.id, by=by) for account in live]
    with trio.move_on_after(_CANCEL_S):
        for reply in asked:
            await reply.wait()


async def _find(request: ApiRequest) -> queries.IntentStory:
    """One intent with its orders, its timeline, and the verdict of risk: every rule with the numbers it saw."""
    services: Services = request.services
    intent_id: UUID = request.path["id"]
    await services.ingest.settle_intent(intent_id, timeout_s=_ON_ITS_WAY_S)
    await services.read_your_writes()
    story = await services.database.run(lambda connection: queries.find_intent(connection, intent_id))
    if story is None or not may_reach(request.user, story.intent.user_id):
        raise NotFoundError("there is no such intent")
    return story


async def _shown(request: ApiRequest, story: queries.IntentStory) -> IntentView:
    services: Services = request.services
    rows = await services.database.run(lambda connection: of_intent(connection, story.intent.id))
    verdicts = [decode(row.body) for row in rows]
    # one that was tried again on a single account does not stand for all of them
    verdict = max(enumerate(verdicts), key=lambda each: (len(each[1].accounts), each[0]), default=(0, None))[1]
    return msgspec.structs.replace(
        intent_view(story, verdict),
        group=group_view(story, services.directory, services.clock.now(), verdicts),
    )


def _is_anothers(decided: Intent) -> bool:
    return (decided.reason or "").startswith(("REJECTED_BY_HAND", "CANCELLED_BY_HAND"))


def _not_pending(intent: Intent) -> ConflictError:
    return ConflictError(f"the intent is {intent.status}, it waits for nobody", code="NOT_PENDING")
