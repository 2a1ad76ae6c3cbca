"""Reads of the audit log, newest first, for the API (asyncio-flavoured units)."""

from datetime import datetime
from typing import Any

import msgspec

from engine.domain.audit import AuditRecord
from engine.store.queries.filters import Filters


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which records: ``start`` inclusive, ``end`` exclusive, ``before_seq`` exclusive."""

    limit: int
    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    start: datetime | None = None
    end: datetime | None = None
    before_seq: int | None = None


async def list_records(connection: Any, wanted: AuditFilter) -> list[AuditRecord]:
    """Return up to ``limit`` records, newest first."""
    filters = (
        Filters()
        .add("actor = {}", wanted.actor)
        .add("action = {}", wanted.action)
        .add("subject = {}", wanted.subject)
        .add("at >= {}", wanted.start)
        .add("at < {}", wanted.end)
        .add("seq < {}", wanted.before_seq)
    )
    sql = (
        "SELECT seq, at, actor, action, subject, content, prev_hash, hash FROM audit_logs"  # noqa: S608 -- constants
        f"{filters.where()} ORDER BY seq DESC LIMIT {filters.parameter(wanted.limit)}"
    )
    return [AuditRecord(**dict(row)) for row in await connection.fetch(sql, *filters.args)]
