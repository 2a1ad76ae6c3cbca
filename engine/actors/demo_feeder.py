"""The demo: sample signals that the engine feeds itself, so that there is something to look at.

Takes the road of every signal: a delivery of the first enabled sheets source, through ingest, risk and
the executor. Buys and sells take turns, so that positions stay small. Paper mode only. No mailbox.
Restart: permanent.
"""

import hashlib
import itertools

import structlog
import trio

from engine.actors.ingest import Ingest
from engine.clock import Clock
from engine.domain.delivery import Delivery, Item
from engine.domain.directory import Directory, Source
from engine.domain.enums import Exchange, OrderType, ProductType, SourceType, TransactionType
from engine.domain.signal import Signal
from engine.errors import ApiError
from engine.ids import uuid7

_log = structlog.get_logger(__name__)

_EVERY_S = 3.0
_SYMBOLS = ("INFY", "SBIN", "ITC", "WIPRO", "NTPC")


class DemoFeeder:
    """Feeds one sample signal every three seconds."""

    def __init__(self, *, ingest: Ingest, directory: Directory, clock: Clock) -> None:
        self._ingest = ingest
        self._directory = directory
        self._clock = clock

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Feed until cancelled."""
        task_status.started()
        sides = (TransactionType.BUY, TransactionType.SELL)
        for side, symbol in itertools.cycle((side, symbol) for side in sides for symbol in _SYMBOLS):
            source = self._source()
            if source is not None:
                await self._feed(source, symbol, side)
            await trio.sleep(_EVERY_S)

    def _source(self) -> Source | None:
        sheets = (s for s in self._directory.sources.values() if s.type is SourceType.SHEETS and s.enabled)
        return next(sheets, None)

    async def _feed(self, source: Source, symbol: str, side: TransactionType) -> None:
        signal = Signal(
            symbol=symbol,
            exchange=Exchange.NSE,
            transaction_type=side,
            quantity=1,
            order_type=OrderType.MARKET,
            product_type=ProductType.MIS,
        )
        key = f"demo:{uuid7()}"
        delivery = Delivery(
            source_id=source.id,
            strategy_id=source.strategy_id,
            user_id=source.user_id,
            idempotency_key=key,
            body_sha256=hashlib.sha256(key.encode()).digest(),
            received_at=self._clock.now(),
            request_id=None,
            items=(Item(position=0, signal=signal),),
        )
        try:
            await self._ingest.accept(delivery)
        except ApiError as refusal:
            _log.info("demo.refused", why=refusal.message)
