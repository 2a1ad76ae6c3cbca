"""Dead letters: jobs that gave up, kept with their bytes until a person says what becomes of them.

No actor of its own: what gives up calls it in its own task, and the ledger writes. A letter of a delivery is
taken in again under the delivery's own key and time of receipt, so a second time changes nothing and what was
too old stays too old. A parked exit is a person's decision: it goes as a fresh delivery, once per letter.
"""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

import msgspec
import structlog
import trio

from engine.actors.audit_writer import AuditWriter, DuplicateIntent
from engine.actors.intake import Passage
from engine.actors.ledger_entry import LedgerEntry
from engine.clock import Clock
from engine.domain.audit import AuditDraft
from engine.domain.dead_letter import DeadLetter, LetterKind, LetterQueue, LetterStatus
from engine.domain.delivery import Delivery, Item
from engine.domain.intent import Intent
from engine.errors import ConflictError, MailboxFull, NotFoundError, UnavailableError
from engine.journal.entry import EntryDamaged, decode, encode
from engine.store.dead_letters import bury, decided, decision_record
from engine.store.ledger import Write

_log = structlog.get_logger(__name__)

_ERROR_CHARACTERS = 500

TakeIn = Callable[[Delivery], Awaitable[object]]
Find = Callable[[UUID], Awaitable[DeadLetter | None]]


def _nothing() -> None:
    return None


def _no_matter(_error: Exception) -> None:
    return None


class DeadLetters:
    """Buries what gave up, and does what a person decides.

    *take_in* makes a delivery durable or raises (`Ingest.accept`), *find* reads a letter from the store,
    *alert* tells a person: subject and text.
    """

    def __init__(
        self,
        *,
        ledger: AuditWriter,
        clock: Clock,
        journal_key: bytes,
        alert: Callable[[str, str], None],
        take_in: TakeIn,
        find: Find,
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._journal_key = journal_key
        self._alert = alert
        self._take_in = take_in
        self._find = find
        self._deciding = trio.Lock()
        self.buried = 0

    # burying

    def bury(
        self,
        queue: LetterQueue,
        payload: bytes,
        error: str,
        *,
        subject: str,
        attempts: int = 1,
        kind: LetterKind = LetterKind.DAMAGED,
        letter_id: UUID,
        on_buried: Callable[[], None] = _nothing,
        on_lost: Callable[[Exception], None] = _no_matter,
    ) -> LedgerEntry:
        """Hand the ledger a new letter; return its entry.

        *on_buried* is called once it is on disk, *on_lost* when it never will be: the job then is where it was.

        *letter_id* is the same for the same job, so that it makes one letter however often it gives up.
        """
        letter = self._letter(queue, kind, payload, error, subject=subject, attempts=attempts, letter_id=letter_id)
        entry = self._entry(letter, on_buried, on_lost)
        self._append(entry, letter)
        return entry

    def bury_delivery(
        self,
        delivery: Delivery,
        kind: LetterKind,
        error: str,
        *,
        attempts: int,
        on_buried: Callable[[], None] = _nothing,
        on_lost: Callable[[Exception], None] = _no_matter,
    ) -> LedgerEntry:
        """Bury a delivery that can be taken in again."""
        return self.bury(
            LetterQueue.SIGNAL,
            encode(delivery, self._journal_key),
            error,
            subject=f"delivery:{delivery.source_id}:{delivery.idempotency_key}",
            attempts=attempts,
            kind=kind,
            letter_id=uuid5(delivery.source_id, f"dead-letter\x00{delivery.idempotency_key}"),
            on_buried=on_buried,
            on_lost=on_lost,
        )

    def unrecorded(self, passage: Passage, error: Exception) -> None:
        """End a passage of which the store took neither the decision nor its failure.

        Its letter is on disk before it counts as settled; until then the journal keeps it. One that its
        sender has been told is not executed, or that the ledger has, is no letter.
        """
        if isinstance(error, UnavailableError | DuplicateIntent):
            passage.fail(error)
            return

        def lost(why: Exception) -> None:
            # withdrawn: its sender was told so. Else the journal keeps it for the next start
            if isinstance(why, UnavailableError):
                passage.fail(why)

        passage.entry = self.bury_delivery(
            passage.delivery,
            LetterKind.UNRECORDED,
            f"{type(error).__name__}: {error}",
            attempts=1,
            on_buried=lambda: passage.fail(error),
            on_lost=lost,
        )

    def park(self, intent: Intent, reason: str, *, account: str | None = None) -> None:
        """Keep an exit whose turn came too late for a person to send or drop.

        *account* is the label of the account whose order it was, None for all of the strategy. Parking it
        again, as a restart may, changes nothing.
        """
        letter = self.parked(intent, reason, account=account)
        self._append(self._entry(letter, _nothing, _no_matter), letter)

    def park_write(self, intent: Intent, reason: str, *, account: str | None = None) -> Write:
        """Return the letter of `park` as a row, for the transaction that ends the intent; the caller alerts."""
        return bury(self.parked(intent, reason, account=account))

    def parked(self, intent: Intent, reason: str, *, account: str | None = None) -> DeadLetter:
        """Return the letter of an exit that came too late."""
        letter_id = uuid5(intent.id, f"parked\x00{account or ''}")
        signal = intent.signal if account is None else msgspec.structs.replace(intent.signal, account=account)
        delivery = Delivery(
            source_id=intent.source_id,
            strategy_id=intent.strategy_id,
            user_id=intent.user_id,
            idempotency_key=f"dead-letter:{letter_id}",
            body_sha256=intent.body_sha256,
            received_at=intent.received_at,
            request_id=intent.request_id,
            items=(Item(position=0, signal=signal),),
        )
        return self._letter(
            LetterQueue.EXECUTION,
            LetterKind.PARKED,
            encode(delivery, self._journal_key),
            reason,
            subject=f"intent:{intent.id}",
            attempts=1,
            letter_id=letter_id,
        )

    def _letter(
        self,
        queue: LetterQueue,
        kind: LetterKind,
        payload: bytes,
        error: str,
        *,
        subject: str,
        attempts: int,
        letter_id: UUID,
    ) -> DeadLetter:
        now = self._clock.now()
        return DeadLetter(
            id=letter_id,
            queue=queue,
            kind=kind,
            status=LetterStatus.WAITING,
            subject=_text(subject),
            error=_text(error),
            attempts=attempts,
            payload=payload,
            created_at=now,
            updated_at=now,
        )

    def _entry(
        self, letter: DeadLetter, on_buried: Callable[[], None], on_lost: Callable[[Exception], None]
    ) -> LedgerEntry:
        def lost(error: Exception) -> None:
            _log.error("dead_letter.not_recorded", letter=str(letter.id), subject=letter.subject, error=str(error))
            on_lost(error)

        content = {
            "queue": letter.queue.value,
            "kind": letter.kind.value,
            "about": letter.subject,
            "error": letter.error,
            "attempts": letter.attempts,
        }
        record = AuditDraft(
            at=letter.created_at,
            actor="system",
            action="DEAD_LETTER",
            subject=f"dead_letter:{letter.id}",
            content=content,
        )
        return LedgerEntry(writes=(bury(letter),), audit=(record,), on_commit=on_buried, on_fail=lost)

    def _append(self, entry: LedgerEntry, letter: DeadLetter) -> None:
        self.buried += 1
        _log.error("dead_letter", letter=str(letter.id), kind=letter.kind, subject=letter.subject, error=letter.error)
        try:
            self._ledger.append(entry)
            self._alert(f"dead_letter:{letter.id}", f"{letter.kind} {letter.subject}: {letter.error}")
        except MailboxFull as full:
            # what is in the journal stays there and is met again at the next start
            entry.on_fail(full)

    # deciding

    async def requeue(self, letter_id: UUID, *, actor: str) -> DeadLetter:
        """Take a letter's delivery in again and return the letter as it then stands.

        Raises NotFoundError, ConflictError (decided already, or it cannot be executed), whatever taking in
        raises (the letter then waits as before), UnavailableError.
        """
        async with self._deciding:
            letter = await self._waiting(letter_id)
            against = letter.against_requeue()
            if against is not None:
                raise ConflictError(against)
            # first this: a crash between the two leaves a letter whose second requeue changes nothing
            await self._take_in(self.delivery(letter))
            return await self._decided(letter, LetterStatus.REQUEUED, actor)

    async def discard(self, letter_id: UUID, *, actor: str, reason: str = "") -> DeadLetter:
        """Drop a letter; it stays on the record, with the *reason*.

        Raises NotFoundError, ConflictError, UnavailableError.
        """
        async with self._deciding:
            letter = await self._waiting(letter_id)
            against = letter.against_discard()
            if against is not None:
                raise ConflictError(against)
            return await self._decided(letter, LetterStatus.DISCARDED, actor, reason)

    def delivery(self, letter: DeadLetter) -> Delivery:
        """Return what a letter takes in when it is requeued now. Raises ConflictError when its seal does not fit."""
        try:
            delivery = decode(letter.payload, self._journal_key)
        except EntryDamaged as damage:
            raise ConflictError(f"it cannot be executed, only discarded: {damage}") from damage
        if letter.kind is LetterKind.PARKED:
            return msgspec.structs.replace(delivery, received_at=self._clock.now())
        return delivery

    async def _waiting(self, letter_id: UUID) -> DeadLetter:
        # a letter that was handed to the ledger a moment ago can be decided about
        await self._ledger.barrier(timeout_s=1.0)
        letter = await self._find(letter_id)
        if letter is None:
            raise NotFoundError("there is no such dead letter")
        return letter

    async def _decided(self, letter: DeadLetter, status: LetterStatus, actor: str, reason: str = "") -> DeadLetter:
        now: datetime = self._clock.now()
        change = decided(letter, status, by=actor, at=now, taken=status is LetterStatus.REQUEUED)
        record = decision_record(letter, status, by=actor, at=now, reason=reason)
        await self._ledger.write(LedgerEntry(writes=(change,), audit=(record,)))
        return await self._find(letter.id) or letter


def _text(text: str) -> str:
    """Return *text* as the store can take it: short, and without what no text column holds."""
    return text.replace("\x00", "�").encode(errors="replace").decode()[:_ERROR_CHARACTERS]


# the operator's commands, over the control socket


def letter_id_of(request: Mapping[str, Any]) -> UUID:
    """Return the letter that a command names. Raises NotFoundError."""
    try:
        return UUID(str(request.get("id")))
    except ValueError:
        raise NotFoundError("there is no such dead letter") from None


def told_letter(letter: DeadLetter) -> dict[str, Any]:
    """Return the answer to a command."""
    return {"status": letter.status.value, "kind": letter.kind.value}
