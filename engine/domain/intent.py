"""A trade intent: one accepted signal on its way to the orders of its strategy's accounts."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

import msgspec

from engine.domain.enums import IntentStatus, OrderStatus
from engine.domain.signal import Signal


class Intent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One accepted signal.

    ``id`` is `engine.ids.intent_id` of source, idempotency key and ``position`` in the delivery, so a
    replay names the same intent. ``received_at`` and ``signal_at`` are aware UTC; ``signal_at`` is the
    instant the source stated, when it stated one. ``reason`` is ``CODE: text`` once refused or ended
    short of full execution. ``signal`` bears the exchange's symbol once it is decided about;
    ``written_symbol`` is what the source wrote where that was another name or a contract in words. An intent that
    waits for a person is PENDING_APPROVAL until ``expires_at`` (UTC); ``seen_price`` is the instrument's last price
    (rupees) when it came, ``approved_at`` (UTC) when it was approved: from then on its age counts anew.
    ``kill_turn`` is the `KillSwitches.turn` at which its age began, None where an earlier process saw that: it is
    kept nowhere.
    """

    id: UUID
    source_id: UUID
    strategy_id: UUID
    user_id: UUID
    signal: Signal
    status: IntentStatus
    received_at: datetime
    updated_at: datetime
    idempotency_key: str
    body_sha256: bytes
    position: int = 0
    reason: str | None = None
    request_id: str | None = None
    written_symbol: str | None = None
    seen_price: Decimal | None = None
    expires_at: datetime | None = None
    approved_at: datetime | None = None
    kill_turn: int | None = None

    @property
    def began_at(self) -> datetime:
        """When its age began: at the approval of one that waited for it, else at its receipt."""
        return self.approved_at or self.received_at


class IntentEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry of an intent's timeline; ``event`` of the last entry of a finished intent is its state."""

    intent_id: UUID
    at: datetime
    event: str
    detail: str = ""


RESLICED = "RESLICED"
"""How the message of an order begins that was refused for its size and placed in slices instead."""


def outcome(orders: "list[tuple[OrderStatus, int, int, str | None]]") -> tuple[IntentStatus, str | None]:
    """Fold the orders of an intent into its state.

    Each order is (status, quantity, filled quantity, message). EXECUTING while any order can still
    change; EXECUTED when all filled in full; PARTIAL when anything filled; otherwise the shared end of
    the orders, FAILED when they ended differently. The reason is the first message of an order that
    fell short. An order that was placed in slices instead counts for what it filled itself: nothing; without
    its slices nothing was executed.
    """
    orders = [
        (status, filled, filled, None) if (message or "").startswith(RESLICED) else (status, quantity, filled, message)
        for status, quantity, filled, message in orders
    ]
    if any(not status.is_terminal for status, _, _, _ in orders):
        return IntentStatus.EXECUTING, None
    reason = next((message for status, _, _, message in orders if status is not OrderStatus.COMPLETE and message), None)
    if all(filled >= quantity for _, quantity, filled, _ in orders) and any(quantity for _, quantity, _, _ in orders):
        return IntentStatus.EXECUTED, None
    if any(filled for _, _, filled, _ in orders):
        return IntentStatus.PARTIAL, reason
    ends = {_ENDS.get(status, IntentStatus.FAILED) for status, _, _, _ in orders}
    return (ends.pop() if len(ends) == 1 else IntentStatus.FAILED), reason


_ENDS = {
    OrderStatus.CANCELLED: IntentStatus.CANCELLED,
    OrderStatus.EXPIRED: IntentStatus.EXPIRED,
    OrderStatus.REJECTED: IntentStatus.FAILED,
    OrderStatus.FAILED: IntentStatus.FAILED,
}
