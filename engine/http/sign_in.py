"""Sessions renewed and ended, what is told of them, and what is kept of them in memory: steps that endpoints share."""

from datetime import datetime
from typing import Any
from uuid import UUID

from engine.domain.audit import AuditDraft
from engine.domain.grants import ReadGrant
from engine.errors import UnauthorizedError
from engine.http.endpoint import ApiRequest, ApiStruct
from engine.http.ports import CoreServices
from engine.security.api_tokens import ApiToken
from engine.security.sessions import UserRecord
from engine.store import api_tokens, user_sessions
from engine.store import users as store
from engine.store.grants import list_grants

GRACE_S = 10.0
WRITE_TIMEOUT_S = 5.0


class UserView(ApiStruct, frozen=True, kw_only=True):
    """A user as others may see it."""

    id: UUID
    email: str
    name: str
    role: str


class TokenView(ApiStruct, frozen=True, kw_only=True):
    """A session's tokens; ``expiresIn`` is the seconds that the access token lives."""

    access_token: str
    refresh_token: str
    expires_in: int
    user: UserView


def view(user: UserRecord) -> UserView:
    """Return what others may see of *user*."""
    return UserView(id=user.id, email=user.email, name=user.name, role=user.role.value)


def audit(
    request: ApiRequest, action: str, *, actor: str = "system", subject: str, content: dict[str, Any] | None = None
) -> None:
    """Queue an audit record of this request, with its id and the client's address."""
    services: CoreServices = request.services
    services.ledger.record(
        AuditDraft(
            at=services.clock.now(),
            actor=actor,
            action=action,
            subject=subject,
            content={"requestId": request.request_id, "ip": request.client_ip, **(content or {})},
        )
    )


def token_view(
    services: CoreServices, user: UserRecord, session_id: UUID, *, signed_in_at: datetime, refresh_token: str
) -> TokenView:
    """Return the answer that carries a fresh access token of the session."""
    access = services.tokens.issue(
        user_id=user.id,
        role=user.role,
        session_id=session_id,
        epoch=user.token_epoch,
        signed_in_at=signed_in_at,
        now=services.clock.now(),
    )
    return TokenView(
        access_token=access, refresh_token=refresh_token, expires_in=services.tokens.ttl_s, user=view(user)
    )


async def refresh(request: ApiRequest, token: str) -> TokenView:
    """Exchange a refresh token; a reuse after the grace ends the session.

    Raises UnauthorizedError, RateLimitError.
    """
    services: CoreServices = request.services
    refused = UnauthorizedError("the refresh token is not valid; sign in again", code="INVALID_REFRESH_TOKEN")
    if not services.refresh_tokens.is_wellformed(token):
        raise refused
    services.rate_limits.session(request.client_ip)
    now, child = services.clock.now(), services.refresh_tokens.child_of(token)

    async def unit(connection: Any) -> store.Rotation:
        rotation = await store.rotate_refresh(
            connection,
            token_hash=services.refresh_tokens.hash(token),
            child_hash=services.refresh_tokens.hash(child),
            now=now,
            grace_s=GRACE_S,
            idle_s=services.config.security.refresh_idle_s,
        )
        if rotation.outcome is store.RefreshOutcome.ROTATED and rotation.family_id is not None:
            await user_sessions.used(connection, rotation.family_id, now=now, client_ip=request.client_ip)
        return rotation

    known_before = services.users.version
    done: store.Rotation = await services.database.run(unit, timeout_s=WRITE_TIMEOUT_S, shield=True)
    user, family = done.user, done.family_id
    if user is None or family is None or done.signed_in_at is None:
        raise refused
    services.rate_limits.session_known(request.client_ip)
    if done.outcome is store.RefreshOutcome.REUSED:
        services.sessions.revoke(family, at=now)
        audit(request, "REFRESH_REUSED", subject=f"user:{user.id}", content={"session": str(family)})
    if done.outcome not in {store.RefreshOutcome.ROTATED, store.RefreshOutcome.REPEATED}:
        raise refused
    services.users.put(user, read_after=known_before)
    return token_view(services, user, family, signed_in_at=done.signed_in_at, refresh_token=child)


async def sign_out(request: ApiRequest, *, token: str | None, session_id: UUID | None) -> UUID | None:
    """End the session of a refresh token and that of the bearer; return a user it concerned, or None."""
    services: CoreServices = request.services
    now = services.clock.now()
    services.rate_limits.session(request.client_ip)

    async def unit(connection: Any) -> tuple[UUID, UUID] | None:
        ended = None
        if token is not None and services.refresh_tokens.is_wellformed(token):
            digest = services.refresh_tokens.hash(token)
            ended = await store.revoke_token_family(connection, token_hash=digest, now=now)
        if session_id is not None:
            await store.revoke_family(connection, session_id, now=now)
        return ended

    ended: tuple[UUID, UUID] | None = await services.database.run(unit, timeout_s=WRITE_TIMEOUT_S, shield=True)
    if session_id is not None:
        services.sessions.revoke(session_id, at=now)
    if ended is not None or session_id is not None:
        services.rate_limits.session_known(request.client_ip)
    if ended is None:
        return None
    services.sessions.revoke(ended[0], at=now)
    return ended[1]


async def reload_auth(services: CoreServices, *, timeout_s: float = 5.0) -> None:
    """Bring users, ended sessions and API tokens up to date with the store, at start and every few seconds after.

    So a password changed by the command line, or on another engine, acts here too. Raises
    StoreUnavailable; what is known then stays in force.
    """
    now, before, tokens_before = services.clock.now(), services.users.version, services.api_tokens.version
    since, uses = services.sessions.horizon(now), services.api_tokens.take_uses()

    async def unit(
        connection: Any,
    ) -> tuple[list[UserRecord], list[tuple[UUID, datetime]], list[ApiToken], list[ReadGrant]]:
        await api_tokens.note_uses(connection, uses)
        people, ended = await store.list_users(connection), await store.revoked_since(connection, since)
        return people, ended, await api_tokens.list_tokens(connection), await list_grants(connection)

    granted_before = services.users.grants.version
    try:
        records, revoked, tokens, grants = await services.database.run(unit, timeout_s=timeout_s)
    except BaseException:
        services.api_tokens.give_back_uses(uses)
        raise
    services.users.load(records, read_after=before)
    services.users.grants.load(grants, read_after=granted_before)
    services.api_tokens.load(tokens, read_after=tokens_before)
    for session_id, at in revoked:
        services.sessions.revoke(session_id, at=at)
    services.sessions.forget_older(now)
