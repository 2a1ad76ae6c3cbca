"""The hub of events: what became durable or known goes into one ring that every stream reads from.

Publishing is a few assignments on the caller's own task: it never waits, never encodes, and costs the same however
many read. A reader that falls too far behind the newest event is told so and ends; nobody waits for it. Positions are
gathered by key and given out by `engine.actors.live_figures` a few times in a second. No mailbox, no task.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import structlog
import trio

from engine.actors.ledger_entry import LedgerEntry
from engine.domain.event_ring import EventRing
from engine.domain.fill import Fill
from engine.domain.intent import Intent
from engine.domain.killswitch import GLOBAL, KillRecord
from engine.domain.order import Order, OrderEvent
from engine.domain.position import Position, PositionKey
from engine.domain.stream_event import Alert, StreamEvent, StreamType, read_subject

_log = structlog.get_logger(__name__)

RING = 10_000
MAX_LAG = 5_000
_OWNERS = 20_000

V = TypeVar("V")
P = TypeVar("P", OrderEvent, Fill)
Watcher = Callable[[UUID, UUID | None], bool]
"""Says of a user, and of one of its accounts or of the user as a whole (None), whether it may be heard of."""


class EventHub:
    """Keeps the latest events of the engine with the lease *epoch*.

    *owner_of* returns the user whose an object is (its kind: account, strategy, source; its id), None for nobody's;
    *order_of* finds a live order. Both only look into memory.
    """

    def __init__(
        self,
        epoch: int,
        *,
        owner_of: Callable[[str, UUID], UUID | None],
        order_of: Callable[[UUID], Order | None] = lambda _order_id: None,
        capacity: int = RING,
        max_lag: int = MAX_LAG,
    ) -> None:
        self.ring: EventRing[StreamEvent] = EventRing(epoch, capacity)
        self.max_lag = min(max_lag, capacity)
        self._owner_of = owner_of
        self._order_of = order_of
        self._wake = trio.Event()
        self._waiting = 0
        self._watchers: list[Watcher] = []
        self._newcomers: list[Watcher] = []
        self._orders: OrderedDict[UUID, Order] = OrderedDict()
        self._intents: OrderedDict[UUID, UUID] = OrderedDict()
        self._kill_versions: dict[str, int] = {}
        self._positions: dict[tuple[PositionKey, UUID | None], tuple[Position, datetime]] = {}

    # reading

    async def wait_beyond(self, number: int, *, timeout_s: float) -> None:
        """Return once there is an event after *number*, when `nudge` is called, or after *timeout_s*."""
        if self.ring.newest > number:
            return
        self._waiting += 1
        try:
            with trio.move_on_after(timeout_s):
                await self._wake.wait()
        finally:
            self._waiting -= 1

    def nudge(self) -> None:
        """Wake every reader, so that it looks whether it shall go on."""
        wake, self._wake = self._wake, trio.Event()
        wake.set()

    def watch(self, watcher: Watcher) -> None:
        """Have figures worked out for the users of whom *watcher* says that it may hear; all of them at once."""
        self._watchers.append(watcher)
        self._newcomers.append(watcher)

    def unwatch(self, watcher: Watcher) -> None:
        """End what `watch` began; a watcher that is not known is let pass."""
        self._watchers = [each for each in self._watchers if each != watcher]
        self._newcomers = [each for each in self._newcomers if each != watcher]

    @property
    def watchers(self) -> Sequence[Watcher]:
        """Who wants figures."""
        return self._watchers

    def take_newcomers(self) -> Sequence[Watcher]:
        """Return the watchers that came since the last call."""
        taken, self._newcomers = self._newcomers, []
        return taken

    # writing

    def publish(self, event: StreamEvent) -> None:
        """Put *event* into the ring and wake those who wait for one."""
        self.ring.add(event)
        if self._waiting:
            self.nudge()

    def committed(self, entries: Sequence[LedgerEntry]) -> None:
        """Take in what the ledger has on disk now. Never raises: a fault here must not reach the ledger."""
        try:
            for entry in entries:
                self._take(entry)
        except Exception:
            _log.exception("stream.fault")

    def _take(self, entry: LedgerEntry) -> None:
        for intent in (*entry.new_intents, *entry.intent_updates):
            self._take_intent(intent, entry)
        orders = (*entry.new_orders, *entry.order_updates)
        # one signal may make orders on a thousand accounts
        events_of = _by_order(entry.order_events) if len(orders) > 1 else {}
        fills_of = _by_order(entry.fills) if len(orders) > 1 else {}
        for order in orders:
            _remember(self._orders, order.id, order)
            if len(orders) > 1:
                events, fills = tuple(events_of.get(order.id, ())), tuple(fills_of.get(order.id, ()))
            else:
                events = tuple([event for event in entry.order_events if event.order_id == order.id])
                fills = tuple([fill for fill in entry.fills if fill.order_id == order.id])
            self.publish(
                StreamEvent(
                    StreamType.ORDER, order, owner=order.user_id, account_id=order.account_id, parts=(events, fills)
                )
            )
        for fill in entry.fills:
            order_of_fill = self._order(fill.order_id)
            owner = self._owner_of("account", fill.account_id)
            self.publish(
                StreamEvent(StreamType.FILL, fill, owner=owner, account_id=fill.account_id, parts=(order_of_fill,))
            )
        for position, _, at in entry.positions:
            self._positions[(position.key, position.strategy_id)] = (position, at)

    def _take_intent(self, intent: Intent, entry: LedgerEntry) -> None:
        _remember(self._intents, intent.id, intent.user_id)
        timeline = tuple(event for event in entry.intent_events if event.intent_id == intent.id)
        self.publish(StreamEvent(StreamType.INTENT, intent, owner=intent.user_id, parts=(timeline,)))

    def take_positions(self) -> Iterable[tuple[Position, datetime]]:
        """Return the positions that changed since the last call, each in its latest form."""
        taken, self._positions = self._positions, {}
        return taken.values()

    def kill_changed(self, records: Mapping[str, KillRecord]) -> None:
        """Tell of every scope of *records* that is not the one told of last."""
        for scope, record in records.items():
            if self._kill_versions.get(scope) == record.version:
                continue
            self._kill_versions[scope] = record.version
            subject = read_subject(scope)
            owner = None if subject.number is None else self._owner(subject.kind, subject.number)
            account_id = subject.number if subject.kind == "account" else None
            self.publish(
                StreamEvent(
                    StreamType.KILLSWITCH, record, owner=owner, account_id=account_id, is_public=scope == GLOBAL
                )
            )

    def know_kill(self, records: Mapping[str, KillRecord]) -> None:
        """Take *records* for told: they stood when the engine began."""
        self._kill_versions = {scope: record.version for scope, record in records.items()}

    def alert(self, subject: str, text: str, at: datetime) -> None:
        """Tell of what a person must look at. Never raises: whoever alerts is in the middle of something."""
        try:
            alert = self.describe(subject, text, at)
            self.publish(StreamEvent(StreamType.ALERT, alert, owner=alert.user_id, account_id=alert.account_id))
        except Exception:
            _log.exception("stream.fault")

    # whose it is

    def describe(self, subject: str, text: str, at: datetime) -> Alert:
        """Return an alert with whose it is, as far as that is known here."""
        named = read_subject(subject)
        number = named.number
        if number is None:
            return Alert(at=at, subject=subject, text=text)
        if named.kind == "order":
            order = self._order(number)
            return Alert(
                at=at,
                subject=subject,
                text=text,
                order_id=number,
                user_id=None if order is None else order.user_id,
                account_id=None if order is None else order.account_id,
                intent_id=None if order is None else order.intent_id,
                strategy_id=None if order is None else order.strategy_id,
            )
        return Alert(
            at=at,
            subject=subject,
            text=text,
            user_id=self._owner(named.kind, number),
            account_id=number if named.kind == "account" else None,
            intent_id=number if named.kind == "intent" else None,
            strategy_id=number if named.kind == "strategy" else None,
        )

    def _owner(self, kind: str, number: UUID) -> UUID | None:
        if kind == "user":
            return number
        if kind == "intent":
            return self._intents.get(number)
        return self._owner_of(kind, number)

    def _order(self, order_id: UUID) -> Order | None:
        return self._orders.get(order_id) or self._order_of(order_id)


def _by_order(found: Sequence[P]) -> dict[UUID, list[P]]:
    grouped: dict[UUID, list[P]] = {}
    for each in found:
        grouped.setdefault(each.order_id, []).append(each)
    return grouped


def _remember(memory: "OrderedDict[UUID, V]", key: UUID, value: V) -> None:
    memory[key] = value
    if len(memory) > _OWNERS:
        memory.popitem(last=False)
