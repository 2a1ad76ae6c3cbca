"""/auth/tokens: API tokens, with which a person's programs sign in."""

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec

from engine.errors import ConflictError, ForbiddenError, NotFoundError
from engine.http.endpoint import ApiBody, ApiRequest, ApiStruct, Once, Page, endpoint
from engine.http.json_body import invalid
from engine.http.paging import PageQuery
from engine.http.permissions import Permission, is_allowed
from engine.http.ports import CoreServices
from engine.http.sign_in import WRITE_TIMEOUT_S, audit
from engine.http.views.listing import page_of
from engine.http.views.resources import Deleted, networks
from engine.ids import uuid7
from engine.security.api_tokens import ApiToken, Scope, digest, new_token
from engine.store import api_tokens as store

_TAGS = ("auth",)
MAX_PER_USER = 50
_DEFAULT_DAYS = 90
_NEEDS = {
    Scope.READ: Permission.READ,
    Scope.TRADE: Permission.TRADE,
    Scope.ADMIN: Permission.ADMIN,
    Scope.KILL: Permission.KILL,
}

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
Days = Annotated[int, msgspec.Meta(ge=1, le=366)]
Entry = Annotated[str, msgspec.Meta(max_length=64)]


class NewToken(ApiBody, frozen=True, kw_only=True):
    """``scopes`` are READ, TRADE, ADMIN, each including the one before, at most the caller's role; or KILL alone.

    ``ipAllowlist`` holds addresses and networks that it may be used from, empty or null for any.
    """

    name: Name
    scopes: list[Scope]
    expires_in_days: Days = _DEFAULT_DAYS
    ip_allowlist: list[Entry] | None = None


class TokenRecordView(ApiStruct, frozen=True, kw_only=True):
    """A token without its secret; ``lastUsedAt`` is brought up to date every few seconds."""

    id: UUID
    name: str
    scopes: tuple[Scope, ...]
    ip_allowlist: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    last_used_ip: str | None


class NewTokenView(TokenRecordView, frozen=True, kw_only=True):
    """A token that was just made; ``token`` is shown only now."""

    token: str


@endpoint(
    "GET",
    "/auth/tokens",
    permission=Permission.SELF,
    summary="List my API tokens",
    query=PageQuery,
    list_of=TokenRecordView,
    tags=_TAGS,
)
async def list_tokens(request: ApiRequest) -> Page[TokenRecordView]:
    """The caller's tokens that were not revoked, newest first."""
    services: CoreServices = request.services
    user_id = request.user.user_id

    async def unit(connection: Any) -> list[ApiToken]:
        return await store.list_tokens(connection, user_id)

    found: list[ApiToken] = await services.database.run(unit)
    return page_of(found, request.query.window()).map(lambda token: TokenRecordView(**_fields(token)))


@endpoint(
    "POST",
    "/auth/tokens",
    permission=Permission.SELF,
    summary="Make an API token",
    body=NewToken,
    response=NewTokenView,
    status=201,
    errors=(ForbiddenError, ConflictError),
    fresh=True,
    once=Once.UNKEPT,
    tags=_TAGS,
)
async def make_token(request: ApiRequest) -> NewTokenView:
    """Answers a token for a program, shown only now: sent as Authorization: Bearer, it needs no sign-in.

    It does what its scopes say and its owner may, until it expires or is revoked or the owner is disabled; never
    what needs a person: its owner's account, and changes that need a fresh sign-in.
    """
    services: CoreServices = request.services
    body: NewToken = request.body
    user, scopes = request.user, frozenset(body.scopes)
    _check(request, body.name, scopes)
    secret, now = new_token(), services.clock.now()
    token = ApiToken(
        id=uuid7(),
        user_id=user.user_id,
        name=body.name.strip(),
        token_hash=digest(secret),
        scopes=scopes,
        ip_allowlist=networks(body.ip_allowlist),
        created_at=now,
        expires_at=now + timedelta(days=body.expires_in_days),
    )

    async def unit(connection: Any) -> bool:
        return await store.insert_token(connection, token, limit=MAX_PER_USER)

    if not await services.database.run(unit, timeout_s=WRITE_TIMEOUT_S, shield=True):
        raise ConflictError(f"there are {MAX_PER_USER} tokens already: revoke one", code="TOO_MANY_TOKENS")
    services.api_tokens.put(token)
    subject, names = f"api_token:{token.id}", [scope.value for scope in _sorted(scopes)]
    content = {"name": token.name, "scopes": names, "ipAllowlist": list(token.ip_allowlist)}
    audit(request, "API_TOKEN_CREATED", actor=f"user:{user.user_id}", subject=subject, content=content)
    return NewTokenView(token=secret, **_fields(token))


@endpoint(
    "DELETE",
    "/auth/tokens/{id}",
    permission=Permission.SELF,
    summary="Revoke an API token",
    response=Deleted,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def revoke_token(request: ApiRequest) -> Deleted:
    """Ends one of the caller's tokens at once; an ADMIN ends anybody's."""
    services: CoreServices = request.services
    token_id, user, now = request.path["id"], request.user, services.clock.now()
    whose = None if user.is_admin else user.user_id

    async def unit(connection: Any) -> UUID | None:
        return await store.revoke_token(connection, token_id, user_id=whose, now=now)

    if await services.database.run(unit, timeout_s=WRITE_TIMEOUT_S, shield=True) is None:
        raise NotFoundError("there is no such API token")
    services.api_tokens.remove(token_id)
    audit(request, "API_TOKEN_REVOKED", actor=f"user:{user.user_id}", subject=f"api_token:{token_id}")
    return Deleted()


def _check(request: ApiRequest, name: str, scopes: frozenset[Scope]) -> None:
    faults: dict[str, str] = {}
    if not name.isprintable() or not name.strip():
        faults["name"] = "must be printable characters"
    if not scopes:
        faults["scopes"] = "must name at least one of READ, TRADE, ADMIN or KILL"
    elif Scope.KILL in scopes and len(scopes) > 1:
        faults["scopes"] = "must have KILL alone: TRADE and ADMIN include it"
    if faults:
        raise invalid(faults)
    role = request.user.role
    for scope in _sorted(scopes):
        # a scope beyond its owner's role would begin to work the day that the role grows
        if not is_allowed(_NEEDS[scope], role):
            raise ForbiddenError(f"the scope {scope} is more than the role {role} may do", code="SCOPE_TOO_WIDE")


def _fields(token: ApiToken) -> dict[str, Any]:
    return {
        "id": token.id,
        "name": token.name,
        "scopes": _sorted(token.scopes),
        "ip_allowlist": token.ip_allowlist,
        "created_at": token.created_at,
        "expires_at": token.expires_at,
        "last_used_at": token.last_used_at,
        "last_used_ip": token.last_used_ip,
    }


def _sorted(scopes: frozenset[Scope]) -> tuple[Scope, ...]:
    return tuple(scope for scope in Scope if scope in scopes)
