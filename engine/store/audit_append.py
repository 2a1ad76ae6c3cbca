"""Appending to the audit chain from outside the engine: the commands of the operator.

The engine's ledger is the chain's one appender while it runs; it keeps the end of the chain in memory
and, when its next record collides with one of these, reads the end again. Two commands at once are
kept apart by the lock on the last record's number.
"""

import random
from typing import Any

import asyncpg
import trio

from engine.domain.audit import GENESIS, AuditDraft, seal
from engine.errors import StoreUnavailable
from engine.store.database import Database

_LOCK = 0x6175646974  # "audit"


async def append_beside_engine(database: Database, *drafts: AuditDraft, timeout_s: float = 20.0) -> None:
    """Append *drafts* in a transaction of their own, again and again while a busy engine takes the number first.

    Raises StoreUnavailable, also when no number could be had within *timeout_s* seconds.
    """
    with trio.move_on_after(timeout_s):
        while True:
            try:
                await database.run(lambda connection: append(connection, *drafts), timeout_s=5)
                return
            except asyncpg.UniqueViolationError:
                # the engine's batch had it; between two batches there is room
                await trio.sleep(random.uniform(0.0, 0.05))  # noqa: S311 -- spreads tries, guards nothing
    raise StoreUnavailable("the audit log is so busy that nothing could be added to it; try again")


async def append(connection: Any, *drafts: AuditDraft) -> None:
    """Append *drafts* in the caller's transaction (asyncio-flavoured unit)."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
    row = await connection.fetchrow("SELECT seq, hash FROM audit_logs ORDER BY seq DESC LIMIT 1")
    seq, last = (0, GENESIS) if row is None else (row["seq"], row["hash"])
    for draft in drafts:
        seq += 1
        record = seal(last, seq, draft)
        last = record.hash
        await connection.execute(
            "INSERT INTO audit_logs (seq, at, actor, action, subject, content, prev_hash, hash) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            record.seq,
            record.at,
            record.actor,
            record.action,
            record.subject,
            record.content,
            record.prev_hash,
            record.hash,
        )
