"""/console/accounts: broker accounts, whether each could trade now, its funds and pace, adding and changing them."""

from collections.abc import Mapping
from typing import Any

from engine.console.dialogs import Dialog
from engine.console.forms import Field
from engine.console.pages import action, page, sentence
from engine.console.visit import Refused, Visit
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/accounts"
NEW, ONE = PATH + "/new", PATH + "/{id}"
_API = "/accounts/{id}"
_PROTECTION = "percent that a MARKET order may fill away from the last price; -1 is the broker's own table"
_LABEL = Field("label", "Name", required=True, hint="what you call it")
_CAPITAL = Field("capital", "Capital, rupees", "amount", "limits in percent are of this")
_MARKET = Field("marketProtection", "Market protection, %", "amount", _PROTECTION)
_KEYS = (
    Field("apiKey", "API key", hint="of your app on developers.kite.trade"),
    Field("apiSecret", "API secret", "secret", "goes in and is never shown again"),
)


@page(PATH, Permission.READ)
async def accounts_page(visit: Visit) -> Raw:
    """Every account with its state, and what stands against trading."""
    found = await visit.listing("/accounts", limit=100, cursor=visit.query.get("cursor"))
    return visit.render("accounts.html", accounts=found.items, next_cursor=found.next_cursor)


@page(NEW, Permission.TRADE)
async def new_form(visit: Visit) -> Raw:
    """The dialog that adds a paper account, or a Kite account."""
    return _new(visit.query.get("broker", "paper")).shown(visit)


@action(NEW, Permission.TRADE)
async def add(visit: Visit) -> Raw:
    """Adds an account and leads to it: a Kite account is logged in next."""
    broker = visit.query.get("broker", "paper")
    made, again = await _new(broker).answered(
        visit, lambda body: visit.send("POST", "/accounts", {**body, "broker": broker})
    )
    return again or visit.redirect(f"{PATH}/{made['id']}")


@page(ONE, Permission.READ)
async def account_page(visit: Visit) -> Raw:
    """One account. What its broker has to say takes a while, and comes after the page."""
    match visit.part:
        case "readiness":
            return visit.render("account.html", readiness=await _asked(visit, _API + "/readiness"), values=_path(visit))
        case "funds":
            return visit.render("account.html", funds=await _asked(visit, _API + "/margins"), values=_path(visit))
    account = await visit.get(_API, values=_path(visit))
    metrics = await visit.get("/system/metrics") if visit.can(Permission.ADMIN) else None
    return visit.render(
        "account.html",
        account=account,
        budget=None if metrics is None else budget_of(metrics["orderBudgets"], account["id"]),
        values=_path(visit),
        readiness=None,
        funds=None,
    )


@page(ONE + "/change", Permission.TRADE)
async def change_form(visit: Visit) -> Raw:
    """The dialog in which an account is changed."""
    return _change(await visit.get(_API, values=_path(visit))).shown(visit)


@action(ONE + "/change", Permission.TRADE)
async def change(visit: Visit) -> Raw:
    """Changes what differs; a new key or secret only where one was typed."""
    before = await visit.get(_API, values=_path(visit))

    async def send(body: dict[str, Any]) -> Any:
        kept = {name: value for name, value in body.items() if not (name in _ONLY_WHEN_TYPED and value is None)}
        return await visit.send("PATCH", _API, kept, values=_path(visit))

    made, again = await _change(before).answered(visit, send)
    return again or visit.done(f"{made['label']} is changed", changed="account")


@page(ONE + "/token", Permission.TRADE)
async def token_form(visit: Visit) -> Raw:
    """The dialog that takes a request token, where the broker's login page could not lead back by itself."""
    return _token(visit).shown(visit)


@action(ONE + "/token", Permission.TRADE)
async def token(visit: Visit) -> Raw:
    """Logs the account in with a request token that was pasted."""
    made, again = await _token(visit).answered(
        visit, lambda body: visit.send("POST", _API + "/session", body, values=_path(visit))
    )
    return again or visit.done(f"{made['label']} is logged in", changed="account")


@page(ONE + "/delete", Permission.TRADE)
async def delete_form(visit: Visit) -> Raw:
    """The dialog that asks whether an account shall go."""
    return _delete(await visit.get(_API, values=_path(visit))).shown(visit)


@action(ONE + "/delete", Permission.TRADE)
async def delete(visit: Visit) -> Raw:
    """Takes an account away; the engine refuses while orders or positions of it are open."""
    account = await visit.get(_API, values=_path(visit))
    _, again = await _delete(account).answered(visit, lambda _: visit.send("DELETE", _API, values=_path(visit)))
    return again or visit.redirect(PATH)


def budget_of(budgets: list[dict[str, Any]], account_id: str) -> dict[str, Any] | None:
    """Return the order calls that the account's Zerodha user has used and has left; None before its first order."""
    return next((each for each in budgets if account_id in each["accountIds"]), None)


_ONLY_WHEN_TYPED = frozenset({"apiKey", "apiSecret", "marketProtection"})


async def _asked(visit: Visit, path: str) -> dict[str, Any]:
    try:
        return {"answer": await visit.get(path, values=_path(visit)), "problem": ""}
    except Refused as refused:
        return {"answer": None, "problem": sentence(refused)}


def _path(visit: Visit) -> Mapping[str, Any]:
    return visit.request.path


def _new(broker: str) -> Dialog:
    if broker == "kite":
        return Dialog(
            path=NEW + "?broker=kite",
            title="Add a Kite account",
            text="It trades real money once it is logged in. Capital left empty is read off its margins every day.",
            submit="Add it",
            fields=(_LABEL, *_KEYS, _CAPITAL, _MARKET),
        )
    return Dialog(
        path=NEW + "?broker=paper",
        title="Add a paper account",
        text="It trades on the paper exchange of the engine. Capital left empty is 10,00,000.00 rupees.",
        submit="Add it",
        fields=(_LABEL, _CAPITAL, _MARKET),
    )


def _change(account: Mapping[str, Any]) -> Dialog:
    is_kite = account["broker"] == "kite"
    text = "Capital left empty is read off the broker's margins. Keys left empty stay as they are."
    shown = {**account, "capital": None} if account["capitalFrom"] == "BROKER" else dict(account)
    return Dialog(
        path=f"{PATH}/{account['id']}/change",
        title=f"Change {account['label']}",
        text=text if is_kite else "",
        submit="Save",
        fields=(_LABEL, _CAPITAL, _MARKET, *(_KEYS if is_kite else ())),
        before={**shown, "apiKey": None, "apiSecret": None},
    )


def _token(visit: Visit) -> Dialog:
    return Dialog(
        path=f"{PATH}/{visit.request.path['id']}/token",
        title="Paste the request token",
        text="After the login at Zerodha the address of the page has request_token=…: paste what stands after it.",
        submit="Log in",
        fields=(Field("requestToken", "Request token", required=True),),
    )


def _delete(account: Mapping[str, Any]) -> Dialog:
    return Dialog(
        path=f"{PATH}/{account['id']}/delete",
        title=f"Delete {account['label']}?",
        text="Strategies go on without it, limits and grants for it end, its history stays.",
        submit="Delete it",
        kind="danger",
        keep="Keep it",
    )
