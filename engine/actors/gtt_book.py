"""The triggers (GTT) of one account, and every change of them: each is one ledger entry, row and audit record."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.executor_context import ExecutorContext
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock
from engine.domain.audit import AuditDraft
from engine.domain.enums import Exchange
from engine.domain.gtt import LIVE, Gtt, GttStatus, move
from engine.domain.order import Order
from engine.store.gtts import insert, save
from engine.store.ledger import Write

_log = structlog.get_logger(__name__)


class GttBook:
    """Holds the triggers by id; *on_change* is told what one was and what it is now."""

    def __init__(self, context: ExecutorContext, on_change: Callable[[Gtt, Gtt], None]) -> None:
        self._context = context
        self._clock: Clock = context.clock
        self._on_change = on_change
        self.gtts: dict[UUID, Gtt] = {}
        self._of_entry: defaultdict[UUID, set[UUID]] = defaultdict(set)
        # when each last changed here: what was read before that is old
        self._touched_s: dict[UUID, float] = {}

    def restore(self, gtts: Iterable[Gtt]) -> None:
        """Take over what the ledger holds."""
        self.gtts = {gtt.id: gtt for gtt in gtts}
        self._of_entry.clear()
        for gtt in self.gtts.values():
            self._of_entry[gtt.entry_id].add(gtt.id)
        self._touched_s.clear()

    def of_entry(self, entry_id: UUID) -> list[Gtt]:
        """Return the triggers made for an entry, whatever their state."""
        return [self.gtts[gtt_id] for gtt_id in self._of_entry.get(entry_id, ())]

    def has_key(self, key: tuple[Exchange, str]) -> bool:
        """Whether there is a trigger on the instrument *key*, in whatever state."""
        return any(gtt.key == key for gtt in self.gtts.values())

    @property
    def live(self) -> list[Gtt]:
        """Those that stand at the broker, or may."""
        return [gtt for gtt in self.gtts.values() if gtt.status in LIVE]

    @property
    def owned(self) -> frozenset[str]:
        """The broker's ids of those that have one."""
        return frozenset(gtt.trigger_id for gtt in self.gtts.values() if gtt.trigger_id is not None)

    def strategy_of(self, order: Order) -> UUID | None:
        """Return the strategy whose trigger the broker placed *order* for, None for an order that is of no trigger.

        Until the broker has named it, it is told by being just what the trigger asks for.
        """
        for gtt in self.gtts.values():
            if gtt.broker_order_id is not None:
                if gtt.broker_order_id == order.broker_order_id:
                    return gtt.strategy_id
            elif (
                gtt.status in (GttStatus.ACTIVE, GttStatus.TRIGGERED)
                and (gtt.key, gtt.transaction_type, gtt.product_type, gtt.quantity)
                == (order.key, order.transaction_type, order.product_type, order.quantity)
                and order.price in (gtt.stop_price, gtt.target_price)
            ):
                return gtt.strategy_id
        return None

    def is_in_doubt(self, key: tuple[Exchange, str]) -> bool:
        """Whether a trigger on the instrument *key* is on its way, or of unknown outcome."""
        return any(gtt.key == key and gtt.status.is_unresolved for gtt in self.gtts.values())

    def touched_s(self, gtt: Gtt) -> float:
        """Return when (monotonic) a trigger last changed here."""
        return self._touched_s.get(gtt.id, 0.0)

    def enter(self, gtt: Gtt, *, on_commit: Callable[[Gtt], None]) -> None:
        """Write a new SUBMITTING row ahead; *on_commit* is called once it is on disk. Raises MailboxFull.

        A ledger that refuses it (it has the row already) is not asked again: a person is.
        """

        def refused(error: Exception) -> None:
            _log.error("ledger.refused_gtt", gtt=str(gtt.id), error=str(error))
            if self.gtts.get(gtt.id) is gtt:
                # nothing of it left, and another in its place could be a second one
                message = f"NOT_RECORDED: the ledger refused it: {error}"
                self._put(gtt, move(gtt, GttStatus.CANCELLED, at=self._clock.now(), message=message))

        entry = self._entry(gtt, gtt, "GTT_SUBMITTING", "written ahead", ())
        entry.writes = (insert(gtt),)
        entry.on_commit, entry.on_fail = lambda: on_commit(gtt), refused
        self._context.ledger.append(entry)
        self._put(gtt, gtt)

    def move(self, gtt: Gtt, to: GttStatus, message: str, **changes: Any) -> Gtt:
        """Move a trigger along its table and record it; return it as it is now. Raises MailboxFull."""
        moved = move(gtt, to, at=self._clock.now(), message=message, **changes)
        self.take(gtt, moved)
        return moved

    def take(self, before: Gtt, after: Gtt, *, detail: str = "", writes: Iterable[Write] = ()) -> None:
        """Record *after* in the place of *before*, with other *writes*. Raises MailboxFull."""
        entry = self._entry(before, after, f"GTT_{after.status}", detail or after.status_message or "", writes)
        self._context.ledger.append(entry)
        self._put(before, after)

    def note(self, gtt: Gtt, action: str, detail: str, *, writes: Iterable[Write] = ()) -> None:
        """Put something that does not change a trigger on the record. Raises MailboxFull."""
        self._context.ledger.append(self._entry(gtt, gtt, action, detail, writes))

    def forget(self, entry_id: UUID) -> None:
        """Drop the triggers of an entry of which nothing can come any more."""
        for gtt_id in self._of_entry.pop(entry_id, ()):
            del self.gtts[gtt_id]
            self._touched_s.pop(gtt_id, None)

    def _put(self, before: Gtt, after: Gtt) -> None:
        self.gtts[after.id] = after
        self._of_entry[after.entry_id].add(after.id)
        self._touched_s[after.id] = trio.current_time()
        self._on_change(before, after)

    def _entry(self, before: Gtt, after: Gtt, action: str, detail: str, writes: Iterable[Write]) -> LedgerEntry:
        def refused(error: Exception) -> None:
            # the next change writes the row whole
            _log.error("ledger.refused_gtt", gtt=str(after.id), status=after.status.value, error=str(error))

        draft = AuditDraft(
            at=self._clock.now(),
            actor="system",
            action=action,
            subject=f"gtt:{after.id}",
            content={
                "from": before.status.value,
                "entryId": after.entry_id,
                "accountId": after.account_id,
                "symbol": f"{after.exchange}:{after.symbol}",
                "quantity": after.quantity,
                "legs": [msgspec.structs.asdict(leg) for leg in after.legs],
                "triggerId": after.trigger_id,
                "brokerOrderId": after.broker_order_id,
                "attempt": after.attempt,
                "detail": detail,
            },
        )
        return LedgerEntry(writes=(save(after), *writes), audit=(draft,), on_fail=refused)
