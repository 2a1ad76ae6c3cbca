"""/users/{id}/grants: what a VIEWER may read of somebody else's."""

from datetime import datetime
from uuid import UUID

from engine.domain.enums import Role
from engine.domain.grants import ReadGrant
from engine.errors import ConflictError, NotFoundError
from engine.http.endpoint import ApiBody, ApiRequest, ApiStruct, Page, endpoint
from engine.http.json_body import invalid
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.views.listing import page_of
from engine.http.views.ownership import may_reach, reachable
from engine.http.views.refused import taken
from engine.http.views.resources import Deleted
from engine.ids import uuid7

_TAGS = ("users",)


class NewGrant(ApiBody, frozen=True, kw_only=True):
    """What the VIEWER may read: one account, or with ``userId`` (the caller's own without it) all of a user's."""

    user_id: UUID | None = None
    account_id: UUID | None = None


class GrantView(ApiStruct, frozen=True, kw_only=True):
    """A grant: ``accountId`` null is everything that ``userId`` has."""

    id: UUID
    viewer_id: UUID
    user_id: UUID
    account_id: UUID | None
    granted_by: str
    granted_at: datetime


@endpoint(
    "GET",
    "/users/{id}/grants",
    permission=Permission.READ,
    summary="List what a viewer may read",
    query=PageQuery,
    list_of=GrantView,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def list_grants(request: ApiRequest) -> Page[GrantView]:
    """A VIEWER sees what it was granted, a TRADER what it granted to that VIEWER, an ADMIN everything."""
    services: Services = request.services
    caller, viewer_id = request.user, request.path["id"]
    found = [grant for grant in services.users.grants.all() if grant.viewer_id == viewer_id]
    if not caller.is_admin and caller.user_id != viewer_id:
        found = [grant for grant in found if grant.owner_id == caller.user_id]
    if services.users.get(viewer_id) is None or not (found or caller.is_admin or caller.user_id == viewer_id):
        raise NotFoundError("there is no such user")
    return page_of(found, request.query.window()).map(_view)


@endpoint(
    "POST",
    "/users/{id}/grants",
    permission=Permission.TRADE,
    summary="Let a viewer read",
    body=NewGrant,
    response=GrantView,
    status=201,
    errors=(NotFoundError, ConflictError),
    tags=_TAGS,
)
async def add_grant(request: ApiRequest) -> GrantView:
    """The user of the path, a VIEWER, may read from now on: a TRADER gives its own, an ADMIN anybody's."""
    services: Services = request.services
    caller, body = request.user, request.body
    viewer = services.users.get(request.path["id"])
    if viewer is None:
        raise NotFoundError("there is no such user")
    if viewer.role is not Role.VIEWER:
        # to somebody who does not administer, only that a VIEWER has this id is told
        if not caller.is_admin:
            raise NotFoundError("there is no such user")
        raise ConflictError("grants are for users with the role VIEWER", code="NOT_A_VIEWER")
    owner_id = _owner(request, body)
    if owner_id == viewer.id:
        raise invalid({"userId": "is the viewer: it reads its own anyway"})
    grant = ReadGrant(
        id=uuid7(),
        viewer_id=viewer.id,
        owner_id=owner_id,
        account_id=body.account_id,
        granted_by=f"user:{caller.user_id}",
        granted_at=services.clock.now(),
    )
    with taken("this is granted already"):
        await services.registrar.put_grant(grant, services.users.grants)
    return _view(grant)


@endpoint(
    "DELETE",
    "/users/{id}/grants/{grantId}",
    permission=Permission.TRADE,
    summary="Take a grant back",
    response=Deleted,
    errors=(NotFoundError,),
    tags=_TAGS,
)
async def delete_grant(request: ApiRequest) -> Deleted:
    """The VIEWER reads it no more, from this instant on."""
    services: Services = request.services
    grant = services.users.grants.get(request.path["grantId"])
    if (
        grant is None
        or grant.viewer_id != request.path["id"]
        or not (request.user.is_admin or grant.owner_id == request.user.user_id)
    ):
        raise NotFoundError("there is no such grant")
    await services.registrar.remove_grants([grant], services.users.grants, by=f"user:{request.user.user_id}")
    return Deleted()


def _owner(request: ApiRequest, body: NewGrant) -> UUID:
    services: Services = request.services
    caller = request.user
    owner_id = body.user_id or caller.user_id
    if body.account_id is not None:
        account = reachable(caller, services.directory.accounts.get(body.account_id), "account")
        if body.user_id not in (None, account.user_id):
            raise invalid({"accountId": "is not an account of userId"})
        owner_id = account.user_id
    if services.users.get(owner_id) is None or not may_reach(caller, owner_id):
        raise NotFoundError("there is no such user")
    return owner_id


def _view(grant: ReadGrant) -> GrantView:
    return GrantView(
        id=grant.id,
        viewer_id=grant.viewer_id,
        user_id=grant.owner_id,
        account_id=grant.account_id,
        granted_by=grant.granted_by,
        granted_at=grant.granted_at,
    )
