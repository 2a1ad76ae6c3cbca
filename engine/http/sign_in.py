"""Signing in and out, as steps that the auth endpoints share."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.audit import AuditDraft
from engine.errors import UnauthorizedError
from engine.http.endpoint import ApiRequest, ApiStruct
from engine.http.ports import CoreServices
from engine.ids import uuid7
from engine.security import passwords
from engine.security.sessions import UserRecord, normalise_email
from engine.store import users as store

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


async def sign_in(request: ApiRequest, email: str, password: str) -> TokenView:
    """Check the password and begin a session.

    An unknown user, a disabled one and a wrong password get the same answer after the same work.
    Raises UnauthorizedError, RateLimitError, StoreUnavailable.
    """
    services: CoreServices = request.services
    key = normalise_email(email)
    services.rate_limits.login(request.client_ip, key)

    async def find(connection: Any) -> UserRecord | None:
        return await store.user_by_email(connection, key)

    user: UserRecord | None = await services.database.run(find)
    usable = user is not None and not user.disabled
    matches = await services.passwords.verify(user.password_hash if user is not None and usable else None, password)
    if user is None or not usable or not matches:
        audit(request, "LOGIN_FAILED", subject="user:unknown" if user is None else f"user:{user.id}")
        raise UnauthorizedError("wrong e-mail or password", code="INVALID_CREDENTIALS")
    user = await _with_current_hash(services, user, password)
    tokens = await _begin_session(services, user)
    services.rate_limits.login_succeeded(request.client_ip, key)
    services.users.put(user)
    audit(request, "LOGIN", actor=f"user:{user.id}", subject=f"user:{user.id}")
    return tokens


async def _with_current_hash(services: CoreServices, user: UserRecord, password: str) -> UserRecord:
    if not passwords.needs_rehash(user.password_hash):
        return user
    new_hash, now = await services.passwords.hash(password), services.clock.now()

    async def unit(connection: Any) -> None:
        await store.rehash_password(connection, user.id, old_hash=user.password_hash, new_hash=new_hash, now=now)

    await services.database.run(unit, shield=True)
    return msgspec.structs.replace(user, password_hash=new_hash)


async def _begin_session(services: CoreServices, user: UserRecord) -> TokenView:
    now, family, token = services.clock.now(), uuid7(), services.refresh_tokens.new()

    async def unit(connection: Any) -> bool:
        return await store.insert_refresh(
            connection,
            user_id=user.id,
            expected_epoch=user.token_epoch,
            family_id=family,
            token_hash=services.refresh_tokens.hash(token),
            now=now,
            expires_at=now + timedelta(seconds=services.config.security.refresh_ttl_s),
        )

    if not await services.database.run(unit, timeout_s=WRITE_TIMEOUT_S, shield=True):
        raise UnauthorizedError("wrong e-mail or password", code="INVALID_CREDENTIALS")
    return token_view(services, user, family, signed_in_at=now, refresh_token=token)


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
        return await store.rotate_refresh(
            connection,
            token_hash=services.refresh_tokens.hash(token),
            child_hash=services.refresh_tokens.hash(child),
            now=now,
            grace_s=GRACE_S,
        )

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
    services.users.put(user)
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
    """Bring users and ended sessions up to date with the store, at start and every few seconds after.

    So a password changed by the command line, or on another engine, acts here too. Raises
    StoreUnavailable; what is known then stays in force.
    """
    now, before = services.clock.now(), services.users.version
    since = services.sessions.horizon(now)

    async def unit(connection: Any) -> tuple[list[UserRecord], list[tuple[UUID, datetime]]]:
        return await store.list_users(connection), await store.revoked_since(connection, since)

    records, revoked = await services.database.run(unit, timeout_s=timeout_s)
    services.users.load(records, read_after=before)
    for session_id, at in revoked:
        services.sessions.revoke(session_id, at=at)
    services.sessions.forget_older(now)
