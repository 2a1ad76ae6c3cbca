"""What the broker holds of one account, and what goes wrong there now: the truth that oracles judge by."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import trio

from engine.broker.base import BrokerOrder, BrokerTrade
from engine.domain.enums import OrderStatus, OrderType
from engine.domain.order import Order
from tests.simulation.market import CAP
from tests.simulation.plan import PRICE
from tests.simulation.scheduling import start_as

_WAITS_FOR_TRIGGER = (OrderType.SL, OrderType.SL_M)


class Book:
    """One account at the broker."""

    def __init__(self, world: Any, account_id: UUID) -> None:
        self.world = world
        self.account_id = account_id
        self.rows: dict[str, BrokerOrder] = {}
        self.accepted_at: dict[str, float] = {}
        self.order_of: dict[str, UUID | None] = {}
        self.log: list[tuple[float, BrokerOrder]] = []
        # when it happened, from when on it is shown, and what it was
        self.trades: list[tuple[float, float, BrokerTrade]] = []
        # exits by the broker's id, and those of them that are being filled
        self.exits: dict[str, Order] = {}
        self.filling: set[str] = set()
        self.changes: dict[str, int] = {}
        self.token = 1
        self._next = 250_000_000_000 + (account_id.int % 1000) * 1_000_000

    # the broker's side

    def put(self, row: BrokerOrder) -> None:
        """Keep a row as it is now."""
        self.rows[row.broker_order_id] = row
        self.log.append((trio.current_time(), row))
        self.world.market.push(self.account_id, row.broker_order_id)

    def accept(self, order: Order, way: str, status: OrderStatus = OrderStatus.OPEN) -> str:
        """Take an order into the book, and let it live its life; return its id."""
        self._next += 1
        broker_id = str(self._next)
        world = self.world
        tags = {"tag": None, "tags": ("SMARTAPI", order.tag)} if world.plan.only_tags else {"tag": order.tag}
        self.accepted_at[broker_id] = trio.current_time()
        self.order_of[broker_id] = order.id
        if world.market.is_changed_by_hand():
            self.changes[broker_id] = CAP
        if order.is_attached:
            self.exits[broker_id] = order
            if status is OrderStatus.OPEN and order.order_type in _WAITS_FOR_TRIGGER:
                status = OrderStatus.TRIGGER_PENDING
        self.put(
            BrokerOrder(
                broker_order_id=broker_id,
                status=status,
                raw_status=status.value,
                quantity=order.quantity,
                exchange=order.exchange.value,
                symbol=order.symbol,
                transaction_type=order.transaction_type.value,
                product=order.product_type.value,
                order_type=order.order_type.value,
                validity=order.validity.value,
                variety=order.variety.value,
                price=order.price or Decimal(0),
                trigger_price=order.trigger_price or Decimal(0),
                order_timestamp=world.broker_now(),
                status_message="RMS:Margin Exceeds" if status is OrderStatus.REJECTED else None,
                **tags,
            )
        )
        world.accepted(order, broker_id, way if status.is_working else "rejected")
        if status.is_working:
            start_as(None, world.nursery, self._live_exit if order.is_attached else self._live, broker_id)
        return broker_id

    async def _live(self, broker_id: str) -> None:
        """What becomes of a working order."""
        dice = self.world.dice
        fate = dice.random()
        if fate < 0.65:
            await self._fill(broker_id, parts=dice.choice((1, 1, 2, 3)), pause=dice.choice((0.0, 0.05, 0.8)))
        elif fate < 0.75:
            await self._rest(dice.uniform(5, 40))
            await self._fill(broker_id, parts=1, pause=0.0)
        elif fate < 0.82:
            await trio.sleep(dice.uniform(0.01, 0.5))
            self.end(broker_id, OrderStatus.REJECTED)
        elif fate < 0.92:
            self.fill(broker_id, max(1, self.rows[broker_id].quantity // 2))
            await self._rest(dice.uniform(0.1, 20))
            self.end(broker_id, OrderStatus.CANCELLED)
        else:
            await self.world.healed.wait()
            await trio.sleep(dice.uniform(0.1, 3))
            await self._fill(broker_id, parts=1, pause=0.0)

    async def _live_exit(self, broker_id: str) -> None:
        """What becomes of an exit: it waits for its price, unless the broker throws it out."""
        dice, row = self.world.dice, self.rows[broker_id]
        if row.order_type == OrderType.MARKET:
            await self._fill(broker_id, parts=1, pause=0.0)
            return
        self.world.market.look(self, row)
        fate = dice.random()
        if fate < 0.06:
            await self._rest(dice.uniform(0.01, 30))
            self.end(broker_id, OrderStatus.REJECTED if fate < 0.03 else OrderStatus.CANCELLED)

    def meet(self, broker_id: str) -> None:
        """The price has met an exit: a stop is triggered, a target is dealt."""
        row = self.rows[broker_id]
        if broker_id in self.filling or not row.status.is_working:
            return
        self.filling.add(broker_id)
        if row.status is OrderStatus.TRIGGER_PENDING:
            self.put(msgspec.structs.replace(row, status=OrderStatus.OPEN, raw_status="OPEN"))
        start_as(None, self.world.nursery, self._deal, broker_id)

    async def _deal(self, broker_id: str) -> None:
        """Fill an exit in parts for as long as its price is met."""
        dice, market = self.world.dice, self.world.market
        parts, pause = dice.choice((1, 1, 2, 3)), dice.choice((0.0, 0.05, 0.8, 6.0))
        is_stop = self.rows[broker_id].trigger_price > 0
        for part in range(parts):
            await trio.sleep(dice.uniform(0.001, 0.3) + pause * (part > 0))
            row = self.rows[broker_id]
            if not row.status.is_working or not (is_stop or market.is_met(row)):
                break
            rest = row.quantity - row.filled_quantity
            self.fill(broker_id, rest if part == parts - 1 else rest // 2)
        self.filling.discard(broker_id)

    def change(self, broker_id: str, terms: dict[str, Any]) -> None:
        """Give an order new terms, as its owner asked."""
        self.changes[broker_id] = self.changes.get(broker_id, 0) + 1
        row = msgspec.structs.replace(self.rows[broker_id], **terms)
        if row.filled_quantity and row.quantity <= row.filled_quantity:
            row = msgspec.structs.replace(
                row, quantity=row.filled_quantity, status=OrderStatus.COMPLETE, raw_status="COMPLETE"
            )
        self.put(row)
        if broker_id in self.exits:
            self.world.market.look(self, row)

    async def _rest(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self.world.healed.wait()

    async def _fill(self, broker_id: str, *, parts: int, pause: float) -> None:
        dice = self.world.dice
        for part in range(parts):
            await trio.sleep(dice.uniform(0.001, 0.3) + pause)
            row = self.rows[broker_id]
            rest = row.quantity - row.filled_quantity
            self.fill(broker_id, rest if part == parts - 1 else rest // 2)

    def fill(self, broker_id: str, quantity: int, order: bool = True) -> None:
        """Fill units of an order that works."""
        row = self.rows[broker_id]
        if not row.status.is_working or quantity <= 0:
            return
        filled = row.filled_quantity + quantity
        whole = filled >= row.quantity
        price = PRICE + self.world.dice.randint(-20, 20) / Decimal(20)
        before = row.average_price * row.filled_quantity
        lag = self.world.dice.choice((0.0, 0.5, 3.0, 9.0)) if self.world.plan.trade_lag else 0.0
        self.trades.append(
            (
                trio.current_time(),
                trio.current_time() + lag,
                BrokerTrade(
                    trade_id=str(70_000_000 + len(self.trades)),
                    broker_order_id=broker_id,
                    exchange=row.exchange,
                    symbol=row.symbol,
                    product=row.product,
                    transaction_type=row.transaction_type,
                    quantity=quantity,
                    price=price,
                    filled_at=self.world.broker_now(),
                ),
            )
        )
        self.world.exits.filled(self, broker_id, quantity, trio.current_time() + lag)
        self.put(
            msgspec.structs.replace(
                row,
                status=OrderStatus.COMPLETE if whole else OrderStatus.OPEN,
                raw_status="COMPLETE" if whole else "OPEN",
                filled_quantity=filled,
                average_price=(before + price * quantity) / filled,
            )
        )

    def end(self, broker_id: str, status: OrderStatus) -> bool:
        """End an order that works."""
        row = self.rows[broker_id]
        if not row.status.is_working:
            return False
        words = f"{status} at the exchange"
        self.put(msgspec.structs.replace(row, status=status, raw_status=status.value, status_message=words))
        return True

    def by_hand(self, symbol: str, side: str, quantity: int, product: str = "MIS") -> None:
        """Somebody trades the account in the broker's own app."""
        self._next += 1
        broker_id = str(self._next)
        self.accepted_at[broker_id] = trio.current_time()
        self.order_of[broker_id] = None
        self.put(
            BrokerOrder(
                broker_order_id=broker_id,
                status=OrderStatus.OPEN,
                raw_status="OPEN",
                quantity=quantity,
                exchange="NSE",
                symbol=symbol,
                transaction_type=side,
                product=product,
                order_type="MARKET",
                validity="DAY",
                variety="regular",
                order_timestamp=self.world.broker_now(),
            )
        )
        self.fill(broker_id, quantity)
        self.world.note("by_hand", broker_id=broker_id, symbol=symbol, quantity=quantity)

    def net(self, *, until: float = float("inf")) -> dict[tuple[str, str], int]:
        """Return what is held, in units, by symbol and product, flat ones included."""
        held: dict[tuple[str, str], int] = {}
        for at, _, trade in self.trades:
            if at > until:
                break
            sign = 1 if trade.transaction_type == "BUY" else -1
            key = (trade.symbol, trade.product)
            held[key] = held.get(key, 0) + sign * trade.quantity
        return held

    def as_of(self, instant: float) -> list[BrokerOrder]:
        """Return the order book as it stood."""
        rows: dict[str, BrokerOrder] = {}
        for at, row in self.log:
            if at > instant:
                break
            rows[row.broker_order_id] = row
        return list(rows.values())


class Weather:
    """What goes wrong at the broker now; all accounts share it."""

    def __init__(self) -> None:
        self.posts: list[str] = []
        self.trouble = 0
        self.book_down = 0
        self.stale_s: list[float] = []
        self.frozen_reads: list[float] = []
        self.drop: list[int] = []
        self.slow_s: list[float] = []
        self.refuses = 0
        self.no_login = 0
