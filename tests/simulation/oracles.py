"""What must be true when everything has become quiet (reliability.md 1.2); the rest is looked at as it happens."""

import json
from collections import Counter
from typing import Any

import trio

from engine.domain.audit import verify
from engine.domain.enums import IntentStatus, OrderStatus
from engine.domain.intent import RESLICED
from tests.simulation.life import CANARY

_NEEDS_NO_REASON = frozenset({IntentStatus.EXECUTED, IntentStatus.CANCELLED, IntentStatus.PARTIAL})


def unquiet(world: Any) -> str | None:
    """Return what is still under way, or None when the world is quiet."""
    life = world.leader()
    if life is None or life.trading is None:
        return "no engine leads"
    if world.senders or world.faults_open:
        return f"{world.senders} senders and {world.faults_open} faults are not done"
    db = world.db
    for order in db.orders.values():
        if not order.status.is_terminal and not world.exits.is_resting(order):
            return f"order {order.id} is {order.status}: {order.status_message}"
    for intent in db.intents.values():
        if not intent.status.is_terminal:
            return f"intent {intent.id} is {intent.status}"
    for intent_id in world.acked:
        if intent_id not in db.intents and intent_id not in world.excused:
            return f"intent {intent_id} of an accepted signal is not in the ledger"
    wrong = disagreement(world) or world.exits.uncovered()
    if wrong:
        return wrong
    trading = life.trading
    for actor in trading.crew.risk_actors.values():
        if actor.mailbox.depth or actor.state.reserved_quantity():
            return f"risk of {actor.user_id} reserves {actor.state.reserved_quantity()}"
    if life.ledger.mailbox.depth or life.ledger.in_flight or life.journal.depth or trading.ingest.waiting:
        return "something waits for the ledger"
    return None


def disagreement(world: Any) -> str | None:
    """Return where ledger and broker differ (O4), or None."""
    db = world.db
    by_broker_id = {(o.account_id, o.broker_order_id): o for o in db.orders.values() if o.broker_order_id}
    held: dict[Any, int] = {}
    for position, _ in db.positions.values():
        if position.quantity:
            held[position.account_id, position.symbol, position.product_type.value] = position.quantity
    for account_id, book in world.books.items():
        for row in book.rows.values():
            if not row.status.is_terminal and not world.exits.rests(book, row):
                return f"order {row.broker_order_id} still works at the broker"
            order = by_broker_id.get((account_id, row.broker_order_id))
            if order is None:
                return f"order {row.broker_order_id} at the broker is in no row of the ledger"
            if order.filled_quantity != row.filled_quantity:
                return f"order {order.id} filled {row.filled_quantity} at the broker, {order.filled_quantity} here"
            if order.status is OrderStatus.COMPLETE and row.status is not OrderStatus.COMPLETE:
                return f"order {order.id} is {row.status} at the broker, {order.status} here"
            booked = sum(f.quantity for f in db.fills.values() if f.order_id == order.id)
            if booked != row.filled_quantity:
                return f"order {order.id} filled {row.filled_quantity} at the broker, fills here are {booked}"
        mine = {(s, p): q for (a, s, p), q in held.items() if a == account_id}
        theirs = {key: quantity for key, quantity in book.net().items() if quantity}
        if mine != theirs:
            return f"account {account_id} holds {theirs} at the broker, {mine} here"
    return None


def final(world: Any) -> None:
    """Look at everything once more, when nothing moves."""
    db = world.db
    _once(world)
    _accepted(world)
    _refused(world)
    _invented(world)
    _audit(world)
    _resources(world)
    _limits(world)
    world.exits.final()
    for refusal in db.refusals:
        if not refusal.startswith(("trade_intents_pkey", "audit_logs_pkey")):
            world.broken("I2", f"the ledger had to refuse: {refusal}")
    if world.valkey.repeated:
        world.broken("O2", f"the journal holds a delivery twice: {world.valkey.repeated}")
    _silence(world)


def _once(world: Any) -> None:
    for book in world.books.values():
        times = Counter(order_id for order_id in book.order_of.values() if order_id is not None)
        for order_id, number in times.items():
            if number > 1:
                world.broken("O2", f"order {order_id} stands {number} times in the broker's book")
        for broker_id, order_id in book.order_of.items():
            if order_id is not None and order_id not in world.db.orders:
                world.broken("O3", f"order {broker_id} at the broker has no row")


def _refused(world: Any) -> None:
    """What was called refused or not sent must not have been placed, unless the broker lied about it."""
    for order_id, why in world.refused.items():
        if order_id in world.placed:
            world.broken("O4", f"order {order_id} was called {why!r}, and the broker took it")


def _invented(world: Any) -> None:
    """Where nobody traded by hand, nothing may be taken for somebody else's, and no position for the broker's word."""
    if world.plan.by_hand:
        return
    for order in world.db.orders.values():
        if order.is_external:
            world.broken("O4", f"order {order.broker_order_id} was taken for somebody else's")
    adopted = [record.content for record in world.db.audit if record.action == "POSITION_ADOPTED"]
    if adopted:
        world.broken("O4", f"a position was taken over that fills explain: {adopted[0]}")


def _accepted(world: Any) -> None:
    db = world.db
    for intent_id, (delivery, _) in world.acked.items():
        intent = db.intents.get(intent_id)
        if intent is None and intent_id in world.excused:
            continue
        if intent is None:
            world.broken("O1", f"intent {intent_id} ({delivery.idempotency_key}) was accepted and is lost")
            continue
        orders = [o for o in db.orders.values() if o.intent_id == intent_id and not o.is_attached]
        whole = all(o.filled_quantity == o.quantity or (o.status_message or "").startswith(RESLICED) for o in orders)
        if intent.status is IntentStatus.EXECUTED and not whole:
            world.broken("O1", f"intent {intent_id} is EXECUTED with orders that are not")
        explained = intent.reason or intent.status in _NEEDS_NO_REASON
        if not explained:
            world.broken("O1", f"intent {intent_id} is {intent.status} and nothing says why")
    for intent in db.intents.values():
        if intent.id not in world.tried:
            world.broken("O1", f"intent {intent.id} ({intent.idempotency_key}) was made of nothing")


def _audit(world: Any) -> None:
    db = world.db
    broken = verify(db.audit)
    if broken is not None:
        world.broken("O7", f"the audit chain breaks at {broken}")
    recorded = Counter(
        (record.subject, record.action) for record in db.audit if record.action.startswith(("ORDER_", "INTENT_"))
    )
    adopted = {record.subject for record in db.audit if record.action == "EXTERNAL_ADOPTED"}
    for subject in adopted:
        recorded[subject, "ORDER_SUBMITTED"] += 1
    made = {record.subject for record in db.audit if record.action in ("EXIT_PLACED", "ORDER_SLICED", "ORDER_REPLACED")}
    for event in db.order_events:
        if f"order:{event.order_id}" in made:
            made.remove(f"order:{event.order_id}")
            recorded[f"order:{event.order_id}", f"ORDER_{event.to_status}"] += 1
    happened = Counter((f"order:{event.order_id}", f"ORDER_{event.to_status}") for event in db.order_events)
    for found, number in happened.items():
        if recorded[found] != number:
            world.broken("O7", f"{found[0]} has {number} events and {recorded[found]} records {found[1]}")
    for record in db.audit:
        if record.action == "INTENT_LATE_FOUND":
            recorded[record.subject, f"INTENT_{json.loads(record.content)['is']}"] += 1
    for intent in db.intents.values():
        if not recorded[f"intent:{intent.id}", f"INTENT_{intent.status}"]:
            world.broken("O7", f"intent {intent.id} is {intent.status} and no record says so")


def _resources(world: Any) -> None:
    life = world.leader()
    if life is None or life.trading is None:
        return
    for executor in life.trading.crew.executors.values():
        if len(executor.queue) or executor.in_flight or executor._unrecorded:
            world.broken("O10", f"executor {executor.account_id} holds what is over")
    if life.ledger._waiters:
        world.broken("O10", "somebody waits for the ledger for ever")


def _limits(world: Any) -> None:
    plan = world.plan
    if plan.clock_steps:
        return
    by_user: dict[Any, list[float]] = {}
    first: dict[Any, Any] = {}
    for order in world.db.orders.values():
        # slices of one order are judged as one, exits and what replaces an order are not limited
        if order.intent_id is not None and not order.is_attached:
            first.setdefault((order.intent_id, order.account_id), order)
    for order in first.values():
        by_user.setdefault(order.user_id, []).append(order.created_at.timestamp())
    # the orders of one signal are judged side by side: each account may add one
    allowed = plan.max_per_minute + max(plan.accounts) - 1
    for user, instants in by_user.items():
        instants.sort()
        for start, instant in enumerate(instants):
            count = sum(1 for other in instants[start:] if other < instant + 59.9)
            if count > allowed:
                world.broken("O11", f"user {user} made {count} orders in a minute, {allowed} are allowed")
                break


def _silence(world: Any) -> None:
    texts = [str(world.logs), str([record.content for record in world.db.audit])]
    texts += [repr(entry) for _, entry in world.valkey.appended]
    if any(CANARY in text for text in texts):
        world.broken("O9", "a secret stands in a log, an audit record or the journal")


async def settle(world: Any, *, within_s: float) -> str | None:
    """Wait for quiet; return what is left when it does not come."""
    wait_s = 1.0
    with trio.move_on_after(within_s):
        quiet = 0
        while quiet < 2 and not world.enough.is_set():
            quiet = quiet + 1 if unquiet(world) is None else 0
            await trio.sleep(wait_s)
        return None
    return unquiet(world) or "never quiet for long"
