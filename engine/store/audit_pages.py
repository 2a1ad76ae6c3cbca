"""The audit log, page by page, for whoever checks or exports it."""

from typing import Any

from engine.domain.audit import AuditRecord

PAGE = 5000


async def page(connection: Any, *, after_seq: int, limit: int = PAGE) -> list[AuditRecord]:
    """Return up to *limit* records after *after_seq*, oldest first (asyncio-flavoured unit)."""
    rows = await connection.fetch(
        "SELECT seq, at, actor, action, subject, content, prev_hash, hash FROM audit_logs "
        "WHERE seq > $1 ORDER BY seq LIMIT $2",
        after_seq,
        limit,
    )
    return [AuditRecord(**dict(row)) for row in rows]
