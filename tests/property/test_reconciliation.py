"""Whatever happens on an account in whatever order, our books end as the broker's: nothing invented, nothing missed.

Long version: ``ENGINE_RECONCILE_EXAMPLES=2000 pytest tests/property/test_reconciliation.py --hypothesis-seed=N``.
"""

import os
from collections import Counter
from typing import Any

import msgspec
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.broker.base import Unknown
from engine.domain.enums import OrderStatus, TransactionType
from engine.errors import BrokerUnavailable
from tests.support.desk import Running, World, answer, crashed, running

SYMBOLS = st.sampled_from(["INFY", "SBIN"])
SIDES = st.sampled_from(list(TransactionType))
QUANTITIES = st.integers(1, 30)
PICKS = st.integers(0, 99)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ours"), SYMBOLS, SIDES, QUANTITIES),
        st.tuples(st.just("lost"), SIDES, QUANTITIES, st.booleans()),
        st.tuples(st.just("hand"), SYMBOLS, SIDES, QUANTITIES),
        st.tuples(st.just("fill"), PICKS, st.integers(1, 100)),
        st.tuples(st.just("fill"), PICKS, st.just(100)),
        st.tuples(st.just("book_ahead"), PICKS, st.integers(1, 100)),
        st.tuples(st.just("withdraw"), PICKS),
        st.tuples(st.just("larger"), PICKS, QUANTITIES),
        st.tuples(st.just("wait"), st.sampled_from([0.05, 0.3, 1.0, 2.5, 6.0, 15.0])),
        st.tuples(st.just("down"), st.sampled_from(["book", "trades", "positions"]), st.sampled_from([1.0, 7.0])),
        st.tuples(st.just("cached"), st.sampled_from([0.5, 3.0, 6.0])),
        st.tuples(st.just("restart")),
        st.tuples(st.just("crash")),
    ),
    min_size=1,
    max_size=14,
)
EXAMPLES = int(os.environ.get("ENGINE_RECONCILE_EXAMPLES", "40"))


class Account:
    """One account and everything that is done to it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.hands: list[str] = []
        self.owed: list[tuple[str, int]] = []

    def working(self, pick: int, *, by_hand: bool = False) -> str | None:
        rows = self.world.broker.rows
        found = [i for i, row in rows.items() if row.status.is_working and (not by_hand or i in self.hands)]
        return found[pick % len(found)] if found else None

    async def step(self, run: Running, kind: str, *what: Any) -> None:
        broker = self.world.broker
        match kind, what:
            case "ours", (symbol, side, quantity):
                self.world.submit(self.world.order(symbol, transaction_type=side, quantity=quantity))
            case "lost", (side, quantity, placed):
                lost = Unknown(reason="reset")
                broker.answers.append(answer(lost, placed=OrderStatus.OPEN if placed else None))
                self.world.submit(self.world.order("INFY", transaction_type=side, quantity=quantity))
            case "hand", (symbol, side, quantity):
                self.hands.append(broker.by_hand(symbol, quantity, side.value))
            case "fill" | "book_ahead", (pick, percent):
                if (broker_id := self.working(pick)) is not None:
                    row = broker.rows[broker_id]
                    units = max(1, (row.quantity - row.filled_quantity) * percent // 100)
                    self.fill(broker_id, units, is_late=kind == "book_ahead")
            case "withdraw", (pick,):
                if (broker_id := self.working(pick, by_hand=True)) is not None:
                    broker.change(broker_id, OrderStatus.CANCELLED)
            case "larger", (pick, more):
                if (broker_id := self.working(pick, by_hand=True)) is not None:
                    row = broker.rows[broker_id]
                    broker.rows[broker_id] = msgspec.structs.replace(row, quantity=row.quantity + more)
            case "wait", (seconds,):
                await trio.sleep(seconds)
            case "down", (witness, seconds):
                setattr(broker, f"{witness}_down", BrokerUnavailable("500"))
                await trio.sleep(seconds)
                setattr(broker, f"{witness}_down", None)
            case "cached", (seconds,):
                broker.position_rows = tuple(broker._positions())
                await trio.sleep(seconds)
                broker.position_rows = None
            case "restart", ():
                await run.restart_executor()
        self.settle_trades(keep=1 if kind == "book_ahead" else 0)

    def fill(self, broker_id: str, units: int, *, is_late: bool) -> None:
        broker = self.world.broker
        row = broker.rows[broker_id]
        filled = row.filled_quantity + units
        if is_late:
            self.owed.append((broker_id, units))
        else:
            broker.trade(broker_id, units)
        status = OrderStatus.COMPLETE if filled == row.quantity else OrderStatus.OPEN
        broker.change(broker_id, status, filled=filled)

    def settle_trades(self, *, keep: int) -> None:
        """Show the trades that the order book was ahead of, all but the last *keep*."""
        while len(self.owed) > keep:
            self.world.broker.trade(*self.owed.pop(0))

    async def quiescence(self) -> None:
        self.settle_trades(keep=0)
        await trio.sleep(300)

    def check(self) -> None:
        world, broker = self.world, self.world.broker
        theirs = {(row.symbol, row.product): row for row in broker._positions()}
        ours = {(p.symbol, p.product_type.value): p for p, _ in world.store.positions.values()}
        for key in {*ours, *theirs}:
            held = ours[key].quantity if key in ours else 0
            assert held == (theirs[key].quantity if key in theirs else 0), key
        for key, row in theirs.items():
            assert (ours[key].buy_quantity, ours[key].sell_quantity) == (row.buy_quantity, row.sell_quantity)
            assert (ours[key].buy_value, ours[key].sell_value) == (row.buy_value, row.sell_value)
        found = [o for o in world.store.orders.values() if o.is_external]
        assert Counter(o.broker_order_id for o in found) == Counter(self.hands)
        for order in found:
            row = broker.rows[order.broker_order_id or ""]
            assert (order.status.is_terminal, order.filled_quantity) == (row.status.is_terminal, row.filled_quantity)
        adopted = [record.content for record in world.store.audit if record.action == "POSITION_ADOPTED"]
        assert not adopted, "what orders explain was taken for a difference"
        assert not broker.cancels
        assert not world.trips


async def play(steps: list[tuple[Any, ...]]) -> None:
    account = Account(World())
    left = list(steps)
    while True:
        async with running(account.world) as run:
            while left and left[0][0] != "crash":
                kind, *what = left.pop(0)
                await account.step(run, kind, *what)
            if not left:
                await account.quiescence()
                account.check()
                return
        left.pop(0)
        account.world = await crashed(account.world)


@given(steps=STEPS)
@settings(max_examples=EXAMPLES, derandomize="ENGINE_RECONCILE_EXAMPLES" not in os.environ)
def test_books_end_as_the_brokers_whatever_happened(steps: list[tuple[Any, ...]]) -> None:
    trio.run(play, steps, clock=trio.testing.MockClock(autojump_threshold=0))
