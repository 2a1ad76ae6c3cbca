"""Exports traces of signals: takes what the ledger committed, makes spans of it later, posts them in batches.

Told by the ledger's commit: one append to a bounded queue that drops the oldest with a count; everything else is this
task's. A collector that is away costs nothing but the spans. No mailbox. Restart: permanent.
"""

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

import structlog
import trio

from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock
from engine.domain.spans import Span, SpanMaker
from engine.notify.channel import ChannelFailed
from engine.observability.measures import METRICS

_log = structlog.get_logger(__name__)

_EVERY_S = 1.0
_MOST_WAITING = 5_000
_BATCH = 512
_STRIDE = 100


class Collector(Protocol):
    """Where spans go."""

    def encode(self, spans: Sequence[Span]) -> bytes:
        """Return *spans* as a message (in a thread)."""

    async def post(self, content: bytes) -> str:
        """Post a message. Raises ChannelFailed."""


class TraceExporter:
    """Exports to *collector* what *maker* makes."""

    def __init__(self, collector: Collector, maker: SpanMaker, *, clock: Clock) -> None:
        self._collector = collector
        self._maker = maker
        self._clock = clock
        self._waiting: deque[tuple[datetime, LedgerEntry]] = deque()
        self._exported = METRICS.counter("trace_spans", outcome="exported")
        self._lost = METRICS.counter("trace_spans", outcome="lost")

    def committed(self, entries: Sequence[LedgerEntry]) -> None:
        """Take what is on disk now; never waits."""
        now = self._clock.now()
        for entry in entries:
            if entry.new_intents or entry.intent_updates or entry.order_events:
                self._waiting.append((now, entry))
        while len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft()
            self._lost.inc()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Export until cancelled."""
        task_status.started()
        while True:
            await trio.sleep(_EVERY_S)
            while self._waiting:
                await self._export(await self._next_batch())

    async def _next_batch(self) -> list[Span]:
        spans: list[Span] = []
        taken = 0
        while self._waiting and len(spans) < _BATCH:
            at, entry = self._waiting.popleft()
            spans += self._maker.take(
                new_intents=entry.new_intents,
                intent_updates=entry.intent_updates,
                orders=(*entry.new_orders, *entry.order_updates),
                events=entry.order_events,
                committed_at=at,
            )
            taken += 1
            if not taken % _STRIDE:
                await trio.lowlevel.checkpoint()
        return spans

    async def _export(self, spans: list[Span]) -> None:
        if not spans:
            return
        try:
            content = await trio.to_thread.run_sync(self._collector.encode, spans)
            await self._collector.post(content)
        except ChannelFailed as failed:
            self._lost.inc(len(spans))
            _log.warning("traces.not_exported", error=str(failed), spans=len(spans))
        else:
            self._exported.inc(len(spans))
