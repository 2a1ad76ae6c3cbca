from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from engine.domain.enums import OrderStatus
from engine.domain.intent import IntentEvent
from engine.domain.order import OrderEvent
from engine.domain.stage_times import written
from engine.domain.trace import OrderTrace, trace
from tests.support.trade import an_order

AT = datetime(2026, 11, 30, 5, 0, tzinfo=UTC)
WAY = {"parsed": 500, "decided": 800, "accepted": 2900, "committed": 2800, "sent": 3000, "answered": 4000}


class Received:
    """As much of an intent as a trace reads."""

    received_at = AT


def at(ms: float) -> datetime:
    return AT + timedelta(milliseconds=ms)


def event(ms: float, before: OrderStatus, after: OrderStatus, detail: str = "", filled: int = 0) -> OrderEvent:
    return OrderEvent(
        order_id=an_order().id,
        at=at(ms),
        from_status=before,
        to_status=after,
        filled_quantity=filled,
        detail=detail,
    )


def traced(*events: OrderEvent, timeline: Any = (), **fields: Any) -> OrderTrace:
    return trace(Received(), timeline, an_order(OrderStatus.COMPLETE, **fields), events, ())  # type: ignore[arg-type]


def test_stages_of_the_clock_are_set_into_the_time_of_day_with_the_fill_after_them() -> None:
    found = traced(
        event(1, OrderStatus.PENDING, OrderStatus.SUBMITTING, "attempt 1"),
        event(5, OrderStatus.SUBMITTING, OrderStatus.SUBMITTED, written(WAY)),
        event(11, OrderStatus.SUBMITTED, OrderStatus.COMPLETE, filled=10),
    )
    assert found.exact
    assert found.received_at == at(1)
    assert [step.stage for step in found.steps] == [*WAY, "filled"]
    took = {step.stage: round(step.took_ms, 3) for step in found.steps}
    assert took == {
        "parsed": 0.5,
        "decided": 0.3,
        "accepted": 2.4,
        "committed": 2.0,
        "sent": 0.2,
        "answered": 1.0,
        "filled": 6.0,
    }
    # what ran beside the others has no share of the whole
    assert sum(step.share or 0 for step in found.steps) == pytest.approx(1)
    assert next(step.share for step in found.steps if step.stage == "accepted") is None


def test_without_a_clock_what_is_on_record_is_shown() -> None:
    found = traced(
        event(2, OrderStatus.PENDING, OrderStatus.SUBMITTING, "attempt 1"),
        event(9, OrderStatus.SUBMITTING, OrderStatus.COMPLETE, filled=10),
        timeline=[IntentEvent(intent_id=an_order().id, at=at(1), event="APPROVED")],
        submitting_at=at(2),
    )
    assert not found.exact
    assert found.received_at == AT
    assert [(step.stage, step.at_ms) for step in found.steps] == [
        ("decided", 1.0),
        ("written ahead", 2.0),
        ("answered", 9.0),
        ("filled", 9.0),
    ]


def test_what_never_went_has_no_steps() -> None:
    assert traced().steps == []
