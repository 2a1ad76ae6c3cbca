"""Those who send signals: they send again what was not answered, as every webhook does."""

import hashlib
from typing import Any

import trio

from engine.domain.delivery import Delivery, Item
from engine.domain.enums import Exchange
from engine.domain.signal import Signal
from engine.errors import ApiError, ConflictError, KillSwitchError
from tests.simulation.life import Life
from tests.simulation.plan import Wish, name_id
from tests.simulation.world import World


async def send(world: World, wish: Wish) -> None:
    """Send a signal when it is due, again until it is answered, and perhaps once more later."""
    await trio.sleep(wish.at)
    if await _deliver(world, wish) and wish.again_at is not None and wish.again_at > trio.current_time():
        await trio.sleep(wish.again_at - trio.current_time())
        await _deliver(world, wish)
    world.senders -= 1


async def _deliver(world: World, wish: Wish) -> bool:
    tries = 0
    while tries < 60:
        life = world.leader()
        if life is None:
            await trio.sleep(0.5)
            continue
        tries += 1
        delivery = delivery_of(wish, life)
        intents = [intent.id for intent in delivery.intents()]
        for intent_id in intents:
            world.tried.setdefault(intent_id, []).append((delivery, trio.current_time()))
        ingest = life.trading.ingest  # type: ignore[union-attr]
        answer = await world.in_life(life, lambda i=ingest, d=delivery: i.accept(d), timeout_s=6.0)  # type: ignore[misc]
        if answer is not None and answer[1] is None:
            _answered(world, wish, delivery, answer[0])
            return True
        error = None if answer is None else answer[1]
        world.note("not_taken", key=wish.key, why=repr(error))
        if isinstance(error, KillSwitchError):
            return False
        if isinstance(error, ConflictError) or (error is not None and not isinstance(error, ApiError)):
            world.broken("O1", f"{wish.key} was answered {error!r}")
            return False
        await trio.sleep(world.dice.choice((0.1, 0.5, 2.0)))
    return False


def _answered(world: World, wish: Wish, delivery: Delivery, accepted: Any) -> None:
    expected = [intent.id for intent in delivery.intents()]
    got = [receipt.intent_id for receipt in accepted.receipts]
    world.note("accepted_2xx", key=wish.key, duplicate=accepted.duplicate, id=expected[0])
    if got != expected:
        world.broken("O1", f"{wish.key} was answered with intents {got}, not {expected}")
    first = world.acked.get(expected[0])
    within = first is not None and trio.current_time() - first[1] < world.plan.dedup_window_s - 5
    within = within and expected[0] not in world.excused
    if within and not accepted.duplicate and not world.plan.clock_steps:
        world.broken("O1", f"{wish.key} was taken for new a second time")
    world.acked.setdefault(expected[0], (delivery, trio.current_time()))


def delivery_of(wish: Wish, life: Life) -> Delivery:
    """Return the delivery that a life makes of a wish that reaches it now."""
    signal = Signal(
        symbol=wish.symbol,
        exchange=Exchange.NSE,
        transaction_type=wish.side,
        quantity=wish.quantity,
        order_type=wish.order_type,
        product_type=wish.product,
        price=wish.price,
        stop_loss=wish.stop_loss,
        target=wish.target,
        options=wish.options,
    )
    return Delivery(
        source_id=name_id("source", wish.user),
        strategy_id=name_id("strategy", wish.user),
        user_id=name_id("user", wish.user),
        idempotency_key=wish.key,
        body_sha256=hashlib.sha256(wish.key.encode()).digest(),
        received_at=life.clock.now(),
        request_id=None,
        items=(Item(position=0, signal=signal),),
    )
