"""/console: the day at a glance: what it made, what works, what came in, how the engine is, what waits for a person."""

from collections.abc import Iterator, Mapping
from typing import Any

from engine.console.formats import rupees, units
from engine.console.pages import action, page
from engine.console.views.orders import labels_of, with_state
from engine.console.visit import Visit
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

_INTENTS = "/signals/intents"
_TAPE = 12
_OPEN = ("OPEN", "TRIGGER_PENDING", "PARTIALLY_FILLED", "UNKNOWN")
GAUGES = {
    "maxDailyLossPct": "Daily loss, %",
    "maxDailyLossAmount": "Daily loss",
    "maxPositionPct": "Largest position, %",
    "maxOpenPositions": "Open positions",
    "maxOrdersPerMinute": "Orders in a minute",
    "maxOrdersPerDay": "Orders today",
    "maxTradesPerDay": "Trades today",
    "maxMessagesPerMinute": "Messages in a minute",
    "maxDrawdownAmount": "Drawdown",
    "maxDrawdownPct": "Drawdown, %",
    "profitTargetAmount": "Profit target",
}
"""The limits that the overview shows as gauges, by the API's names; percent are of capital."""


@page("/console", Permission.READ)
async def overview(visit: Visit) -> Raw:
    """Everything that an operator looks at first; each part is read anew when its events come."""
    wanted = {visit.part} if visit.part else set(_PARTS)
    found: dict[str, Any] = {}
    for part, read in _PARTS.items():
        if part in wanted:
            found |= await read(visit)
    return visit.render("overview.html", **found)


@action("/console/intents/{id}/approve", Permission.TRADE)
async def approve(visit: Visit) -> Raw:
    """Lets a signal that waits for a person go on."""
    return await _decide(visit, "approve")


@action("/console/intents/{id}/reject", Permission.TRADE)
async def reject(visit: Visit) -> Raw:
    """Refuses a signal that waits for a person."""
    return await _decide(visit, "reject")


@action("/console/accounts/{id}/unblock", Permission.TRADE)
async def unblock(visit: Visit) -> Raw:
    """Lets an account order again whose address the broker refused."""
    await visit.send("POST", "/accounts/{id}/unblock", values=visit.request.path)
    return visit.done("The account may order again; the next order shows whether the broker agrees", changed="account")


@page("/console/accounts/{id}/login", Permission.TRADE)
async def broker_login(visit: Visit) -> Raw:
    """Leads to the broker's own login page of one account."""
    link = await visit.get("/accounts/{id}/login-url", values=visit.request.path)
    return visit.redirect(link["url"])


async def _decide(visit: Visit, word: str) -> Raw:
    body = {"reason": visit.form["reason"]} if word == "reject" and visit.form.get("reason") else None
    intent = await visit.send("POST", f"{_INTENTS}/{{id}}/{word}", body, values=visit.request.path)
    why = f": {intent['reason']}" if intent["reason"] else ""
    is_good = intent["status"].startswith("EXECUT") or word == "reject"
    text = f"{intent['symbol']} is {intent['status']}{why}"
    return visit.done(text, changed="intent order", kind="good" if is_good else "warn")


# the parts


async def _figures(visit: Visit) -> dict[str, Any]:
    return await visit.gather(pnl=visit.get("/executions/pnl"), risk=visit.get("/risk/state"))


async def _limits(visit: Visit) -> dict[str, Any]:
    return {"gauges": gauges((await visit.get("/risk/state"))["user"])}


async def _open_orders(visit: Visit) -> dict[str, Any]:
    found = await visit.gather(
        accounts=visit.listing("/accounts", limit=200),
        **{status: visit.listing("/executions/orders", status=status, limit=20) for status in _OPEN},
    )
    orders = [with_state(order) for status in _OPEN for order in found[status].items]
    orders.sort(key=lambda order: order["createdAt"], reverse=True)
    return {"open_orders": orders[:20], "labels": labels_of(found["accounts"].items)}


async def _tape(visit: Visit) -> dict[str, Any]:
    intents = (await visit.listing(_INTENTS, limit=_TAPE)).items
    return {"tape": [{**each, "answeredAt": answered_at(each)} for each in intents]}


async def _attention(visit: Visit) -> dict[str, Any]:
    found = await visit.gather(
        waiting=visit.listing(_INTENTS, status="PENDING_APPROVAL", limit=50),
        accounts=visit.listing("/accounts", limit=200),
    )
    kite = [account for account in found["accounts"].items if account["broker"] == "kite"]
    return {"waiting": found["waiting"].items, "kite_accounts": kite}


async def _health(visit: Visit) -> dict[str, Any]:
    if not visit.can(Permission.ADMIN):
        ready = await visit.get("/system/ready")
        return {"ready": ready["status"], "actors": None, "stores": None, "queues": None}
    found = await visit.gather(
        tree=visit.get("/system/actors"), metrics=visit.get("/system/metrics"), ready=visit.get("/system/ready")
    )
    return {
        "ready": found["ready"]["status"],
        "actors": list(flat(found["tree"])),
        "stores": stores(found["metrics"]),
        "queues": None,
    }


_PARTS: Mapping[str, Any] = {
    "figures": _figures,
    "limits": _limits,
    "open": _open_orders,
    "tape": _tape,
    "attention": _attention,
    "health": _health,
}


def gauges(scope: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the limits of the user that are set, the fullest first, each with its part in percent."""
    found = [
        {**each, "label": GAUGES[each["name"]], "share": min(100, max(0, each["usedPct"] or 0)), "text": _use(each)}
        for each in scope["limits"]
        if each["name"] in GAUGES and each["usedPct"] is not None
    ]
    return sorted(found, key=lambda each: -each["share"])


def _use(limit: Mapping[str, Any]) -> str:
    shown = units if isinstance(limit["limit"], int) and not limit["name"].endswith(("Pct", "Amount")) else rupees
    mark = " %" if limit["name"].endswith("Pct") else ""
    return f"{shown(limit['used'])} of {shown(limit['limit'])}{mark}"


def flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[dict[str, Any]]:
    """Yield every actor of the supervision tree, without the supervisors over them."""
    name = f"{prefix}{tree['name']}"
    if not tree["children"]:
        yield {**tree, "name": name}
    for child in tree["children"]:
        yield from flat(child)


def stores(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the stores and links of the engine: name, state (ok or down), and a word about it."""
    journal, ledger, feeds = metrics["journal"], metrics["ledger"], metrics["feeds"]
    connected, wanted = feeds["connected"], feeds["open"]
    found = [
        ("Journal (Valkey)", "ok" if journal["available"] else "down", f"{journal['depth']} waiting"),
        ("Ledger (PostgreSQL)", "ok" if ledger["available"] else "down", f"{ledger['depth']} waiting"),
    ]
    if wanted:
        found.append(("Broker feeds", "ok" if connected == wanted else "down", f"{connected} of {wanted}"))
    return found


def answered_at(intent: Mapping[str, Any]) -> str | None:
    """Return when a signal was answered: its first order was with the broker, or it was refused; None before that."""
    times = [
        event["at"] for order in intent["orders"] for event in order["events"] if event["toStatus"] != "SUBMITTING"
    ]
    if times:
        return str(min(times))
    ends = {"REJECTED", "FAILED", "CANCELLED", "EXPIRED"}
    return str(intent["updatedAt"]) if intent["status"] in ends else None
