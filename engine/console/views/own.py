"""/console/me: one's own password, second factor, sessions, API tokens and Telegram."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from engine.console.dialogs import Dialog, telling
from engine.console.forms import Field
from engine.console.pages import SIGN_IN, action, page
from engine.console.session import dropped
from engine.console.visit import Visit
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/me"
_SCOPES = ("READ", "TRADE", "ADMIN", "KILL")
_PATH_OF_CODE = re.compile(r"""<path [^>]*\bd=['"]([MmhHvVlLzZ0-9 .-]+)['"]""")
_SIDE_OF_CODE = re.compile(r"""<svg [^>]*\bwidth=['"]([0-9]+)['"]""")
_SCALE = re.compile(r"""transform=['"]scale\(([0-9]+)\)['"]""")
_OTP = Field("otp", "Code of your app", required=True, hint="or a recovery code")


@page(PATH, Permission.SELF)
async def own_page(visit: Visit) -> Raw:
    """Where the person is signed in, and with what."""
    if visit.part == "telegram":
        return visit.render("own.html", **await _telegram(visit))
    found = await visit.gather(
        sessions=visit.listing("/auth/sessions", limit=50),
        tokens=visit.listing("/auth/tokens", limit=50),
        telegram=_telegram(visit),
    )
    return visit.render("own.html", sessions=found["sessions"].items, tokens=found["tokens"].items, **found["telegram"])


@page(PATH + "/password", Permission.SELF)
async def password_form(visit: Visit) -> Raw:
    """The dialog in which one's password is changed."""
    return _password(visit).shown(visit)


@action(PATH + "/password", Permission.SELF)
async def change_password(visit: Visit) -> Raw:
    """Changes the password; every session ends, this one too, so that the way goes on at the sign-in."""
    dialog = _password(visit)
    if visit.form.get("newPassword") != visit.form.get("againPassword"):
        return dialog.shown(visit, status=422, wrong={"againPassword": "is not the same"})

    async def send(body: dict[str, Any]) -> Any:
        return await visit.send("POST", "/auth/password", {n: body[n] for n in ("currentPassword", "newPassword")})

    _, again = await dialog.answered(visit, send)
    if again is not None:
        return again
    visit.set_cookie = dropped(visit.request)
    back = "/console/start" if visit.query.get("back") == "start" else PATH
    return visit.redirect(f"{SIGN_IN}?next={back}")


@page(PATH + "/mfa", Permission.SELF)
async def mfa_form(visit: Visit) -> Raw:
    """The dialog that says what a second factor is, before its secret is made."""
    return _begin().shown(visit)


@action(PATH + "/mfa", Permission.SELF)
async def enrol(visit: Visit) -> Raw:
    """Makes a secret for an app and shows it as a QR code; it counts once a code of it came back."""
    return _scan(visit, await visit.send("POST", "/auth/mfa/enroll"))


@action(PATH + "/mfa/confirm", Permission.SELF)
async def confirm(visit: Visit) -> Raw:
    """Takes the first code of the app, and shows the recovery codes, this once."""
    dialog = Dialog(
        path=PATH + "/mfa/confirm",
        title="That was not the code",
        text="Type the six digits that the app shows now. Scan anew if you have lost them.",
        submit="Switch it on",
        fields=(Field("otp", "Code of your app", required=True),),
    )
    made, again = await dialog.answered(visit, lambda body: visit.send("POST", "/auth/mfa/confirm", body))
    if again is not None:
        return again
    answer = visit.fragment("own_parts.html", "codes", codes=made["recoveryCodes"])
    return telling(answer, "own")


@page(PATH + "/mfa/off", Permission.SELF)
async def mfa_off_form(visit: Visit) -> Raw:
    """The dialog that takes the second factor away."""
    return _off().shown(visit)


@action(PATH + "/mfa/off", Permission.SELF)
async def mfa_off(visit: Visit) -> Raw:
    """Takes the second factor away."""
    _, again = await _off().answered(visit, lambda body: visit.send("DELETE", "/auth/mfa", body))
    return again or visit.redirect(PATH)


@action(PATH + "/sessions/{id}/end", Permission.SELF)
async def end_session(visit: Visit) -> Raw:
    """Ends one of one's sessions."""
    await visit.send("DELETE", "/auth/sessions/{id}", values=visit.request.path)
    return visit.done("The session has ended", changed="own")


@action(PATH + "/sessions/end", Permission.SELF)
async def end_all(visit: Visit) -> Raw:
    """Ends every session, this one too."""
    await visit.send("POST", "/auth/logout-all")
    visit.set_cookie = dropped(visit.request)
    return visit.redirect(SIGN_IN)


@page(PATH + "/tokens/new", Permission.SELF)
async def token_form(visit: Visit) -> Raw:
    """The dialog that makes a token for a program."""
    return _token().shown(visit)


@action(PATH + "/tokens/new", Permission.SELF)
async def make_token(visit: Visit) -> Raw:
    """Makes a token for a program and shows it, this once."""
    made, again = await _token().answered(visit, lambda body: visit.send("POST", "/auth/tokens", body), whole=True)
    return again or telling(visit.fragment("own_parts.html", "token", token=made), "own")


@action(PATH + "/tokens/{id}/revoke", Permission.SELF)
async def revoke_token(visit: Visit) -> Raw:
    """Ends a token at once."""
    await visit.send("DELETE", "/auth/tokens/{id}", values=visit.request.path)
    return visit.done("The token is good for nothing now", changed="own")


@page(PATH + "/telegram", Permission.SELF)
async def telegram_form(visit: Visit) -> Raw:
    """The dialog that says what a linked chat may do, before its code is made."""
    return _link().shown(visit)


@action(PATH + "/telegram", Permission.SELF)
async def telegram_code(visit: Visit) -> Raw:
    """Makes the code that links a chat, and shows it, this once."""
    made, again = await _link().answered(visit, lambda _: visit.send("POST", "/auth/telegram/link"))
    return again or visit.fragment("own_parts.html", "link", made=made)


@action(PATH + "/telegram/cut", Permission.SELF)
async def telegram_cut(visit: Visit) -> Raw:
    """Cuts the link to one's chat."""
    await visit.send("DELETE", "/auth/telegram/link")
    return visit.done("The chat gets no answer any more", changed="own")


async def _telegram(visit: Visit) -> dict[str, Any]:
    telegram = visit.request.services.config.telegram
    link = (await visit.get("/auth/telegram/link"))["link"]
    return {"link": link, "has_bot": bool(telegram.bot_token) and telegram.mode != "off"}


def drawing(address: str) -> Mapping[str, str] | None:
    """Return the one path of a QR code that came as a data: address, its side and scale, for a page to draw.

    Pages take no images of data: addresses. What is not such a drawing is None, and the code is typed in instead.
    """
    text = unquote(address.partition(",")[2])
    path, side, scale = (found.search(text) for found in (_PATH_OF_CODE, _SIDE_OF_CODE, _SCALE))
    if path is None or side is None or scale is None:
        return None
    return {"path": path[1], "side": side[1], "scale": scale[1]}


def _scan(visit: Visit, made: Mapping[str, Any]) -> Raw:
    return visit.fragment("own_parts.html", "scan", made=made, drawing=drawing(made["qrCode"]))


def _begin() -> Dialog:
    return Dialog(
        path=PATH + "/mfa",
        title="A code of your phone beside the password",
        text="You need an authenticator app. The QR code comes next; nothing changes before its first code.",
        submit="Show the QR code",
    )


def _off() -> Dialog:
    return Dialog(
        path=PATH + "/mfa/off",
        title="Take the second factor away?",
        text="The password alone signs in from then on.",
        submit="Take it away",
        kind="danger",
        keep="Keep it",
        fields=(Field("password", "Password", "secret", required=True), _OTP),
    )


def _password(visit: Visit) -> Dialog:
    back = "?back=start" if visit.query.get("back") == "start" else ""
    return Dialog(
        path=f"{PATH}/password{back}",
        title="Change your password",
        text="Every session ends, this one too: sign in with the new one then.",
        submit="Change it",
        fields=(
            Field("currentPassword", "Password now", "secret", required=True),
            Field("newPassword", "New password", "secret", "a sentence is good", required=True),
            Field("againPassword", "The new one again", "secret", required=True),
        ),
    )


def _link() -> Dialog:
    return Dialog(
        path=PATH + "/telegram",
        title="Link your Telegram",
        text="Who writes from the linked chat looks and acts as you: approvals, alerts, the kill switch.",
        submit="Make the code",
    )


def _token() -> Dialog:
    return Dialog(
        path=PATH + "/tokens/new",
        title="Make an API token",
        text="A program sends it as Authorization: Bearer. It is shown once.",
        submit="Make it",
        fields=(
            Field("name", "Name", required=True, hint="which program"),
            Field("expiresInDays", "Good for, days", "whole", required=True),
            Field(
                "scopes", "It may", "many", "KILL stands alone; ADMIN includes TRADE, and TRADE includes READ", _SCOPES
            ),
            Field("ipAllowlist", "From these addresses only", "words", "empty: from any"),
        ),
        before={"expiresInDays": 90, "scopes": ["READ"]},
    )
