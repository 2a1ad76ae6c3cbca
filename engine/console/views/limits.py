"""/console/limits: every limit of a person, of each account and strategy, its use now, and setting them."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from engine.console.dialogs import named
from engine.console.formats import rupees, units
from engine.console.forms import CHANGED_MEANWHILE, Field, differing, drawn, given, is_stale, mark, read
from engine.console.pages import action, page, sentence
from engine.console.visit import Refused, Visit
from engine.domain.enums import Exchange, ProductType, Segment
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/limits"
FORM = PATH + "/edit"
_OF_CAPITAL = "percent of the capital"
GROUPS: tuple[tuple[str, tuple[Field, ...]], ...] = (
    (
        "Loss and profit of a day",
        (
            Field("maxDailyLossAmount", "Daily loss, rupees", "amount", "Past it trading stops and closes"),
            Field("maxDailyLossPct", "Daily loss, %", "amount", _OF_CAPITAL),
            Field("maxDrawdownAmount", "Drawdown, rupees", "amount", "below the day's highest profit"),
            Field("maxDrawdownPct", "Drawdown, %", "amount", _OF_CAPITAL),
            Field("profitTargetAmount", "Profit target, rupees", "amount"),
            Field("profitLockTriggerAmount", "Profit lock from, rupees", "amount", "goes with what is given back"),
            Field("profitLockGivebackPct", "Given back at most, %", "amount", "percent of the day's highest profit"),
            Field("cooldownAfterLosses", "Rest after losses in a row", "whole", "goes with the seconds of rest"),
            Field("cooldownS", "Rest, seconds", "whole"),
        ),
    ),
    (
        "Size of orders and positions",
        (
            Field("maxOrderValue", "Order value, rupees", "amount"),
            Field("maxOrderQuantity", "Order quantity", "whole", "units"),
            Field("maxPositionPct", "Position, %", "amount", _OF_CAPITAL + ", per symbol"),
            Field("maxOpenPositions", "Open positions", "whole"),
            Field("priceBandPct", "Price band, %", "amount", "distance from the last price"),
        ),
    ),
    (
        "Pace",
        (
            Field("maxOrdersPerMinute", "Orders in a minute", "whole"),
            Field("maxOrdersPerDay", "Orders in a day", "whole"),
            Field("maxTradesPerDay", "Trades in a day", "whole"),
            Field("maxMessagesPerMinute", "Messages in a minute", "whole"),
            Field("duplicateWindowS", "Same order again, seconds", "whole", "refused within this time"),
            Field("circuitBreakerFailures", "Breaker: failures in a row", "whole"),
            Field("circuitBreakerCooldownS", "Breaker: seconds until it is tried again", "whole"),
        ),
    ),
    (
        "What and when",
        (
            Field("tradingWindow", "Entries between", "hours", "times in IST; the end is outside"),
            Field("selfTradeGuard", "Refuse orders that would meet own ones", "either"),
            Field("allowedExchanges", "Exchanges", "many", "none ticked: all", tuple(each.value for each in Exchange)),
            Field("allowedProducts", "Products", "many", "none ticked: all", tuple(each.value for each in ProductType)),
            Field("allowedSegments", "Segments", "many", "none ticked: all", tuple(each.value for each in Segment)),
        ),
    ),
)
FIELDS = tuple(field for _, fields in GROUPS for field in fields)
_LABELS: Mapping[str, str] = {field.name: field.label for field in FIELDS}
_PLACE = ("userId", "accountId", "strategyId")


@page(PATH, Permission.READ)
async def limits_page(visit: Visit) -> Raw:
    """What every limit allows and how much of it is used now: the person's, each account's, each strategy's."""
    user_id = visit.query.get("userId") or str(visit.me.user_id)
    found = await visit.gather(
        state=visit.get("/risk/state", userId=user_id),
        limits=visit.listing("/risk/limits", userId=user_id, limit=200),
        accounts=visit.listing("/accounts", limit=200),
        strategies=visit.listing("/strategies", limit=200),
        people=visit.listing("/users", limit=200) if visit.can(Permission.ADMIN) else None,
    )
    accounts, strategies = named(found["accounts"].items), named(found["strategies"].items, "name")
    held = {(each["accountId"], each["strategyId"]): each for each in found["limits"].items}
    state = found["state"]
    places = [
        _shown(state["user"], "All accounts and strategies", held, is_user=True),
        *(_shown(each, accounts.get(each["accountId"], "Account"), held) for each in state["accounts"]),
        *(_shown(each, strategies.get(each["strategyId"], "Strategy"), held) for each in state["strategies"]),
    ]
    both = [
        {**each, "name": f"{strategies.get(each['strategyId'], '')} on {accounts.get(each['accountId'], '')}"}
        for each in found["limits"].items
        if each["accountId"] and each["strategyId"]
    ]
    people = [] if found["people"] is None else [(each["id"], each["email"]) for each in found["people"].items]
    return visit.render(
        "limits.html",
        user_id=user_id,
        is_own=user_id == str(visit.me.user_id),
        people=people,
        places=places,
        both=[{**each, "set": set_of(each)} for each in both],
        accounts=list(accounts.items()),
        strategies=list(strategies.items()),
    )


@page(FORM, Permission.TRADE)
async def limits_form(visit: Visit) -> Raw:
    """Every limit of one place: a person, an account, a strategy, or a strategy on one account."""
    place = {name: visit.query.get(name, "") for name in _PLACE}
    held, before = await _before(visit, place)
    return visit.render("limits_form.html", **await _context(visit, place, held, before, drawn_groups(before)))


@action(FORM, Permission.TRADE)
async def set_limits(visit: Visit) -> Raw:
    """Sets what differs; the engine asks an administrator to prove who it is where something becomes looser."""
    place = {name: visit.form.get(name, "") for name in _PLACE}
    held, before = await _before(visit, place)
    if is_stale(FIELDS, before, visit.form):
        context = await _context(visit, place, held, before, drawn_groups(before), CHANGED_MEANWHILE)
        return visit.fragment("limits_form.html", "form", status=HTTPStatus.UNPROCESSABLE_ENTITY, **context)
    found, wrong = read(FIELDS, visit.form)
    body, problem = differing(found, before), ""
    if not wrong and not body:
        problem = "Nothing is different yet."
    elif not wrong:
        try:
            if held is None:
                await visit.send("POST", "/risk/limits", body | given(place_of(place)))
            else:
                await visit.send("PUT", "/risk/limits/{id}", body, values={"id": held["id"]})
        except Refused as refused:
            if refused.code == "STEP_UP_REQUIRED":
                raise
            wrong = dict(refused.fields)
            problem = "" if wrong else sentence(refused)
        else:
            return visit.redirect(PATH + (f"?userId={place['userId']}" if place["userId"] else ""))
    groups = drawn_groups(before, visit.form, wrong)
    context = await _context(visit, place, held, before, groups, problem or "Look at what is marked.")
    return visit.fragment("limits_form.html", "form", status=HTTPStatus.UNPROCESSABLE_ENTITY, **context)


def place_of(place: Mapping[str, str]) -> dict[str, str | None]:
    """Return where limits belong as the API takes it; empty names are None."""
    return {name: place[name] or None for name in _PLACE}


def drawn_groups(
    before: Mapping[str, Any], form: Mapping[str, str] | None = None, wrong: Mapping[str, str] | None = None
) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the groups of the form with their fields, as the templates draw them."""
    return [(name, drawn(fields, before, form, wrong)) for name, fields in GROUPS]


def set_of(limits: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the limits that are set, in words."""
    return [(field.label, _limit(field.name, limits[field.name])) for field in FIELDS if limits[field.name] is not None]


async def _before(visit: Visit, place: Mapping[str, str]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Return the limits of *place*, None where none were set, and what they begin with."""
    user_id = place["userId"] or str(visit.me.user_id)
    limits = (await visit.listing("/risk/limits", limit=200, userId=user_id)).items
    for each in limits:
        if all((each[name] or "") == place[name] for name in ("accountId", "strategyId")):
            return each, each
    if place["accountId"] or place["strategyId"]:
        return None, {}
    # a person without limits of their own has the engine's defaults
    state = await visit.get("/risk/state", userId=user_id)
    return None, {each["name"]: each["limit"] for each in state["user"]["limits"]}


async def _context(
    visit: Visit,
    place: Mapping[str, str],
    held: Any,
    before: Mapping[str, Any],
    groups: list[tuple[str, list[dict[str, Any]]]],
    problem: str = "",
) -> dict[str, Any]:
    names = []
    if place["strategyId"]:
        strategy = await visit.get("/strategies/{id}", values={"id": place["strategyId"]})
        names.append(f"strategy {strategy['name']}")
    if place["accountId"]:
        names.append(f"account {(await visit.get('/accounts/{id}', values={'id': place['accountId']}))['label']}")
    title = " on ".join(names) if names else "all accounts and strategies"
    told = {"place": place, "held": held, "groups": groups, "problem": problem, "title": title}
    return told | {"seen": mark(FIELDS, before)}


def _shown(scope: Mapping[str, Any], name: str, held: Mapping[Any, Any], *, is_user: bool = False) -> dict[str, Any]:
    uses = [
        {**each, "label": _LABELS[each["name"]], "text": _use(each), "share": _share(each)}
        for each in scope["limits"]
        if each["name"] in _LABELS
    ]
    query = {"accountId": scope["accountId"], "strategyId": scope["strategyId"]}
    return {
        **scope,
        "name": name,
        "kind": "Person" if is_user else "Account" if scope["accountId"] else "Strategy",
        "gauges": [each for each in uses if each["share"] is not None],
        "rules": [each for each in uses if each["share"] is None],
        "isSet": (scope["accountId"], scope["strategyId"]) in held,
        "query": "&".join(f"{name}={value}" for name, value in query.items() if value),
    }


def _share(use: Mapping[str, Any]) -> Any:
    return None if use["usedPct"] is None else min(100, max(0, use["usedPct"]))


def _use(use: Mapping[str, Any]) -> str:
    limit = _limit(use["name"], use["limit"])
    return limit if use["used"] is None else f"{_number(use['name'], use['used'])} of {limit}"


def _limit(name: str, limit: Any) -> str:
    if isinstance(limit, bool):
        return "yes" if limit else "no"
    if isinstance(limit, dict):
        return f"{limit['start']} to {limit['end']}"
    if isinstance(limit, list):
        return ", ".join(limit) or "nothing"
    return _number(name, limit) + (" %" if name.endswith("Pct") else " s" if name.endswith("S") else "")


def _number(name: str, value: Any) -> str:
    return rupees(value) if name.endswith(("Amount", "Value")) else units(value)
