"""/console/users: the people who may sign in, what each may do, and what a viewer may read; for administrators."""

from collections.abc import Mapping
from typing import Any

from engine.console.dialogs import Dialog, named
from engine.console.forms import Field
from engine.console.pages import action, page
from engine.console.visit import Visit
from engine.domain.enums import Role
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/users"
NEW, ONE = PATH + "/new", PATH + "/{id}"
_API = "/users/{id}"
ROLES = (
    (Role.VIEWER.value, "Viewer: reads what it was granted"),
    (Role.TRADER.value, "Trader: trades what it owns"),
    (Role.ADMIN.value, "Administrator: everything"),
)
_NAME = Field("name", "Name")
_ROLE = Field("role", "Role", "choice", choices=ROLES, required=True)


@page(PATH, Permission.ADMIN)
async def users_page(visit: Visit) -> Raw:
    """Everybody who may sign in."""
    found = await visit.listing("/users", limit=100, cursor=visit.query.get("cursor"))
    return visit.render("users.html", users=found.items, next_cursor=found.next_cursor)


@page(NEW, Permission.ADMIN)
async def new_form(visit: Visit) -> Raw:
    """The dialog that adds a person."""
    return _new().shown(visit)


@action(NEW, Permission.ADMIN)
async def add(visit: Visit) -> Raw:
    """Adds a person."""
    dialog = _new()
    made, again = await dialog.answered(
        visit,
        lambda body: visit.send("POST", "/users", {name: text for name, text in body.items() if text}),
        whole=True,
    )
    return again or visit.done(f"{made['email']} may sign in", changed="user")


@page(ONE, Permission.ADMIN)
async def user_page(visit: Visit) -> Raw:
    """One person: where it is signed in, and what it was let read."""
    found = await visit.gather(
        user=visit.get(_API, values=visit.request.path),
        sessions=visit.listing("/users/{id}/sessions", values=visit.request.path, limit=50),
        grants=visit.listing("/users/{id}/grants", values=visit.request.path, limit=200),
        users=visit.listing("/users", limit=200),
        accounts=visit.listing("/accounts", limit=200),
        links=visit.listing("/auth/telegram/links", limit=200),
    )
    return visit.render(
        "user.html",
        user=found["user"],
        link=next((each for each in found["links"].items if each["userId"] == found["user"]["id"]), None),
        sessions=found["sessions"].items,
        grants=found["grants"].items,
        emails=named(found["users"].items, "email"),
        labels=named(found["accounts"].items),
    )


@page(ONE + "/change", Permission.ADMIN)
async def change_form(visit: Visit) -> Raw:
    """The dialog in which a person is changed."""
    return _change(await visit.get(_API, values=visit.request.path)).shown(visit)


@action(ONE + "/change", Permission.ADMIN)
async def change(visit: Visit) -> Raw:
    """Changes what differs; a new role acts at once."""
    dialog = _change(await visit.get(_API, values=visit.request.path))

    async def send(body: dict[str, Any]) -> Any:
        return await visit.send(
            "PATCH", _API, body | ({"name": body["name"] or ""} if "name" in body else {}), values=visit.request.path
        )

    made, again = await dialog.answered(visit, send)
    return again or visit.done(f"{made['email']} is changed", changed="user")


@page(ONE + "/delete", Permission.ADMIN)
async def delete_form(visit: Visit) -> Raw:
    """The dialog that asks whether a person shall go."""
    return _delete(await visit.get(_API, values=visit.request.path)).shown(visit)


@action(ONE + "/delete", Permission.ADMIN)
async def delete(visit: Visit) -> Raw:
    """Takes a person away; what it did stays on record."""
    dialog = _delete(await visit.get(_API, values=visit.request.path))
    _, again = await dialog.answered(visit, lambda _: visit.send("DELETE", _API, values=visit.request.path))
    return again or visit.redirect(PATH)


@action(ONE + "/sessions/end", Permission.ADMIN)
async def end_sessions(visit: Visit) -> Raw:
    """Ends every session of a person."""
    await visit.send("DELETE", "/users/{id}/sessions", values=visit.request.path)
    return visit.done("Every session of it has ended", changed="user")


@page(ONE + "/mfa", Permission.ADMIN)
async def factor_form(visit: Visit) -> Raw:
    """The dialog that asks whether a person's second factor shall go."""
    return _factor(await visit.get(_API, values=visit.request.path)).shown(visit)


@action(ONE + "/mfa", Permission.ADMIN)
async def reset_factor(visit: Visit) -> Raw:
    """Takes a person's second factor away, for a lost phone."""
    dialog = _factor(await visit.get(_API, values=visit.request.path))
    made, again = await dialog.answered(visit, lambda _: visit.send("DELETE", f"{_API}/mfa", values=visit.request.path))
    return again or visit.done(f"{made['email']} signs in with the password alone now", changed="user")


@action(ONE + "/telegram/cut", Permission.ADMIN)
async def cut_telegram(visit: Visit) -> Raw:
    """Cuts the link to a person's Telegram: its chat gets no answer any more."""
    await visit.send("DELETE", "/auth/telegram/links/{id}", values=visit.request.path)
    return visit.done("Its chat gets no answer any more", changed="user")


@page(ONE + "/grant", Permission.ADMIN)
async def grant_form(visit: Visit) -> Raw:
    """The dialog that lets a viewer read."""
    return (await _grant(visit)).shown(visit)


@action(ONE + "/grant", Permission.ADMIN)
async def grant(visit: Visit) -> Raw:
    """Lets a viewer read an account, or all that somebody has."""

    async def send(body: dict[str, Any]) -> Any:
        kind, _, object_id = body["what"].partition(":")
        return await visit.send("POST", "/users/{id}/grants", {f"{kind}Id": object_id}, values=visit.request.path)

    _, again = await (await _grant(visit)).answered(visit, send)
    return again or visit.done("It may read this from now on", changed="user")


@action(ONE + "/grants/{grantId}/end", Permission.ADMIN)
async def end_grant(visit: Visit) -> Raw:
    """Takes a grant back."""
    await visit.send("DELETE", "/users/{id}/grants/{grantId}", values=visit.request.path)
    return visit.done("It may read this no more", changed="user")


def _new() -> Dialog:
    return Dialog(
        path=NEW,
        title="Add a person",
        text="Give the password by another way than the address; its owner changes it after signing in.",
        submit="Add it",
        fields=(
            Field("email", "E-mail", required=True),
            _NAME,
            Field("password", "First password", "secret", required=True),
            _ROLE,
        ),
        before={"role": Role.VIEWER.value},
    )


def _change(user: Mapping[str, Any]) -> Dialog:
    return Dialog(
        path=f"{PATH}/{user['id']}/change",
        title=f"Change {user['email']}",
        submit="Save",
        fields=(_NAME, _ROLE, Field("disabled", "May not sign in", "flag", "ends every session at once")),
        before={**user, "name": user["name"] or None},
    )


def _delete(user: Mapping[str, Any]) -> Dialog:
    return Dialog(
        path=f"{PATH}/{user['id']}/delete",
        title=f"Delete {user['email']}?",
        text="Every session ends; what the person did stays on record. Accounts and strategies of it must go first.",
        submit="Delete it",
        kind="danger",
        keep="Keep it",
    )


def _factor(user: Mapping[str, Any]) -> Dialog:
    return Dialog(
        path=f"{PATH}/{user['id']}/mfa",
        title=f"Take the second factor of {user['email']} away?",
        text="Be sure that it is this person who asks. Every session ends; the password alone signs in from then on.",
        submit="Take it away",
        kind="danger",
        keep="Keep it",
    )


async def _grant(visit: Visit) -> Dialog:
    found = await visit.gather(users=visit.listing("/users", limit=200), accounts=visit.listing("/accounts", limit=200))
    own = str(visit.request.path["id"])
    choices = (
        *((f"user:{each['id']}", f"All of {each['email']}") for each in found["users"].items if each["id"] != own),
        *((f"account:{each['id']}", f"Account {each['label']}") for each in found["accounts"].items),
    )
    return Dialog(
        path=f"{PATH}/{own}/grant",
        title="Let it read",
        submit="Let it read",
        fields=(Field("what", "What", "choice", choices=choices, required=True),),
    )
