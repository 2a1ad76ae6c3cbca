"""/signals: the doors for signals as JSON, signed by a program or sent by a signed-in person."""

import hashlib
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec

from engine.domain.audit import AuditDraft
from engine.domain.delivery import Delivery
from engine.domain.directory import Source
from engine.domain.signal import Refusal, Signal
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
from engine.http.doors import SOURCE
from engine.http.endpoint import ApiBody, ApiRequest, Once, Reply, endpoint
from engine.http.json_body import check_content_type, invalid
from engine.http.once import REPLAYED, key_of
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.http.signal_intake import delivery_key, signed_message, take_in
from engine.http.views.ownership import reachable
from engine.http.views.risk_verdict import PreviewView, preview_view
from engine.http.views.verdicts import VerdictView, field_refusal, good_items, verdicts
from engine.http.webhook_auth import authenticate_source, authenticate_standard, record_refusal
from engine.ids import uuid7
from engine.signals import sheets

_TAGS = ("signals",)
WEBHOOK_ERRORS = (
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
    door=SOURCE,
    response=VerdictView | list[VerdictView],
    status=202,
    errors=WEBHOOK_ERRORS,
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
    door=SOURCE,
    response=VerdictView | list[VerdictView],
    status=202,
    errors=WEBHOOK_ERRORS,
    raw_body=True,
    tags=_TAGS,
)
async def program_webhook(request: ApiRequest) -> VerdictView | list[VerdictView]:
    """The same body, headers and answer as for a sheet; X-API-Key must be that of the source in the path.

    Or signed as Standard Webhooks do: webhook-id, webhook-timestamp and webhook-signature with the source's
    ``whsec_`` secret; the id is signed and names the delivery, and no X-API-Key is needed.
    """
    if request.header("webhook-signature") is not None:
        return await _take_standard(request)
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
    once=Once.OWN,
    body=HandSignalBody,
    response=VerdictView,
    status=202,
    errors=(NotFoundError, ConflictError, KillSwitchError, UnavailableError),
    tags=_TAGS,
)
async def hand_signal(request: ApiRequest) -> Reply:
    """Takes one signal for a source, or for a strategy through one of its sources, as that would send it.

    Without an Idempotency-Key every call is a signal of its own.
    """
    services: Services = request.services
    body: HandSignalBody = request.body
    source, element = _by_hand(request)
    given = key_of(request)
    accepted = await services.ingest.accept(
        Delivery(
            source_id=source.id,
            strategy_id=source.strategy_id,
            user_id=source.user_id,
            idempotency_key=f"hand:{request.user.user_id}:{uuid7() if given is None else given}",
            body_sha256=hashlib.sha256(msgspec.json.encode([element, body.source_id, body.strategy_id])).digest(),
            received_at=services.clock.now(),
            request_id=request.request_id,
            items=good_items([element]),
        ),
        by_hand=True,
        # a caller's key names one call, and the source behind a strategy may be another by the time of its repeat
        elsewhere=() if given is None else services.directory.sources.keys() - {source.id},
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
    answer = verdicts(sheets.Batch(is_array=False, items=(element,)), accepted)
    return Reply(202, answer, {REPLAYED: "true"} if accepted.duplicate else {})


@endpoint(
    "POST",
    "/signals/preview",
    permission=Permission.TRADE,
    summary="Ask what risk would say to a signal",
    once=Once.NO,
    body=HandSignalBody,
    response=PreviewView,
    errors=(NotFoundError, ConflictError, UnavailableError),
    tags=_TAGS,
)
async def preview_signal(request: ApiRequest) -> PreviewView:
    """Judges a signal by hand as it would be judged now: every rule, and what each account would order.

    Nothing is sent, kept or counted, and nothing is promised: it is judged again when it comes.
    """
    services: Services = request.services
    source, element = _by_hand(request)
    delivery = Delivery(
        source_id=source.id,
        strategy_id=source.strategy_id,
        user_id=source.user_id,
        idempotency_key=f"preview:{uuid7()}",
        body_sha256=b"",
        received_at=services.clock.now(),
        request_id=request.request_id,
        items=good_items([element]),
    )
    intent, decision = await services.crew.risk(source.user_id).preview(delivery)
    strategy = services.directory.strategies.get(source.strategy_id)
    return preview_view(intent, decision, waits=strategy is not None and strategy.approval == "manual")


def _by_hand(request: ApiRequest) -> tuple[Source, Signal]:
    """Return the source that a body by hand is for, and its signal."""
    body: HandSignalBody = request.body
    source = _source_of(request, body)
    element = sheets.parse_element(_row(body))
    if isinstance(element, Refusal):
        raise field_refusal(element)
    return source, element


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
    check_content_type(request.header("content-type"))
    key = delivery_key(request, services.clock.now(), services.config.signals.dedup_window_s)
    return await take_in(request, source, sheets.parse(request.raw), key=key, message=signed_message(request))


async def _take_standard(request: ApiRequest) -> VerdictView | list[VerdictView]:
    """Take a delivery in the form of Standard Webhooks; its id is signed and names it."""
    source = authenticate_standard(request, request.raw)
    check_content_type(request.header("content-type"))
    message_id = request.header("webhook-id")
    if key_of(request) not in (None, message_id):
        raise invalid({"Idempotency-Key": "webhook-id names the delivery already: drop this header"})
    return await take_in(request, source, sheets.parse(request.raw), key=f"id:{message_id}")
