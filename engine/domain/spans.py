"""What a signal's way looks like as a trace: spans made from what the ledger has committed, long after the hot path.

A trace is an intent: its id is the trace's. Times are those on record, so that a trace and the audit log agree.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import blake2b
from uuid import UUID

import msgspec

from engine.domain.enums import IntentStatus, OrderStatus
from engine.domain.intent import Intent
from engine.domain.order import Order, OrderEvent

_MOST_OPEN = 10_000
_GOOD = frozenset({IntentStatus.EXECUTED, IntentStatus.PARTIAL, IntentStatus.EXECUTING})


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """One stretch of time of a trace; ``parent_id`` 0 is the trace's own. Times are aware UTC."""

    trace_id: int
    span_id: int
    parent_id: int
    name: str
    start: datetime
    end: datetime
    attributes: Mapping[str, str | int]
    failed: str = ""


class SpanMaker:
    """Makes spans of what is committed, of *sample_pct* percent of the intents; remembers the newest open ones."""

    def __init__(self, sample_pct: int = 100) -> None:
        self._sample_pct = sample_pct
        self._placed: OrderedDict[UUID, datetime] = OrderedDict()

    def take(
        self,
        *,
        new_intents: Sequence[Intent],
        intent_updates: Sequence[Intent],
        orders: Sequence[Order],
        events: Sequence[OrderEvent],
        committed_at: datetime,
    ) -> list[Span]:
        """Return the spans that one committed entry ends."""
        spans: list[Span] = []
        for intent in filter(self._is_sampled, new_intents):
            spans.append(_of_intent(intent, "decide", intent.received_at, intent.updated_at))
            spans.append(_of_intent(intent, "commit", intent.updated_at, committed_at))
        ended = filter(self._is_sampled, (*new_intents, *intent_updates))
        spans += [_root(intent) for intent in ended if intent.status.is_terminal]
        known = {order.id: order for order in orders}
        for event in events:
            order = known.get(event.order_id)
            if order is not None and order.intent_id is not None and self._samples(order.intent_id):
                spans += self._of_order(order, order.intent_id, event)
        return spans

    def _of_order(self, order: Order, intent_id: UUID, event: OrderEvent) -> list[Span]:
        if event.to_status is OrderStatus.SUBMITTING:
            return [_order_span(order, intent_id, "queue", order.created_at, event)]
        spans: list[Span] = []
        if event.from_status is OrderStatus.SUBMITTING and order.submitting_at is not None:
            spans.append(_order_span(order, intent_id, "place", order.submitting_at, event))
            self._placed[order.id] = event.at
            while len(self._placed) > _MOST_OPEN:
                self._placed.popitem(last=False)
        placed_at = self._placed.get(order.id)
        if event.to_status.is_terminal and placed_at is not None:
            del self._placed[order.id]
            if event.filled_quantity or event.from_status is not OrderStatus.SUBMITTING:
                spans.append(_order_span(order, intent_id, "fill", placed_at, event))
        return spans

    def _is_sampled(self, intent: Intent) -> bool:
        return self._samples(intent.id)

    def _samples(self, intent_id: UUID) -> bool:
        return _number(intent_id, "sample") % 100 < self._sample_pct


def _root(intent: Intent) -> Span:
    attributes: dict[str, str | int] = {
        "engine.intent": str(intent.id),
        "engine.status": intent.status.value,
        "engine.symbol": intent.signal.symbol,
    }
    if intent.request_id is not None:
        attributes["engine.request"] = intent.request_id
    return Span(
        trace_id=intent.id.int,
        span_id=_number(intent.id, "signal"),
        parent_id=0,
        name="signal",
        start=intent.received_at,
        end=max(intent.received_at, intent.updated_at),
        attributes=attributes,
        failed="" if intent.status in _GOOD else intent.reason or intent.status.value,
    )


def _of_intent(intent: Intent, name: str, start: datetime, end: datetime) -> Span:
    return Span(
        trace_id=intent.id.int,
        span_id=_number(intent.id, name),
        parent_id=_number(intent.id, "signal"),
        name=name,
        start=start,
        end=max(start, end),
        attributes={"engine.status": intent.status.value},
    )


def _order_span(order: Order, intent_id: UUID, name: str, start: datetime, event: OrderEvent) -> Span:
    attributes: dict[str, str | int] = {
        "engine.order": str(order.id),
        "engine.account": str(order.account_id),
        "engine.status": event.to_status.value,
        "engine.filled": event.filled_quantity,
        "engine.attempt": order.attempt,
    }
    is_bad = event.to_status in (OrderStatus.REJECTED, OrderStatus.FAILED, OrderStatus.UNKNOWN)
    return Span(
        trace_id=intent_id.int,
        span_id=_number(order.id, f"{name}:{order.attempt}"),
        parent_id=_number(intent_id, "signal"),
        name=f"order.{name}",
        start=start,
        end=max(start, event.at),
        attributes=attributes,
        failed=event.to_status.value if is_bad else "",
    )


def _number(of: UUID, name: str) -> int:
    """Return the span id of *name*: the same whenever it is made, never 0."""
    return int.from_bytes(blake2b(of.bytes + name.encode(), digest_size=8).digest()) or 1
