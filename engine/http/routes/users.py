"""/users: the people who may sign in; for administrators."""

import re
from typing import Any
from uuid import UUID

from engine.domain.enums import Role
from engine.errors import ConflictError, NotFoundError
from engine.http.endpoint import ApiBody, ApiRequest, Page, endpoint
from engine.http.json_body import invalid
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.sign_in import WRITE_TIMEOUT_S, UserView, audit, view
from engine.http.views.listing import page_of
from engine.http.views.resources import Text
from engine.ids import uuid7
from engine.security import passwords
from engine.security.sessions import UserRecord, normalise_email
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


@endpoint(
    "GET",
    "/users",
    permission=Permission.ADMIN,
    summary="List users",
    query=PageQuery,
    list_of=UserView,
    tags=_TAGS,
)
async def list_users(request: ApiRequest) -> Page[UserView]:
    """Everybody who may sign in, newest first."""
    services: Services = request.services
    return page_of(services.users.all(), request.query.window()).map(view)


@endpoint(
    "POST",
    "/users",
    permission=Permission.ADMIN,
    summary="Add a user",
    body=NewUser,
    response=UserView,
    status=201,
    errors=(ConflictError,),
    tags=_TAGS,
)
async def add_user(request: ApiRequest) -> UserView:
    """Adds a person with a role; without one a VIEWER."""
    services: Services = request.services
    body: NewUser = request.body
    email = normalise_email(body.email)
    faults: dict[str, str] = {}
    if not _EMAIL.fullmatch(email):
        faults["email"] = "must be an e-mail address"
    if len(body.name) > _MAX_NAME or not body.name.isprintable():
        faults["name"] = f"must be at most {_MAX_NAME} printable characters"
    weak = passwords.check(body.password, email)
    if weak:
        faults["password"] = " and ".join(weak)
    if faults:
        raise invalid(faults)
    password_hash, now = await services.passwords.hash(body.password), services.clock.now()

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
    return view(user)


@endpoint(
    "GET",
    "/users/{id}",
    permission=Permission.ADMIN,
    summary="Show a user",
    response=UserView,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def show_user(request: ApiRequest) -> UserView:
    """One person."""
    services: Services = request.services
    user_id: UUID = request.path["id"]
    user = services.users.get(user_id)
    if user is None:
        raise NotFoundError("there is no such user")
    return view(user)
