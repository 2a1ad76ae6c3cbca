"""/signals: the doors for signals as JSON, signed by a program or sent by a signed-in person."""

import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec

from engine.domain.audit import AuditDraft
from engine.domain.delivery import Delivery
from engine.domain.directory import Source
from engine.domain.signal import Refusal
from engine.errors import (
    BadRequestError,
    ConflictError,
    ForbiddenError,
    KillSwitchError,
    NotFoundError,
    PayloadTooLargeError,
    RateLimitError,
    UnauthorizedError,
    UnavailableError,
    UnsupportedMediaTypeError,
    ValidationError,
)
from engine.http.endpoint import ApiBody, ApiRequest, endpoint
from engine.http.json_body import check_content_type, invalid
from engine.http.permissions import Permission
from engine.http.routes.webhook_auth import authenticate_source, record_refusal
from engine.http.services import Services
from engine.http.views.ownership import reachable
from engine.http.views.verdicts import VerdictView, field_refusal, good_items, verdicts, whole_refusal
from engine.ids import uuid7
from engine.runtime.crashpoint import crashpoint
from engine.signals import sheets

_TAGS = ("signals",)
_KEY = re.compile(r"[!-~]{1,200}", re.ASCII)
_WEBHOOK_ERRORS = (
    BadRequestError,
    UnauthorizedError,
    ForbiddenError,
    ConflictError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
    ValidationError,
    RateLimitError,
    KillSwitchError,
    UnavailableError,
)

Word = Annotated[str, msgspec.Meta(max_length=64)]


class HandSignalBody(ApiBody, frozen=True, kw_only=True):
    """A signal by hand: the fields of a sheet's row, and the source or the strategy that it is for."""

    symbol: Word
    exchange: Word
    transaction_type: Word
    quantity: int
    order_type: Word
    product_type: Word
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    validity: Word | None = None
    variety: Word | None = None
    stop_loss: Decimal | None = None
    target: Decimal | None = None
    disclosed_quantity: int | None = None
    validity_ttl: int | None = None
    iceberg_legs: int | None = None
    auction_number: Word | None = None
    market_protection: Decimal | None = None
    exits: Word | None = None
    source_id: UUID | None = None
    strategy_id: UUID | None = None


@endpoint(
    "POST",
    "/signals/sheets/webhook",
    permission=Permission.WEBHOOK,
    summary="Send signals from a sheet",
    response=VerdictView | list[VerdictView],
    status=202,
    errors=_WEBHOOK_ERRORS,
    raw_body=True,
    tags=_TAGS,
)
async def sheets_webhook(request: ApiRequest) -> VerdictView | list[VerdictView]:
    """Takes one signal, or an array of 1 to 100, signed with the secret of the source that X-API-Key names.

    X-Signature is the lower-case hex HMAC-SHA256 of ``<X-Timestamp>.<body>``. Idempotency-Key, if sent,
    names the delivery: a repeat is answered like the first and places nothing. The answer comes once the
    signals would survive a crash.
    """
    return await _take(request, authenticate_source(request, request.raw))


@endpoint(
    "POST",
    "/signals/webhook/{sourceId}",
    permission=Permission.WEBHOOK,
    summary="Send signals from a program",
    response=VerdictView | list[VerdictView],
    status=202,
    errors=_WEBHOOK_ERRORS,
    raw_body=True,
    tags=_TAGS,
)
async def program_webhook(request: ApiRequest) -> VerdictView | list[VerdictView]:
    """The same body, headers and answer as for a sheet; X-API-Key must be that of the source in the path."""
    source = authenticate_source(request, request.raw)
    if source.id != request.path["sourceId"]:
        record_refusal(request, "BAD_SIGNATURE", source)
        raise UnauthorizedError("X-API-Key and X-Signature do not belong to this source", code="BAD_SIGNATURE")
    return await _take(request, source)


@endpoint(
    "POST",
    "/signals",
    permission=Permission.TRADE,
    summary="Send a signal by hand",
    body=HandSignalBody,
    response=VerdictView,
    status=202,
    errors=(NotFoundError, ConflictError, KillSwitchError, UnavailableError),
    tags=_TAGS,
)
async def hand_signal(request: ApiRequest) -> VerdictView | list[VerdictView]:
    """Takes one signal for a source, or for a strategy through one of its sources, as that would send it.

    Without an Idempotency-Key every call is a signal of its own.
    """
    services: Services = request.services
    body: HandSignalBody = request.body
    source = _source_of(request, body)
    element = sheets.parse_element(_row(body))
    if isinstance(element, Refusal):
        raise field_refusal(element)
    given = idempotency_key(request)
    accepted = await services.ingest.accept(
        Delivery(
            source_id=source.id,
            strategy_id=source.strategy_id,
            user_id=source.user_id,
            idempotency_key=f"hand:{request.user.user_id}:{uuid7() if given is None else given}",
            body_sha256=hashlib.sha256(msgspec.json.encode(element)).digest(),
            received_at=services.clock.now(),
            request_id=request.request_id,
            items=good_items([element]),
        )
    )
    services.ledger.record(
        AuditDraft(
            at=services.clock.now(),
            actor=f"user:{request.user.user_id}",
            action="SIGNAL_BY_HAND",
            subject=f"intent:{accepted.receipts[0].intent_id}",
            content={"requestId": request.request_id, "ip": request.client_ip, "duplicate": accepted.duplicate},
        )
    )
    return verdicts(sheets.Batch(is_array=False, items=(element,)), accepted)


def _source_of(request: ApiRequest, body: HandSignalBody) -> Source:
    services: Services = request.services
    directory = services.directory
    if body.source_id is not None:
        source = reachable(request.user, directory.sources.get(body.source_id), "source")
        if body.strategy_id not in (None, source.strategy_id):
            raise invalid({"strategyId": "is not the strategy of this source: send only one of the two"})
    elif body.strategy_id is not None:
        strategy = reachable(request.user, directory.strategies.get(body.strategy_id), "strategy")
        theirs = [source for source in directory.sources.values() if source.strategy_id == strategy.id]
        if not theirs:
            raise invalid({"strategyId": "has no source: make one first"})
        source = min(theirs, key=lambda candidate: (not candidate.enabled, candidate.id))
    else:
        raise invalid({"sourceId": "is required, or strategyId"})
    if not source.enabled:
        raise ConflictError("the source is switched off", code="SOURCE_DISABLED")
    return source


def _row(body: HandSignalBody) -> dict[str, Any]:
    fields = msgspec.structs.fields(HandSignalBody)
    values = {field.encode_name: getattr(body, field.name) for field in fields}
    return {name: value for name, value in values.items() if value is not None and not isinstance(value, UUID)}


async def _take(request: ApiRequest, source: Source) -> VerdictView | list[VerdictView]:
    services: Services = request.services
    crashpoint("S1.authenticated")
    check_content_type(request.header("content-type"))
    key = delivery_key(request, services.clock.now(), services.config.signals.dedup_window_s)
    batch = sheets.parse(request.raw)
    if isinstance(batch, Refusal):
        record_refused(request, source, [batch])
        raise whole_refusal(batch)
    refused = [item for item in batch.items if isinstance(item, Refusal)]
    if refused:
        record_refused(request, source, refused)
        if not batch.is_array:
            raise field_refusal(refused[0])
    items = good_items(batch.items)
    if not items:
        return verdicts(batch, None)
    crashpoint("S1.parsed")
    accepted = await services.ingest.accept(
        Delivery(
            source_id=source.id,
            strategy_id=source.strategy_id,
            user_id=source.user_id,
            idempotency_key=key,
            body_sha256=hashlib.sha256(request.raw).digest(),
            received_at=services.clock.now(),
            request_id=request.request_id,
            items=items,
        )
    )
    crashpoint("S3.before_answer")
    return verdicts(batch, accepted)


def delivery_key(request: ApiRequest, now: datetime, dedup_window_s: int) -> str:
    """Return what names the delivery: the sender's Idempotency-Key, else the hash of what it signed.

    A body signed without a timestamp is the same delivery within one window of *dedup_window_s* and a
    new one in the next, or a sheet could never send the same order again.
    """
    given = idempotency_key(request)
    if given is not None:
        return f"key:{given}"
    timestamp = request.header("x-timestamp")
    if timestamp is not None:
        return "body:" + hashlib.sha256(timestamp.encode() + b"." + request.raw).hexdigest()
    return f"body:{hashlib.sha256(request.raw).hexdigest()}:{int(now.timestamp() // dedup_window_s)}"


def idempotency_key(request: ApiRequest) -> str | None:
    """Return the Idempotency-Key header, None without one. Raises ValidationError."""
    given = request.header("idempotency-key")
    if given is not None and not _KEY.fullmatch(given):
        raise invalid({"Idempotency-Key": "must be 1 to 200 visible ASCII characters"})
    return given


def record_refused(request: ApiRequest, source: Source, refusals: Sequence[Refusal]) -> None:
    """Put on record which signals of an authenticated source were refused, and why."""
    services: Services = request.services
    services.ledger.record(
        AuditDraft(
            at=services.clock.now(),
            actor=f"source:{source.id}",
            action="SIGNAL_REFUSED",
            subject=f"source:{source.id}",
            content={
                "requestId": request.request_id,
                "count": len(refusals),
                "refusals": [
                    {"code": refusal.code, "message": refusal.message, "field": refusal.field, "line": refusal.line}
                    for refusal in refusals[:10]
                ],
            },
        )
    )
