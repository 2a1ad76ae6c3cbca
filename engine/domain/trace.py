"""The way of one order, stage by stage, out of what the ledger holds of it."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec

from engine.domain.enums import OrderStatus
from engine.domain.fill import Fill
from engine.domain.intent import Intent, IntentEvent
from engine.domain.order import Order, OrderEvent
from engine.domain.stage_times import STAGES, read

_BEFORE = {"accepted": "parsed", "decided": "parsed"}
"""What a stage follows where that is not the one before it: durable writes and decision are begun together."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One stage: when it was reached and how long it took (ms after receipt), and its share of the whole.

    ``share`` is None for what ran beside the others. ``witness`` says who knows of it.
    """

    stage: str
    at_ms: float
    took_ms: float
    share: float | None
    witness: str


class OrderTrace(msgspec.Struct, frozen=True, kw_only=True):
    """The way of an order. ``received_at`` (UTC) is the moment that everything counts from.

    ``exact`` is False where no stage clock ran along (a signal by Telegram or by hand, one of an earlier life of the
    engine, an order that its book showed before the answer came): then only what is on record has a time.
    """

    order: Order
    received_at: datetime
    exact: bool
    steps: Sequence[Step]
    history: Sequence[OrderEvent]
    fills: Sequence[Fill]


def trace(
    intent: Intent, timeline: Sequence[IntentEvent], order: Order, events: Sequence[OrderEvent], fills: Sequence[Fill]
) -> OrderTrace:
    """Return the way of *order* of *intent*."""
    clocked = next(((event, found) for event in events if (found := read(event.detail))), None)
    if clocked is None:
        received_at = intent.received_at
        reached = _on_record(timeline, order, events, received_at)
    else:
        event, offsets = clocked
        # the event was made as the broker's answer had been read: by it the stages are set into the time of day
        received_at = event.at - timedelta(microseconds=offsets.get("answered", 0))
        reached = [(name, offsets[name] / 1000, "stage clock") for name in STAGES if name in offsets]
    for event in events:
        if event.filled_quantity and event.to_status is not event.from_status:
            name = "filled" if event.to_status is OrderStatus.COMPLETE else "partly filled"
            reached.append((name, _ms(event.at - received_at), "order book"))
    return OrderTrace(
        order=order,
        received_at=received_at,
        exact=clocked is not None,
        steps=_steps(reached),
        history=events,
        fills=fills,
    )


def _on_record(
    timeline: Sequence[IntentEvent], order: Order, events: Sequence[OrderEvent], since: datetime
) -> list[tuple[str, float, str]]:
    decided = next((event for event in timeline if event.event == "APPROVED"), None)
    found = [] if decided is None else [("decided", _ms(decided.at - since), "timeline")]
    if order.submitting_at is not None:
        found.append(("written ahead", _ms(order.submitting_at - since), "order's row"))
    answer = next((event for event in events if event.from_status is OrderStatus.SUBMITTING), None)
    if answer is not None:
        found.append(("answered", _ms(answer.at - since), "order's history"))
    return found


def _steps(reached: Sequence[tuple[str, float, str]]) -> list[Step]:
    at = {"received": 0.0}
    steps: list[Step] = []
    whole = max((at_ms for _, at_ms, _ in reached), default=0.0)
    last = "received"
    for name, at_ms, witness in reached:
        before = _BEFORE.get(name, last)
        took = max(0.0, at_ms - at.get(before, at[last]))
        share = None if name == "accepted" or not whole else took / whole
        steps.append(Step(stage=name, at_ms=at_ms, took_ms=took, share=share, witness=witness))
        at[name] = at_ms
        if name != "accepted":
            last = name
    return steps


def _ms(span: timedelta) -> float:
    return span.total_seconds() * 1000
