"""/console/kill: stopping trading, watching it become flat, and letting it go on; its button is on every page."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from engine.console.pages import action, page, sentence
from engine.console.visit import Refused, Visit
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

STEPS = ("BLOCKED", "CANCELLING", "FLATTENING", "FLAT_VERIFIED")
MODES = (
    ("SQUARE_OFF", "Block, cancel, close positions"),
    ("CANCEL", "Block and cancel orders"),
    ("BLOCK", "Block new orders only"),
)
_STATUS = "/risk/killswitch/status"


@page("/console/kill", Permission.READ)
async def kill_page(visit: Visit) -> Raw:
    """Every scope with its state, the certificates, and the form that stops one."""
    found = await visit.gather(
        status=visit.get(_STATUS),
        certificates=visit.listing("/risk/killswitch/certificates", limit=20, cursor=visit.query.get("cursor")),
        choices=scope_choices(visit),
    )
    names = dict(found["choices"])
    return visit.render(
        "kill.html",
        scopes=[shown(each, names) for each in found["status"]["scopes"]],
        certificates=[_certificate(each, names) for each in found["certificates"].items],
        next_cursor=found["certificates"].next_cursor,
        choices=found["choices"],
        modes=MODES,
    )


@page("/console/kill/bar", Permission.READ)
async def kill_bar(visit: Visit) -> Raw:
    """What the head of every page says of the kill switch."""
    return visit.fragment("base.html", "kill_bar", scopes=(await visit.get(_STATUS))["scopes"])


@page("/console/kill/dialog", Permission.READ)
async def kill_dialog(visit: Visit) -> Raw:
    """How far the stop of one scope is, in the dialog that began it."""
    scopes = (await visit.get(_STATUS))["scopes"]
    scope = visit.query.get("scope", "global")
    found = next((each for each in scopes if each["scope"] == scope), scopes[0])
    return visit.fragment("kill_parts.html", "progress", scope=shown(found, {}))


@page("/console/kill/confirm", Permission.KILL)
async def kill_confirm(visit: Visit) -> Raw:
    """The dialog that asks before a scope is stopped, as the button of every page does."""
    names = dict(await scope_choices(visit))
    scope = visit.query.get("scope", "")
    mode = visit.query.get("mode", "")
    return visit.fragment(
        "kill_parts.html",
        "confirm",
        scope=scope,
        name=names.get(scope, _plain(scope)),
        mode=mode,
        how=dict(MODES).get(mode, ""),
        reason=visit.query.get("reason", ""),
    )


@action("/console/kill/trip", Permission.KILL)
async def trip(visit: Visit) -> Raw:
    """Stops a scope and shows how far it is."""
    # every form of a page says how far to go: what says nothing is none of theirs, and must not close positions
    body = {"scope": visit.form.get("scope", default_scope(visit)), "mode": visit.form.get("mode", "")}
    reason = visit.form.get("reason") or "by the console's kill button"
    tripped = await visit.send("POST", "/risk/killswitch/enable", {**body, "reason": reason})
    answer = visit.fragment("kill_parts.html", "progress", scope=shown(tripped, {}))
    return _with_trigger(answer, {"console:changed": {"kinds": "killswitch"}})


@page("/console/kill/rearm", Permission.ADMIN)
async def rearm_form(visit: Visit) -> Raw:
    """The dialog that asks why a scope may trade again."""
    return visit.fragment("kill_parts.html", "rearm", scope=visit.query.get("scope", ""), reason="", refused=None)


@action("/console/kill/rearm", Permission.ADMIN)
async def rearm(visit: Visit) -> Raw:
    """Lets a scope trade again; what stands against it is listed, and can be overruled."""
    scope, reason = visit.form.get("scope", ""), visit.form.get("reason", "")
    body = {"scope": scope, "reason": reason, "force": visit.form.get("force") == "yes"}
    try:
        await visit.send("POST", "/risk/killswitch/disable", body)
    except Refused as refused:
        if refused.code == "STEP_UP_REQUIRED":
            raise
        return visit.fragment(
            "kill_parts.html",
            "rearm",
            status=HTTPStatus.UNPROCESSABLE_ENTITY,
            scope=scope,
            reason=reason,
            refused=refused,
            problem=sentence(refused),
        )
    return visit.done(f"{scope} may trade again", changed="killswitch")


def default_scope(visit: Visit) -> str:
    """Return what the kill button of every page stops: everything for an administrator, else all of one's own."""
    return "global" if visit.me.is_admin else f"user:{visit.me.user_id}"


async def scope_choices(visit: Visit) -> list[tuple[str, str]]:
    """Return the scopes that the person may stop, each with its name, the widest first."""
    accounts = await visit.listing("/accounts", limit=200)
    strategies = await visit.listing("/strategies", limit=200)
    widest = [("global", "Everything, of everybody")] if visit.me.is_admin else []
    return [
        *widest,
        (f"user:{visit.me.user_id}", "Everything of mine"),
        *((f"account:{each['id']}", f"Account {each['label']}") for each in accounts.items),
        *((f"strategy:{each['id']}", f"Strategy {each['name']}") for each in strategies.items),
    ]


def shown(scope: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return a scope of the API with what the templates say of it: a name, and how far each step is."""
    state = scope["state"]
    wanted = {"BLOCK": STEPS[:1], "CANCEL": STEPS[:2]}.get(scope["mode"] or "", STEPS)
    reached = STEPS.index(state) if state in STEPS else (len(STEPS) - 1 if state == "FLAT_FAILED" else -1)
    steps = [
        (step, "done" if at < reached or state == "FLAT_VERIFIED" else "now" if at == reached else "next")
        for at, step in enumerate(wanted)
    ]
    return {**scope, "name": names.get(scope["scope"], _plain(scope["scope"])), "steps": steps}


def _plain(scope: str) -> str:
    kind, _, number = scope.partition(":")
    return "Everything, of everybody" if kind == "global" else f"{kind.capitalize()} {number[-12:]}"


def _certificate(found: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    content = json.loads(found["content"])
    times = {"block_s": content.get("timeToBlockS"), "flat_s": content.get("timeToFlatS")}
    return {**found, **times, "name": names.get(found["scope"], _plain(found["scope"]))}


def _with_trigger(answer: Raw, events: Mapping[str, Any]) -> Raw:
    headers = {**answer.headers, "HX-Trigger": json.dumps(dict(events))}
    return Raw(answer.body, answer.media_type, answer.status, headers)
