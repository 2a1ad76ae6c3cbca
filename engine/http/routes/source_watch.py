"""/signals/heartbeat and /signals/sheets/ledger: how a sender finds out that something it sent never came."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import msgspec

from engine.actors.source_watch import SourceWatch
from engine.domain.directory import Source
from engine.domain.source_watch import MAX_SEQUENCE
from engine.errors import StoreUnavailable, UnauthorizedError, UnavailableError
from engine.http.doors import signed
from engine.http.endpoint import ApiBody, ApiRequest, ApiStruct, endpoint
from engine.http.json_body import check_content_type, decode_body
from engine.http.permissions import Permission
from engine.http.routes.signals import WEBHOOK_ERRORS
from engine.http.sender_gate import SignalPace
from engine.http.services import Services
from engine.http.views.sources import GapView
from engine.http.webhook_auth import authenticate_source, authenticate_standard, record_refusal

_TAGS = ("signals",)
MAX_ROWS = 400
ASKS_PER_MINUTE = 60
_ASKED = "ledger_asks"
Key = Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,200}\Z", examples=["row-7-2026-11-27"])]
Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z", examples=["5f" * 32])]


class HeartbeatBody(ApiBody, frozen=True, kw_only=True):
    """A sign of life; ``lastSequence`` is the number of the last signal that the sender sent."""

    last_sequence: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQUENCE)] | None = None


class HeartbeatView(ApiStruct, frozen=True, kw_only=True):
    """What the engine has of the sender: the highest number, and those below it that never came."""

    received_at: datetime
    last_sequence: int | None
    missing: tuple[GapView, ...]


class SentRow(ApiBody, frozen=True, kw_only=True):
    """A row that a sheet has sent: its Idempotency-Key and the SHA-256 of the body, in lower-case hex."""

    key: Key
    sha256: Hash | None = None


class SentRows(ApiBody, frozen=True, kw_only=True):
    """Rows that a sheet believes it has sent."""

    rows: Annotated[list[SentRow], msgspec.Meta(min_length=1, max_length=MAX_ROWS)]


class TakenRow(ApiStruct, frozen=True, kw_only=True):
    """A row that was taken in, and what became of it."""

    key: str
    intent_id: UUID
    status: str


class RowsView(ApiStruct, frozen=True, kw_only=True):
    """``missing`` are the keys that were never taken in, ``changed`` those that came with another body."""

    taken: tuple[TakenRow, ...]
    missing: tuple[str, ...]
    changed: tuple[str, ...]


@endpoint(
    "POST",
    "/signals/heartbeat/{sourceId}",
    permission=Permission.WEBHOOK,
    summary="Say that a sender is alive",
    door=signed(HeartbeatBody),
    response=HeartbeatView,
    errors=WEBHOOK_ERRORS,
    raw_body=True,
    tags=_TAGS,
)
async def heartbeat(request: ApiRequest) -> HeartbeatView:
    """Signed like a signal. Answers which numbered signals never came; a gap that this shows alerts a person."""
    if request.header("webhook-signature") is not None:
        source = authenticate_standard(request, request.raw)
    else:
        source = authenticate_source(request, request.raw)
        if source.id != request.path["sourceId"]:
            record_refusal(request, "BAD_SIGNATURE", source)
            raise UnauthorizedError("X-API-Key and X-Signature do not belong to this source", code="BAD_SIGNATURE")
    body = HeartbeatBody()
    if request.raw:
        check_content_type(request.header("content-type"))
        body = decode_body(request.raw, HeartbeatBody)
    watch = _watch(request)
    watch.beat(source, body.last_sequence)
    heard = watch.heard_of(source.id)
    return HeartbeatView(
        received_at=request.services.clock.now(),
        last_sequence=heard.last_sequence,
        missing=tuple(GapView(first=first, last=last) for first, last in heard.missing),
    )


@endpoint(
    "POST",
    "/signals/sheets/ledger",
    permission=Permission.WEBHOOK,
    summary="Ask which rows never arrived",
    door=signed(SentRows),
    response=RowsView,
    errors=WEBHOOK_ERRORS,
    raw_body=True,
    tags=_TAGS,
)
async def sheets_ledger(request: ApiRequest) -> RowsView:
    """Signed like a signal; 1 to 400 rows that the sheet believes it has sent.

    Answers those that were never taken in, which alert a person, and those that came with another content. What this
    call says counts as a sign of life too.
    """
    source = authenticate_source(request, request.raw)
    check_content_type(request.header("content-type"))
    body: SentRows = decode_body(request.raw, SentRows)
    # each asks the store: one source must not take its connections from everybody else
    asked: SignalPace = request.services.extras.setdefault(_ASKED, SignalPace())
    asked.take(source.id, 1, ASKS_PER_MINUTE, request.services.clock.boottime_ns() / 1e9)
    taken = await _taken(request, source, body)
    missing = tuple(dict.fromkeys(row.key for row in body.rows if row.key not in taken))
    watch = _watch(request)
    watch.beat(source)
    if missing:
        watch.rows_lost(source, missing)
    return RowsView(
        taken=tuple(TakenRow(key=key, intent_id=found[0], status=found[1]) for key, found in taken.items()),
        missing=missing,
        changed=tuple(
            row.key
            for row in body.rows
            if row.sha256 is not None and row.key in taken and taken[row.key][2].hex() != row.sha256
        ),
    )


async def _taken(request: ApiRequest, source: Source, body: SentRows) -> dict[str, tuple[UUID, str, bytes]]:
    services: Services = request.services
    if not await services.ingest.settle(timeout_s=2.0):
        raise UnavailableError("what was accepted is not all in the ledger yet; ask again", retry_after_s=5)
    try:
        found = await services.extras["rows_taken"](source.id, [f"key:{row.key}" for row in body.rows])
    except StoreUnavailable as away:
        raise UnavailableError("the ledger cannot be asked now; ask again", retry_after_s=5) from away
    return {key.removeprefix("key:"): row for key, row in found.items()}


def _watch(request: ApiRequest) -> SourceWatch:
    watch: SourceWatch = request.services.extras["source_watch"]
    return watch
