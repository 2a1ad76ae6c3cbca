"""/sources: where signals come from, and the keys that prove it."""

import hashlib
import re
import secrets
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from engine.domain.directory import Source, Strategy
from engine.domain.enums import SourceType
from engine.errors import ConflictError, NotFoundError, ValidationError
from engine.http.endpoint import ApiRequest, Page, endpoint
from engine.http.json_body import invalid
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.views.listing import page_of
from engine.http.views.ownership import may_reach, reachable
from engine.http.views.resources import (
    Deleted,
    NewSource,
    SourceChange,
    SourceKeysView,
    SourceView,
    chats,
    networks,
    source_keys_view,
    source_view,
)
from engine.ids import uuid7
from engine.secret import Secret

_TAGS = ("sources",)
_HOST = re.compile(r"[A-Za-z0-9.\-\[\]:]{1,255}", re.ASCII)


@endpoint(
    "GET",
    "/sources",
    permission=Permission.READ,
    summary="List sources",
    query=PageQuery,
    list_of=SourceView,
    tags=_TAGS,
)
async def list_sources(request: ApiRequest) -> Page[SourceView]:
    """Sources of the caller, newest first; an ADMIN sees those of everybody."""
    services: Services = request.services
    found = [s for s in services.directory.sources.values() if may_reach(request.user, s.user_id)]
    return page_of(found, request.query.window()).map(source_view)


@endpoint(
    "POST",
    "/sources",
    permission=Permission.TRADE,
    summary="Add a source",
    body=NewSource,
    response=SourceKeysView,
    status=201,
    errors=(NotFoundError, ConflictError),
    tags=_TAGS,
)
async def add_source(request: ApiRequest) -> SourceKeysView:
    """Answers the source's API key and secret, which are shown this once."""
    services: Services = request.services
    body: NewSource = request.body
    if body.type is SourceType.TRADINGVIEW:
        mend = "tradingview alerts are not taken in yet; use webhook, sheets or telegram"
        raise ValidationError("type is not offered", details={"fields": {"type": mend}})
    strategy = _strategy(request, body.strategy_id)
    api_key, secret = new_api_key(), new_secret()
    source = Source(
        id=uuid7(),
        user_id=strategy.user_id,
        strategy_id=strategy.id,
        type=body.type,
        name=_name(body.name),
        api_key_hash=key_hash(api_key),
        secret=Secret(secret),
        require_timestamp=body.require_timestamp,
        enabled=body.enabled,
        ip_allowlist=networks(body.ip_allowlist),
        telegram_chat_ids=chats(body.telegram_chat_ids, body.type),
    )
    _refuse_taken_chats(services, source)
    source = await services.registrar.put_source(source, by=_by(request), action="SOURCE_CREATED")
    return source_keys_view(source, api_key=api_key, secret=secret, base_url=base_url(request))


@endpoint(
    "GET",
    "/sources/{id}",
    permission=Permission.READ,
    summary="Show a source",
    response=SourceView,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def show_source(request: ApiRequest) -> SourceView:
    """One source, without its keys."""
    return source_view(_find(request))


@endpoint(
    "PATCH",
    "/sources/{id}",
    permission=Permission.TRADE,
    summary="Change a source",
    body=SourceChange,
    response=SourceView,
    errors=(NotFoundError, ConflictError),
    tags=_TAGS,
)
async def change_source(request: ApiRequest) -> SourceView:
    """Changes what is sent and leaves the rest; effective for the next delivery."""
    services: Services = request.services
    body: SourceChange = request.body
    source = _find(request)
    changes: dict[str, Any] = {}
    if body.name is not UNSET:
        changes["name"] = _name(body.name)
    if body.strategy_id is not UNSET:
        strategy = _strategy(request, body.strategy_id)
        if strategy.user_id != source.user_id:
            raise NotFoundError("there is no such strategy")
        changes["strategy_id"] = strategy.id
    if body.ip_allowlist is not UNSET:
        changes["ip_allowlist"] = networks(body.ip_allowlist)
    if body.telegram_chat_ids is not UNSET:
        changes["telegram_chat_ids"] = chats(body.telegram_chat_ids, source.type)
    if body.require_timestamp is not UNSET:
        changes["require_timestamp"] = body.require_timestamp
    if body.enabled is not UNSET:
        changes["enabled"] = body.enabled
    source = msgspec.structs.replace(source, **changes)
    _refuse_taken_chats(services, source)
    source = await services.registrar.put_source(source, by=_by(request), action="SOURCE_CHANGED")
    return source_view(source)


@endpoint(
    "POST",
    "/sources/{id}/rotate",
    permission=Permission.TRADE,
    summary="Give a source new keys",
    response=SourceKeysView,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def rotate_source(request: ApiRequest) -> SourceKeysView:
    """Answers a new API key and secret, shown this once; the old ones stop working at once."""
    services: Services = request.services
    api_key, secret = new_api_key(), new_secret()
    source = msgspec.structs.replace(_find(request), api_key_hash=key_hash(api_key), secret=Secret(secret))
    source = await services.registrar.put_source(source, by=_by(request), action="SOURCE_ROTATED")
    return source_keys_view(source, api_key=api_key, secret=secret, base_url=base_url(request))


@endpoint(
    "DELETE",
    "/sources/{id}",
    permission=Permission.TRADE,
    summary="Delete a source",
    response=Deleted,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def delete_source(request: ApiRequest) -> Deleted:
    """Its keys stop working at once; what it sent stays on record."""
    services: Services = request.services
    source = _find(request)
    await services.registrar.remove("signal_sources", source.id, by=_by(request))
    return Deleted()


def new_api_key() -> str:
    """Return a fresh key that names a source; it is no secret that proves anything."""
    return "src_" + secrets.token_hex(16)


def new_secret() -> str:
    """Return a fresh signing secret: 256 bits as 43 URL-safe characters."""
    return secrets.token_urlsafe(32)


def key_hash(api_key: str) -> bytes:
    """Return what is stored of an API key: its SHA-256."""
    return hashlib.sha256(api_key.encode()).digest()


def base_url(request: ApiRequest) -> str:
    """Return where the engine is reached from outside: as configured, else as this caller reached it."""
    services: Services = request.services
    server = services.config.server
    if server.public_url:
        return server.public_url.rstrip("/")
    host = request.header("host") or ""
    return f"http://{host if _HOST.fullmatch(host) else f'{server.host}:{server.port}'}"


def _by(request: ApiRequest) -> str:
    return f"user:{request.user.user_id}"


def _find(request: ApiRequest) -> Source:
    services: Services = request.services
    source_id: UUID = request.path["id"]
    return reachable(request.user, services.directory.sources.get(source_id), "source")


def _strategy(request: ApiRequest, strategy_id: UUID) -> Strategy:
    services: Services = request.services
    return reachable(request.user, services.directory.strategies.get(strategy_id), "strategy")


def _name(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise invalid({"name": "must be 1 to 100 printable characters"})
    return text.strip()


def _refuse_taken_chats(services: Services, source: Source) -> None:
    for chat in sorted(source.telegram_chat_ids):
        holder = services.directory.source_by_chat(chat)
        if holder is not None and holder.id != source.id:
            raise ConflictError(f"the chat {chat} belongs to a source already", code="CHAT_TAKEN")
