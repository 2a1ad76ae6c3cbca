"""/console/pnl: what a day made of a user, by account and by strategy, with its curve."""

from datetime import timedelta
from typing import Any

from engine.clock import trading_day
from engine.console.asked import asked_of
from engine.console.pages import page
from engine.console.views.orders import labels_of
from engine.console.visit import Visit
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/pnl"
FILTERS = ("userId", "date")
_API = "/executions/pnl"


@page(PATH, Permission.READ)
async def pnl_page(visit: Visit) -> Raw:
    """A day's profit and loss: in all, by account, by strategy; of another user's for an administrator."""
    asked = asked_of(visit.query, FILTERS)
    found = await visit.gather(
        pnl=visit.get(_API, **asked),
        accounts=visit.listing("/accounts", limit=200),
        strategies=visit.listing("/strategies", limit=200),
        users=visit.listing("/users", limit=200) if visit.me.is_admin else None,
    )
    pnl = found["pnl"]
    today = trading_day(visit.request.services.clock.now())
    users = [] if found["users"] is None else [(each["id"], each["email"]) for each in found["users"].items]
    return visit.render(
        "pnl.html",
        pnl=pnl,
        labels=labels_of(found["accounts"].items),
        names={each["id"]: each["name"] for each in found["strategies"].items},
        users=users,
        asked=asked,
        today=today,
        yesterday=today - timedelta(days=1),
        is_today=pnl["date"] == today.isoformat(),
    )


@page(PATH + "/points", Permission.READ)
async def points(visit: Visit) -> Raw:
    """The curve of a day, for the chart: JSON rows of instants and rupees, oldest first."""
    asked = asked_of(visit.query, FILTERS)
    found = await visit.gather(kept=visit.get(_API + "/points", **asked), pnl=visit.get(_API, **asked))
    curve: list[tuple[Any, Any]] = [(each["at"], each["pnl"]) for each in found["kept"]["points"]]
    today = trading_day(visit.request.services.clock.now()).isoformat()
    if found["pnl"]["date"] == today:
        # the minute that goes on now has not been kept yet
        curve.append((found["pnl"]["at"], found["pnl"]["total"]["pnl"]))
    return visit.json(curve)
