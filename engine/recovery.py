"""Recovery, which is start-up: what the journal holds and the ledger does not is taken in again.

An entry that ends the engine would end it at every start. So each is counted before it is handled: a page is
taken whole the first time, what was begun before goes singly, and after three strikes it is set aside.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from uuid import UUID, uuid5

import msgspec
import structlog
import trio

from engine.actors.audit_writer import AuditWriter
from engine.actors.dead_letters import DeadLetters
from engine.actors.flatten_file import FlattenFile
from engine.actors.ingest import Ingest
from engine.actors.journal_progress import Mark
from engine.actors.ledger_entry import LedgerEntry
from engine.actors.ledger_reader import LedgerReader
from engine.clock import Clock
from engine.domain.audit import AuditDraft
from engine.domain.dead_letter import DeadLetter, LetterKind, LetterQueue
from engine.domain.delivery import Delivery
from engine.domain.enums import OrderStatus
from engine.domain.order import OrderEvent
from engine.errors import ApiError, ConflictError, Unavailable
from engine.journal.entry import EntryDamaged, decode
from engine.journal.store import JournalStore
from engine.runtime.crashpoint import crashpoint
from engine.store import dead_letters as letter_rows

_log = structlog.get_logger(__name__)

STRIKES = 3
_WRITE_TIMEOUT_S = 30.0

AttemptsOf = Callable[[UUID, Sequence[str]], Awaitable[dict[str, int]]]


class _Entry(msgspec.Struct, frozen=True):
    position: str
    content: bytes
    delivery: Delivery | None
    damage: str = ""


class Recovery:
    """Takes in what an earlier life left: entries of the journal, and letters that a person requeued meanwhile."""

    def __init__(
        self, *, ingest: Ingest, ledger: AuditWriter, letters: DeadLetters, attempts_of: AttemptsOf, key: bytes
    ) -> None:
        self._ingest = ingest
        self._ledger = ledger
        self._letters = letters
        self._attempts_of = attempts_of
        self._key = key
        self._counted = False

    async def replay(self, store: JournalStore, *, epoch: UUID, position: str) -> tuple[int, str]:
        """Take in every delivery after *position*, in order; return how many, and the last position read.

        A delivery that the ledger has already is recognised by its key and changes nothing. A damaged
        entry, and one that ended the engine three times, becomes a dead letter, never an order.
        """
        replayed = 0
        self._ingest.progress.begin(epoch, position)
        while True:
            crashpoint("R5.before_page")
            found = await store.read_after(str(epoch), position)
            if not found:
                break
            crashpoint("R5.page_read")
            replayed += await self._page(epoch, [self._read(*row) for row in found])
            position = found[-1][0]
            crashpoint("R5.after_page")
        if self._counted:
            self._ledger.append(LedgerEntry(writes=(letter_rows.forget_attempts(),)))
        if replayed:
            _log.warning("journal.replayed", deliveries=replayed)
        return replayed, position

    def _read(self, position: str, content: bytes) -> _Entry:
        try:
            return _Entry(position, content, decode(content, self._key))
        except EntryDamaged as damage:
            return _Entry(position, content, None, str(damage))

    async def _page(self, epoch: UUID, entries: Sequence[_Entry]) -> int:
        known = await self._ingest.known([entry.delivery for entry in entries if entry.delivery is not None])
        new = {e.position for e in entries if e.delivery is not None and _key(e.delivery) not in known}
        attempts = await self._attempts_of(epoch, sorted(new)) if new else {}
        self._counted = self._counted or bool(attempts)
        taken, whole = 0, list[_Entry]()
        for entry in entries:
            begun = attempts.get(entry.position, 0)
            if entry.delivery is not None and not begun:
                whole.append(entry)
                continue
            taken += await self._take(epoch, whole, new, begun=0)
            whole = []
            if entry.delivery is None:
                self._bury_damaged(epoch, entry)
            elif begun >= STRIKES:
                self._bury_poison(entry, entry.delivery, begun)
            else:
                taken += await self._take(epoch, [entry], new, begun=begun)
        return taken + await self._take(epoch, whole, new, begun=0)

    async def _take(self, epoch: UUID, entries: Sequence[_Entry], new: set[str], *, begun: int) -> int:
        deliveries = [entry.delivery for entry in entries if entry.delivery is not None]
        counted = [entry.position for entry in entries if entry.position in new]
        if not deliveries:
            return 0
        if counted:
            await self._count(epoch, counted, begun + 1)
        try:
            return await self._ingest.replay(deliveries, [entry.position for entry in entries])
        except (Unavailable, ApiError):
            # a store's fault, not the entry's
            if counted:
                await self._count(epoch, counted, begun)
            raise

    async def _count(self, epoch: UUID, positions: Sequence[str], attempts: int) -> None:
        self._counted = True
        write = letter_rows.attempts(epoch, dict.fromkeys(positions, attempts))
        await self._ledger.write(LedgerEntry(writes=(write,)), timeout_s=_WRITE_TIMEOUT_S)

    def _bury_damaged(self, epoch: UUID, entry: _Entry) -> None:
        mark = Mark(entry.position, is_settled=False)
        self._ingest.pass_by(mark)
        mark.entry = self._letters.bury(
            LetterQueue.SIGNAL,
            entry.content,
            entry.damage,
            subject=f"journal:{entry.position}",
            # one letter per entry, however often a start reads it before the cursor has passed it
            letter_id=uuid5(epoch, entry.position),
            on_buried=lambda: self._passed(mark),
        )

    def _bury_poison(self, entry: _Entry, delivery: Delivery, attempts: int) -> None:
        mark = Mark(entry.position, is_settled=False)
        self._ingest.pass_by(mark)
        mark.entry = self._letters.bury_delivery(
            delivery,
            LetterKind.POISON,
            f"the engine ended {attempts} times while it handled this entry of the journal",
            attempts=attempts,
            on_buried=lambda: self._passed(mark),
        )

    def _passed(self, mark: Mark) -> None:
        mark.settle()
        self._ingest.progress.advance()

    async def take_requeued(self, letters: Sequence[DeadLetter], *, now: datetime) -> int:
        """Take in what a person requeued while no engine ran; return how many.

        One whose handling has ended an engine since is for that person to decide once more.
        """
        taken = 0
        for letter in letters:
            try:
                delivery = self._letters.delivery(letter)
            except ConflictError as error:
                self._give_back(letter, str(error), now)
                continue
            if letter.tried_at is not None and _key(delivery) not in await self._ingest.known([delivery]):
                self._give_back(letter, "requeued, it ended the engine again", now)
                continue
            tried = LedgerEntry(writes=(letter_rows.tried(letter, now),))
            await self._ledger.write(tried, timeout_s=_WRITE_TIMEOUT_S)
            await self._ingest.replay([delivery])
            record = _record(letter, "DEAD_LETTER_TAKEN", now, idempotencyKey=delivery.idempotency_key)
            self._ledger.append(LedgerEntry(writes=(letter_rows.taken(letter, now),), audit=(record,)))
            taken += 1
        return taken

    def _give_back(self, letter: DeadLetter, error: str, now: datetime) -> None:
        _log.error("dead_letter.waits_again", letter=str(letter.id), error=error)
        record = _record(letter, "DEAD_LETTER_WAITS_AGAIN", now, error=error)
        self._ledger.append(LedgerEntry(writes=(letter_rows.waits_again(letter, error, now),), audit=(record,)))


def _key(delivery: Delivery) -> tuple[UUID, str]:
    return delivery.source_id, delivery.idempotency_key


def _record(letter: DeadLetter, action: str, now: datetime, **content: str) -> AuditDraft:
    return AuditDraft(at=now, actor="system", action=action, subject=f"dead_letter:{letter.id}", content=content)


async def record_flattened(file: FlattenFile, *, ledger: AuditWriter, reader: LedgerReader, clock: Clock) -> int:
    """Put orders into the ledger that flattened while it was away, before any account is opened; return how many.

    Each may be at the broker: it is looked for like every order of unknown outcome. The file is let go once the
    ledger has all of it. Raises StoreUnavailable.
    """
    try:
        orders = await trio.to_thread.run_sync(file.read)
    except OSError as error:
        _log.error("flatten_file.unreadable", error=str(error))
        return 0
    missing = await reader.unrecorded_orders(orders) if orders else []
    for order in missing:
        now = clock.now()
        event = OrderEvent(
            order_id=order.id,
            at=now,
            from_status=OrderStatus.PENDING,
            to_status=order.status,
            filled_quantity=0,
            detail=f"written ahead in state/flatten.wal while the ledger was away; attempt 1, tag {order.tag}",
        )
        content = {"accountId": order.account_id, "tag": order.tag, "quantity": order.quantity, "symbol": order.symbol}
        draft = AuditDraft(
            at=now, actor="system", action="SQUARE_OFF_RECORDED", subject=f"order:{order.id}", content=content
        )
        entry = LedgerEntry(new_orders=(order,), order_events=(event,), audit=(draft,))
        await ledger.write(entry, timeout_s=_WRITE_TIMEOUT_S)
    if orders:
        try:
            await trio.to_thread.run_sync(file.clear)
        except OSError as error:
            _log.error("flatten_file.not_cleared", error=str(error))
    return len(missing)
