"""/console/strategies: what signals are for: the accounts that each trades, how orders are sized, and its policies."""

from collections.abc import Mapping
from typing import Any

from engine.console.dialogs import Dialog, named
from engine.console.forms import Field
from engine.console.pages import action, page
from engine.console.visit import Visit
from engine.domain.enums import Exchange, GroupPolicy, OrderType, ProductType, SizingMode
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/strategies"
NEW, ONE = PATH + "/new", PATH + "/{id}"
TARGET = ONE + "/accounts/{accountId:str}"
_API = "/strategies/{id}"
SIZING = (
    (SizingMode.MULTIPLIER.value, "Times the signal's quantity"),
    (SizingMode.FIXED.value, "Fixed units"),
    (SizingMode.LOTS.value, "Fixed lots"),
    (SizingMode.CAPITAL_PCT.value, "% of the capital buys"),
    (SizingMode.RISK_PCT.value, "% of the capital at the stop loss"),
)
_APPROVAL = (("auto", "At once"), ("manual", "A person approves each"))
_POLICY = (
    (GroupPolicy.LEAVE.value, "Leave it, and say so"),
    (GroupPolicy.RETRY.value, "Try those that failed again"),
    (GroupPolicy.UNWIND.value, "Close those that filled"),
)
FIELDS = (
    Field("name", "Name", required=True),
    Field("approval", "Signals are executed", "choice", choices=_APPROVAL, required=True),
    Field("approvalTtlS", "Waits for a person, seconds", "whole"),
    Field("approvalPriceMovePct", "Rejected when the price moved, %", "amount", "while it waited"),
    Field("groupPolicy", "Filled on some accounts only", "choice", choices=_POLICY, required=True),
    Field("groupDeadlineS", "Within, seconds", "whole"),
    Field("entryWindow", "Entries between", "hours", "outside it only orders that reduce"),
    Field("squareOffAt", "Square off at", hint="HH:MM in IST; empty: as the engine does"),
    Field("defaults.exchange", "Exchange, when not said", "choice", choices=tuple(e.value for e in Exchange)),
    Field("defaults.productType", "Product, when not said", "choice", choices=tuple(e.value for e in ProductType)),
    Field("defaults.orderType", "Order type, when not said", "choice", choices=tuple(e.value for e in OrderType)),
    Field("allowedSymbols", "Symbols", "words", "apart by commas, without the exchange; empty: every symbol"),
    Field("enabled", "Takes signals", "flag"),
)
_NEW = {"approval": "auto", "approvalTtlS": 300, "approvalPriceMovePct": 1, "groupPolicy": "leave"} | {
    "groupDeadlineS": 30,
    "enabled": True,
}
_SIZING_FIELDS = (
    Field("sizing.mode", "Size", "choice", choices=SIZING, required=True),
    Field("sizing.value", "Number", "amount", required=True),
    Field("maxQuantity", "At most, units", "whole", "of what adds exposure"),
    Field("maxValue", "At most, rupees", "amount", "of what adds exposure"),
)


@page(PATH, Permission.READ)
async def strategies_page(visit: Visit) -> Raw:
    """Every strategy with the accounts that it trades and the sources that feed it."""
    found = await visit.gather(
        strategies=visit.listing("/strategies", limit=100, cursor=visit.query.get("cursor")),
        accounts=visit.listing("/accounts", limit=200),
        sources=visit.listing("/sources", limit=200),
    )
    fed: dict[str, list[str]] = {}
    for source in found["sources"].items:
        fed.setdefault(source["strategyId"], []).append(source["name"])
    return visit.render(
        "strategies.html",
        strategies=found["strategies"].items,
        next_cursor=found["strategies"].next_cursor,
        labels=named(found["accounts"].items),
        fed=fed,
        sizing=dict(SIZING),
    )


@page(NEW, Permission.TRADE)
async def new_form(visit: Visit) -> Raw:
    """The dialog that adds a strategy."""
    return (await _new(visit)).shown(visit)


@action(NEW, Permission.TRADE)
async def add(visit: Visit) -> Raw:
    """Adds a strategy, which trades the account that was chosen as the signal says, and leads to it."""

    async def send(body: dict[str, Any]) -> Any:
        kept = {name: value for name, value in body.items() if value is not None}
        account_id = kept.pop("account", None)
        if account_id:
            kept["accounts"] = [{"accountId": account_id, "sizing": {"mode": "multiplier", "value": 1}}]
        return await visit.send("POST", "/strategies", kept)

    made, again = await (await _new(visit)).answered(visit, send, whole=True)
    return again or visit.redirect(f"{PATH}/{made['id']}")


@page(ONE, Permission.READ)
async def strategy_page(visit: Visit) -> Raw:
    """One strategy: its settings, the accounts with their sizing and caps, and its sources."""
    found = await visit.gather(
        strategy=visit.get(_API, values=visit.request.path),
        accounts=visit.listing("/accounts", limit=200),
        sources=visit.listing("/sources", limit=200),
    )
    strategy = found["strategy"]
    own = [each for each in found["accounts"].items if each["userId"] == strategy["userId"]]
    traded = {each["accountId"] for each in strategy["accounts"]}
    return visit.render(
        "strategy.html",
        strategy=strategy,
        labels=named(found["accounts"].items),
        free=[(each["id"], each["label"]) for each in own if each["id"] not in traded],
        sources=[each for each in found["sources"].items if each["strategyId"] == strategy["id"]],
        sizing=dict(SIZING),
        policies=dict(_POLICY),
    )


@page(ONE + "/change", Permission.TRADE)
async def change_form(visit: Visit) -> Raw:
    """The dialog in which a strategy is changed."""
    return _change(await visit.get(_API, values=visit.request.path)).shown(visit)


@action(ONE + "/change", Permission.TRADE)
async def change(visit: Visit) -> Raw:
    """Changes what differs; it holds for the next signal."""
    dialog = _change(await visit.get(_API, values=visit.request.path))
    made, again = await dialog.answered(visit, lambda body: visit.send("PATCH", _API, body, values=visit.request.path))
    return again or visit.done(f"{made['name']} is changed", changed="strategy")


@action(ONE + "/enable", Permission.TRADE)
async def enable(visit: Visit) -> Raw:
    """Lets a strategy take signals again."""
    made = await visit.send("PATCH", _API, {"enabled": True}, values=visit.request.path)
    return visit.done(f"{made['name']} takes signals again", changed="strategy")


@action(ONE + "/disable", Permission.TRADE)
async def disable(visit: Visit) -> Raw:
    """Lets a strategy take no signals; what it holds stays."""
    made = await visit.send("PATCH", _API, {"enabled": False}, values=visit.request.path)
    return visit.done(f"{made['name']} takes no signals now", changed="strategy")


@page(TARGET, Permission.TRADE)
async def target_form(visit: Visit) -> Raw:
    """The dialog that says how one account trades the strategy."""
    dialog, _, _ = await _target(visit)
    return dialog.shown(visit)


@action(TARGET, Permission.TRADE)
async def set_target(visit: Visit) -> Raw:
    """Adds an account to the strategy, or changes how it is sized."""
    dialog, strategy, account_id = await _target(visit)

    async def send(body: dict[str, Any]) -> Any:
        others = [each for each in strategy["accounts"] if each["accountId"] != account_id]
        return await visit.send(
            "PATCH", _API, {"accounts": [*others, {"accountId": account_id, **body}]}, values=_id(visit)
        )

    made, again = await dialog.answered(visit, send, whole=True)
    return again or visit.done(f"{made['name']} is changed", changed="strategy")


@page(TARGET + "/remove", Permission.TRADE)
async def remove_form(visit: Visit) -> Raw:
    """The dialog that asks whether an account shall no longer trade the strategy."""
    strategy = await visit.get(_API, values=_id(visit))
    return _remove(strategy, visit.request.path["accountId"]).shown(visit)


@action(TARGET + "/remove", Permission.TRADE)
async def remove_target(visit: Visit) -> Raw:
    """Takes an account out of the strategy."""
    strategy, account_id = await visit.get(_API, values=_id(visit)), visit.request.path["accountId"]
    others = [each for each in strategy["accounts"] if each["accountId"] != account_id]
    _, again = await _remove(strategy, account_id).answered(
        visit, lambda _: visit.send("PATCH", _API, {"accounts": others}, values=_id(visit))
    )
    return again or visit.done(f"{strategy['name']} is changed", changed="strategy")


@page(ONE + "/delete", Permission.TRADE)
async def delete_form(visit: Visit) -> Raw:
    """The dialog that asks whether a strategy shall go."""
    return _delete(await visit.get(_API, values=visit.request.path)).shown(visit)


@action(ONE + "/delete", Permission.TRADE)
async def delete(visit: Visit) -> Raw:
    """Takes a strategy away, and its sources with it."""
    dialog = _delete(await visit.get(_API, values=visit.request.path))
    _, again = await dialog.answered(visit, lambda _: visit.send("DELETE", _API, values=visit.request.path))
    return again or visit.redirect(PATH)


def _id(visit: Visit) -> dict[str, Any]:
    return {"id": visit.request.path["id"]}


async def _new(visit: Visit) -> Dialog:
    accounts = await visit.listing("/accounts", limit=200)
    own = tuple((each["id"], each["label"]) for each in accounts.items if each["userId"] == str(visit.me.user_id))
    account = Field("account", "Account", "choice", "how much, and more of them, on its page", choices=own)
    return Dialog(
        path=NEW,
        title="Add a strategy",
        submit="Add it",
        fields=(FIELDS[0], account, *FIELDS[1:]),
        before=_NEW | ({"account": own[0][0]} if own else {}),
    )


def _change(strategy: Mapping[str, Any]) -> Dialog:
    return Dialog(
        path=f"{PATH}/{strategy['id']}/change",
        title=f"Change {strategy['name']}",
        text="It holds for the next signal.",
        submit="Save",
        fields=FIELDS,
        before=strategy,
    )


async def _target(visit: Visit) -> tuple[Dialog, dict[str, Any], str]:
    strategy = await visit.get(_API, values=_id(visit))
    account_id = visit.query.get("account") or visit.request.path["accountId"]
    account = await visit.get("/accounts/{id}", values={"id": account_id})
    held = next((each for each in strategy["accounts"] if each["accountId"] == account["id"]), None)
    dialog = Dialog(
        path=f"{PATH}/{strategy['id']}/accounts/{account['id']}",
        title=f"{account['label']} trades {strategy['name']}",
        submit="Save",
        fields=_SIZING_FIELDS,
        before=held or {"sizing": {"mode": "multiplier", "value": 1}},
    )
    return dialog, strategy, account["id"]


def _remove(strategy: Mapping[str, Any], account_id: str) -> Dialog:
    return Dialog(
        path=f"{PATH}/{strategy['id']}/accounts/{account_id}/remove",
        title="Take the account out?",
        text="What it holds stays open; the strategy's next signal leaves it out.",
        submit="Take it out",
        kind="danger",
        keep="Keep it",
    )


def _delete(strategy: Mapping[str, Any]) -> Dialog:
    return Dialog(
        path=f"{PATH}/{strategy['id']}/delete",
        title=f"Delete {strategy['name']}?",
        text="Its sources go with it and their keys stop working. Orders on their way go on, history stays.",
        submit="Delete it",
        kind="danger",
        keep="Keep it",
    )
