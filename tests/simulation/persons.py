"""Persons who cancel and change orders, and close positions, while the engine works."""

from collections.abc import Callable
from typing import Any

import trio

from engine.actors.modifying import Terms, with_terms
from engine.domain.enums import OrderStatus, OrderType
from engine.domain.order import Order
from engine.errors import EngineError
from tests.simulation.market import CAP
from tests.simulation.plan import Deed

_CHANGEABLE = (OrderStatus.OPEN, OrderStatus.PARTIALLY_FILLED, OrderStatus.TRIGGER_PENDING)
_BY = "user:1"


async def act(world: Any, deed: Deed) -> None:
    """Do what a person does when the time has come."""
    await trio.sleep(deed.at)
    if world.healed.is_set():
        return
    if deed.what == "close":
        _close(world, deed)
        return
    life = world.leader()
    if life is None or life.trading is None or life.is_stopped:
        return
    executors = list(life.trading.crew.executors.values())
    executor = executors[deed.number % len(executors)]
    if deed.what == "cancel_all":
        await _ask(world, life, deed, lambda: executor.start_cancel_all(by=_BY).wait())
        return
    for _ in range(2 * CAP if deed.what == "modify_often" else 1):
        order = _choose(executor.desk.orders.values(), deed)
        if order is None:
            return
        if deed.what.startswith("cancel"):
            await _ask(world, life, deed, lambda o=order: executor.cancel(o.id, by=_BY))
            return
        terms = _terms(world, order)
        if life.trading.crew.risk(order.user_id).judge_change(order, with_terms(order, terms)):
            return
        await _ask(world, life, deed, lambda o=order, t=terms: executor.modify(o.id, t, by=_BY))


def _choose(orders: Any, deed: Deed) -> Order | None:
    """Return one of the orders that a person may want to do this to."""
    found = sorted(
        (
            order
            for order in orders
            if not order.status.is_terminal
            and not order.is_external
            and (deed.what != "cancel_exit" or order.is_attached)
            and (not deed.what.startswith("modify") or (order.status in _CHANGEABLE and order.price is not None)
                 or order.status is OrderStatus.TRIGGER_PENDING)
        ),
        key=lambda order: (order.created_at, order.id),
    )  # fmt: skip
    return found[deed.number % len(found)] if found else None


def _terms(world: Any, order: Order) -> Terms:
    dice = world.dice
    if not order.is_attached and dice.random() < 0.5:
        return Terms(quantity=order.filled_quantity + dice.randint(1, 6))
    step = dice.choice((-2, -1, 1, 2)) * order.average_price.__class__("0.5")
    if order.order_type is OrderType.LIMIT and order.price is not None:
        return Terms(price=order.price + step)
    if order.order_type is OrderType.SL and order.price is not None and order.trigger_price is not None:
        return Terms(price=order.price + step, trigger_price=order.trigger_price + step)
    if order.trigger_price is not None:
        return Terms(trigger_price=order.trigger_price + step)
    return Terms(quantity=order.filled_quantity + 1)


async def _ask(world: Any, life: Any, deed: Deed, work: Callable[[], Any]) -> None:
    answer = await world.in_life(life, work, timeout_s=70.0)
    error = None if answer is None else answer[1]
    world.note("person", deed=deed.what, error=repr(error))
    if error is not None and not isinstance(error, EngineError):
        world.broken("O10", f"{deed.what} of a person failed: {error!r}")


def _close(world: Any, deed: Deed) -> None:
    """Close a position in the broker's own app, or a part of it."""
    books = list(world.books.values())
    book = books[deed.number % len(books)]
    held = sorted((key, quantity) for key, quantity in book.net().items() if quantity)
    if not held:
        return
    (symbol, product), quantity = held[deed.number % len(held)]
    part = abs(quantity) if deed.number % 3 else max(1, abs(quantity) // 2)
    book.by_hand(symbol, "SELL" if quantity > 0 else "BUY", part, product)


async def cancel_everything(world: Any) -> None:
    """At the end a person takes every order out of the market; what fails is asked for again."""
    world.exits.is_ending = True
    quiet = 0
    for _ in range(30):
        life = world.leader()
        if life is None or world.enough.is_set():
            return
        executors = list(life.trading.crew.executors.values())
        if not any(not order.status.is_terminal for executor in executors for order in executor.desk.orders.values()):
            quiet += 1
            if quiet == 2:
                return
            # an exit that was refused is placed again after half a minute at most
            await trio.sleep(31.0)
            continue
        quiet = 0
        for executor in executors:
            await world.in_life(life, lambda e=executor: e.start_cancel_all(by=_BY).wait(), timeout_s=70.0)  # type: ignore[misc]
        await trio.sleep(1.0)
    world.broken("O12", "orders could not be cancelled with nothing in the way")
