"""/sources/{id}/snippet: what to paste at the sender's end."""

import msgspec

from engine.errors import NotFoundError
from engine.http.endpoint import ApiRequest, ApiStruct, endpoint
from engine.http.json_body import invalid
from engine.http.permissions import Permission
from engine.http.routes.sources import base_url
from engine.http.services import Services
from engine.http.snippets import OFFERED, Kind, render
from engine.http.views.ownership import reachable


class SnippetQuery(msgspec.Struct, frozen=True, kw_only=True):
    """``kind``: sheets, tradingview, curl or python; without it what fits the source best."""

    kind: Kind | None = None


class TextView(ApiStruct, frozen=True, kw_only=True):
    """A text to paste, and its name."""

    name: str
    content: str


class SnippetView(ApiStruct, frozen=True, kw_only=True):
    """Texts to paste, the first for most people, and what to do with them."""

    kind: Kind
    texts: tuple[TextView, ...]
    steps: tuple[str, ...]


@endpoint(
    "GET",
    "/sources/{id}/snippet",
    permission=Permission.READ,
    summary="Show what to paste at the sender's end",
    query=SnippetQuery,
    response=SnippetView,
    errors=(NotFoundError,),
    tags=("sources",),
)
async def source_snippet(request: ApiRequest) -> SnippetView:
    """An Apps Script for a sheet, messages for alerts, a program: made for this source, never with its secret."""
    services: Services = request.services
    source = reachable(request.user, services.directory.sources.get(request.path["id"]), "source")
    offered = OFFERED.get(source.type, ())
    if not offered:
        raise invalid({"kind": "a telegram source needs nothing pasted: name its chats in telegramChatIds"})
    query: SnippetQuery = request.query
    kind = query.kind or offered[0]
    if kind not in offered:
        raise invalid({"kind": f"must be one of {', '.join(offered)} for a {source.type} source"})
    found = render(source, kind, base_url=base_url(request))
    return SnippetView(
        kind=kind,
        texts=tuple(TextView(name=text.name, content=text.content) for text in found.texts),
        steps=found.steps,
    )
