"""Adopting orders of the broker's book that this engine did not send.

A stranger's row is adopted once it has survived two reads with nothing of ours stirring in its
instrument between them. One that bears a tag of this engine, while the ledger has no such order, is an
orphan: the one thing that must never happen, so it is adopted with an anomaly and an alert.
"""

from collections.abc import Hashable
from uuid import UUID

import structlog

from engine.actors.executor_context import ExecutorContext
from engine.actors.external_orders import external_order
from engine.actors.look import Look
from engine.actors.order_desk import OrderDesk
from engine.broker.values import BrokerOrder
from engine.clock import trading_day
from engine.domain.difference import STUBBORN_READS, TwoReads
from engine.domain.enums import Exchange
from engine.domain.order import Order
from engine.errors import BrokerUnavailable

_log = structlog.get_logger(__name__)

# A first read of a busy account must not hold up everybody else's orders.
_PER_PASS = 200


class Adopter:
    """The strangers seen on one account."""

    def __init__(self, context: ExecutorContext, desk: OrderDesk, *, user_id: UUID, apart_s: float) -> None:
        self._context = context
        self._desk = desk
        self._user_id = user_id
        self._reads: TwoReads[str] = TwoReads(apart_s=apart_s, stubborn=STUBBORN_READS)
        self._strange: dict[str, str] = {}
        self.pending_instruments: frozenset[tuple[Exchange, str]] = frozenset()

    def clear(self) -> None:
        """Forget what was seen."""
        self._reads.clear()
        self._strange.clear()
        self.pending_instruments = frozenset()

    @property
    def is_pending(self) -> bool:
        """Whether a stranger waits for the second read."""
        return bool(self.pending_instruments)

    @property
    def unreadable(self) -> list[str]:
        """Strangers in words that the engine does not have, and what those are."""
        return list(self._strange.values())

    def take(self, look: Look, *, at_s: float, may_act: bool) -> list[tuple[Order, BrokerOrder]]:
        """Take in a read that began at *at_s* (monotonic); return the orders adopted, with their rows."""
        strangers = self._read(look)
        desk = self._desk
        sightings: dict[str, tuple[Hashable, int]] = {
            broker_id: ((), desk.stirred_at(order.key)) for broker_id, (order, _) in strangers.items()
        }
        survived = self._reads.add(at_s, sightings)
        adopted: list[tuple[Order, BrokerOrder]] = []
        if may_act:
            for broker_id in [broker_id for broker_id in strangers if broker_id in survived][:_PER_PASS]:
                order, row = strangers[broker_id]
                if row.filled_quantity and look.trades is None:
                    continue  # its fills could not be booked
                del strangers[broker_id]
                self._adopt(order, row)
                adopted.append((order, row))
        self.pending_instruments = frozenset(order.key for order, _ in strangers.values())
        return adopted

    def _read(self, look: Look) -> dict[str, tuple[Order, BrokerOrder]]:
        strangers: dict[str, tuple[Order, BrokerOrder]] = {}
        strange: dict[str, str] = {}
        day = self._desk.day or trading_day(look.started_at)
        for row in look.foreign:
            try:
                order = external_order(
                    row,
                    account_id=self._desk.account_id,
                    user_id=self._user_id,
                    epoch=self._context.epoch,
                    day=day,
                    now=look.started_at,
                )
            except BrokerUnavailable as error:
                strange[row.broker_order_id] = str(error)
                if row.broker_order_id not in self._strange:
                    _log.warning("order.not_adopted", account=str(self._desk.account_id), reason=str(error))
            else:
                strangers[row.broker_order_id] = (order, row)
        self._strange = strange
        return strangers

    def _adopt(self, order: Order, row: BrokerOrder) -> None:
        self._reads.drop(row.broker_order_id)
        ours = next((tag for tag in (row.tag, *row.tags) if tag and self._context.is_ours(tag)), None)
        parent = row.parent_order_id
        if ours is None or (parent is not None and parent in self._desk.known_broker_ids):
            made = "not sent from here" if parent is None else f"made by the broker for its order {parent}"
            self._desk.adopt(order, f"EXTERNAL_ADOPTED: {row.raw_status} at the broker, {made}", anomaly=False)
            _log.info("order.external", order=str(order.id), broker_order=row.broker_order_id)
            return
        text = f"ORPHAN: {row.broker_order_id} bears {ours}, a tag of this engine, and the ledger has no such order"
        self._desk.adopt(order, text, anomaly=True)
        self._context.alert(f"order:{order.id}", text)
