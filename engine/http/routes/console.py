"""/console/login: a page on which a person logs kite accounts in; it speaks to the API as any client does."""

from engine.http.console_page import SCRIPT, STYLE, login_page
from engine.http.endpoint import ApiRequest, Raw, endpoint
from engine.http.permissions import Permission

_TAGS = ("console",)


@endpoint(
    "GET",
    "/console/login",
    root=True,
    permission=Permission.PUBLIC,
    summary="The page to log accounts in",
    response=Raw,
    media_type="text/html",
    tags=_TAGS,
)
async def console_login(request: ApiRequest) -> Raw:
    """Sign in to the engine, see the kite accounts, open the broker's login page for one of them."""
    return login_page()


@endpoint(
    "GET",
    "/console/login.css",
    root=True,
    permission=Permission.PUBLIC,
    summary="The style sheet of that page",
    response=Raw,
    media_type="text/css",
    tags=_TAGS,
)
async def console_login_style(request: ApiRequest) -> Raw:
    """Plain CSS."""
    return Raw(STYLE.encode(), "text/css; charset=utf-8")


@endpoint(
    "GET",
    "/console/login.js",
    root=True,
    permission=Permission.PUBLIC,
    summary="The script of that page",
    response=Raw,
    media_type="text/javascript",
    tags=_TAGS,
)
async def console_login_script(request: ApiRequest) -> Raw:
    """Calls this API and nothing else."""
    return Raw(SCRIPT.encode(), "text/javascript; charset=utf-8")
