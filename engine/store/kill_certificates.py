"""Certificates of kill switches (asyncio-flavoured units, and the statement that keeps one)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from engine.domain.kill_sequence import Certificate, KillOutcome
from engine.store.ledger import Write
from engine.store.queries.filters import Filters

_INSERT = """
INSERT INTO kill_certificates (id, scope, tripped_at, outcome, content, signature, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING"""


def write_certificate(certificate: Certificate) -> Write:
    """Return the statement that keeps a certificate."""
    return Write(
        sql=_INSERT,
        args=(
            certificate.id,
            certificate.scope,
            certificate.tripped_at,
            certificate.outcome.value,
            certificate.content,
            certificate.signature,
            certificate.created_at,
        ),
    )


async def list_certificates(
    connection: Any,
    *,
    limit: int,
    scopes: Sequence[str] | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    after: tuple[datetime, UUID] | None = None,
) -> list[Certificate]:
    """Return up to *limit* certificates, newest first; *scopes* None for those of every scope."""
    filters = (
        Filters()
        .add("scope = ANY({}::text[])", None if scopes is None else list(scopes))
        .add("created_at >= {}", start)
        .add("created_at < {}", end)
        .add_tuple("(created_at, id) < ({}, {})", after)
    )
    sql = (
        f"SELECT * FROM kill_certificates{filters.where()} "  # noqa: S608 -- constants
        f"ORDER BY created_at DESC, id DESC LIMIT {filters.parameter(limit)}"
    )
    return [_certificate(row) for row in await connection.fetch(sql, *filters.args)]


async def newest_certificates(connection: Any) -> list[Certificate]:
    """Return the newest certificate of every scope."""
    rows = await connection.fetch(
        "SELECT DISTINCT ON (scope) * FROM kill_certificates ORDER BY scope, created_at DESC, id DESC"
    )
    return [_certificate(row) for row in rows]


def _certificate(row: Any) -> Certificate:
    return Certificate(
        id=row["id"],
        scope=row["scope"],
        tripped_at=row["tripped_at"],
        outcome=KillOutcome(row["outcome"]),
        content=row["content"],
        signature=row["signature"],
        created_at=row["created_at"],
    )
