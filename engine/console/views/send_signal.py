"""/console/send: a signal by hand, as a source would send it: a form, what risk would say to it, and the sending."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from engine.console.asked import amount, whole
from engine.console.pages import action, page, sentence
from engine.console.visit import Refused, Visit
from engine.domain.enums import Exchange, OrderType, ProductType, Validity
from engine.domain.options import ExitMode
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/send"
_WORDS = ("strategyId", "symbol", "exchange", "transactionType", "orderType", "productType", "validity", "exits")
_AMOUNTS = ("price", "triggerPrice", "stopLoss", "target")
_WHOLE = ("quantity", "disclosedQuantity")
_PRODUCTS = (ProductType.MIS, ProductType.CNC, ProductType.NRML, ProductType.MTF)


@page(PATH, Permission.TRADE)
async def send_page(visit: Visit) -> Raw:
    """The form for a signal by hand."""
    strategies = await visit.listing("/strategies", limit=200)
    sources = await visit.listing("/sources", limit=200)
    fed = {source["strategyId"] for source in sources.items if source["enabled"]}
    return visit.render(
        "send.html",
        strategies=[(each["id"], each["name"]) for each in strategies.items if each["id"] in fed],
        typed=visit.query,
        exchanges=[each.value for each in Exchange],
        order_types=[each.value for each in OrderType],
        products=[each.value for each in _PRODUCTS],
        validities=[each.value for each in Validity if each is not Validity.TTL],
        exit_modes=[each.value for each in ExitMode],
    )


@action(PATH + "/look", Permission.TRADE)
async def look(visit: Visit) -> Raw:
    """What the signal asks for, of whom, and what risk would say to it now; nothing is sent."""
    body, wrong = signal_of(visit.form)
    if wrong:
        problem = "; ".join(f"{name} {text}" for name, text in wrong.items())
        return visit.fragment("send.html", "refused", problem=problem)
    try:
        preview = await visit.send("POST", "/signals/preview", body)
    except Refused as refused:
        # what would not be taken when it is sent
        return visit.fragment("send.html", "refused", problem=sentence(refused))
    found = await visit.gather(
        strategy=visit.get("/strategies/{id}", values={"id": body["strategyId"]}),
        instrument=_instrument(visit, {**body, "symbol": preview["symbol"]}),
    )
    return visit.fragment(
        "send.html",
        "look",
        body=body,
        strategy=found["strategy"],
        instrument=found["instrument"],
        preview=preview,
        orders={each["accountId"]: each for each in preview["orders"]},
        judged=[] if preview["verdict"] is None else preview["verdict"]["accounts"],
    )


@action(PATH, Permission.TRADE)
async def send(visit: Visit) -> Raw:
    """Sends the signal and leads to its story; a form that is sent twice sends one signal."""
    body, wrong = signal_of(visit.form)
    if wrong:
        problem = "; ".join(f"{name} {text}" for name, text in wrong.items())
        return visit.fragment("send.html", "refused", status=HTTPStatus.UNPROCESSABLE_ENTITY, problem=problem)
    try:
        answer = await visit.send("POST", "/signals", body)
    except Refused as refused:
        if refused.code == "STEP_UP_REQUIRED":
            raise
        status = HTTPStatus.UNPROCESSABLE_ENTITY
        return visit.fragment("send.html", "refused", status=status, problem=sentence(refused))
    return visit.redirect(f"/console/intents/{answer['intentId']}")


def signal_of(form: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the signal that *form* asks for, as the API takes it, and what is wrong with which field.

    What is empty is left out; prices are decimals of rupees, quantities whole units.
    """
    body: dict[str, Any] = {name: form[name].strip() for name in _WORDS if form.get(name, "").strip()}
    wrong: dict[str, str] = {}
    for name, read, mend in (
        *((name, amount, "must be rupees, for example 1500.05") for name in _AMOUNTS),
        *((name, whole, "must be a whole number") for name in _WHOLE),
    ):
        text = form.get(name, "").strip()
        if not text:
            continue
        found: Any = read(text)
        if found is None:
            wrong[name] = mend
        else:
            body[name] = found
    for name in ("strategyId", "symbol", "quantity"):
        if name not in body and name not in wrong:
            wrong[name] = "is required"
    if "symbol" in body:
        body["symbol"] = body["symbol"].upper()
    return body, wrong


async def _instrument(visit: Visit, body: Mapping[str, Any]) -> Any:
    """Return the instrument, or None when the symbol is a source's own word for it, or nothing."""
    values = {"exchange": body.get("exchange", "NSE"), "symbol": body["symbol"]}
    try:
        return await visit.get("/instruments/{exchange:str}/{symbol:str}", values=values)
    except Refused:
        return None
