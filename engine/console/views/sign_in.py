"""/console/login: signing in with a password and a code, signing out, and proving again who one is."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from engine.console.pages import SIGN_IN, action, page, sentence
from engine.console.session import dropped, seated, tokens_of
from engine.console.visit import Refused, Visit
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

HOME = "/console"


@page("/", Permission.PUBLIC)
async def root(visit: Visit) -> Raw:
    """The engine's own address leads to its console."""
    return visit.redirect(HOME)


@page(SIGN_IN, Permission.PUBLIC)
async def sign_in(visit: Visit) -> Raw:
    """The form to sign in with; whoever is signed in goes on to where they wanted."""
    wanted = way_back(visit.query.get("next", ""))
    if visit.seat is not None:
        return visit.redirect(wanted)
    return visit.render("login.html", wanted=wanted, wants_code=False, problem="")


@action(SIGN_IN, Permission.PUBLIC)
async def signed_in(visit: Visit) -> Raw:
    """Begins a session; its tokens go into the cookie and nowhere else."""
    form, wanted = visit.form, way_back(visit.form.get("next", ""))
    body = {"email": form.get("email", ""), "password": form.get("password", "")}
    if form.get("otp"):
        body["otp"] = form["otp"]
    before = tokens_of(visit.request)
    if before is not None and before.refresh:
        body["refreshToken"] = before.refresh
    try:
        begun = await visit.send("POST", "/auth/login", body)
    except Refused as refused:
        wants_code = refused.code in {"OTP_REQUIRED", "INVALID_OTP"} or bool(form.get("otp"))
        problem = "Type the code that your app shows now." if refused.code == "OTP_REQUIRED" else sentence(refused)
        return visit.fragment(
            "login.html",
            "answer",
            status=HTTPStatus.UNAUTHORIZED,
            wanted=wanted,
            wants_code=wants_code,
            problem=problem,
        )
    _take(visit, begun["accessToken"], begun["refreshToken"])
    return visit.redirect(wanted)


@action("/console/logout", Permission.SELF)
async def signed_out(visit: Visit) -> Raw:
    """Ends the session here and on the server."""
    assert visit.seat is not None  # noqa: S101 -- the page's declaration has seen to it
    await visit.send("POST", "/auth/logout", {"refreshToken": visit.seat.tokens.refresh})
    visit.set_cookie = dropped(visit.request)
    return visit.redirect(SIGN_IN)


@action("/console/step-up", Permission.SELF)
async def step_up(visit: Visit) -> Raw:
    """Proves again who one is; the page then sends once more what was refused."""
    assert visit.seat is not None  # noqa: S101 -- the page's declaration has seen to it
    body: Mapping[str, Any] = {name: visit.form[name] for name in ("password", "otp") if visit.form.get(name)}
    try:
        proven = await visit.send("POST", "/auth/step-up", body)
    except Refused as refused:
        return visit.fragment("base.html", "step_up", status=HTTPStatus.UNPROCESSABLE_ENTITY, problem=sentence(refused))
    _take(visit, proven["accessToken"], visit.seat.tokens.refresh)
    return visit.told({"console:stepped-up": True}, status=HTTPStatus.NO_CONTENT)


def way_back(wanted: str) -> str:
    """Return *wanted* if it is a page of this console, else the first page: nobody is led off by a link."""
    is_ours = wanted == HOME or wanted.startswith((HOME + "/", HOME + "?"))
    return wanted if is_ours and "\\" not in wanted and wanted.isprintable() else HOME


def _take(visit: Visit, access: str, refresh: str) -> None:
    visit.seat = seated(visit.request, access, refresh)
    visit.set_cookie = visit.seat.set_cookie
