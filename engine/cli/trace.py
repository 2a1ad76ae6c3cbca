"""``engine trace``: where the time of one signal went, stage by stage."""

from typing import Annotated, Any

import typer

from engine.cli.places import ConfigOption, DataDirOption, JsonOption, say, say_json
from engine.cli.risk import stored
from engine.domain.trace import OrderTrace, Step
from engine.domain.trace import trace as trace_of
from engine.store.queries.intents import IntentStory

_BAR = 32


def trace(
    intent: Annotated[str, typer.Argument(metavar="INTENT", help="The intent's id.")],
    config: ConfigOption = None,
    data_dir: DataDirOption = None,
    json: JsonOption = False,
) -> None:
    """Show the way of a signal as a waterfall: every stage, how long it took, who saw it. The engine may run or not."""
    story, _ = stored(intent, config, data_dir)
    traces = traced(story)
    if json:
        say_json(
            {
                "intentId": str(story.intent.id),
                "status": story.intent.status,
                "receivedAt": story.intent.received_at,
                "reason": story.intent.reason,
                "orders": [_view(each) for each in traces],
            }
        )
        return
    for line in lines(story, traces):
        say(line)


def traced(story: IntentStory) -> list[OrderTrace]:
    """Return the ways of the orders of an intent."""
    return [
        trace_of(story.intent, story.timeline, each.order, each.events, each.fills)
        for each in sorted(story.orders, key=lambda each: each.order.created_at)
    ]


def lines(story: IntentStory, traces: list[OrderTrace]) -> list[str]:
    """Return the waterfall as text."""
    held, signal = story.intent, story.intent.signal
    said = [f"{held.id}  {signal.transaction_type} {signal.quantity} {signal.exchange}:{signal.symbol}  {held.status}"]
    if held.reason:
        said.append(f"  {held.reason}")
    if not traces:
        said += [
            f"{_ms((e.at - held.received_at).total_seconds() * 1000)}  {e.event} {e.detail}" for e in story.timeline
        ]
    for each in traces:
        said += _order_lines(each)
    return said


def _order_lines(each: OrderTrace) -> list[str]:
    order = each.order
    at = each.received_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    said = [
        f"order {order.id}  account {order.account_id}  {order.status}  attempt {order.attempt}",
        f"  received {at}" + ("" if each.exact else "  (no stage clock: what is on record)"),
    ]
    whole = max((step.at_ms for step in each.steps), default=0.0)
    said += [_step_line(step, whole) for step in each.steps]
    if order.broker_order_id is not None:
        said.append(f"  broker call: POST /orders/{order.variety}, tag {order.tag} -> {order.broker_order_id}")
    for fill in each.fills:
        kind = "worked out from the order book" if fill.synthetic else f"trade {fill.trade_id} of the trade book"
        said.append(f"  witness: {fill.quantity} at {fill.price}, {kind}")
    said += [
        f"  witness: {event.from_status} -> {event.to_status}  {event.detail}"
        for event in each.history
        if event.anomaly
    ]
    return said


def _step_line(step: Step, whole: float) -> str:
    share = "beside" if step.share is None else f"{step.share:6.1%}"
    begin = 0 if not whole else round((step.at_ms - step.took_ms) / whole * _BAR)
    length = 0 if not whole else max(1, round(step.took_ms / whole * _BAR))
    bar = (" " * begin + "#" * length)[:_BAR].ljust(_BAR)
    return f"  {step.stage:<13} {_ms(step.at_ms)}  +{_ms(step.took_ms)}  {share:>6}  |{bar}|  {step.witness}"


def _ms(value: float) -> str:
    return f"{value:9.3f} ms"


def _view(each: OrderTrace) -> dict[str, Any]:
    order = each.order
    return {
        "orderId": str(order.id),
        "accountId": str(order.account_id),
        "status": order.status,
        "attempt": order.attempt,
        "tag": order.tag,
        "brokerOrderId": order.broker_order_id,
        "receivedAt": each.received_at,
        "exact": each.exact,
        "stages": [
            {
                "stage": step.stage,
                "atMs": round(step.at_ms, 3),
                "tookMs": round(step.took_ms, 3),
                "share": None if step.share is None else round(step.share, 4),
                "witness": step.witness,
            }
            for step in each.steps
        ],
        "history": [
            {"at": event.at, "from": event.from_status, "to": event.to_status, "detail": event.detail}
            for event in each.history
        ],
        "fills": [
            {"tradeId": fill.trade_id, "quantity": fill.quantity, "price": fill.price, "filledAt": fill.filled_at}
            for fill in each.fills
        ],
    }
