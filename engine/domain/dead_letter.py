"""A dead letter: a job that gave up, kept with its bytes until a person decides."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec


class LetterQueue(StrEnum):
    """The stage at which the job gave up."""

    SIGNAL = "signal"
    RISK = "risk"
    EXECUTION = "execution"
    AUDIT = "audit"


class LetterKind(StrEnum):
    """Why the job gave up."""

    DAMAGED = "DAMAGED"
    """It cannot be read, or its seal does not fit: nobody knows what it says."""
    POISON = "POISON"
    """Handling it ended the engine again and again."""
    UNRECORDED = "UNRECORDED"
    """The store refused what was decided, and the record of that failure too."""
    PARKED = "PARKED"
    """An exit whose turn came too late: a person says whether it still is to go."""


class LetterStatus(StrEnum):
    """What a person decided."""

    WAITING = "WAITING"
    REQUEUED = "REQUEUED"
    DISCARDED = "DISCARDED"


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One job that gave up.

    ``payload`` is a journal entry, or whatever stood in its place; ``subject`` names what it was about;
    ``tried_at`` and ``taken_at`` say when a requeued one was begun and became intents (aware UTC).
    """

    id: UUID
    queue: LetterQueue
    kind: LetterKind
    status: LetterStatus
    subject: str
    error: str
    attempts: int
    payload: bytes
    created_at: datetime
    updated_at: datetime
    decided_by: str | None = None
    decided_at: datetime | None = None
    tried_at: datetime | None = None
    taken_at: datetime | None = None

    def against_requeue(self) -> str | None:
        """Return why the letter cannot be requeued, or None."""
        if self.status is not LetterStatus.WAITING:
            return f"{self._decided()}; nothing was changed"
        if self.kind is LetterKind.DAMAGED:
            return f"it cannot be executed, only discarded: {self.error}"
        return None

    def against_discard(self) -> str | None:
        """Return why the letter cannot be discarded, or None."""
        return None if self.status is LetterStatus.WAITING else f"{self._decided()}; nothing was changed"

    def _decided(self) -> str:
        return f"it was {self.status.value.lower()} already by {self.decided_by or 'somebody'}"
