"""What was heard of sources, in the store."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.source_watch import Heard
from engine.store.ledger import Write

_PUT = """
INSERT INTO source_watch (source_id, heard_at, last_signal_at, last_sequence, missing, silent_since, updated_at)
SELECT source_id, heard_at, last_signal_at, last_sequence, missing::jsonb, silent_since, $7
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::bigint[], $5::text[], $6::timestamptz[])
    AS heard (source_id, heard_at, last_signal_at, last_sequence, missing, silent_since)
ON CONFLICT (source_id) DO UPDATE SET heard_at = excluded.heard_at, last_signal_at = excluded.last_signal_at,
    last_sequence = excluded.last_sequence, missing = excluded.missing, silent_since = excluded.silent_since,
    updated_at = excluded.updated_at"""


def write_heard(heard: Mapping[UUID, Heard], *, at: datetime) -> Write:
    """Return the statement that keeps what was *heard* of sources as of *at*; writing it twice does no harm.

    One for all of them: where a thousand sources are heard each second, as many statements held up every decision.
    """
    each = list(heard.values())
    columns = (
        list(heard),
        [of.heard_at for of in each],
        [of.last_signal_at for of in each],
        [of.last_sequence for of in each],
        [msgspec.json.encode([list(gap) for gap in of.missing]).decode() for of in each],
        [of.silent_since for of in each],
    )
    return Write(sql=_PUT, args=(*columns, at))


async def all_heard(connection: Any) -> dict[UUID, Heard]:
    """Return what was heard of every source (asyncio-flavoured unit)."""
    return {
        row["source_id"]: Heard(
            heard_at=row["heard_at"],
            last_signal_at=row["last_signal_at"],
            last_sequence=row["last_sequence"],
            missing=tuple((int(first), int(last)) for first, last in row["missing"]),
            silent_since=row["silent_since"],
        )
        for row in await connection.fetch("SELECT * FROM source_watch")
    }


async def rows_taken(connection: Any, source_id: UUID, keys: Sequence[str]) -> dict[str, tuple[UUID, str, bytes]]:
    """Return of those *keys* of a source's deliveries that the ledger holds the first intent, its status and the
    hash of the body (asyncio-flavoured unit)."""
    rows = await connection.fetch(
        "SELECT DISTINCT ON (idempotency_key) idempotency_key, id, status, body_sha256 FROM trade_intents"
        " WHERE source_id = $1 AND idempotency_key = ANY($2::text[]) ORDER BY idempotency_key, position",
        source_id,
        list(keys),
    )
    return {row["idempotency_key"]: (row["id"], row["status"], row["body_sha256"]) for row in rows}
