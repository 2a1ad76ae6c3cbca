"""The price that moves, what the exchange takes, and how requests to change orders go wrong."""

from collections import defaultdict
from decimal import Decimal
from typing import Any
from uuid import UUID

import trio

from engine.broker.base import BrokerOrder
from engine.domain.enums import OrderType
from engine.domain.order import Order
from tests.simulation.plan import PRICE
from tests.simulation.scheduling import start_as

CAP = 4
"""Changes of one order that this broker takes, and the engine makes: Kite's 25 would seldom be met."""

_FAILURES = ("busy", "lost", "untold", "slow", "dropped")


class Market:
    """Prices and rules of the exchange; without extras of the plan it stands still and takes everything."""

    def __init__(self, world: Any) -> None:
        self.world = world
        extras = world.plan.extras
        self.extras = extras
        self._prices: dict[str, Decimal] = {}
        self._seen: defaultdict[str, set[Decimal]] = defaultdict(lambda: {PRICE})
        self.freeze: dict[str, int] = dict(extras.freeze) if extras is not None else {}

    def price(self, symbol: str) -> Decimal:
        """Return the last price of a symbol in rupees."""
        return self._prices.get(symbol, PRICE)

    async def run(self) -> None:
        """Let prices move until the plan's time is over; then they stand still."""
        for move in self.extras.moves:
            await trio.sleep(max(0.0, move.at - trio.current_time()))
            if self.world.healed.is_set():
                return
            self._prices[move.symbol] = move.price
            self._seen[move.symbol].add(move.price)
            for book in self.world.books.values():
                for broker_id in book.exits:
                    row = book.rows[broker_id]
                    if row.symbol == move.symbol:
                        self.look(book, row)

    def look(self, book: Any, row: BrokerOrder) -> None:
        """Deal an exit whose price is met."""
        if row.status.is_working and self.is_met(row):
            book.meet(row.broker_order_id)

    def is_met(self, row: BrokerOrder) -> bool:
        """Whether the price has met an exit: its trigger, or the limit of a target. At market none is waited for."""
        if row.order_type == OrderType.MARKET:
            return False
        price, sells = self.price(row.symbol), row.transaction_type == "SELL"
        if row.trigger_price:
            return price <= row.trigger_price if sells else price >= row.trigger_price
        return price >= row.price if sells else price <= row.price

    def has_passed(self, entry: Order) -> bool:
        """Whether the price has ever been at the stop of an entry, or past it."""
        sign, stop = entry.transaction_type.sign, entry.stop_loss
        return stop is not None and any((price - stop) * sign <= 0 for price in self._seen[entry.symbol])

    def way_of_post(self, order: Order, way: str) -> str:
        """Return what becomes of an order request that nothing else befalls."""
        if self.extras is None or way != "ok":
            return way
        if order.quantity > self.freeze.get(order.symbol, order.quantity):
            return "frozen"
        if not order.is_attached:
            return way
        if order.order_type in (OrderType.SL, OrderType.SL_M) and order.trigger_price is not None:
            gap = (self.price(order.symbol) - order.trigger_price) * order.transaction_type.sign
            if gap >= 0:
                return "trigger_met"
        return "exit_refused" if self.world.dice.random() < self.extras.refuses else way

    def way_of_change(self) -> str:
        """Return what becomes of a request to modify or cancel."""
        extras = self.extras
        if extras is None or self.world.healed.is_set() or self.world.dice.random() >= extras.changes_fail:
            return "ok"
        self.world.exits.noted("fault")
        way: str = self.world.dice.choice(_FAILURES)
        return way

    def is_changed_by_hand(self) -> bool:
        """Whether somebody uses up an order's changes without the engine, to the same terms."""
        return self.extras is not None and bool(self.world.dice.random() < 0.15)

    def push(self, account_id: UUID, broker_id: str) -> None:
        """The broker tells of a change of an order, late or not at all."""
        if self.extras is None or not self.extras.pushes or self.world.dice.random() < 0.3:
            return
        start_as(None, self.world.nursery, self._push, account_id, broker_id)

    async def _push(self, account_id: UUID, broker_id: str) -> None:
        await trio.sleep(self.world.dice.choice((0.001, 0.02, 0.5)))
        life = self.world.leader()
        if life is not None and life.trading is not None and not life.is_stopped:
            life.trading.feeds.order_update(account_id, broker_id)
