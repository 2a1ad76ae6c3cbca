"""Attached exits through an hour of faults drawn from a seed: whatever happens, in the end they fit what is held."""

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
import trio

from engine.actors.modifying import Terms
from engine.broker.base import NotSent, RefusalCode, Refused, Unknown
from engine.broker.values import BrokerOrder
from engine.domain.enums import OrderStatus
from engine.domain.options import OrderRole
from engine.errors import BrokerUnavailable, EngineError
from tests.support.desk import Running, World, answer, crashed, not_sent, running, slow_gate
from tests.support.exits import deliver

SEEDS = range(12)
SETTLED_S = 900  # beyond the wait for proof of absence and every retry
NO = Refused(code=RefusalCode.OTHER, message="no", status=400)
BUSY = Refused(code=RefusalCode.ORDER_BUSY, message="as it is being processed", status=400)
CAP = Refused(code=RefusalCode.MODIFICATION_CAP, message="Maximum allowed order modifications", status=400)
FAST = Refused(code=RefusalCode.RATE_LIMITED, message="too many requests", status=429, rate_limited=True)
TO_ORDERS: list[Callable[[], Any]] = [
    lambda: answer(Unknown(reason="lost"), placed=OrderStatus.OPEN),
    lambda: answer(Unknown(reason="lost")),
    lambda: answer(NO),
    lambda: answer(FAST),
    lambda: slow_gate(1.5),
    not_sent,
]
TO_CHANGES = [Unknown(reason="lost"), BUSY, NotSent(reason="refused"), CAP]


class Hour:
    """What the market, the broker and people do to one entry and its exits."""

    def __init__(self, seed: int, world: World) -> None:
        self.rng = random.Random(seed)
        self.world = world

    def rows(self, role: OrderRole) -> list[BrokerOrder]:
        """Orders of a role that work at the broker."""
        ours = {order.tag: order for order in self.world.store.orders.values()}
        return [
            row
            for row in self.world.broker.rows.values()
            if row.status.is_working and row.tag in ours and ours[row.tag].role is role
        ]

    def at_broker(self, role: OrderRole) -> int:
        return sum(row.quantity - row.filled_quantity for row in self.rows(role))

    def _fill(self, row: BrokerOrder, *, most: int = 60) -> None:
        row = self.world.broker.rows[row.broker_order_id]
        if row.status.is_working:
            self.world.broker.fill(
                row.broker_order_id, self.rng.randint(1, min(most, row.quantity - row.filled_quantity))
            )

    async def _let_it_settle(self) -> None:
        """Give the engine time to follow the last fill: of two exits that fill at one instant, one is too many."""
        self.world.broker.change_answers.clear()
        await trio.sleep(30)

    async def entry_fills(self, _nursery: trio.Nursery) -> None:
        for row in self.rows(OrderRole.ENTRY)[:1]:
            self._fill(row, most=20)

    async def target_fills(self, _nursery: trio.Nursery) -> None:
        await self._let_it_settle()
        for row in self.rows(OrderRole.TARGET)[:1]:
            self._fill(row)

    async def stop_triggers(self, _nursery: trio.Nursery) -> None:
        for row in self.rows(OrderRole.STOP)[:1]:
            self.world.broker.change(row.broker_order_id, OrderStatus.OPEN)
            await self._let_it_settle()
            self._fill(row)

    async def person_trails(self, nursery: trio.Nursery) -> None:
        desk = self.world.executor.desk
        orders = [o for o in desk.orders.values() if o.role is OrderRole.STOP and not o.status.is_terminal]
        if not orders:
            return
        order = self.rng.choice(orders)
        if self.rng.random() < 0.6:
            desk.change(order, "test: its changes are used up", modifications=25)

        async def trail() -> None:
            try:
                await self.world.executor.modify(order.id, Terms(trigger_price=Decimal(96)), by="user:1")
            except EngineError:
                return  # not possible now

        nursery.start_soon(trail)

    async def broker_fails(self, _nursery: trio.Nursery) -> None:
        self.world.broker.answers.append(self.rng.choice(TO_ORDERS)())
        self.world.broker.change_answers.append(self.rng.choice(TO_CHANGES))

    async def something_is_away(self, nursery: trio.Nursery) -> None:
        world, seconds = self.world, self.rng.choice([0.02, 0.5, 4, 12])
        what = self.rng.choice(["lease", "switch", "store", "book", "cancels"])

        async def away() -> None:
            world.lease = what != "lease"
            world.store.is_stuck = what == "store"
            world.broker.book_down = BrokerUnavailable("scripted") if what == "book" else None
            world.broker.cancel_answer = BUSY if what == "cancels" else None
            if what == "switch":
                world.block()
            await trio.sleep(seconds)
            self.mend()

        nursery.start_soon(away)

    async def time_goes_by(self, _nursery: trio.Nursery) -> None:
        await trio.sleep(self.rng.choice([0.01, 0.1, 1, 20, 40]))

    def mend(self) -> None:
        world = self.world
        world.lease, world.store.is_stuck = True, False
        world.broker.book_down = world.broker.cancel_answer = None
        if world.kill.records:
            world.release()

    async def some_of_it(self, run: Running) -> bool:
        """Let things happen; False when the engine dies of it."""
        whats = [self.entry_fills, self.entry_fills, self.target_fills, self.target_fills, self.stop_triggers]
        whats += [self.person_trails, self.person_trails, self.broker_fails, self.something_is_away]
        whats += [self.time_goes_by, self.time_goes_by, self.time_goes_by]
        async with trio.open_nursery() as nursery:
            while (chance := self.rng.random()) > 0.04:
                if chance > 0.96:
                    await run.restart_executor()
                await self.rng.choice(whats)(nursery)
            nursery.cancel_scope.cancel()
        return self.rng.random() > 0.5


@pytest.mark.parametrize("seed", SEEDS)
async def test_exits_fit_what_is_held_in_the_end(autojump_clock: Any, seed: int) -> None:
    hour = Hour(seed, World())
    deliveries, lives = 1, True
    while True:
        async with running(hour.world) as run:
            if deliveries:
                deliver(hour.world, quantity=60)
                deliveries = 0
            lives = await hour.some_of_it(run)
            if lives:
                hour.mend()
                hour.world.broker.answers.clear()
                hour.world.broker.change_answers.clear()
                await trio.sleep(SETTLED_S)
                break
        hour.mend()
        hour.world = await crashed(hour.world)
    held = hour.world.held()
    assert held >= 0, "sold what was not held"
    assert hour.at_broker(OrderRole.TARGET) <= held
    if any("EXIT_NOT_PLACED" in text for _, text in hour.world.alerts):
        assert hour.at_broker(OrderRole.STOP) <= held
    else:
        assert hour.at_broker(OrderRole.STOP) == held
