"""A broker in memory whose every answer can be scripted; it notes what left, and whether its row was on disk."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import msgspec
import trio
import trio.lowlevel

from engine.broker.base import (
    Accepted,
    Broker,
    BrokerGtt,
    BrokerGttOrder,
    BrokerHolding,
    BrokerOrder,
    BrokerPosition,
    BrokerPositions,
    BrokerTrade,
    Gate,
    NotSent,
    OrderNotCommitted,
    PlaceOutcome,
    RefusalCode,
    Refused,
    WriteOutcome,
)
from engine.domain.enums import (
    OrderStatus,
    OrderType,
    Variety,
)
from engine.domain.gtt import Gtt, GttStatus
from engine.domain.instruments import Instrument
from engine.domain.order import Order
from engine.errors import BrokerUnavailable
from tests.support.memory_store import MemoryStore
from tests.support.standing_blocks import StandingBlocks
from tests.support.trade import NOW

GttAnswer = Callable[["MemoryBroker", Gtt, Gate], Awaitable[WriteOutcome]]
Answer = Callable[["MemoryBroker", Order, Gate], Awaitable[PlaceOutcome]]


class MemoryBroker(Broker):
    """A broker that accepts, and whose orders stay OPEN; ``answers`` are those to the next orders of INFY."""

    def __init__(self, store: MemoryStore) -> None:
        self._order_blocks: StandingBlocks[BrokerOrder] = StandingBlocks()
        self._trade_blocks: StandingBlocks[BrokerTrade] = StandingBlocks()
        self._store = store
        self._ids = count(100_000_001)
        self.rows: dict[str, BrokerOrder] = {}
        self.shown_trades: list[BrokerTrade] = []
        self.left: list[Order] = []
        self.rate_limited: set[str] = set()
        self.gated: list[tuple[Order, str]] = []
        self.unproven: list[Order] = []
        self.answers: list[Answer] = []
        self.latency_s = 0.01
        self.book_down: Exception | None = None
        self.trades_down: Exception | None = None
        self.hide: set[str] = set()
        self.reads = 0
        self.read_times: list[float] = []
        self.read_latency_s = 0.005
        self.cancels: list[str] = []
        self.parents: list[str] = []
        self.cancel_times: list[float] = []
        self.cancel_answer: WriteOutcome | None = None
        self.cancel_latency_s = 0.01
        self.changes: list[tuple[str, dict[str, Any]]] = []
        # to the next requests to change an order; those after them are taken
        self.change_answers: list[WriteOutcome] = []
        self.gtt_rows: dict[str, BrokerGtt] = {}
        self.gtts_left: list[Gtt] = []
        self.gtt_cancels: list[str] = []
        self.gtt_changes: list[tuple[str, int]] = []
        # to the next requests for a trigger; those after them are taken
        self.gtt_answers: list[GttAnswer] = []
        self.gtt_cancel_answers: list[WriteOutcome] = []
        self.gtts_down: Exception | None = None
        self.hide_gtts: set[str] = set()
        self.gtt_reads = 0
        # what the clock of the world says: a trigger is stamped with it
        self.now: Callable[[], datetime] = lambda: NOW
        self.last_price = Decimal(100)
        self.position_rows: tuple[Any, ...] | None = None
        self.positions_down: Exception | None = None
        # signed units carried into the day, by (symbol, product)
        self.overnight: dict[tuple[str, str], int] = {}
        self.held_shares: list[BrokerHolding] = []
        self.closed = False
        self.on_left: Callable[[Order], None] = lambda _order: None
        self.times: list[float] = []

    # what scripted answers are made of

    def passes(self, order: Order, gate: Gate) -> NotSent | None:
        """Ask the gate and note the request as gone; NotSent when the gate says no."""
        reason = gate()
        if reason is not None:
            self.gated.append((order, reason))
            return NotSent(reason=reason, gated=True)
        row = self._store.orders.get(order.id)
        if row is None or row.status is not OrderStatus.SUBMITTING or row.tag != order.tag:
            self.unproven.append(order)
        self.left.append(order)
        self.times.append(trio.current_time())
        self.on_left(order)
        return None

    def put(self, order: Order, status: OrderStatus = OrderStatus.OPEN, **fields: Any) -> str:
        """Have the order in the book; returns the broker's id."""
        broker_id = str(next(self._ids))
        defaults: dict[str, Any] = {
            "broker_order_id": broker_id,
            "status": status,
            "raw_status": status.value,
            "quantity": order.quantity,
            "exchange": order.exchange.value,
            "symbol": order.symbol,
            "transaction_type": order.transaction_type.value,
            "product": order.product_type.value,
            "order_type": order.order_type.value,
            "validity": order.validity.value,
            "variety": order.variety.value,
            "price": order.price or Decimal(0),
            "trigger_price": order.trigger_price or Decimal(0),
            "tag": order.tag,
            "order_timestamp": NOW,
        }
        self.rows[broker_id] = BrokerOrder(**(defaults | fields))
        return broker_id

    def by_hand(self, symbol: str = "INFY", quantity: int = 10, side: str = "BUY", **fields: Any) -> str:
        """Have an order in the book that nobody of ours placed; returns the broker's id."""
        broker_id = str(next(self._ids))
        defaults: dict[str, Any] = {
            "broker_order_id": broker_id,
            "status": OrderStatus.OPEN,
            "raw_status": "OPEN",
            "quantity": quantity,
            "exchange": "NSE",
            "symbol": symbol,
            "transaction_type": side,
            "product": "MIS",
            "order_type": "LIMIT",
            "validity": "DAY",
            "variety": "regular",
            "price": Decimal(100),
            "order_timestamp": NOW,
        }
        self.rows[broker_id] = BrokerOrder(**(defaults | fields))
        return broker_id

    def change(self, broker_id: str, status: OrderStatus, *, filled: int | None = None, avg: str = "100") -> None:
        """Let the row move; a fill shows no trade by itself."""
        row = self.rows[broker_id]
        filled = row.filled_quantity if filled is None else filled
        self.rows[broker_id] = msgspec.structs.replace(
            row, status=status, filled_quantity=filled, average_price=Decimal(avg) if filled else Decimal(0)
        )

    def trade(self, broker_id: str, quantity: int, price: str = "100", trade_id: str | None = None) -> None:
        """Show a trade in the trade book."""
        row = self.rows[broker_id]
        self.shown_trades.append(
            BrokerTrade(
                trade_id=trade_id or f"t{len(self.shown_trades) + 1}",
                broker_order_id=broker_id,
                exchange=row.exchange,
                symbol=row.symbol,
                product=row.product,
                transaction_type=row.transaction_type,
                quantity=quantity,
                price=Decimal(price),
                filled_at=self.now(),
            )
        )

    def fill(self, broker_id: str, quantity: int | None = None, price: str = "100") -> None:
        """Fill (the rest of) an order: book and trade book agree."""
        row = self.rows[broker_id]
        rest = row.quantity - row.filled_quantity
        quantity = rest if quantity is None else quantity
        status = OrderStatus.COMPLETE if quantity == rest else OrderStatus.OPEN
        self.trade(broker_id, quantity, price)
        self.change(broker_id, status, filled=row.filled_quantity + quantity, avg=price)

    # triggers

    def put_gtt(self, gtt: Gtt, *, status: str = "active") -> str:
        """Have the trigger in the list; returns the broker's id."""
        trigger_id = str(len(self.gtt_rows) + 101)
        now = self.now()
        self.gtt_rows[trigger_id] = BrokerGtt(
            trigger_id=trigger_id,
            status=status,
            kind=gtt.kind,
            exchange=gtt.exchange,
            symbol=gtt.symbol,
            trigger_values=tuple(leg.trigger for leg in gtt.legs),
            last_price=gtt.last_price,
            orders=tuple(
                BrokerGttOrder(
                    transaction_type=gtt.transaction_type,
                    quantity=gtt.quantity,
                    price=leg.price,
                    product=gtt.product_type,
                    order_type="LIMIT",
                )
                for leg in gtt.legs
            ),
            created_at=now,
            updated_at=now,
            expires_at=now + timedelta(days=365),
        )
        return trigger_id

    def set_gtt(self, trigger_id: str, **fields: Any) -> None:
        """Let a trigger's row change."""
        self.gtt_rows[trigger_id] = msgspec.structs.replace(self.gtt_rows[trigger_id], **fields)

    def fire(self, trigger_id: str, leg: int = 0, *, refusal: str = "") -> str:
        """Let the price meet a side: the broker places its order, or cannot; returns the order's id."""
        row = self.gtt_rows[trigger_id]
        order = row.orders[leg]
        broker_id = (
            ""
            if refusal
            else self.by_hand(
                row.symbol, order.quantity, order.transaction_type, product=order.product, price=order.price
            )
        )
        fired = msgspec.structs.replace(order, order_id=broker_id, rejection_reason=refusal)
        orders = tuple(fired if i == leg else other for i, other in enumerate(row.orders))
        self.set_gtt(trigger_id, status="triggered", orders=orders)
        return broker_id

    def gtt_passes(self, gtt: Gtt, gate: Gate) -> NotSent | None:
        """Ask the gate and note the request as gone; NotSent when the gate says no."""
        reason = gate()
        if reason is not None:
            return NotSent(reason=reason, gated=True)
        row = self._store.gtts.get(gtt.id)
        assert row is not None, "a trigger left without its row"
        assert row.status is GttStatus.SUBMITTING, f"a trigger left with a row in {row.status}"
        self.gtts_left.append(gtt)
        return None

    async def place_gtt(self, gtt: Gtt, gate: Gate) -> WriteOutcome:
        return await (self.gtt_answers.pop(0) if self.gtt_answers else take_gtt)(self, gtt, gate)

    async def replace_gtt(self, trigger_id: str, gtt: Gtt, gate: Gate) -> WriteOutcome:
        reason = gate()
        if reason is not None:
            return NotSent(reason=reason, gated=True)
        self.gtt_changes.append((trigger_id, gtt.quantity))
        await trio.sleep(self.latency_s)
        row = self.gtt_rows[trigger_id]
        if not row.is_active:
            return Refused(code=RefusalCode.OTHER, message=f"The trigger is {row.status} and cannot be changed.")
        orders = tuple(msgspec.structs.replace(order, quantity=gtt.quantity) for order in row.orders)
        self.set_gtt(trigger_id, orders=orders)
        return Accepted(broker_order_id=trigger_id)

    async def cancel_gtt(self, trigger_id: str, gate: Gate | None = None) -> WriteOutcome:
        self.gtt_cancels.append(trigger_id)
        await trio.sleep(self.cancel_latency_s)
        if self.gtt_cancel_answers:
            scripted = self.gtt_cancel_answers.pop(0)
            if not isinstance(scripted, Accepted):
                return scripted
        row = self.gtt_rows[trigger_id]
        if not row.is_active:
            return Refused(code=RefusalCode.OTHER, message=f"The trigger is {row.status} and cannot be changed.")
        self.set_gtt(trigger_id, status="deleted")
        return Accepted(broker_order_id=trigger_id)

    async def gtts(self) -> list[BrokerGtt]:
        self.gtt_reads += 1
        rows = [row for row in self.gtt_rows.values() if row.trigger_id not in self.hide_gtts]
        await trio.sleep(self.read_latency_s)
        if self.gtts_down is not None:
            raise self.gtts_down
        return [row for row in rows if row.status != "deleted"]

    # the protocol

    async def place(self, order: Order, gate: Gate) -> PlaceOutcome:
        if order.status is not OrderStatus.SUBMITTING:
            raise OrderNotCommitted("scripted broker: not SUBMITTING")
        if self.answers and order.symbol == "INFY":
            return await self.answers.pop(0)(self, order, gate)
        return await accept(self, order, gate)

    async def cancel(
        self, broker_order_id: str, variety: Variety, *, parent_order_id: str | None = None, gate: Gate | None = None
    ) -> WriteOutcome:
        reason = None if gate is None else gate()
        if reason is not None:
            return NotSent(reason=reason, gated=True)
        self.cancels.append(broker_order_id)
        if parent_order_id is not None:
            self.parents.append(parent_order_id)
        self.cancel_times.append(trio.current_time())
        await trio.sleep(self.cancel_latency_s)
        if self.cancel_answer is not None:
            return self.cancel_answer
        if broker_order_id in self.rows and self.rows[broker_order_id].status.is_working:
            self.change(broker_order_id, OrderStatus.CANCELLED)
        return Accepted(broker_order_id=broker_order_id)

    async def replace(
        self, broker_order_id: str, variety: Variety, *, gate: Gate | None = None, **terms: Any
    ) -> WriteOutcome:
        reason = None if gate is None else gate()
        if reason is not None:
            return NotSent(reason=reason, gated=True)
        given = {name: value for name, value in terms.items() if value is not None}
        self.changes.append((broker_order_id, given))
        await trio.sleep(self.cancel_latency_s)
        if self.change_answers:
            scripted = self.change_answers.pop(0)
            if not isinstance(scripted, Accepted):
                return scripted
        names = {"order_type", "quantity", "price", "trigger_price", "validity", "market_protection"}
        row = self.rows[broker_order_id]
        shown = {
            name: str(v) if name in ("order_type", "validity") else v for name, v in given.items() if name in names
        }
        self.rows[broker_order_id] = msgspec.structs.replace(row, **shown)
        return Accepted(broker_order_id=broker_order_id)

    async def orders(self) -> Sequence[BrokerOrder]:
        self.reads += 1
        self.read_times.append(trio.current_time())
        shown = [row for row in self.rows.values() if row.broker_order_id not in self.hide]
        await trio.sleep(self.read_latency_s)
        if self.book_down is not None:
            raise self.book_down
        return self._order_blocks.book(shown)

    async def order_history(self, broker_order_id: str) -> list[BrokerOrder]:
        return [self.rows[broker_order_id]]

    async def trades(self) -> Sequence[BrokerTrade]:
        self.read_times.append(trio.current_time())
        await trio.sleep(self.read_latency_s)
        if self.trades_down is not None:
            raise self.trades_down
        return self._trade_blocks.book(self.shown_trades)

    async def order_trades(self, broker_order_id: str) -> list[BrokerTrade]:
        return [t for t in self.shown_trades if t.broker_order_id == broker_order_id]

    async def positions(self) -> BrokerPositions:
        rows = tuple(self._positions()) if self.position_rows is None else self.position_rows
        await trio.sleep(self.read_latency_s)
        if self.positions_down is not None:
            raise self.positions_down
        return BrokerPositions(net=rows)

    def _positions(self) -> Iterator[BrokerPosition]:
        """What the shown trades and what was carried in add up to; prices carried in are 100."""
        keys = dict.fromkeys([*self.overnight, *((t.symbol, t.product) for t in self.shown_trades)])
        for symbol, product in keys:
            mine = [t for t in self.shown_trades if (t.symbol, t.product) == (symbol, product)]
            bought = [t for t in mine if t.transaction_type == "BUY"]
            sold = [t for t in mine if t.transaction_type == "SELL"]
            carried = self.overnight.get((symbol, product), 0)
            day_buy, day_sell = sum(t.quantity for t in bought), sum(t.quantity for t in sold)
            buy_value = sum((t.quantity * t.price for t in bought), Decimal(0))
            sell_value = sum((t.quantity * t.price for t in sold), Decimal(0))
            yield BrokerPosition(
                exchange="NSE",
                symbol=symbol,
                product=product,
                quantity=carried + day_buy - day_sell,
                overnight_quantity=carried,
                last_price=Decimal(100),
                buy_quantity=day_buy + max(carried, 0),
                buy_value=buy_value + 100 * max(carried, 0),
                sell_quantity=day_sell + max(-carried, 0),
                sell_value=sell_value + 100 * max(-carried, 0),
                day_buy_quantity=day_buy,
                day_buy_value=buy_value,
                day_sell_quantity=day_sell,
                day_sell_value=sell_value,
            )

    async def holdings(self) -> list[BrokerHolding]:
        await trio.sleep(self.read_latency_s)
        return list(self.held_shares)

    async def instruments(self, exchange: str | None = None) -> list[Instrument]:
        return []

    async def last_prices(self, keys: Sequence[str]) -> dict[str, Decimal]:
        await trio.sleep(self.read_latency_s)
        return dict.fromkeys(keys, self.last_price)

    async def price_bounds(self, keys: Sequence[str]) -> dict[str, Any]:
        return {}

    async def margins(self) -> Any:
        raise BrokerUnavailable("scripted broker: not served")

    async def profile(self) -> Any:
        raise BrokerUnavailable("scripted broker: not served")

    async def aclose(self) -> None:
        self.closed = True


async def accept(broker: MemoryBroker, order: Order, gate: Gate) -> PlaceOutcome:
    """Take the order and say so."""
    refused = broker.passes(order, gate)
    if refused is not None:
        return refused
    waits = order.order_type in (OrderType.SL, OrderType.SL_M)
    broker_id = broker.put(order, OrderStatus.TRIGGER_PENDING if waits else OrderStatus.OPEN)
    await trio.sleep(broker.latency_s)
    return Accepted(broker_order_id=broker_id)


async def take_gtt(broker: MemoryBroker, gtt: Gtt, gate: Gate) -> WriteOutcome:
    """Take the trigger and say so."""
    refused = broker.gtt_passes(gtt, gate)
    if refused is not None:
        return refused
    trigger_id = broker.put_gtt(gtt)
    await trio.sleep(broker.latency_s)
    return Accepted(broker_order_id=trigger_id)


def gtt_answer(outcome: WriteOutcome, *, after_s: float = 0.01, placed: int = 0) -> GttAnswer:
    """An answer *outcome* to a request for a trigger that left, and which the broker takes *placed* times."""

    async def script(broker: MemoryBroker, gtt: Gtt, gate: Gate) -> WriteOutcome:
        refused = broker.gtt_passes(gtt, gate)
        if refused is not None:
            return refused
        for _ in range(placed):
            broker.put_gtt(gtt)
        await trio.sleep(after_s)
        return outcome

    return script


def answer(outcome: PlaceOutcome, *, after_s: float = 0.01, placed: OrderStatus | None = None) -> Answer:
    """An answer *outcome* to a request that left; *placed* puts the order in the book in that state."""

    async def script(broker: MemoryBroker, order: Order, gate: Gate) -> PlaceOutcome:
        refused = broker.passes(order, gate)
        if refused is not None:
            return refused
        if placed is not None:
            broker.put(order, placed)
        elif isinstance(outcome, Refused) and outcome.rate_limited:
            broker.rate_limited.add(order.tag)
        await trio.sleep(after_s)
        return outcome

    return script


def not_sent(reason: str = "connection refused") -> Answer:
    """Zero bytes left."""

    async def script(_broker: MemoryBroker, _order: Order, _gate: Gate) -> PlaceOutcome:
        await trio.lowlevel.checkpoint()
        return NotSent(reason=reason)

    return script


def slow_gate(seconds: float) -> Answer:
    """The connection takes its time before the gate is asked; then the order is accepted."""

    async def script(broker: MemoryBroker, order: Order, gate: Gate) -> PlaceOutcome:
        await trio.sleep(seconds)
        return await accept(broker, order, gate)

    return script
