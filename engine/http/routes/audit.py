"""/audit: the audit log and the proof of its chain; for administrators."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

import msgspec
import trio

from engine.domain.audit import GENESIS, AuditRecord, verify
from engine.errors import UnavailableError
from engine.http.endpoint import ApiRequest, ApiStruct, EventStream, Page, Raw, endpoint
from engine.http.paging import PageQuery
from engine.http.permissions import Permission
from engine.http.services import Services
from engine.store import audit_pages
from engine.store.database import Database
from engine.store.queries import audit_log

_TAGS = ("audit",)
_PAGE_TIMEOUT_S = 15.0
_VERIFY_TIMEOUT_S = 120.0
_EXPORT_ROWS = 1000
_one_at_a_time = trio.CapacityLimiter(1)

Word = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class AuditQuery(PageQuery, frozen=True, kw_only=True):
    """Filters of the list, each exact; ``from`` and ``to`` speak of the record's time."""

    actor: Word | None = None
    action: Word | None = None
    subject: Word | None = None


class AuditView(ApiStruct, frozen=True, kw_only=True):
    """One record: ``data`` is what was hashed, ``prevHash`` and ``hash`` are hex SHA-256."""

    seq: int
    at: datetime
    actor: str
    action: str
    subject: str
    data: msgspec.Raw
    prev_hash: str
    hash: str


class ChainView(ApiStruct, frozen=True, kw_only=True):
    """Whether the chain holds, how many records were read, and the number at which it first breaks."""

    ok: bool
    records: int
    first_broken: int | None


@endpoint(
    "GET",
    "/audit",
    permission=Permission.ADMIN,
    summary="List audit records",
    query=AuditQuery,
    list_of=AuditView,
    tags=_TAGS,
)
async def list_audit(request: ApiRequest) -> Page[AuditView]:
    """Every decision, order event, sign-in and change by an administrator, newest first."""
    services: Services = request.services
    query: AuditQuery = request.query
    window = query.window()
    wanted = audit_log.AuditFilter(
        limit=window.limit + 1,
        actor=query.actor,
        action=query.action,
        subject=query.subject,
        start=window.start,
        end=window.end,
        before_seq=window.after_seq(),
    )
    await services.read_your_writes()
    found = await services.database.run(lambda connection: audit_log.list_records(connection, wanted))
    return Page.cut(found, window, key=lambda record: (record.seq,)).map(audit_view)


class ExportQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Which records, as of the list; without a filter all of them, so that their chain can be verified."""

    actor: Word | None = None
    action: Word | None = None
    subject: Word | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None


@endpoint(
    "GET",
    "/audit/export",
    permission=Permission.ADMIN,
    summary="Export the audit log",
    query=ExportQuery,
    response=Raw,
    media_type="application/x-ndjson",
    tags=_TAGS,
)
async def export_audit(request: ApiRequest) -> EventStream:
    """Every record as a line of JSON, as the list shows it, newest first.

    A file that ends early has no last line: the last line is an object with ``records``, their number.
    """
    services: Services = request.services
    query: ExportQuery = request.query
    window = PageQuery(from_=query.from_, to=query.to).window()
    wanted = audit_log.AuditFilter(
        limit=_EXPORT_ROWS,
        actor=query.actor,
        action=query.action,
        subject=query.subject,
        start=window.start,
        end=window.end,
    )
    await services.read_your_writes()
    name = f"audit-{services.clock.now():%Y-%m-%d}.jsonl"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return EventStream(_exported(services.database, wanted), "application/x-ndjson", headers)


async def _exported(database: Database, wanted: audit_log.AuditFilter) -> AsyncIterator[bytes]:
    count = 0
    while True:
        part = wanted
        records = await database.run(
            lambda connection: audit_log.list_records(connection, part),  # noqa: B023 -- used at once
            timeout_s=_PAGE_TIMEOUT_S,
        )
        count += len(records)
        if not records:
            yield msgspec.json.encode({"records": count}) + b"\n"
            return
        yield b"".join(msgspec.json.encode(audit_view(record)) + b"\n" for record in records)
        wanted = msgspec.structs.replace(wanted, before_seq=records[-1].seq)


@endpoint(
    "GET",
    "/audit/verify",
    permission=Permission.ADMIN,
    summary="Verify the audit chain",
    response=ChainView,
    tags=_TAGS,
)
async def verify_audit(request: ApiRequest) -> ChainView:
    """Reads the whole log and recomputes its hash chain; answers 200 also when it is broken."""
    services: Services = request.services
    await services.read_your_writes()
    with trio.move_on_after(_VERIFY_TIMEOUT_S):
        async with _one_at_a_time:
            return await check_chain(services.database)
    raise UnavailableError("the log is too long to verify here; use engine audit verify", retry_after_s=60)


async def check_chain(database: Database, *, page_rows: int = audit_pages.PAGE) -> ChainView:
    """Read the log in pages of *page_rows* and verify each on a worker thread. Raises StoreUnavailable."""
    seq, last = 0, GENESIS
    while True:
        after = seq
        records = await database.run(
            lambda connection: audit_pages.page(connection, after_seq=after, limit=page_rows),  # noqa: B023 -- used at once
            timeout_s=_PAGE_TIMEOUT_S,
        )
        if not records:
            return ChainView(ok=True, records=seq, first_broken=None)
        broken = await trio.to_thread.run_sync(_verify, records, last, seq + 1)
        if broken is not None:
            return ChainView(ok=False, records=broken - 1, first_broken=broken)
        seq, last = records[-1].seq, records[-1].hash


def _verify(records: list[AuditRecord], last: bytes, first_seq: int) -> int | None:
    return verify(records, prev=last, first_seq=first_seq)


def audit_view(record: AuditRecord) -> AuditView:
    """Return a record as the API shows it."""
    return AuditView(
        seq=record.seq,
        at=record.at,
        actor=record.actor,
        action=record.action,
        subject=record.subject,
        data=msgspec.Raw(record.content.encode()),
        prev_hash=record.prev_hash.hex(),
        hash=record.hash.hex(),
    )
