"""/users: the people who may sign in; for administrators."""

import re
from typing import Any
from uuid import UUID

from msgspec import UNSET, UnsetType

from engine.domain.enums import Role
from engine.errors import ConflictError, NotFoundError
from engine.http.authentication import require_fresh
from engine.http.endpoint import ApiBody, ApiRequest, Page, endpoint
from engine.http.json_body import invalid
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.sign_in import WRITE_TIMEOUT_S, UserView, audit
from engine.http.views.listing import page_of
from engine.http.views.resources import Deleted, Text
from engine.ids import uuid7
from engine.security.password_rules import check
from engine.security.sessions import UserRecord, normalise_email
from engine.store import factors, people
from engine.store import users as store

_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]{1,190}")
_MAX_NAME = 100
_TAGS = ("users",)


class NewUser(ApiBody, frozen=True, kw_only=True):
    """A new person; the password is changed by its owner with POST /auth/password."""

    email: Text
    password: Text
    name: Text = ""
    role: Role = Role.VIEWER


class PersonView(UserView, frozen=True, kw_only=True):
    """A user as an administrator sees it; one that is ``disabled`` cannot sign in.

    ``mfa`` tells whether it signs in with a second factor.
    """

    disabled: bool
    mfa: bool


class UserChange(ApiBody, frozen=True, kw_only=True):
    """What to change; ``disabled`` true ends every session of the user and refuses a new one."""

    name: Text | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    disabled: bool | UnsetType = UNSET


@endpoint(
    "GET",
    "/users",
    permission=Permission.ADMIN,
    summary="List users",
    query=PageQuery,
    list_of=PersonView,
    tags=_TAGS,
)
async def list_users(request: ApiRequest) -> Page[PersonView]:
    """Everybody who may sign in, newest first."""
    services: Services = request.services
    return page_of(services.users.all(), request.query.window()).map(_view)


@endpoint(
    "POST",
    "/users",
    permission=Permission.ADMIN,
    summary="Add a user",
    body=NewUser,
    response=PersonView,
    status=201,
    errors=(ConflictError,),
    tags=_TAGS,
)
async def add_user(request: ApiRequest) -> PersonView:
    """Adds a person with a role; without one a VIEWER. Another ADMIN is made by a freshly signed-in one only."""
    services: Services = request.services
    body: NewUser = request.body
    if body.role is Role.ADMIN:
        require_fresh(request.user, services.clock.now())
    email = normalise_email(body.email)
    faults: dict[str, str] = {}
    if not _EMAIL.fullmatch(email):
        faults["email"] = "must be an e-mail address"
    if len(body.name) > _MAX_NAME or not body.name.isprintable():
        faults["name"] = f"must be at most {_MAX_NAME} printable characters"
    weak = check(body.password, email)
    if weak:
        faults["password"] = " and ".join(weak)
    if faults:
        raise invalid(faults)
    password_hash, now = await services.passwords.hash(body.password, is_known=True), services.clock.now()

    async def insert(connection: Any) -> UserRecord | None:
        return await store.insert_user(
            connection,
            user_id=uuid7(),
            email=email,
            name=body.name.strip(),
            role=body.role,
            password_hash=password_hash,
            now=now,
        )

    user = await services.database.run(insert, timeout_s=WRITE_TIMEOUT_S, shield=True)
    if user is None:
        raise ConflictError("this e-mail address is registered already")
    services.users.put(user)
    audit(
        request,
        "USER_CREATED",
        actor=f"user:{request.user.user_id}",
        subject=f"user:{user.id}",
        content={"email": user.email, "role": user.role.value},
    )
    return _view(user)


@endpoint(
    "GET",
    "/users/{id}",
    permission=Permission.ADMIN,
    summary="Show a user",
    response=PersonView,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def show_user(request: ApiRequest) -> PersonView:
    """One person."""
    return _view(_find(request))


@endpoint(
    "PATCH",
    "/users/{id}",
    permission=Permission.ADMIN,
    summary="Change a user",
    fresh=True,
    body=UserChange,
    response=PersonView,
    errors=(NotFoundError, ConflictError),
    tags=_TAGS,
)
async def change_user(request: ApiRequest) -> PersonView:
    """Changes what is sent; a new role acts at once, on sessions that are open too.

    The last ADMIN who can sign in keeps role and access: 409.
    """
    services: Services = request.services
    body: UserChange = request.body
    if body.name is not UNSET and (len(body.name) > _MAX_NAME or not body.name.isprintable()):
        raise invalid({"name": f"must be at most {_MAX_NAME} printable characters"})
    user_id, now = _find(request).id, services.clock.now()
    may_end_a_role = body.role not in (UNSET, Role.ADMIN) or body.disabled is True

    async def change(connection: Any) -> people.Changed | None:
        others = await people.other_admins(connection, user_id) if may_end_a_role else None
        changed = await people.change_user(
            connection,
            user_id,
            name=None if body.name is UNSET else body.name.strip(),
            role=None if body.role is UNSET else body.role,
            disabled=None if body.disabled is UNSET else body.disabled,
            now=now,
        )
        if changed is not None and _is_admin(changed.before) and not _is_admin(changed.after) and others == 0:
            raise _last_admin()
        return changed

    done: people.Changed | None = await services.database.run(change, timeout_s=WRITE_TIMEOUT_S, shield=True)
    if done is None:
        raise NotFoundError("there is no such user")
    before, after = done
    services.users.put(after)
    audit(
        request,
        "USER_CHANGED",
        actor=f"user:{request.user.user_id}",
        subject=f"user:{before.id}",
        content={"before": _told(before), "after": _told(after)},
    )
    return _view(after)


@endpoint(
    "DELETE",
    "/users/{id}",
    permission=Permission.ADMIN,
    summary="Delete a user",
    fresh=True,
    response=Deleted,
    errors=(NotFoundError, ConflictError),
    tags=_TAGS,
)
async def delete_user(request: ApiRequest) -> Deleted:
    """Ends every session at once; what the user did stays on record, and the e-mail address is free again.

    409 while the user owns accounts, strategies or sources: what they trade would be nobody's. 409 also for oneself
    and for the last ADMIN.
    """
    services: Services = request.services
    user = _find(request)
    if user.id == request.user.user_id:
        raise ConflictError("nobody deletes itself: ask another administrator", code="OWN_USER")
    directory = services.directory
    owned = {
        "accounts": sum(each.user_id == user.id for each in directory.accounts.values()),
        "strategies": sum(each.user_id == user.id for each in directory.strategies.values()),
        "sources": sum(each.user_id == user.id for each in directory.sources.values()),
    }
    if any(owned.values()):
        listed = ", ".join(f"{count} {name}" for name, count in owned.items() if count)
        raise ConflictError(f"the user owns {listed}; delete them first", code="USER_IN_USE", details=owned)
    now = services.clock.now()

    async def delete(connection: Any) -> bool:
        if _is_admin(user) and not await people.other_admins(connection, user.id):
            raise _last_admin()
        return await people.delete_user(connection, user.id, now=now)

    if not await services.database.run(delete, timeout_s=WRITE_TIMEOUT_S, shield=True):
        raise NotFoundError("there is no such user")
    services.users.remove(user.id)
    grants = services.users.grants
    grants.remove(*(grant.id for grant in grants.all() if user.id in (grant.viewer_id, grant.owner_id)))
    audit(
        request,
        "USER_DELETED",
        actor=f"user:{request.user.user_id}",
        subject=f"user:{user.id}",
        content={"before": _told(user) | {"email": user.email}},
    )
    return Deleted()


@endpoint(
    "DELETE",
    "/users/{id}/mfa",
    permission=Permission.ADMIN,
    summary="Take a user's second factor away",
    fresh=True,
    response=PersonView,
    errors=(NotFoundError, ConflictError),
    tags=_TAGS,
)
async def reset_factor(request: ApiRequest) -> PersonView:
    """For a lost phone: every session ends, and the next sign-in is with the password alone, to enrol another.

    409 for oneself (DELETE /auth/mfa asks for a code), without a second factor, and while the password is too short
    to be the only one.
    """
    services: Services = request.services
    user = _find(request)
    if user.id == request.user.user_id:
        raise ConflictError("one's own is taken away with a code of it, at DELETE /auth/mfa", code="OWN_USER")
    if user.short_password:
        raise ConflictError(
            "the password is too short to be the only factor: set another with `engine user passwd`",
            code="PASSWORD_TOO_SHORT",
        )
    now = services.clock.now()

    async def reset(connection: Any) -> UserRecord | None:
        if not await factors.remove(connection, user.id):
            raise ConflictError("there is no second factor", code="MFA_NOT_ENROLLED")
        return await store.end_sessions(connection, user.id, now=now)

    after = await services.database.run(reset, timeout_s=WRITE_TIMEOUT_S, shield=True)
    if after is None:
        raise NotFoundError("there is no such user")
    services.users.put(after)
    audit(request, "MFA_RESET", actor=f"user:{request.user.user_id}", subject=f"user:{user.id}")
    return _view(after)


def _find(request: ApiRequest) -> UserRecord:
    services: Services = request.services
    user_id: UUID = request.path["id"]
    user = services.users.get(user_id)
    if user is None:
        raise NotFoundError("there is no such user")
    return user


def _view(user: UserRecord) -> PersonView:
    return PersonView(
        id=user.id, email=user.email, name=user.name, role=user.role.value, disabled=user.disabled, mfa=user.mfa
    )


def _is_admin(user: UserRecord) -> bool:
    return user.role is Role.ADMIN and not user.disabled


def _told(user: UserRecord) -> dict[str, Any]:
    return {"name": user.name, "role": user.role.value, "disabled": user.disabled}


def _last_admin() -> ConflictError:
    return ConflictError("this is the last administrator who can sign in; make another first", code="LAST_ADMIN")
