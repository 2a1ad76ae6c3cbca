"""/console/intents: the signals with their filters, and the whole story of one, from receipt to the last fill."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from engine.console.asked import asked_of, window
from engine.console.formats import instant
from engine.console.pages import action, page
from engine.console.views.orders import labels_of, with_state
from engine.console.visit import Visit
from engine.domain.enums import IntentStatus
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/intents"
ONE = PATH + "/{id}"
API = "/signals/intents"
FILTERS = ("status", "strategyId", "symbol", "from", "to")
_LIMIT = 50
_FIRST, _NEVER = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@page(PATH, Permission.READ)
async def intents_page(visit: Visit) -> Raw:
    """Signals that were accepted, newest first, by state, strategy, symbol and day."""
    asked = asked_of(visit.query, FILTERS)
    found = await visit.gather(
        intents=visit.listing(API, limit=_LIMIT, cursor=visit.query.get("cursor"), **window(asked)),
        strategies=visit.listing("/strategies", limit=200),
    )
    strategies = found["strategies"].items
    return visit.render(
        "intents.html",
        intents=found["intents"].items,
        next_cursor=found["intents"].next_cursor,
        strategies=[(each["id"], each["name"]) for each in strategies],
        names={each["id"]: each["name"] for each in strategies},
        statuses=[status.value for status in IntentStatus],
        asked=asked,
        is_filtered=any(asked.values()) or "cursor" in visit.query,
    )


@page(ONE, Permission.READ)
async def intent_page(visit: Visit) -> Raw:
    """One signal: what was received, every rule with its numbers, its orders, and everything in the order of time."""
    found = await visit.gather(
        intent=visit.get(API + "/{id}", values=visit.request.path),
        accounts=visit.listing("/accounts", limit=200),
        strategies=visit.listing("/strategies", limit=200),
        sources=visit.listing("/sources", limit=200),
    )
    intent, labels = found["intent"], labels_of(found["accounts"].items)
    return visit.render(
        "intent.html",
        intent=intent,
        story=story(intent, labels),
        orders=[with_state(order) for order in intent["orders"]],
        labels=labels,
        strategy=_name(found["strategies"].items, intent["strategyId"]),
        source=_name(found["sources"].items, intent["sourceId"]),
        is_waiting=intent["status"] == IntentStatus.PENDING_APPROVAL,
        is_over=IntentStatus(intent["status"]).is_terminal,
    )


@page(ONE + "/reject", Permission.TRADE)
async def reject_form(visit: Visit) -> Raw:
    """The dialog that asks why a waiting signal is refused."""
    return visit.fragment("intent.html", "reject", intent=await visit.get(API + "/{id}", values=visit.request.path))


@page(ONE + "/cancel", Permission.TRADE)
async def cancel_form(visit: Visit) -> Raw:
    """The dialog that asks whether what of a signal has not filled shall be cancelled."""
    return visit.fragment("intent.html", "cancel", intent=await visit.get(API + "/{id}", values=visit.request.path))


@action(ONE + "/cancel", Permission.TRADE)
async def cancel(visit: Visit) -> Raw:
    """Takes a waiting signal back, or cancels what of its orders has not filled."""
    intent = await visit.send("POST", API + "/{id}/cancel", values=visit.request.path)
    is_gone = intent["status"] in (IntentStatus.CANCELLED, IntentStatus.PARTIAL)
    text = f"{intent['symbol']}: the signal is {intent['status']}"
    return visit.done(text, changed="intent order", kind="good" if is_gone else "warn")


def story(intent: Mapping[str, Any], labels: Mapping[str, str]) -> Sequence[Mapping[str, Any]]:
    """Return everything that happened to a signal and to its orders, in the order of time.

    Each has ``at``, ``what`` (a state or an event), ``who`` (the account; None for the signal as a whole), ``detail``,
    ``order`` (its id, or None), ``anomaly`` and, of a trade, ``fill``. The exchange tells the second of
    a trade alone: it stands where the broker's first word of it came.
    """
    found = [_entry(each["at"], each["event"], each["detail"]) for each in intent["timeline"]]
    for order in intent["orders"]:
        who = labels.get(order["accountId"], "an account")
        found += [
            {
                **_entry(event["at"], event["toStatus"], event["detail"], who, order["id"]),
                "anomaly": event["anomaly"],
                "filled": event["filledQuantity"],
            }
            for event in order["events"]
        ]
        told = next((event["at"] for event in order["events"] if event["filledQuantity"]), None)
        found += [
            {
                **_entry(fill["filledAt"], "FILL", f"trade {fill['tradeId']}", who, order["id"]),
                "fill": fill,
                "told": told,
            }
            for fill in order["fills"]
        ]
    return sorted(found, key=_place)


def _place(entry: Mapping[str, Any]) -> tuple[datetime, bool]:
    at = max(instant(entry["at"]) or _NEVER, instant(entry["told"]) or _FIRST)
    return at, entry["fill"] is None


def _entry(at: Any, what: str, detail: str, who: str | None = None, order: str | None = None) -> dict[str, Any]:
    return {
        "at": at,
        "what": what,
        "who": who,
        "detail": detail,
        "order": order,
        "anomaly": False,
        "filled": 0,
        "fill": None,
        "told": None,
    }


def _name(items: Sequence[Mapping[str, Any]], wanted: str) -> str:
    return next((str(each["name"]) for each in items if each["id"] == wanted), "one that is gone")
