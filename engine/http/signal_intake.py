"""From an authenticated body to a durable delivery: what every door for signals of programs does alike."""

import hashlib
from datetime import datetime

import msgspec

from engine.actors.ingest import Accepted
from engine.actors.source_watch import SourceWatch
from engine.domain import source_checks
from engine.domain.delivery import Delivery, Item
from engine.domain.directory import Source
from engine.domain.signal import Refusal
from engine.errors import ApiError, ConflictError
from engine.http.endpoint import ApiRequest
from engine.http.json_body import invalid
from engine.http.once import key_of
from engine.http.sender_gate import SignedMessages
from engine.http.services import Services
from engine.http.source_bounds import checked, pace, record_refused
from engine.http.views.verdicts import VerdictView, field_refusal, good_items, verdicts, whole_refusal
from engine.http.webhook_auth import record_refusal
from engine.runtime.crashpoint import crashpoint
from engine.signals import fields
from engine.signals.refusals import Refused
from engine.signals.sheets import Batch

_MESSAGES = "signed_messages"


async def take_in(
    request: ApiRequest, source: Source, batch: Batch | Refusal, *, key: str, message: bytes | None = None
) -> VerdictView | list[VerdictView]:
    """Take in what *source* sent, under *key*, and return its verdicts once it is durable.

    *message* is the hash of what was signed where the key itself was not. Raises ApiError when nothing was taken in.
    """
    if isinstance(batch, Refusal):
        record_refused(request, source, [batch])
        raise whole_refusal(batch)
    services: Services = request.services
    numbers = _numbers(request, batch)
    watch: SourceWatch = services.extras["source_watch"]
    if source.checks != source_checks.NO_CHECKS:
        # a price that moved since, or a bound that was changed, says nothing of what was taken in already
        earlier = await services.ingest.earlier([source.id], key, hashlib.sha256(request.raw).digest())
        if earlier is not None:
            watch.signals_came(source, numbers, repeat=True)
            return verdicts(batch, earlier)
    batch = msgspec.structs.replace(batch, items=checked(services, source, batch.items))
    refused = [item for item in batch.items if isinstance(item, Refusal)]
    if refused:
        record_refused(request, source, refused)
        if not batch.is_array:
            watch.signals_came(source, numbers, repeat=False)
            raise field_refusal(refused[0])
    items = good_items(batch.items)
    if not items:
        watch.signals_came(source, numbers, repeat=False)
        return verdicts(batch, None)
    crashpoint("S1.parsed")
    pace(services, source, len(items))
    accepted = await _accept(request, source, items, key=key, message=message)
    watch.signals_came(source, numbers, repeat=accepted.duplicate)
    crashpoint("S3.before_answer")
    return verdicts(batch, accepted)


async def _accept(
    request: ApiRequest, source: Source, items: tuple[Item, ...], *, key: str, message: bytes | None
) -> Accepted:
    services: Services = request.services
    skew_s = services.config.signals.max_clock_skew_s
    # a timestamp is believed from so long before its instant to so long after it
    messages: SignedMessages = services.extras.setdefault(_MESSAGES, SignedMessages(keep_s=2.0 * skew_s))
    is_new = False
    if message is not None:
        now_s = services.clock.boottime_ns() / 1e9
        try:
            is_new = messages.take(source.id, message, key, now_s, strict=source.strict_replay)
        except ConflictError as reused:
            record_refusal(request, reused.code, source)
            raise
    services.ingest.stages.came(source.id, key, request.received_ns)
    try:
        return await services.ingest.accept(
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
    except ApiError:
        if is_new and message is not None:
            messages.give_back(source.id, message, key)
        raise


def _numbers(request: ApiRequest, batch: Batch) -> tuple[int, ...]:
    """Return the numbers of the signals: their own, else the X-Sequence of the delivery."""
    given = request.header("x-sequence")
    if given is None:
        return batch.sequences
    if batch.sequences:
        raise invalid({"X-Sequence": "goes with signals that have no sequence of their own: drop one of them"})
    try:
        return (fields.sequence(given, "X-Sequence"),)
    except Refused as refused:
        raise invalid({"X-Sequence": refused.refusal.message}) from None


def signed_message(request: ApiRequest) -> bytes | None:
    """Return the hash of what was signed with X-Timestamp, None without one."""
    timestamp = request.header("x-timestamp")
    return None if timestamp is None else hashlib.sha256(timestamp.encode() + b"." + request.raw).digest()


def delivery_key(request: ApiRequest, now: datetime, dedup_window_s: int) -> str:
    """Return what names the delivery: the sender's Idempotency-Key, else the hash of what it signed.

    A body signed without a timestamp is the same delivery within one window of *dedup_window_s* and a
    new one in the next, or a sheet could never send the same order again.
    """
    given = key_of(request)
    if given is not None:
        return f"key:{given}"
    message = signed_message(request)
    if message is not None:
        return f"body:{message.hex()}"
    return f"body:{hashlib.sha256(request.raw).hexdigest()}:{int(now.timestamp() // dedup_window_s)}"
