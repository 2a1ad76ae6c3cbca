"""What a sender of signals is told: a receipt for each that was taken in, the reason for each that was not."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from msgspec import UNSET, UnsetType

from engine.actors.ingest import Accepted
from engine.domain.delivery import Item
from engine.domain.signal import Refusal, Signal
from engine.errors import ApiError, BadRequestError, PayloadTooLargeError
from engine.http.endpoint import ApiStruct
from engine.http.json_body import invalid
from engine.signals.refusals import RefusalCode
from engine.signals.sheets import Batch

REFUSED = "REFUSED"

NOT_TAKEN = Refusal(
    code="REFUSED_BEFORE",
    message="it was refused when this delivery came first; send it as a delivery of its own",
)
"""What is said of a signal in a repeat that its source might not ask for when the delivery came first."""

# refusals of a document that can be read; every other one speaks of bytes that are not one
_READABLE = frozenset({RefusalCode.EMPTY_BATCH, RefusalCode.BATCH_TOO_LARGE, RefusalCode.WRONG_SHAPE})


class VerdictView(ApiStruct, frozen=True, kw_only=True):
    """The verdict on one signal.

    Taken in: ``intentId``, the intent's ``status`` and whether the delivery is a ``duplicate``. Not
    taken in: ``status`` REFUSED with ``code``, ``message`` and ``field``, and no ``intentId``.
    """

    status: str
    intent_id: UUID | UnsetType = UNSET
    duplicate: bool | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    code: str | UnsetType = UNSET
    message: str | UnsetType = UNSET
    field: str | UnsetType = UNSET


def whole_refusal(refusal: Refusal) -> ApiError:
    """Return the error for a body of which nothing was taken in."""
    if refusal.code == RefusalCode.BODY_TOO_LARGE:
        return PayloadTooLargeError(refusal.message)
    if refusal.code in _READABLE:
        return invalid({refusal.field or "body": refusal.message})
    return BadRequestError(f"the body cannot be read: {refusal.message}", code=refusal.code)


def field_refusal(refusal: Refusal) -> ApiError:
    """Return the error for a single signal with a wrong field."""
    return invalid({refusal.field or "body": refusal.message})


def good_items(elements: Sequence[Signal | Refusal]) -> tuple[Item, ...]:
    """Return the signals among *elements*, each with its place."""
    return tuple(
        Item(position=position, signal=element)
        for position, element in enumerate(elements)
        if isinstance(element, Signal)
    )


def verdicts(batch: Batch, accepted: Accepted | None) -> VerdictView | list[VerdictView]:
    """Return the answer to *batch*, in its shape; *accepted* is None when it held no good signal."""
    receipts: Mapping[int, VerdictView] = {}
    if accepted is not None:
        receipts = {
            receipt.position: VerdictView(
                intent_id=receipt.intent_id,
                status=receipt.status.value,
                duplicate=accepted.duplicate,
                reason=receipt.reason or UNSET,
            )
            for receipt in accepted.receipts
        }
    views = [
        receipts.get(position) or _refused(item if isinstance(item, Refusal) else NOT_TAKEN)
        for position, item in enumerate(batch.items)
    ]
    return views if batch.is_array else views[0]


def _refused(refusal: Refusal) -> VerdictView:
    return VerdictView(status=REFUSED, code=refusal.code, message=refusal.message, field=refusal.field or UNSET)
