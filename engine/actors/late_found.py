"""Late fills: an order of an intent that has ended turns out filled, and the intent follows.

Owns nothing but the days to look at; what is wrong is read from the ledger, so it is found whether the
intent is still in memory or ended lives ago, and set right once. Runs as a part of the user's risk actor.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from uuid import UUID

import msgspec
import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.risk_messages import IntentOrder
from engine.clock import Clock
from engine.domain.audit import AuditDraft
from engine.domain.group_policy import replaced
from engine.domain.intent import Intent, IntentEvent, outcome
from engine.errors import StoreUnavailable

_log = structlog.get_logger(__name__)

_BARRIER_S = 30.0
_RETRY_S = 1.0

Ended = tuple[Intent, Sequence[IntentOrder]]
Load = Callable[[UUID, date], Awaitable[Sequence[Ended]]]


class LateFound:
    """Follows the late fills of one user; *load* returns the intents that ended short though something filled."""

    def __init__(
        self, user_id: UUID, *, clock: Clock, ledger: AuditWriter, load: Load, alert: Callable[[str, str], None]
    ) -> None:
        self._user_id = user_id
        self._clock = clock
        self._ledger = ledger
        self._load = load
        self._alert = alert
        self._days: set[date] = set()
        self._wanted = trio.Event()

    def look(self, day: date) -> None:
        """Look soon for intents that miss a fill of the IST *day*."""
        self._days.add(day)
        self._wanted.set()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = trio.Event()
            while self._days:
                day = min(self._days)
                try:
                    # the fill itself, and what was set right before, shall be in what is read
                    if await self._ledger.barrier(timeout_s=_BARRIER_S):
                        self._days.discard(day)
                        self._follow(await self._load(self._user_id, day))
                        continue
                except StoreUnavailable as error:
                    self._days.add(day)
                    _log.warning("late_found.waits_for_ledger", user=str(self._user_id), error=str(error))
                await trio.sleep(_RETRY_S)

    def _follow(self, found: Sequence[Ended]) -> None:
        now = self._clock.now()
        for intent, orders in found:
            entry = late_entry(intent, orders, now)
            if entry is not None:
                self._ledger.append(entry)
                self._alert(f"intent:{intent.id}", f"LATE_FOUND: filled after it was {intent.status}")


def late_entry(intent: Intent, orders: Sequence[IntentOrder], now: datetime) -> LedgerEntry | None:
    """Return what sets an ended intent right by its orders' fills, or None when it is right."""
    gone = replaced((oid, filled) for oid, _, _, filled, _ in orders)
    orders = [order for order in orders if order[0] not in gone]
    status, reason = outcome([(s, quantity, filled, message) for _, s, quantity, filled, message in orders])
    if not status.is_terminal or status is intent.status or not any(filled for _, _, _, filled, _ in orders):
        return None
    followed = msgspec.structs.replace(intent, status=status, reason=reason, updated_at=now)
    fills = ", ".join(f"order {oid} filled {filled} of {quantity}" for oid, _, quantity, filled, _ in orders if filled)
    detail = f"{fills} after the intent was {intent.status}"
    return LedgerEntry(
        intent_updates=(followed,),
        intent_events=(
            IntentEvent(intent_id=intent.id, at=now, event="LATE_FOUND", detail=detail),
            IntentEvent(intent_id=intent.id, at=now, event=status.value, detail=reason or ""),
        ),
        audit=(
            AuditDraft(
                at=now,
                actor="system",
                action="INTENT_LATE_FOUND",
                subject=f"intent:{intent.id}",
                content={"was": intent.status.value, "is": status.value, "detail": detail},
            ),
        ),
    )
