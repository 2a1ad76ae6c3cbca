"""/console/positions: what is held, by account and by strategy, closing it, and what an account has at the broker."""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from http import HTTPStatus
from typing import Any

from engine.console.asked import asked_of
from engine.console.pages import action, page, sentence
from engine.console.views.orders import labels_of
from engine.console.visit import Refused, Visit
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/positions"
FILTERS = ("accountId", "strategyId", "symbol")
_API = "/executions/positions"
_LIMIT = 200
_SUMS = ("pnl", "dayPnl", "realisedPnl", "unrealisedPnl")
ALL = "CLOSE ALL"
"""What is typed to close everything that one holds."""


@page(PATH, Permission.READ)
async def positions_page(visit: Visit) -> Raw:
    """Net positions as the broker counts them, and the books of strategies and of the hand that they are made of."""
    asked = asked_of(visit.query, FILTERS)
    narrowed = {name: value for name, value in asked.items() if name != "strategyId"}
    found = await visit.gather(
        net=visit.listing(_API, limit=_LIMIT, **narrowed),
        books=visit.listing(_API, limit=_LIMIT, by="strategy", **asked),
        accounts=visit.listing("/accounts", limit=200),
        strategies=visit.listing("/strategies", limit=200),
    )
    accounts, net, books = found["accounts"].items, found["net"], found["books"]
    # the net of an account is of no strategy
    shown = None if asked["strategyId"] else net.items
    strategies = [(each["id"], each["name"]) for each in found["strategies"].items]
    return visit.render(
        "positions.html",
        net=None if shown is None else ordered(shown),
        net_sum=None if shown is None else sums(shown),
        is_cut=books.next_cursor is not None or net.next_cursor is not None,
        groups=by_owner(books.items, dict(strategies), net.items),
        accounts=accounts,
        choices=[(each["id"], each["label"]) for each in accounts],
        strategies=strategies,
        labels=labels_of(accounts),
        asked=asked,
        is_filtered=any(asked.values()),
    )


@page(PATH + "/close", Permission.TRADE)
async def close_form(visit: Visit) -> Raw:
    """The dialog that asks whether positions shall be closed, and to type what proves that it is meant."""
    return await _close_form(visit, visit.query, "")


@action(PATH + "/close", Permission.TRADE)
async def close(visit: Visit) -> Raw:
    """Cancels the orders of the chosen positions and closes them at the market; what is left is told."""
    asked = asked_of(visit.form, FILTERS)
    wanted = await _proof(visit, asked)
    if wanted and visit.form.get("typed", "").strip().casefold() != wanted.casefold():
        return await _close_form(visit, visit.form, f"Type {wanted} to show that you mean it")
    body = {name: value for name, value in asked.items() if value}
    try:
        answer = await visit.send("POST", _API + "/square-off", body)
    except Refused as refused:
        if refused.code == "STEP_UP_REQUIRED":
            raise
        return await _close_form(visit, visit.form, sentence(refused))
    left = [each for each in answer["positions"] if each["problem"]]
    if left:
        text = "; ".join(f"{each['symbol']}: {each['problem']}" for each in left[:3])
        return visit.done(f"{len(left)} not closed yet: {text}", changed="position order fill", kind="warn")
    closed = len(answer["positions"])
    text = "Nothing was open" if not closed else f"{closed} closed, by two reads of the broker"
    return visit.done(text, changed="position order fill")


@page(PATH + "/funds/{id}", Permission.READ)
async def funds_page(visit: Visit) -> Raw:
    """What the broker says now of one account: its funds, the shares in its demat account, its net positions."""
    account = await visit.get("/accounts/{id}", values=visit.request.path)
    try:
        found = await visit.gather(
            margins=visit.get("/accounts/{id}/margins", values=visit.request.path),
            holdings=visit.listing("/accounts/{id}/holdings", values=visit.request.path),
            net=visit.listing("/accounts/{id}/positions", values=visit.request.path),
        )
    except Refused as refused:
        return visit.render("funds.html", account=account, problem=sentence(refused), found=None)
    return visit.render(
        "funds.html",
        account=account,
        problem="",
        found={
            "margins": found["margins"],
            "holdings": found["holdings"].items,
            "net": found["net"].items,
            "worth": sum((row["lastPrice"] * row["quantity"] for row in found["holdings"].items), Decimal(0)),
            "pnl": sum((row["pnl"] for row in found["holdings"].items), Decimal(0)),
        },
    )


def sums(positions: Iterable[Mapping[str, Any]]) -> dict[str, Decimal]:
    """Return the totals of *positions*, in rupees."""
    listed = list(positions)
    return {name: sum((each[name] for each in listed), Decimal(0)) for name in _SUMS}


def ordered(positions: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return *positions* with the open ones first, by symbol."""
    return sorted(positions, key=lambda each: (not each["quantity"], each["symbol"], each["accountId"]))


def by_owner(
    books: Sequence[Mapping[str, Any]], names: Mapping[str, str], net: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return *books* by who owns them: strategies by name, and last what was done by hand; each with its totals.

    ``closable`` of a book says that the *net* position holds something on its side: what was closed by hand already is
    offered no second time. The engine sees to that anyway.
    """
    held = {_place(each): each["quantity"] for each in net}
    owners = sorted({each["strategyId"] for each in books}, key=lambda owner: (owner is None, names.get(owner, "")))
    found = []
    for owner in owners:
        own = [
            {**each, "closable": owner is not None and each["quantity"] * held.get(_place(each), 0) > 0}
            for each in ordered(each for each in books if each["strategyId"] == owner)
        ]
        name = "By hand" if owner is None else names.get(owner, "A strategy that is gone")
        is_open = any(each["closable"] for each in own)
        found.append({"id": owner, "name": name, "books": own, "sum": sums(own), "open": is_open})
    return found


def _place(position: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(position[name] for name in ("accountId", "exchange", "symbol", "productType"))


async def _proof(visit: Visit, asked: Mapping[str, str]) -> str:
    """Return what must be typed: an account's label, a strategy's name, all; nothing for one position on paper."""
    if asked["symbol"] and asked["accountId"]:
        is_paper = visit.request.services.config.broker.mode == "paper"
        return "" if is_paper else asked["symbol"].upper()
    if asked["strategyId"]:
        return str((await visit.get("/strategies/{id}", values={"id": asked["strategyId"]}))["name"])
    if asked["accountId"]:
        return str((await visit.get("/accounts/{id}", values={"id": asked["accountId"]}))["label"])
    return ALL


async def _close_form(visit: Visit, given: Mapping[str, str], problem: str) -> Raw:
    asked = asked_of(given, FILTERS)
    found = await visit.gather(
        held=visit.listing(_API, limit=_LIMIT, by="strategy" if asked["strategyId"] else "", **asked),
        accounts=visit.listing("/accounts", limit=200),
    )
    labels = labels_of(found["accounts"].items)
    mine = {each["id"] for each in found["accounts"].items if each["userId"] == str(visit.me.user_id)}
    # what is named is reached by an administrator, all else is the person's own
    is_named = asked["accountId"] or asked["strategyId"]
    held = [each for each in found["held"].items if each["quantity"] and (is_named or each["accountId"] in mine)]
    return visit.fragment(
        "positions.html",
        "close",
        status=HTTPStatus.UNPROCESSABLE_ENTITY if problem else HTTPStatus.OK,
        asked=asked,
        held=held,
        labels=labels,
        wanted=await _proof(visit, asked),
        delivery=sum(each["productType"] in ("CNC", "MTF") for each in held),
        problem=problem,
    )
