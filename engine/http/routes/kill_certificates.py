"""/risk/killswitch/certificates: what kill switches came to, signed."""

from typing import Annotated

import msgspec

from engine.domain.killswitch import GLOBAL
from engine.http.endpoint import ApiRequest, Page, endpoint
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.views.kill_certificates import FullCertificateView, full_view
from engine.store.kill_certificates import list_certificates

ScopeText = Annotated[str, msgspec.Meta(min_length=1, max_length=60)]


class CertificateQuery(PageQuery, frozen=True, kw_only=True):
    """Filters of the list; ``from`` and ``to`` speak of the time of making."""

    scope: ScopeText | None = None


@endpoint(
    "GET",
    "/risk/killswitch/certificates",
    permission=Permission.READ,
    summary="List certificates of kill switches",
    query=CertificateQuery,
    list_of=FullCertificateView,
    tags=("risk",),
)
async def list_kill_certificates(request: ApiRequest) -> Page[FullCertificateView]:
    """What kill switches came to, newest first: flat by two reads of the broker, or who is not flat and why.

    An ADMIN sees those of every scope, others those of their own user, accounts and strategies.
    """
    services: Services = request.services
    query: CertificateQuery = request.query
    window = query.window()
    scopes = None if request.user.is_admin else _own(services, request)
    if query.scope is not None:
        scopes = [query.scope] if scopes is None or query.scope in scopes else []
    await services.read_your_writes()
    found = await services.database.run(
        lambda connection: list_certificates(
            connection,
            limit=window.limit + 1,
            scopes=scopes,
            start=window.start,
            end=window.end,
            after=window.after(),
        )
    )
    key = services.extras["kill_sequence"].key
    return Page.cut(found, window, key=lambda each: (each.created_at, each.id)).map(lambda each: full_view(each, key))


def _own(services: Services, request: ApiRequest) -> list[str]:
    user_id, directory = request.user.user_id, services.directory
    scopes = [f"user:{user_id}"]
    scopes += [f"account:{account.id}" for account in directory.accounts.values() if account.user_id == user_id]
    scopes += [f"strategy:{strategy.id}" for strategy in directory.strategies.values() if strategy.user_id == user_id]
    return [scope for scope in scopes if scope != GLOBAL]
