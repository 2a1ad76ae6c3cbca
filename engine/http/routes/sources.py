"""/sources: where signals come from, and the keys that prove it."""

import hashlib
import re
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from engine.actors.source_watch import SourceWatch
from engine.domain.directory import OldKeys, Source, Strategy
from engine.domain.enums import SourceType
from engine.errors import ConflictError, NotFoundError
from engine.http.endpoint import ApiRequest, Page, endpoint
from engine.http.json_body import invalid
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.views.listing import page_of
from engine.http.views.ownership import may_reach, reachable
from engine.http.views.resources import Deleted, chats, networks, order_value, senders, symbols
from engine.http.views.sources import (
    NewSource,
    RotateBody,
    SourceChange,
    SourceKeysView,
    SourceView,
    checks_of,
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
    return page_of(found, request.query.window()).map(lambda source: _view(services, source))


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
    api_key, secret = new_api_key(), new_secret()
    owner = _strategy(request, body.strategy_id).user_id
    async with services.registrar.changing(owner, *_chats(body.telegram_chat_ids)):
        strategy = _strategy(request, body.strategy_id)
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
            allowed_symbols=symbols(body.allowed_symbols),
            max_order_value=order_value(body.max_order_value),
            checks=checks_of(body.checks),
            expect_every_s=_every(body.expect_every_s, body.type),
            strict_replay=body.strict_replay,
            telegram_user_ids=senders(body.telegram_user_ids, body.type),
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
    """One source, without its keys, and what was heard of it: the last signal, the numbers that never came."""
    return _view(request.services, _find(request))


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
    async with services.registrar.changing(_find(request).user_id, *_chats(body.telegram_chat_ids)):
        source = _changed(request, _find(request))
        _refuse_taken_chats(services, source)
        source = await services.registrar.put_source(source, by=_by(request), action="SOURCE_CHANGED")
    if body.reset_sequence:
        _watch(services).begin_again(source)
    return _view(services, source)


@endpoint(
    "POST",
    "/sources/{id}/rotate",
    permission=Permission.TRADE,
    summary="Give a source new keys",
    body=RotateBody,
    body_required=False,
    response=SourceKeysView,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def rotate_source(request: ApiRequest) -> SourceKeysView:
    """Answers a new API key and secret, shown this once.

    The old pair is believed for ``graceS`` seconds more (without it as long as ``signals.rotation_grace_s`` says, by
    default not at all); what was before the old pair ends now. After a leak rotate with 0.
    """
    services: Services = request.services
    body: RotateBody = request.body or RotateBody()
    grace_s = services.config.signals.rotation_grace_s if body.grace_s is None else body.grace_s
    api_key, secret = new_api_key(), new_secret()
    async with services.registrar.changing(_find(request).user_id):
        source, old = _find(request), None
        if grace_s and source.api_key_hash is not None and source.secret is not None:
            until = services.clock.now() + timedelta(seconds=grace_s)
            old = OldKeys(api_key_hash=source.api_key_hash, secret=source.secret, until=until)
        source = msgspec.structs.replace(source, api_key_hash=key_hash(api_key), secret=Secret(secret), old=old)
        source = await services.registrar.put_source(source, by=_by(request), action="SOURCE_ROTATED")
    return source_keys_view(source, api_key=api_key, secret=secret, base_url=base_url(request))


@endpoint(
    "POST",
    "/sources/{id}/revoke",
    permission=Permission.TRADE,
    summary="End the old keys of a source",
    response=SourceView,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def revoke_source(request: ApiRequest) -> SourceView:
    """Ends the grace of the last rotation at once: only the newest keys are believed from now on."""
    services: Services = request.services
    async with services.registrar.changing(_find(request).user_id):
        source = msgspec.structs.replace(_find(request), old=None)
        source = await services.registrar.put_source(source, by=_by(request), action="SOURCE_OLD_KEYS_REVOKED")
    return _view(services, source)


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
    async with services.registrar.changing(_find(request).user_id):
        await services.registrar.remove_source(_find(request).id, by=_by(request))
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
    scheme = "https" if server.tls_cert else "http"
    return f"{scheme}://{host if _HOST.fullmatch(host) else f'{server.host}:{server.port}'}"


def _by(request: ApiRequest) -> str:
    return f"user:{request.user.user_id}"


def _find(request: ApiRequest) -> Source:
    services: Services = request.services
    source_id: UUID = request.path["id"]
    return reachable(request.user, services.directory.sources.get(source_id), "source")


def _chats(given: Sequence[int] | UnsetType | None) -> list[str]:
    """Return what keeps two owners from taking the same chats at one moment."""
    return [f"chat:{chat}" for chat in given or ()] if given is not UNSET else []


def _changed(request: ApiRequest, source: Source) -> Source:
    body: SourceChange = request.body
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
    if body.telegram_user_ids is not UNSET:
        changes["telegram_user_ids"] = senders(body.telegram_user_ids, source.type)
    if body.require_timestamp is not UNSET:
        changes["require_timestamp"] = body.require_timestamp
    if body.enabled is not UNSET:
        changes["enabled"] = body.enabled
    if body.allowed_symbols is not UNSET:
        changes["allowed_symbols"] = symbols(body.allowed_symbols)
    if body.max_order_value is not UNSET:
        changes["max_order_value"] = order_value(body.max_order_value)
    if body.checks is not UNSET:
        changes["checks"] = checks_of(body.checks)
    if body.expect_every_s is not UNSET:
        changes["expect_every_s"] = _every(body.expect_every_s, source.type)
    if body.strict_replay is not UNSET:
        changes["strict_replay"] = body.strict_replay
    return msgspec.structs.replace(source, **changes)


def _watch(services: Services) -> SourceWatch:
    watch: SourceWatch = services.extras["source_watch"]
    return watch


def _view(services: Services, source: Source) -> SourceView:
    return source_view(source, _watch(services).heard_of(source.id))


def _every(every_s: int | None, kind: SourceType) -> int | None:
    if every_s is not None and kind is SourceType.TELEGRAM:
        raise invalid({"expectEveryS": "is not for telegram: people write when they like"})
    return every_s


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
