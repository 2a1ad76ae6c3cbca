"""What other actors hand to the ledger, and how many of them become one transaction."""

from collections.abc import Callable, Sequence
from datetime import date, datetime
from uuid import UUID

from engine.domain.audit import AuditDraft, AuditRecord, seal
from engine.domain.fill import Fill
from engine.domain.intent import Intent, IntentEvent
from engine.domain.order import Order, OrderEvent
from engine.domain.position import Position
from engine.domain.verdict import VerdictRow
from engine.store.ledger import Batch, Head, Write


def _nothing() -> None:
    return None


def _no_failure(_error: Exception) -> None:
    return None


class LedgerEntry:
    """Rows and audit drafts that are committed together or not at all.

    ``on_commit`` is called once the rows are on disk, ``on_fail`` when they never will be; both are
    called by the ledger's task, must not wait and must not raise. `withdraw` takes back an entry that
    no transaction holds yet. The audit record is what proves a commit whose answer was lost: an entry
    without one may be written twice, so that is for writes that can be repeated. One that ``can_wait`` tells of what
    has happened at the broker and nobody waits for: it may stay in memory for a moment, to be written with others.
    """

    __slots__ = (
        "audit",
        "can_wait",
        "fills",
        "in_flight",
        "intent_events",
        "intent_updates",
        "new_intents",
        "new_orders",
        "on_commit",
        "on_fail",
        "order_events",
        "order_updates",
        "positions",
        "unwanted",
        "verdicts",
        "withdrawn",
        "writes",
    )

    def __init__(
        self,
        *,
        new_intents: Sequence[Intent] = (),
        intent_updates: Sequence[Intent] = (),
        intent_events: Sequence[IntentEvent] = (),
        new_orders: Sequence[Order] = (),
        order_updates: Sequence[Order] = (),
        order_events: Sequence[OrderEvent] = (),
        verdicts: Sequence[VerdictRow] = (),
        fills: Sequence[Fill] = (),
        positions: Sequence[tuple[Position, date, datetime]] = (),
        writes: Sequence[Write] = (),
        audit: Sequence[AuditDraft] = (),
        on_commit: Callable[[], None] = _nothing,
        on_fail: Callable[[Exception], None] = _no_failure,
        can_wait: bool = False,
    ) -> None:
        self.can_wait = can_wait
        self.new_intents = new_intents
        self.intent_updates = intent_updates
        self.intent_events = intent_events
        self.new_orders = new_orders
        self.order_updates = order_updates
        self.order_events = order_events
        self.verdicts = verdicts
        self.fills = fills
        self.positions = positions
        self.writes = writes
        self.audit = audit
        self.on_commit = on_commit
        self.on_fail = on_fail
        self.unwanted = False
        self.withdrawn = False
        self.in_flight = False

    def withdraw(self) -> bool:
        """Take the entry back; False when a transaction already holds it, so that it may be on disk.

        Should that transaction turn out not to have taken place, the entry is not written again.
        """
        self.unwanted = True
        self.withdrawn = self.withdrawn or not self.in_flight
        return self.withdrawn

    def not_in_flight(self) -> None:
        """The transaction that held the entry did not take place."""
        self.in_flight = False
        self.withdrawn = self.unwanted


def pack(entries: Sequence[LedgerEntry], head: Head) -> tuple[Batch, Head]:
    """Fold *entries* into one batch whose audit records follow *head*; return it and the new head.

    A row that is new and then changed within the batch is written once, in its last version.

    Raises:
        ValueError: two entries bring the same new row, or an audit draft has no canonical form.
        TypeError: an audit draft holds a thing that has no canonical form.
    """
    intents: dict[UUID, Intent] = {}
    intent_updates: dict[UUID, Intent] = {}
    orders: dict[UUID, Order] = {}
    order_updates: dict[UUID, Order] = {}
    positions: dict[object, tuple[Position, date, datetime]] = {}
    intent_events: list[IntentEvent] = []
    order_events: list[OrderEvent] = []
    verdicts: list[VerdictRow] = []
    fills: list[Fill] = []
    writes: list[Write] = []
    audit: list[AuditRecord] = []
    seq, last = head.seq, head.hash
    for entry in entries:
        for intent in entry.new_intents:
            if intent.id in intents:
                raise ValueError(f"two entries bring intent {intent.id}")
            intents[intent.id] = intent
        for intent in entry.intent_updates:
            (intents if intent.id in intents else intent_updates)[intent.id] = intent
        for order in entry.new_orders:
            if order.id in orders:
                raise ValueError(f"two entries bring order {order.id}")
            orders[order.id] = order
        for order in entry.order_updates:
            (orders if order.id in orders else order_updates)[order.id] = order
        for position in entry.positions:
            positions[position[0].key] = position
        intent_events.extend(entry.intent_events)
        order_events.extend(entry.order_events)
        verdicts.extend(entry.verdicts)
        fills.extend(entry.fills)
        writes.extend(entry.writes)
        for draft in entry.audit:
            seq += 1
            record = seal(last, seq, draft)
            last = record.hash
            audit.append(record)
    batch = Batch(
        new_intents=list(intents.values()),
        intent_updates=list(intent_updates.values()),
        intent_events=intent_events,
        new_orders=list(orders.values()),
        order_updates=list(order_updates.values()),
        order_events=order_events,
        verdicts=verdicts,
        fills=fills,
        positions=list(positions.values()),
        writes=writes,
        audit=audit,
    )
    return batch, Head(seq=seq, hash=last)
