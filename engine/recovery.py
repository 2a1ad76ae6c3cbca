"""Recovery, which is start-up: what the journal holds and the ledger does not is taken in again."""

from datetime import datetime
from uuid import UUID, uuid5

import structlog

from engine.actors.audit_writer import AuditWriter
from engine.actors.ingest import Ingest
from engine.actors.ledger_entry import LedgerEntry
from engine.domain.audit import AuditDraft
from engine.domain.delivery import Delivery
from engine.journal.entry import EntryDamaged, decode
from engine.journal.store import JournalStore
from engine.store.ledger import Write

_log = structlog.get_logger(__name__)


async def replay(
    *, store: JournalStore, epoch: UUID, position: str, key: bytes, ingest: Ingest, ledger: AuditWriter, now: datetime
) -> tuple[int, str]:
    """Take in every delivery after *position*, in order; return how many, and the last position read.

    A delivery that the ledger has already is recognised by its key and changes nothing. A damaged
    entry becomes a dead letter, never an order.
    """
    replayed = 0
    while True:
        entries = await store.read_after(str(epoch), position)
        if not entries:
            break
        deliveries: list[Delivery] = []
        for entry_id, entry in entries:
            try:
                deliveries.append(decode(entry, key))
            except EntryDamaged as damage:
                _bury(ledger, epoch, entry_id, entry, str(damage), now)
        replayed += await ingest.replay(deliveries)
        position = entries[-1][0]
    if replayed:
        _log.warning("journal.replayed", deliveries=replayed)
    return replayed, position


def _bury(ledger: AuditWriter, epoch: UUID, entry_id: str, entry: bytes, error: str, now: datetime) -> None:
    # one letter per entry, however often a start reads it before the cursor has passed it
    letter = uuid5(epoch, entry_id)
    _log.error("journal.damaged", entry=entry_id, error=error)
    ledger.append(
        LedgerEntry(
            writes=(
                Write(
                    sql="INSERT INTO dead_letters (id, queue, status, payload, error, attempts, created_at, updated_at)"
                    " VALUES ($1, 'signal', 'WAITING', $2, $3, 1, $4, $4) ON CONFLICT (id) DO NOTHING",
                    args=(letter, entry, error, now),
                ),
            ),
            audit=(
                AuditDraft(
                    at=now,
                    actor="system",
                    action="DEAD_LETTER",
                    subject=f"dead_letter:{letter}",
                    content={"journalEntry": entry_id, "error": error},
                ),
            ),
        )
    )
