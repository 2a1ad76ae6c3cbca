"""/auth/sessions and /users/{id}/sessions: where a person is signed in, and ending that."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from engine.errors import NotFoundError, RateLimitError, UnavailableError
from engine.http.endpoint import ApiRequest, ApiStruct, Once, Page, endpoint
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.ports import CoreServices
from engine.http.sign_in import WRITE_TIMEOUT_S, audit
from engine.http.views.listing import page_of
from engine.security.sessions import UserRecord
from engine.store import user_sessions
from engine.store import users as store
from engine.store.user_sessions import SessionRecord

_TAGS = ("auth",)


class SessionView(ApiStruct, frozen=True, kw_only=True):
    """A session: ``device`` is what its client called itself, ``ip`` where it was used from last.

    ``lastUsedAt`` is the sign-in or the last refresh, ``current`` whether it is the one that asks.
    """

    id: UUID
    device: str
    ip: str
    created_at: datetime
    authenticated_at: datetime
    last_used_at: datetime
    current: bool


class Ended(ApiStruct, frozen=True, kw_only=True):
    """The session has ended, its access tokens with it."""

    ended: bool = True


@endpoint(
    "GET",
    "/auth/sessions",
    permission=Permission.SELF,
    summary="List my sessions",
    query=PageQuery,
    list_of=SessionView,
    tags=_TAGS,
)
async def list_sessions(request: ApiRequest) -> Page[SessionView]:
    """Where the caller is signed in, newest first."""
    return await _page(request, request.user.user_id)


@endpoint(
    "DELETE",
    "/auth/sessions/{id}",
    permission=Permission.SELF,
    summary="End one of my sessions",
    response=Ended,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def end_session(request: ApiRequest) -> Ended:
    """Ends a session of the caller's, this one or another, with its access tokens at once; an ADMIN ends anybody's."""
    services: CoreServices = request.services
    session_id, now = request.path["id"], services.clock.now()
    caller, idle = request.user, timedelta(seconds=services.config.security.refresh_idle_s)

    async def unit(connection: Any) -> UUID | None:
        owner = await user_sessions.owner_of_live(connection, session_id, now=now, idle=idle)
        if owner is None or not (owner == caller.user_id or caller.is_admin):
            return None
        await store.revoke_family(connection, session_id, now=now)
        return owner

    owner: UUID | None = await services.database.run(unit, timeout_s=WRITE_TIMEOUT_S, shield=True)
    if owner is None:
        raise NotFoundError("there is no such session")
    services.sessions.revoke(session_id, at=now)
    _record(request, "SESSION_ENDED", owner, {"session": str(session_id)})
    return Ended()


@endpoint(
    "POST",
    "/auth/logout-all",
    permission=Permission.SELF,
    summary="Sign out everywhere",
    response=Ended,
    errors=(RateLimitError, UnavailableError),
    once=Once.NO,
    tags=_TAGS,
)
async def end_all(request: ApiRequest) -> Ended:
    """Ends every session of the caller, this one included, with all access tokens; API tokens of programs stay."""
    await _end_all(request, request.user.user_id)
    return Ended()


@endpoint(
    "GET",
    "/users/{id}/sessions",
    permission=Permission.ADMIN,
    summary="List a user's sessions",
    query=PageQuery,
    list_of=SessionView,
    errors=(NotFoundError,),
    tags=("users",),
)
async def list_users_sessions(request: ApiRequest) -> Page[SessionView]:
    """Where a person is signed in, newest first."""
    return await _page(request, _known(request).id)


@endpoint(
    "DELETE",
    "/users/{id}/sessions",
    permission=Permission.ADMIN,
    summary="End a user's sessions",
    response=Ended,
    errors=(NotFoundError,),
    tags=("users",),
)
async def end_users_sessions(request: ApiRequest) -> Ended:
    """Ends every session of a person, with all access tokens."""
    await _end_all(request, _known(request).id)
    return Ended()


def _known(request: ApiRequest) -> UserRecord:
    services: CoreServices = request.services
    user = services.users.get(request.path["id"])
    if user is None:
        raise NotFoundError("there is no such user")
    return user


async def _page(request: ApiRequest, user_id: UUID) -> Page[SessionView]:
    services: CoreServices = request.services
    now, idle = services.clock.now(), timedelta(seconds=services.config.security.refresh_idle_s)

    async def unit(connection: Any) -> list[SessionRecord]:
        return await user_sessions.live_sessions(connection, user_id, now=now, idle=idle)

    found: list[SessionRecord] = await services.database.run(unit)
    current = request.user.session_id
    return page_of(found, request.query.window()).map(lambda session: _view(session, current))


async def _end_all(request: ApiRequest, user_id: UUID) -> None:
    services: CoreServices = request.services
    now = services.clock.now()

    async def unit(connection: Any) -> UserRecord | None:
        return await store.end_sessions(connection, user_id, now=now)

    user: UserRecord | None = await services.database.run(unit, timeout_s=WRITE_TIMEOUT_S, shield=True)
    if user is not None:
        services.users.put(user)
    _record(request, "SESSIONS_ENDED", user_id, {})


def _record(request: ApiRequest, action: str, owner: UUID, content: dict[str, Any]) -> None:
    audit(request, action, actor=f"user:{request.user.user_id}", subject=f"user:{owner}", content=content)


def _view(session: SessionRecord, current: UUID) -> SessionView:
    return SessionView(
        id=session.id,
        device=session.device,
        ip=session.last_ip,
        created_at=session.began_at,
        authenticated_at=session.authenticated_at,
        last_used_at=session.last_used_at,
        current=session.id == current,
    )
