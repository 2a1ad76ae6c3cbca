"""/console/trades: every execution at the exchange, with filters."""

from engine.console.asked import asked_of, window
from engine.console.pages import page
from engine.console.views.orders import labels_of
from engine.console.visit import Visit
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/trades"
FILTERS = ("symbol", "accountId", "strategyId", "from", "to")
_LIMIT = 50


@page(PATH, Permission.READ)
async def trades_page(visit: Visit) -> Raw:
    """Trades, newest first, by symbol, account, strategy and day."""
    asked = asked_of(visit.query, FILTERS)
    found = await visit.gather(
        trades=visit.listing("/executions/trades", limit=_LIMIT, cursor=visit.query.get("cursor"), **window(asked)),
        accounts=visit.listing("/accounts", limit=200),
        strategies=visit.listing("/strategies", limit=200),
    )
    strategies = [(each["id"], each["name"]) for each in found["strategies"].items]
    return visit.render(
        "trades.html",
        trades=found["trades"].items,
        next_cursor=found["trades"].next_cursor,
        accounts=[(each["id"], each["label"]) for each in found["accounts"].items],
        strategies=strategies,
        labels=labels_of(found["accounts"].items),
        names=dict(strategies),
        asked=asked,
        is_filtered=any(asked.values()) or "cursor" in visit.query,
    )
