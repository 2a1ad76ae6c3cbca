"""/console/orders: the orders with their filters, one of them with all that happened to it, cancelling and changing."""

from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from typing import Any

from engine.console.asked import asked_of, window
from engine.console.pages import action, page, sentence
from engine.console.visit import Refused, Visit
from engine.domain.enums import OrderStatus, OrderType, Validity
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/orders"
ONE = PATH + "/{id}"
FILTERS = ("status", "symbol", "accountId", "strategyId", "from", "to")
_API = "/executions/orders"
_LIMIT = 50


@page(PATH, Permission.READ)
async def orders_page(visit: Visit) -> Raw:
    """Orders, newest first, by state, symbol, account, strategy and day."""
    asked = asked_of(visit.query, FILTERS)
    found = await visit.gather(
        orders=visit.listing(_API, limit=_LIMIT, cursor=visit.query.get("cursor"), **window(asked)),
        accounts=visit.listing("/accounts", limit=200),
        strategies=visit.listing("/strategies", limit=200),
    )
    return visit.render(
        "orders.html",
        orders=[with_state(each) for each in found["orders"].items],
        next_cursor=found["orders"].next_cursor,
        accounts=found["accounts"].items,
        strategies=found["strategies"].items,
        labels=labels_of(found["accounts"].items),
        statuses=[status.value for status in OrderStatus],
        asked=asked,
        is_filtered=any(asked.values()) or "cursor" in visit.query,
    )


@page(ONE, Permission.READ)
async def order_page(visit: Visit) -> Raw:
    """One order: its terms, every event and fill, and what can still be done with it."""
    found = await visit.gather(
        order=visit.get(_API + "/{id}", values=visit.request.path), accounts=visit.listing("/accounts", limit=200)
    )
    return visit.render("order.html", order=with_state(found["order"]), labels=labels_of(found["accounts"].items))


@page(ONE + "/cancel", Permission.TRADE)
async def cancel_form(visit: Visit) -> Raw:
    """The dialog that asks whether an order shall be cancelled."""
    order = await visit.get(_API + "/{id}", values=visit.request.path)
    return visit.fragment("order.html", "cancel", order=with_state(order))


@action(ONE + "/cancel", Permission.TRADE)
async def cancel(visit: Visit) -> Raw:
    """Cancels an order; the state in the answer is what counts."""
    order = await visit.send("POST", _API + "/{id}/cancel", values=visit.request.path)
    is_gone = order["status"] == OrderStatus.CANCELLED
    text = f"{order['symbol']}: the order is {order['status']}"
    return visit.done(text, changed="order", kind="good" if is_gone else "warn")


@page(ONE + "/change", Permission.TRADE)
async def change_form(visit: Visit) -> Raw:
    """The dialog in which an open order is changed."""
    order = await visit.get(_API + "/{id}", values=visit.request.path)
    return _change_form(visit, order, {}, "", HTTPStatus.OK)


@action(ONE + "/change", Permission.TRADE)
async def change(visit: Visit) -> Raw:
    """Changes what differs from the order as the form showed it."""
    before = await visit.get(_API + "/{id}", values=visit.request.path)
    body, wrong = changed_terms(visit.form, before)
    if wrong:
        return _change_form(visit, before, wrong, "", HTTPStatus.UNPROCESSABLE_ENTITY)
    try:
        order = await visit.send("PATCH", _API + "/{id}", body, values=visit.request.path)
    except Refused as refused:
        problem = "" if refused.fields else sentence(refused)
        return _change_form(visit, before, dict(refused.fields), problem, HTTPStatus.UNPROCESSABLE_ENTITY)
    return visit.done(f"{order['symbol']}: the order was changed and is {order['status']}", changed="order")


def changed_terms(form: dict[str, str], before: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what *form* changes of the order *before*, as the API takes it, and what is wrong with which field.

    Empty fields change nothing; prices are decimals of rupees, never floats.
    """
    body: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    if form.get("quantity"):
        if form["quantity"].isascii() and form["quantity"].isdigit() and len(form["quantity"]) < 10:
            body["quantity"] = int(form["quantity"])
        else:
            wrong["quantity"] = "must be a whole number"
    for name in ("price", "triggerPrice"):
        if form.get(name):
            try:
                amount = Decimal(form[name].replace(",", ""))
                body[name] = amount if amount.is_finite() else wrong.setdefault(name, "must be rupees")
            except InvalidOperation:
                wrong[name] = "must be rupees, for example 1500.05"
    body |= {name: form[name] for name in ("orderType", "validity") if form.get(name)}
    return {name: value for name, value in body.items() if value != before[name]}, wrong


def with_state(order: dict[str, Any]) -> dict[str, Any]:
    """Return an order of the API with whether it has ended, and when it first reached the broker."""
    sent = next((event["at"] for event in order["events"] if event["toStatus"] in _SENT), None)
    return {**order, "ended": OrderStatus(order["status"]).is_terminal, "sentAt": sent}


def labels_of(accounts: Any) -> dict[str, str]:
    """Return the labels of accounts by id."""
    return {account["id"]: account["label"] for account in accounts}


def _change_form(visit: Visit, order: dict[str, Any], wrong: dict[str, str], problem: str, status: int) -> Raw:
    return visit.fragment(
        "order.html",
        "change",
        status=status,
        order=with_state(order),
        typed=visit.form,
        wrong=wrong,
        problem=problem,
        order_types=[each.value for each in OrderType],
        validities=[each.value for each in Validity if each is not Validity.TTL],
    )


_SENT = frozenset({"SUBMITTED", "OPEN", "TRIGGER_PENDING", "PARTIALLY_FILLED", "COMPLETE"})
