"""Traces of signals: from what the ledger commits to a collector on loopback."""

from datetime import timedelta
from uuid import UUID

import msgspec
import pytest
import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from engine.actors.ledger_entry import LedgerEntry
from engine.actors.trace_exporter import TraceExporter
from engine.clock import SystemClock
from engine.domain.enums import IntentStatus, OrderStatus
from engine.domain.intent import Intent
from engine.domain.order import OrderEvent
from engine.domain.signal import Signal
from engine.domain.spans import SpanMaker
from engine.notify.channel import ChannelFailed
from engine.notify.otlp import OtlpTraces
from engine.secret import Secret
from tests.support.sinks import HttpSink
from tests.support.trade import NOW, an_order

INTENT = UUID(int=77)


def at(milliseconds):
    return NOW + timedelta(milliseconds=milliseconds)


def entries():
    order = an_order(OrderStatus.PENDING, intent_id=INTENT, created_at=at(2), submitting_at=at(5))
    intent = Intent(
        id=INTENT,
        source_id=UUID(int=1),
        strategy_id=UUID(int=2),
        user_id=UUID(int=3),
        signal=msgspec.convert(
            {
                "symbol": "INFY",
                "exchange": "NSE",
                "transaction_type": "BUY",
                "quantity": 10,
                "order_type": "MARKET",
                "product_type": "MIS",
            },
            Signal,
        ),
        status=IntentStatus.EXECUTING,
        received_at=at(0),
        updated_at=at(2),
        idempotency_key="k",
        body_sha256=b"",
        request_id="req-7",
    )
    steps = [
        (OrderStatus.PENDING, OrderStatus.SUBMITTING, 5, 0),
        (OrderStatus.SUBMITTING, OrderStatus.SUBMITTED, 20, 0),
        (OrderStatus.SUBMITTED, OrderStatus.COMPLETE, 300, 10),
    ]
    yield LedgerEntry(new_intents=[intent], new_orders=[order])
    for before, to, when, filled in steps:
        event = OrderEvent(order_id=order.id, at=at(when), from_status=before, to_status=to, filled_quantity=filled)
        yield LedgerEntry(order_updates=[order], order_events=[event])
    done = msgspec.structs.replace(intent, status=IntentStatus.EXECUTED, updated_at=at(301))
    yield LedgerEntry(intent_updates=[done])


@pytest.fixture
def sink():
    with HttpSink() as running:
        yield running


async def test_a_signal_is_one_trace_from_receipt_to_fill(sink):
    collector = OtlpTraces(f"{sink.url}/v1/traces", Secret("Bearer hidden"), version="1")
    exporter = TraceExporter(collector, SpanMaker(), clock=SystemClock())
    exporter.committed(list(entries()))
    async with trio.open_nursery() as nursery:
        await nursery.start(exporter.run)
        with trio.fail_after(10):
            while not sink.calls:
                await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    method, path, headers, body = sink.calls[0]
    assert (method, path, headers["authorization"]) == ("POST", "/v1/traces", "Bearer hidden")
    message = ExportTraceServiceRequest.FromString(body)
    spans = {span.name: span for span in message.resource_spans[0].scope_spans[0].spans}
    assert set(spans) == {"signal", "decide", "commit", "order.queue", "order.place", "order.fill"}
    assert {span.trace_id for span in spans.values()} == {INTENT.bytes}
    root = spans.pop("signal")
    assert root.parent_span_id == b""
    assert {span.parent_span_id for span in spans.values()} == {root.span_id}
    lasted = {name: (span.end_time_unix_nano - span.start_time_unix_nano) // 1_000_000 for name, span in spans.items()}
    assert (lasted["decide"], lasted["order.queue"], lasted["order.place"], lasted["order.fill"]) == (2, 3, 15, 280)
    assert (root.end_time_unix_nano - root.start_time_unix_nano) // 1_000_000 == 301
    assert "req-7" in str(root.attributes)


class Away:
    def encode(self, spans):
        return b"x"

    async def post(self, content):
        raise ChannelFailed("away")


async def test_collector_that_is_away_costs_spans_and_nothing_else(autojump_clock):
    exporter = TraceExporter(Away(), SpanMaker(), clock=SystemClock())
    lost = exporter._lost.value
    exporter.committed([entry for _ in range(3000) for entry in list(entries())[:1]] * 2)
    async with trio.open_nursery() as nursery:
        await nursery.start(exporter.run)
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    assert exporter._lost.value > lost


def test_sampling_takes_whole_traces():
    maker = SpanMaker(sample_pct=1)
    taken = [
        maker.take(
            new_intents=entry.new_intents,
            intent_updates=entry.intent_updates,
            orders=(*entry.new_orders, *entry.order_updates),
            events=entry.order_events,
            committed_at=at(3),
        )
        for entry in entries()
    ]
    assert sum(map(len, taken)) == 0
