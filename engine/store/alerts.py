"""The list of alerts in the store. It is no part of the ledger: what trading waits for never waits for it."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from engine.domain.alert_book import MOST, AlertRecord
from engine.domain.alert_rules import Severity
from engine.store.database import Database

_COLUMNS = (
    "id, code, subject, text, severity, first_at, last_at, count, user_id, account_id, told_at, escalated_s,"
    " acked_at, acked_by, over_at"
)
_PUT = f"""
INSERT INTO alerts ({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
ON CONFLICT (id) DO UPDATE SET text = excluded.text, severity = excluded.severity, last_at = excluded.last_at,
    count = excluded.count, told_at = excluded.told_at, escalated_s = excluded.escalated_s,
    acked_at = excluded.acked_at, acked_by = excluded.acked_by, over_at = excluded.over_at"""  # noqa: S608 -- constants
_SAVE_S = 5.0


class StoredAlerts:
    """Keeps alerts through *database*."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> Sequence[AlertRecord]:
        """Return the newest alerts, as many as the list holds. Raises StoreUnavailable."""
        return await self._database.run(newest)

    async def save(self, changed: Sequence[AlertRecord], gone: Sequence[UUID]) -> None:
        """Keep *changed* as they are and forget *gone*; doing it twice does no harm. Raises StoreUnavailable."""

        async def unit(connection: Any) -> None:
            await put(connection, changed)
            if gone:
                await connection.execute("DELETE FROM alerts WHERE id = ANY($1::uuid[])", list(gone))

        await self._database.run(unit, timeout_s=_SAVE_S)


async def put(connection: Any, records: Sequence[AlertRecord]) -> None:
    """Keep *records* as they are (asyncio-flavoured unit)."""
    await connection.executemany(_PUT, [_row(record) for record in records])


async def newest(connection: Any, limit: int = MOST) -> list[AlertRecord]:
    """Return up to *limit* alerts, newest first (asyncio-flavoured unit)."""
    rows = await connection.fetch(
        f"SELECT {_COLUMNS} FROM alerts ORDER BY first_at DESC, id DESC LIMIT $1",  # noqa: S608 -- constants
        limit,
    )
    return [AlertRecord(**{**dict(row), "severity": Severity(row["severity"])}) for row in rows]


async def find(connection: Any, alert_id: UUID) -> AlertRecord | None:
    """Return one alert (asyncio-flavoured unit)."""
    row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM alerts WHERE id = $1", alert_id)  # noqa: S608 -- constants
    return None if row is None else AlertRecord(**{**dict(row), "severity": Severity(row["severity"])})


def _row(record: AlertRecord) -> tuple[Any, ...]:
    return (
        record.id,
        record.code,
        record.subject,
        record.text,
        record.severity.value,
        record.first_at,
        record.last_at,
        record.count,
        record.user_id,
        record.account_id,
        record.told_at,
        record.escalated_s,
        record.acked_at,
        record.acked_by,
        record.over_at,
    )
