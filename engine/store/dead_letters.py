"""Dead letters and the counts of journal entries as rows: what the ledger writes of them, and one decision offline."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from engine.domain.audit import AuditDraft
from engine.domain.dead_letter import DeadLetter, LetterKind, LetterStatus
from engine.errors import ConflictError, NotFoundError
from engine.store import audit_append
from engine.store.ledger import Write
from engine.store.queries.dead_letters import find

_BURY = """
INSERT INTO dead_letters (id, queue, kind, status, subject, payload, error, attempts, created_at, updated_at)
VALUES ($1, $2, $3, 'WAITING', $4, $5, $6, $7, $8, $8) ON CONFLICT (id) """
# the same delivery gave up again after somebody had it tried again: it waits once more
_BURY_AGAIN = (
    _BURY
    + """DO UPDATE SET kind = excluded.kind, status = 'WAITING', error = excluded.error,
    attempts = dead_letters.attempts + 1, updated_at = excluded.updated_at, decided_by = NULL, decided_at = NULL,
    tried_at = NULL, taken_at = NULL"""
)
_BURY_ONCE = _BURY + "DO NOTHING"
_AGAIN = (LetterKind.POISON, LetterKind.UNRECORDED)


def bury(letter: DeadLetter) -> Write:
    """Return the row of a new letter.

    One that is damaged or parked stays as it is when it is there already; a delivery that gave up again waits again.
    """
    return Write(
        sql=_BURY_AGAIN if letter.kind in _AGAIN else _BURY_ONCE,
        args=(
            letter.id,
            letter.queue.value,
            letter.kind.value,
            letter.subject,
            letter.payload,
            letter.error,
            letter.attempts,
            letter.created_at,
        ),
    )


def decided(letter: DeadLetter, status: LetterStatus, *, by: str, at: datetime, taken: bool) -> Write:
    """Return the change to *status* of a letter that stands as it was read; another's decision is left alone."""
    return Write(
        sql="UPDATE dead_letters SET status = $3, decided_by = $4, decided_at = $5, updated_at = $5, taken_at = $6 "
        "WHERE id = $1 AND updated_at = $2 AND status = 'WAITING'",
        args=(letter.id, letter.updated_at, status.value, by, at, at if taken else None),
    )


def tried(letter: DeadLetter, at: datetime) -> Write:
    """Return the change that a start begins to take a requeued letter in."""
    return Write(
        sql="UPDATE dead_letters SET tried_at = $2, attempts = $3 WHERE id = $1 AND taken_at IS NULL",
        args=(letter.id, at, letter.attempts + 1),
    )


def taken(letter: DeadLetter, at: datetime) -> Write:
    """Return the change that a requeued letter has become intents."""
    # one that gave up again meanwhile waits again, and is not taken
    return Write(
        sql="UPDATE dead_letters SET taken_at = $2 WHERE id = $1 AND status = 'REQUEUED'", args=(letter.id, at)
    )


def waits_again(letter: DeadLetter, error: str, at: datetime) -> Write:
    """Return the change that a requeued letter is for a person to decide once more."""
    return Write(
        sql="UPDATE dead_letters SET status = 'WAITING', error = $2, updated_at = $3, decided_by = NULL, "
        "decided_at = NULL, tried_at = NULL WHERE id = $1 AND status = 'REQUEUED' AND taken_at IS NULL",
        args=(letter.id, error, at),
    )


async def decide(connection: Any, letter_id: UUID, status: LetterStatus, *, by: str, at: datetime) -> DeadLetter:
    """Decide about a letter while no engine runs: a requeued one is taken in at the next start (asyncio-flavoured).

    Raises NotFoundError, and ConflictError when it is decided already or cannot be requeued.
    """
    await connection.execute("SELECT 1 FROM dead_letters WHERE id = $1 FOR UPDATE", letter_id)
    letter = await find(connection, letter_id)
    if letter is None:
        raise NotFoundError(f"there is no dead letter {letter_id}")
    is_requeue = status is LetterStatus.REQUEUED
    against = letter.against_requeue() if is_requeue else letter.against_discard()
    if against is not None:
        raise ConflictError(against)
    change = decided(letter, status, by=by, at=at, taken=False)
    await connection.execute(change.sql, *change.args)
    await audit_append.append(connection, decision_record(letter, status, by=by, at=at))
    found = await find(connection, letter_id)
    assert found is not None  # noqa: S101 -- narrows the type: it is locked
    return found


def decision_record(letter: DeadLetter, status: LetterStatus, *, by: str, at: datetime, reason: str = "") -> AuditDraft:
    """Return the audit record of a decision, with the *reason* if one was given."""
    content = {"queue": letter.queue.value, "kind": letter.kind.value, "about": letter.subject}
    return AuditDraft(
        at=at,
        actor=by,
        action=f"DEAD_LETTER_{status.value}",
        subject=f"dead_letter:{letter.id}",
        content=content | ({"reason": reason} if reason else {}),
    )


# counts of journal entries


def attempts(epoch: UUID, counts: dict[str, int]) -> Write:
    """Return the counts, by position, that stand before the entries are handled; writing them twice is once."""
    return Write(
        sql="INSERT INTO journal_attempts (epoch, position, attempts) "
        "SELECT $1, * FROM unnest($2::text[], $3::int[]) AS v(position, attempts) "
        "ON CONFLICT (epoch, position) DO UPDATE SET attempts = excluded.attempts, updated_at = now()",
        args=(epoch, list(counts), list(counts.values())),
    )


def forget_attempts() -> Write:
    """Return the removal of every count: everything in the journal is decided."""
    return Write(sql="DELETE FROM journal_attempts")


async def attempts_of(connection: Any, epoch: UUID, positions: Sequence[str]) -> dict[str, int]:
    """Return how often the entries at *positions* have been begun; those never begun are not in it."""
    found = await connection.fetch(
        "SELECT position, attempts FROM journal_attempts WHERE epoch = $1 AND position = ANY($2::text[])",
        epoch,
        list(positions),
    )
    return {row["position"]: row["attempts"] for row in found}
