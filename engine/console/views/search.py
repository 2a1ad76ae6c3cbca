"""/console/search: an order, a signal or a symbol, found by whatever number of it is at hand."""

from uuid import UUID

from engine.console.pages import page
from engine.console.views.orders import labels_of, with_state
from engine.console.visit import Refused, Visit
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/search"
_LIMIT = 20
_MAX = 64


@page(PATH, Permission.READ)
async def search_page(visit: Visit) -> Raw:
    """Finds by the number of an order or of a signal, by the broker's number, or by symbol; one hit is shown."""
    text = visit.query.get("q", "").strip()[:_MAX]
    number = _number(text)
    if number is not None:
        for api, shown in (("/executions/orders", "/console/orders"), ("/signals/intents", "/console/intents")):
            if await _is_there(visit, api + "/{id}", number):
                return visit.redirect(f"{shown}/{number}")
    if not text or number is not None:
        return visit.render("search.html", text=text, orders=[], intents=[], labels={})
    symbol = text[:40]
    found = await visit.gather(
        named=visit.listing("/executions/orders", limit=_LIMIT, brokerOrderId=text),
        orders=visit.listing("/executions/orders", limit=_LIMIT, symbol=symbol),
        intents=visit.listing("/signals/intents", limit=_LIMIT, symbol=symbol),
        accounts=visit.listing("/accounts", limit=200),
    )
    if len(found["named"].items) == 1:
        return visit.redirect(f"/console/orders/{found['named'].items[0]['id']}")
    return visit.render(
        "search.html",
        text=text,
        orders=[with_state(each) for each in (*found["named"].items, *found["orders"].items)],
        intents=found["intents"].items,
        labels=labels_of(found["accounts"].items),
    )


async def _is_there(visit: Visit, path: str, number: UUID) -> bool:
    try:
        await visit.get(path, values={"id": number})
    except Refused as refused:
        if refused.code != "NOT_FOUND":
            raise
        return False
    return True


def _number(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
