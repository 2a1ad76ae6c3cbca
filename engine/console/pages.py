"""Pages and actions, declared: an address, a permission, and a coroutine that gets a `Visit`.

The declaration does what every page needs alike: it finds out who looks, sends strangers to sign in, refuses what no
page of this host sent, asks for the password again where the API wants that, and shows what the API refuses.
"""

import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import quote

import msgspec

from engine.console.session import (
    CSRF_FIELD,
    CSRF_HEADER,
    SAFE,
    Seat,
    dropped,
    origins_of,
    refuse_foreign,
    refuse_without_token,
    seat_of,
)
from engine.console.visit import Refused, Visit
from engine.errors import ApiError
from engine.http.endpoint import ApiRequest, Endpoint, EventStream, Raw, endpoint
from engine.http.permissions import Permission, is_allowed

SIGN_IN = "/console/login"
View = Callable[[Visit], Awaitable[Raw | EventStream]]
_STEP_UP = "STEP_UP_REQUIRED"

logger = logging.getLogger("engine.console")


def page(path: str, permission: Permission) -> Callable[[View], Endpoint]:
    """Declare the decorated coroutine as the page at *path*, for people who hold *permission*.

    ``Permission.PUBLIC`` is for pages that show nothing of anybody; ``visit.seat`` is then None for a stranger.
    """
    return _declare("GET", path, permission)


def action(path: str, permission: Permission, method: str = "POST") -> Callable[[View], Endpoint]:
    """Declare the decorated coroutine as what a form or a button of a page sends to *path*."""
    return _declare(method, path, permission)


def _declare(method: str, path: str, permission: Permission) -> Callable[[View], Endpoint]:
    def declare(view: View) -> Endpoint:
        async def serve(request: ApiRequest) -> Raw | EventStream:
            return await _serve(request, permission, view)

        serve.__name__ = f"console_{getattr(view, '__name__', 'page')}"
        serve.__doc__ = view.__doc__
        made = endpoint(
            method,
            path,
            root=True,
            listed=False,
            permission=Permission.WEBHOOK,
            summary=(view.__doc__ or path).splitlines()[0],
            raw_body=method != "GET",
            query=dict[str, str],
            response=Raw,
            media_type="text/html",
            tags=("console",),
        )
        return made(serve)

    return declare


async def _serve(request: ApiRequest, permission: Permission, view: View) -> Raw | EventStream:
    visit = Visit(request, None)
    try:
        refuse_foreign(request.method, request.headers, origins_of(request))
        seat = await seat_of(request)
        if seat is None and permission is not Permission.PUBLIC:
            return _sign_in_first(visit)
        visit = Visit(request, seat)
        if seat is not None:
            _refuse_unless_meant(visit, seat, permission)
            await _look_at_kill_switch(visit)
        answer = await view(visit)
    except Refused as refused:
        answer = _refused(visit, refused)
    except ApiError as error:
        answer = _refused(visit, Refused(error.status_code, error.code, error.message, error.details or {}))
    return _with_cookie(answer, visit.set_cookie)


def _refuse_unless_meant(visit: Visit, seat: Seat, permission: Permission) -> None:
    if visit.request.method not in SAFE and permission is not Permission.PUBLIC:
        refuse_without_token(seat, visit.request.header(CSRF_HEADER) or visit.form.get(CSRF_FIELD, ""))
    if not is_allowed(permission, seat.principal.role):
        raise Refused(HTTPStatus.FORBIDDEN, "FORBIDDEN", f"the role {seat.principal.role} may not see this", {})


async def _look_at_kill_switch(visit: Visit) -> None:
    """Bring along what the head of every whole page shows; a page is shown without it rather than not at all."""
    if visit.request.method in SAFE and not visit.is_fragment and not visit.part:
        try:
            visit.kill_scopes = (await visit.get("/risk/killswitch/status"))["scopes"]
        except Refused as refused:
            logger.warning("the kill switches cannot be shown: %s", refused.message)


def _sign_in_first(visit: Visit) -> Raw:
    """Return the way to the sign-in page, and back to this one after it."""
    request = visit.request
    headers = {"Set-Cookie": dropped(request)} if "cookie" in request.headers else {}
    if visit.is_fragment or request.method not in SAFE:
        # never with success: a stranger who proves nothing must not look like somebody who did
        return Raw(b"", "text/html; charset=utf-8", HTTPStatus.UNAUTHORIZED, {**headers, "HX-Redirect": SIGN_IN})
    back = visit.url()
    way = SIGN_IN if back == "/console" else f"{SIGN_IN}?next={quote(back, safe='/')}"
    return Raw(b"", "text/html; charset=utf-8", HTTPStatus.SEE_OTHER, {**headers, "Location": way})


def _refused(visit: Visit, refused: Refused) -> Raw:
    if refused.status == HTTPStatus.UNAUTHORIZED and visit.seat is not None and refused.code == "UNAUTHORIZED":
        return _sign_in_first(visit)
    if refused.code == _STEP_UP:
        return visit.told({"console:step-up": True}, status=refused.status)
    if visit.part:
        # a live part that cannot be read now stays as it is until the next event
        return visit.told({}, status=refused.status)
    if visit.request.method not in SAFE or visit.is_fragment:
        return visit.told({"console:toast": {"kind": "bad", "text": sentence(refused)}}, status=refused.status)
    visit.part = ""
    template = "error.html" if visit.seat is not None else "error_outside.html"
    return visit.render(template, status=refused.status, refused=refused)


def sentence(refused: Refused) -> str:
    """Return what was refused as one line: the message, and the fields that it names."""
    listed = "; ".join(f"{name} {text}" for name, text in refused.fields.items())
    text = f"{refused.message}: {listed}" if listed else refused.message
    return text[:1].upper() + text[1:]


def _with_cookie(answer: Raw | EventStream, set_cookie: str | None) -> Raw | EventStream:
    if set_cookie is None or "Set-Cookie" in answer.headers:
        return answer
    return msgspec.structs.replace(answer, headers={**answer.headers, "Set-Cookie": set_cookie})
