"""Who looks at a page: the console's cookie, renewed by the server when its access token has run out.

The cookie holds the tokens of an ordinary session of the API, so it is listed, ended and watched like any other; the
refresh token is spent once, its successor goes into the answer's cookie. What changes something needs more than the
cookie: it must come from a page of this host, and show the session's page token.
"""

import hmac
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from engine.errors import ForbiddenError, UnauthorizedError, UnavailableError
from engine.http.authentication import authenticate
from engine.http.endpoint import ApiRequest
from engine.http.page_cookie import PageTokens, drop_cookie, read_cookie, write_cookie
from engine.http.permissions import Principal
from engine.http.ports import CoreServices

CSRF_HEADER = "x-page-token"
CSRF_FIELD = "_token"
SAFE = frozenset({"GET", "HEAD"})


class Seat(msgspec.Struct, frozen=True, kw_only=True):
    """A signed-in person at the console; ``set_cookie`` is what the answer must carry, None when nothing changed."""

    principal: Principal
    tokens: PageTokens
    page_token: str
    set_cookie: str | None = None


def is_secure(services: CoreServices) -> bool:
    """Tell whether browsers reach this engine over TLS: its own, or that of the proxy that it is published by."""
    server = services.config.server
    return bool(server.tls_cert and server.tls_key) or server.public_url.startswith("https://")


def tokens_of(request: ApiRequest) -> PageTokens | None:
    """Return what the cookie of a request holds, None without one."""
    return read_cookie(request.header("cookie"), is_secure=is_secure(request.services))


def kept(request: ApiRequest, tokens: PageTokens) -> str:
    """Return the Set-Cookie header for a session that goes on with *tokens*."""
    keep_s = request.services.config.security.refresh_idle_s
    return write_cookie(tokens, is_secure=is_secure(request.services), keep_s=keep_s)


def dropped(request: ApiRequest) -> str:
    """Return the Set-Cookie header that ends it in the browser."""
    return drop_cookie(is_secure=is_secure(request.services))


async def seat_of(request: ApiRequest) -> Seat | None:
    """Return who sends *request* by its cookie, renewed if need be; None for nobody. Raises UnavailableError."""
    tokens = tokens_of(request)
    if tokens is None:
        return None
    principal = _known(request, tokens.access)
    if principal is not None:
        return _seat(request, principal, tokens, None)
    renewed = await _renewed(request, tokens)
    if renewed is None:
        return None
    principal = _known(request, renewed.access)
    return None if principal is None else _seat(request, principal, renewed, kept(request, renewed))


def seated(request: ApiRequest, access: str, refresh: str) -> Seat:
    """Return the seat of a session that has just begun, or proven itself anew. Raises UnauthorizedError."""
    tokens = PageTokens(access, refresh)
    principal = _known(request, access)
    if principal is None:
        raise UnauthorizedError("the session has ended; sign in again")
    return _seat(request, principal, tokens, kept(request, tokens))


def refuse_foreign(method: str, headers: Mapping[str, str], origins: frozenset[str]) -> None:
    """Raise ForbiddenError for a change that no page of this host asked for.

    A browser says where a request comes from by Sec-Fetch-Site, an old one by Origin alone; one of them must be there.
    *origins* are those of this engine.
    """
    if method in SAFE:
        return
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        fine = site.lower() == "same-origin" and (origin is None or origin.lower() in origins)
    else:
        fine = origin is not None and origin.lower() in origins
    if not fine:
        raise ForbiddenError("a page of another origin may not send this", code="CROSS_ORIGIN")


def origins_of(request: ApiRequest) -> frozenset[str]:
    """Return the origins that pages of this engine have, for the host that *request* names."""
    host = (request.header("host") or "").lower()
    server = request.services.config.server
    schemes = ("https",) if is_secure(request.services) else ("http", "https")
    own = {f"{scheme}://{host}" for scheme in schemes}
    return frozenset(own | ({server.public_url.rstrip("/").lower()} if server.public_url else set()))


def refuse_without_token(seat: Seat, shown: str) -> None:
    """Raise ForbiddenError for a change that does not show the page token of its session."""
    if not hmac.compare_digest(shown.encode("utf-8", "replace"), seat.page_token.encode()):
        raise ForbiddenError("this page is out of date: load it again", code="PAGE_TOKEN")


def _seat(request: ApiRequest, principal: Principal, tokens: PageTokens, set_cookie: str | None) -> Seat:
    services: CoreServices = request.services
    token = services.refresh_tokens.page_token(principal.session_id)
    return Seat(principal=principal, tokens=tokens, page_token=token, set_cookie=set_cookie)


def _known(request: ApiRequest, access: str) -> Principal | None:
    services: CoreServices = request.services
    try:
        found = authenticate(services, f"Bearer {access}", services.clock.now(), request.client_ip)
    except UnauthorizedError:
        return None
    return found if found.scopes is None else None  # a program's token makes nobody a person


async def _renewed(request: ApiRequest, tokens: PageTokens) -> PageTokens | None:
    if not tokens.refresh or request.calls is None:
        return None
    body = msgspec.json.encode({"refreshToken": tokens.refresh})
    answer = await request.calls.send(request, "POST", "/auth/refresh", values={}, query={}, headers={}, body=body)
    if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # who it is cannot be told now: nobody is signed out for that
        raise UnavailableError("your session cannot be renewed while the database is away; try again", retry_after_s=2)
    if answer.status != HTTPStatus.OK:
        return None
    content: Any = msgspec.json.decode(answer.body)["data"]
    return PageTokens(content["accessToken"], content["refreshToken"])
