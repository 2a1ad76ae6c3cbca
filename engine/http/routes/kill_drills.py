"""/risk/killswitch/drills: rehearsals of the kill switch."""

from engine.errors import ConflictError, UnavailableError
from engine.http.endpoint import ApiRequest, Page, endpoint
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.views.kill_drills import KillDrillView, drill_view
from engine.store.kill_drills import list_drills

_TAGS = ("risk",)


@endpoint(
    "GET",
    "/risk/killswitch/drills",
    permission=Permission.READ,
    summary="List drills of the kill switch",
    query=PageQuery,
    list_of=KillDrillView,
    tags=_TAGS,
)
async def list_kill_drills(request: ApiRequest) -> Page[KillDrillView]:
    """Drills on an engine and a paper exchange of their own, newest first; ``from`` and ``to`` speak of the begin."""
    services: Services = request.services
    window = request.query.window()
    await services.read_your_writes()
    found = await services.database.run(
        lambda connection: list_drills(
            connection, limit=window.limit + 1, start=window.start, end=window.end, after=window.after()
        )
    )
    return Page.cut(found, window, key=lambda drill: (drill.started_at, drill.id)).map(drill_view)


@endpoint(
    "POST",
    "/risk/killswitch/drills",
    permission=Permission.ADMIN,
    summary="Start a drill of the kill switch",
    response=KillDrillView,
    status=202,
    errors=(ConflictError, UnavailableError),
    tags=_TAGS,
)
async def start_kill_drill(request: ApiRequest) -> KillDrillView:
    """Starts a drill now, in hours of the market too, beside this engine and at low priority; 409 while one runs.

    Nothing of this engine is touched: neither its kill switches nor its orders. The list shows what it came to.
    """
    services: Services = request.services
    return drill_view(services.extras["drills"].ask(f"user:{request.user.user_id}"))
