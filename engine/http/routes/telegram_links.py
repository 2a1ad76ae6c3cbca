"""/auth/telegram: which person of Telegram is which user, made by a code and cut by hand."""

from datetime import datetime
from uuid import UUID

from engine.domain.audit import AuditDraft
from engine.domain.telegram_links import TelegramLink
from engine.errors import ConflictError, NotFoundError
from engine.http.endpoint import ApiRequest, ApiStruct, Once, Page, endpoint
from engine.http.paging import PageQuery, PageWindow
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.telegram_links import codes_of, cut, links_of
from engine.http.views.resources import Deleted

_TAGS = ("auth",)


class LinkView(ApiStruct, frozen=True, kw_only=True):
    """Whose chat it is; ``telegramUserId`` is Telegram's number of the person."""

    user_id: UUID
    telegram_user_id: int
    linked_at: datetime


class OwnLinkView(ApiStruct, frozen=True, kw_only=True):
    """The caller's own link; null when there is none."""

    link: LinkView | None


class LinkCodeView(ApiStruct, frozen=True, kw_only=True):
    """What to send to the bot, in a private chat with it, before ``expiresAt``; shown this once."""

    command: str
    expires_at: datetime


@endpoint(
    "POST",
    "/auth/telegram/link",
    permission=Permission.SELF,
    summary="Get a code that links one's Telegram",
    response=LinkCodeView,
    status=201,
    errors=(ConflictError,),
    fresh=True,
    once=Once.NO,
    tags=_TAGS,
)
async def make_link_code(request: ApiRequest) -> LinkCodeView:
    """Whoever sends the command to the bot within ten minutes may look and act as the caller from then on.

    A new code ends the one before; a new link takes the place of the old one.
    """
    services: Services = request.services
    telegram = services.config.telegram
    if not telegram.bot_token or telegram.mode == "off":
        raise ConflictError("there is no bot: telegram.bot_token is not set, or telegram.mode is off", code="NO_BOT")
    now = services.clock.now()
    code, until = codes_of(services).issue(request.user.user_id, now=now)
    services.ledger.record(
        AuditDraft(
            at=now,
            actor=f"user:{request.user.user_id}",
            action="TELEGRAM_CODE_MADE",
            subject=f"user:{request.user.user_id}",
            content={"requestId": request.request_id, "ip": request.client_ip},
        )
    )
    return LinkCodeView(command=f"/link {code}", expires_at=until)


@endpoint(
    "GET",
    "/auth/telegram/link",
    permission=Permission.SELF,
    summary="Show one's Telegram link",
    response=OwnLinkView,
    tags=_TAGS,
)
async def show_link(request: ApiRequest) -> OwnLinkView:
    """The person of Telegram that the caller is linked to."""
    held = links_of(request.services).of_user(request.user.user_id)
    return OwnLinkView(link=None if held is None else _view(held))


@endpoint(
    "DELETE",
    "/auth/telegram/link",
    permission=Permission.SELF,
    summary="Cut one's Telegram link",
    response=Deleted,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def cut_own_link(request: ApiRequest) -> Deleted:
    """The chat gets no answer any more, from this moment on."""
    return await _cut(request, request.user.user_id)


@endpoint(
    "GET",
    "/auth/telegram/links",
    permission=Permission.ADMIN,
    summary="List Telegram links",
    query=PageQuery,
    list_of=LinkView,
    tags=_TAGS,
)
async def list_links(request: ApiRequest) -> Page[LinkView]:
    """Everybody's, newest first."""
    window: PageWindow = request.query.window()
    after = window.after()
    found = [
        link
        for link in links_of(request.services).all()
        if (window.start is None or link.linked_at >= window.start)
        and (window.end is None or link.linked_at < window.end)
        and (after is None or (link.linked_at, link.user_id) < after)
    ]
    found.sort(key=lambda link: (link.linked_at, link.user_id), reverse=True)
    page = Page.cut(found[: window.limit + 1], window, key=lambda link: (link.linked_at, link.user_id))
    return page.map(_view)


@endpoint(
    "DELETE",
    "/auth/telegram/links/{id}",
    permission=Permission.ADMIN,
    summary="Cut the Telegram link of a user",
    response=Deleted,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def cut_link(request: ApiRequest) -> Deleted:
    """``id`` is the user's; the chat gets no answer any more, from this moment on."""
    return await _cut(request, request.path["id"])


async def _cut(request: ApiRequest, user_id: UUID) -> Deleted:
    if not await cut(request.services, user_id, by=request.user.user_id):
        raise NotFoundError("there is no such link")
    return Deleted()


def _view(link: TelegramLink) -> LinkView:
    return LinkView(user_id=link.user_id, telegram_user_id=link.telegram_user_id, linked_at=link.linked_at)
