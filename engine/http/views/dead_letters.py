"""Dead letters as the API shows them."""

import base64
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from engine.domain.dead_letter import DeadLetter, LetterKind, LetterQueue, LetterStatus
from engine.domain.enums import Exchange, OrderType, ProductType, TransactionType
from engine.http.endpoint import ApiStruct
from engine.http.views.numbers import tidy_or_none
from engine.journal.entry import peek


class DeadLetterView(ApiStruct, frozen=True, kw_only=True):
    """One job that gave up, without its bytes.

    ``kind`` says why: DAMAGED, POISON, UNRECORDED or PARKED. ``canRequeue`` is false once it is decided, and
    for what cannot be executed. ``takenAt`` is when a requeued one became intents.
    """

    id: UUID
    queue: LetterQueue
    kind: LetterKind
    status: LetterStatus
    subject: str
    error: str
    attempts: int
    size_bytes: int
    can_requeue: bool
    created_at: datetime
    updated_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    taken_at: datetime | None


class BuriedSignalView(ApiStruct, frozen=True, kw_only=True):
    """One signal of a letter; prices are rupees."""

    symbol: str
    exchange: Exchange
    transaction_type: TransactionType
    quantity: int
    order_type: OrderType
    product_type: ProductType
    price: Decimal | None
    trigger_price: Decimal | None
    account: str | None


class DeadLetterDetailView(DeadLetterView, frozen=True, kw_only=True):
    """A letter with its bytes (base64), and with what they say where they can be read; the seal is not looked at."""

    payload: str
    source_id: UUID | None
    idempotency_key: str | None
    received_at: datetime | None
    signals: tuple[BuriedSignalView, ...]


def letter_view(letter: DeadLetter) -> DeadLetterView:
    """Return a letter as a list shows it."""
    return DeadLetterView(**_fields(letter))


def letter_detail(letter: DeadLetter) -> DeadLetterDetailView:
    """Return a letter with everything that is known of it."""
    delivery = peek(letter.payload)
    return DeadLetterDetailView(
        **_fields(letter),
        payload=base64.b64encode(letter.payload).decode(),
        source_id=None if delivery is None else delivery.source_id,
        idempotency_key=None if delivery is None else delivery.idempotency_key,
        received_at=None if delivery is None else delivery.received_at,
        signals=()
        if delivery is None
        else tuple(
            BuriedSignalView(
                symbol=item.signal.symbol,
                exchange=item.signal.exchange,
                transaction_type=item.signal.transaction_type,
                quantity=item.signal.quantity,
                order_type=item.signal.order_type,
                product_type=item.signal.product_type,
                price=tidy_or_none(item.signal.price),
                trigger_price=tidy_or_none(item.signal.trigger_price),
                account=item.signal.account,
            )
            for item in delivery.items
        ),
    )


def _fields(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "queue": letter.queue,
        "kind": letter.kind,
        "status": letter.status,
        "subject": letter.subject,
        "error": letter.error,
        "attempts": letter.attempts,
        "size_bytes": len(letter.payload),
        "can_requeue": letter.against_requeue() is None,
        "created_at": letter.created_at,
        "updated_at": letter.updated_at,
        "decided_by": letter.decided_by,
        "decided_at": letter.decided_at,
        "taken_at": letter.taken_at,
    }
