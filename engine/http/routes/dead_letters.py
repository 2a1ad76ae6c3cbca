"""/system/dead-letters: jobs that gave up, and what becomes of them; for administrators."""

from typing import Annotated
from uuid import UUID

import msgspec

from engine.actors.dead_letters import DeadLetters
from engine.domain.dead_letter import LetterQueue, LetterStatus
from engine.errors import ConflictError, KillSwitchError, NotFoundError, UnavailableError
from engine.http.endpoint import ApiBody, ApiRequest, Page, endpoint
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.views.dead_letters import DeadLetterDetailView, DeadLetterView, letter_detail, letter_view
from engine.store.queries import dead_letters as queries

_TAGS = ("system",)
_PATH = "/system/dead-letters"


class DeadLetterQuery(PageQuery, frozen=True, kw_only=True):
    """Filters of the list; ``from`` and ``to`` speak of when the job gave up."""

    queue: LetterQueue | None = None
    status: LetterStatus | None = None


@endpoint(
    "GET",
    _PATH,
    permission=Permission.ADMIN,
    summary="List dead letters",
    query=DeadLetterQuery,
    list_of=DeadLetterView,
    tags=_TAGS,
)
async def list_dead_letters(request: ApiRequest) -> Page[DeadLetterView]:
    """Jobs that gave up, newest first; those WAITING are for a person to decide."""
    services: Services = request.services
    query: DeadLetterQuery = request.query
    window = query.window()
    wanted = queries.LetterFilter(
        limit=window.limit + 1,
        queue=query.queue,
        status=query.status,
        start=window.start,
        end=window.end,
        after=window.after(),
    )
    await services.read_your_writes()
    found = await services.database.run(lambda connection: queries.list_letters(connection, wanted))
    return Page.cut(found, window, key=lambda letter: (letter.created_at, letter.id)).map(letter_view)


@endpoint(
    "GET",
    _PATH + "/{id}",
    permission=Permission.ADMIN,
    summary="Show a dead letter",
    response=DeadLetterDetailView,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def show_dead_letter(request: ApiRequest) -> DeadLetterDetailView:
    """One job that gave up, with its bytes and what they say."""
    services: Services = request.services
    letter_id: UUID = request.path["id"]
    await services.read_your_writes()
    letter = await services.database.run(lambda connection: queries.find(connection, letter_id))
    if letter is None:
        raise NotFoundError("there is no such dead letter")
    return letter_detail(letter)


@endpoint(
    "POST",
    _PATH + "/{id}/requeue",
    permission=Permission.ADMIN,
    summary="Requeue a dead letter",
    response=DeadLetterView,
    errors=(NotFoundError, ConflictError, KillSwitchError, UnavailableError),
    tags=_TAGS,
)
async def requeue_dead_letter(request: ApiRequest) -> DeadLetterView:
    """Takes the job in again, once: a signal under its own key and time of receipt, so what was too old expires.

    A parked exit goes as if it had come now. What is damaged, or decided already, answers 409.
    """
    letters: DeadLetters = request.services.extras["dead_letters"]
    return letter_view(await letters.requeue(request.path["id"], actor=_actor(request)))


class DiscardBody(ApiBody, frozen=True, kw_only=True):
    """Why, for the record."""

    reason: Annotated[str, msgspec.Meta(max_length=200)] = ""


@endpoint(
    "POST",
    _PATH + "/{id}/discard",
    permission=Permission.ADMIN,
    summary="Discard a dead letter",
    body=DiscardBody,
    body_required=False,
    response=DeadLetterView,
    errors=(NotFoundError, ConflictError, UnavailableError),
    tags=_TAGS,
)
async def discard_dead_letter(request: ApiRequest) -> DeadLetterView:
    """Drops the job for good; the letter stays on the record. One that is decided already answers 409."""
    letters: DeadLetters = request.services.extras["dead_letters"]
    body: DiscardBody = request.body or DiscardBody()
    reason = "".join(letter for letter in body.reason if letter.isprintable()).strip()
    return letter_view(await letters.discard(request.path["id"], actor=_actor(request), reason=reason))


def _actor(request: ApiRequest) -> str:
    return f"user:{request.user.user_id}"
