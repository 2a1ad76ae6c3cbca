"""The audit log, page by page, for whoever checks or exports it."""

from typing import Any

from engine.domain.audit import AuditRecord

PAGE = 5000


async def newest(connection: Any) -> list[AuditRecord]:
    """Return the last record of the log in a list, an empty one for an empty log (asyncio-flavoured unit)."""
    last = await connection.fetchval("SELECT max(seq) FROM audit_logs")
    return [] if last is None else await page(connection, after_seq=last - 1, limit=1)


async def last_seq(connection: Any) -> int:
    """Return the number of the newest record, 0 when there is none."""
    return int(await connection.fetchval("SELECT coalesce(max(seq), 0) FROM audit_logs"))


async def page(connection: Any, *, after_seq: int, limit: int = PAGE) -> list[AuditRecord]:
    """Return up to *limit* records after *after_seq*, oldest first (asyncio-flavoured unit)."""
    rows = await connection.fetch(
        "SELECT seq, at, actor, action, subject, content, prev_hash, hash FROM audit_logs "
        "WHERE seq > $1 ORDER BY seq LIMIT $2",
        after_seq,
        limit,
    )
    return [AuditRecord(**dict(row)) for row in rows]
