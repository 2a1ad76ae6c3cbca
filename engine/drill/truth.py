"""What happened in a drill by the exchange's own record: the engine is not asked what it did."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from engine.domain.drill import Filled, Placed
from engine.exchange.events import Event, OrderRequested, Traded
from engine.exchange.faults import Hit


def hits_of(rows: Iterable[dict[str, Any]]) -> list[Hit]:
    """Return the requests that rules were applied to, as the control port tells them."""
    return [msgspec.convert(row, Hit, strict=False) for row in rows]


def placed_of(events: Iterable[Event], hits: Sequence[Hit], exit_tags: frozenset[str]) -> list[Placed]:
    """Return every request to place an order, in the order of arrival.

    One that a rule held back counts from when it arrived, not from when it took effect; one that a rule swallowed
    is not in the record, and counts as refused.
    """
    held_back = {hit.tag: hit.at for hit in hits if hit.kind == "place" and hit.takes == "late"}
    found = [
        Placed(
            at=min(event.at, held_back.get(event.tag_sent, event.at)),
            order_id=event.order_id,
            tag=event.tag_sent or "",
            accepted=event.accepted,
            exit=event.tag_sent in exit_tags,
        )
        for event in events
        if isinstance(event, OrderRequested) and event.action == "place"
    ]
    found += [
        Placed(at=hit.at, order_id=None, tag=hit.tag or "", accepted=False, exit=hit.tag in exit_tags)
        for hit in hits
        if hit.kind == "place" and hit.takes == "never"
    ]
    return sorted(found, key=lambda each: each.at)


def filled_of(events: Iterable[Event], exit_tags: frozenset[str]) -> list[Filled]:
    """Return the trades in the order of trading."""
    exits: set[str] = set()
    found = []
    for event in events:
        if isinstance(event, OrderRequested) and event.tag_sent in exit_tags and event.order_id is not None:
            exits.add(event.order_id)
        elif isinstance(event, Traded):
            trade = event.trade
            units = trade.quantity if trade.transaction_type == "BUY" else -trade.quantity
            found.append(Filled(place=f"{trade.key} {trade.product}", units=units, exit=event.order_id in exits))
    return found


def cancels_of(events: Iterable[Event], since: datetime) -> list[OrderRequested]:
    """Return the requests to cancel that came after *since* (UTC)."""
    return [e for e in events if isinstance(e, OrderRequested) and e.action == "cancel" and e.at >= since]
