"""/console/start: the first run, step by step, to a filled paper order; and its card on the overview."""

from http import HTTPStatus
from typing import Any

from engine.console.pages import action, page, sentence
from engine.console.views.orders import labels_of, with_state
from engine.console.visit import Refused, Visit
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/start"
SYMBOLS = ("INFY", "SBIN", "RELIANCE")


@page(PATH, Permission.TRADE)
async def start_page(visit: Visit) -> Raw:
    """What is done and what comes next; the order that was sent is shown as it goes on."""
    return visit.render("start.html", **await _steps(visit))


@page(PATH + "/card", Permission.READ)
async def card(visit: Visit) -> Raw:
    """What the overview says of the first run: nothing once an order was filled, or to whom only reads."""
    if not visit.can(Permission.TRADE):
        return visit.fragment("start_card.html", "card", is_over=True)
    filled = await visit.listing("/executions/orders", status="COMPLETE", limit=1)
    return visit.fragment("start_card.html", "card", is_over=bool(filled.items))


@action(PATH + "/signal", Permission.TRADE)
async def first_signal(visit: Visit) -> Raw:
    """Sends one signal by hand, on the paper exchange."""
    if visit.request.services.config.broker.mode != "paper":
        raise Refused(HTTPStatus.CONFLICT, "NOT_PAPER", "this engine trades real accounts: the guide sends nothing", {})
    symbol = visit.form.get("symbol", "")
    body = {
        "strategyId": visit.form.get("strategyId", ""),
        "symbol": symbol if symbol in SYMBOLS else SYMBOLS[0],
        "exchange": "NSE",
        "transactionType": "BUY",
        "quantity": 1,
        "orderType": "MARKET",
        "productType": "MIS",
    }
    try:
        sent = await visit.send("POST", "/signals", body)
    except Refused as refused:
        return visit.told({"console:toast": {"kind": "bad", "text": sentence(refused)}}, status=refused.status)
    return visit.done(f"{body['symbol']}: the signal is {sent['status']}", changed="start")


async def _steps(visit: Visit) -> dict[str, Any]:
    is_admin = visit.can(Permission.ADMIN)
    own = str(visit.me.user_id)
    found = await visit.gather(
        accounts=visit.listing("/accounts", limit=200),
        strategies=visit.listing("/strategies", limit=200),
        sources=visit.listing("/sources", limit=200),
        intents=visit.listing("/signals/intents", limit=1),
        orders=visit.listing("/executions/orders", limit=1),
        filled=visit.listing("/executions/orders", status="COMPLETE", limit=1),
        limits=visit.listing("/risk/limits", limit=1, userId=own),
        passwords=visit.listing("/audit", action="PASSWORD_CHANGED", subject=f"user:{own}", limit=1)
        if is_admin
        else None,
    )
    paper = [each for each in found["accounts"].items if each["broker"] == "paper"]
    order = (found["filled"].items or found["orders"].items or [None])[0]
    strategies = [
        (each["id"], each["name"]) for each in found["strategies"].items if each["accounts"] and each["enabled"]
    ]
    done = {
        "password": found["passwords"] is not None and bool(found["passwords"].items),
        "account": any(each["status"] == "ACTIVE" for each in paper),
        "signal": bool(found["intents"].items),
        "filled": bool(found["filled"].items),
        "limits": bool(found["limits"].items),
        "source": any(each["lastSignalAt"] for each in found["sources"].items),
    }
    return {
        "done": done,
        "left": sum(not each for each in done.values()),
        "paper": paper,
        "strategies": strategies,
        "symbols": SYMBOLS,
        "intent": (found["intents"].items or [None])[0],
        "order": None if order is None else with_state(order),
        "labels": labels_of(found["accounts"].items),
        "sources": found["sources"].items,
    }
