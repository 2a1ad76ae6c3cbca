"""A delivery: the signals of one request or message, as the journal keeps them."""

from datetime import datetime
from uuid import UUID

import msgspec

from engine.domain.enums import IntentStatus
from engine.domain.intent import Intent
from engine.domain.signal import Signal
from engine.ids import intent_id


class Item(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One good signal of a delivery and its place in it."""

    position: int
    signal: Signal


class Delivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything that replay needs to make the same intents again.

    ``received_at`` (UTC) is when the engine had the whole request; ``idempotency_key`` with
    ``source_id`` names the delivery for good; ``body_sha256`` tells a repeat from a different body.
    """

    source_id: UUID
    strategy_id: UUID
    user_id: UUID
    idempotency_key: str
    body_sha256: bytes
    received_at: datetime
    request_id: str | None
    items: tuple[Item, ...]

    def intents(self, kill_turn: int | None = None) -> tuple[Intent, ...]:
        """Return the intents of the delivery, all RECEIVED; the same ones at every replay.

        *kill_turn* is the `KillSwitches.turn` at which it came, None at a replay.
        """
        return tuple(
            Intent(
                id=intent_id(self.source_id, self.idempotency_key, item.position),
                source_id=self.source_id,
                strategy_id=self.strategy_id,
                user_id=self.user_id,
                signal=item.signal,
                status=IntentStatus.RECEIVED,
                received_at=self.received_at,
                updated_at=self.received_at,
                idempotency_key=self.idempotency_key,
                body_sha256=self.body_sha256,
                position=item.position,
                request_id=self.request_id,
                kill_turn=kill_turn,
            )
            for item in self.items
        )
