"""The audit writer: the ledger, the only writer to PostgreSQL on the trading path.

Owns the end of the audit chain and the ledger's connection. Everybody hands it `LedgerEntry`s; it
packs all that waits into one transaction (natural group commit: while one is in flight the next
gathers) and calls back when it is on disk. Every transaction checks the fencing epoch. Nothing waits for
company by a timer; of what nobody waits for (the broker's answer, a fill) few are taken at once, for the
next decision's commit comes behind theirs.
Mailbox: bounded; full is a fault of the box, not of a signal: ingest stops taking signals in long
before. Restart: permanent; entries in hand outlive a restart. A lost lease escalates.

After a commit whose outcome is not known the batch's own last audit record is the witness: when the
chain holds it, the batch is on disk. Until that is answered the entries stay in hand, across a restart
of this actor too.

The journal's cursor goes with the entries that bring it forward: asked for when a batch is packed, as it
will stand once that batch is on disk, and written in the same statement.
"""

from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Protocol

import msgspec
import structlog
import trio

from engine.actors.ledger_entry import LedgerEntry, pack
from engine.domain.audit import AuditDraft, AuditRecord
from engine.errors import EngineError, StoreUnavailable, UnavailableError
from engine.observability.measures import LEDGER_BATCH, LEDGER_COMMIT
from engine.runtime.crashpoint import crashpoint
from engine.runtime.mailbox import Mailbox, Overflow
from engine.store.ledger import Head, JournalCursor, LedgerRefused, LedgerStore

_log = structlog.get_logger(__name__)

_CAPACITY = 200_000
_BATCH = 512
# Of what nobody waits for only so many at once: a decision that comes meanwhile waits for the whole of it.
_UNHURRIED_BATCH = 128
_COMMIT_TIMEOUT_S = 5.0
_RETRY_S = (0.02, 0.05, 0.1, 0.25, 0.5, 1.0)


class DuplicateIntent(EngineError):
    """The intents of an entry are in the ledger already: an earlier delivery made them."""


class CursorSource(Protocol):
    """Who knows how far the ledger is in the journal."""

    def ahead(self, entries: Sequence[LedgerEntry]) -> JournalCursor | None:
        """Return where the cursor stands once *entries* are on disk; None when they do not move it."""

    def reached(self, cursor: JournalCursor) -> None:
        """The cursor is on disk."""


class _Doubt(msgspec.Struct, frozen=True):
    """A commit without an answer; ``witness`` is None when its batch held no audit record."""

    witness: Head | None
    cursor: JournalCursor | None


class AuditWriter:
    """Commits what it is handed, in order, with its audit records in one hash chain."""

    def __init__(self, store: LedgerStore, *, epoch: int) -> None:
        self._store = store
        self._epoch = epoch
        self._mailbox: Mailbox[LedgerEntry] = Mailbox("audit", capacity=_CAPACITY, overflow=Overflow.REFUSE)
        self._in_hand: list[LedgerEntry] = []
        self._singly: deque[LedgerEntry] = deque()
        self._head: Head | None = None
        self._doubt: _Doubt | None = None
        self._sealed: Sequence[AuditRecord] = ()
        self.journal: CursorSource | None = None
        self.on_committed: Callable[[Sequence[LedgerEntry]], None] = lambda _entries: None
        """Is told what is on disk now, in order; must not wait and must not raise."""
        self.on_refused: Callable[[LedgerEntry, LedgerRefused], None] = lambda _entry, _error: None
        """Is told what the store refuses for good; must not wait and must not raise."""
        self.on_audit: Callable[[Sequence[AuditRecord]], None] = lambda _records: None
        """Is given the audit records that are on disk now; must not wait and must not raise."""
        # whether something is in the mailbox that is waited for
        self._is_pressing = False
        self._appended = 0
        self._settled = 0
        self._waiters: list[tuple[int, trio.Event]] = []
        self.available = False
        self.batches = 0
        self.entries = 0

    @property
    def mailbox(self) -> Mailbox[LedgerEntry]:
        """The mailbox, for its depth and age."""
        return self._mailbox

    @property
    def head(self) -> Head | None:
        """The end of the audit chain as this actor committed or read it last; None while that is not known."""
        return self._head

    @property
    def has_room_for_entries(self) -> bool:
        """Whether new orders may be decided about: the last tenth of the mailbox is kept for those that are.

        What fills, is cancelled or flattens has to be recorded however many signals wait for the store.
        """
        return self._mailbox.depth < self._mailbox.capacity - self._mailbox.capacity // 10

    @property
    def in_flight(self) -> int:
        """Entries of the transaction under way."""
        return len(self._in_hand)

    def append(self, entry: LedgerEntry) -> None:
        """Queue *entry*. Raises MailboxFull."""
        self._mailbox.tell_nowait(entry)
        self._appended += 1
        if not entry.can_wait:
            self._is_pressing = True

    def record(self, *drafts: AuditDraft) -> None:
        """Queue audit records that go with no row."""
        self.append(LedgerEntry(audit=drafts))

    async def write(self, entry: LedgerEntry, *, timeout_s: float = 5.0) -> None:
        """Queue *entry* and wait until it is on disk.

        Raises LedgerRefused or DuplicateIntent when the store refuses it, UnavailableError when it was
        taken back because the store did not answer in time, StoreUnavailable when that came too late.
        """
        done = trio.Event()
        failure: list[Exception] = []
        before_commit, before_fail = entry.on_commit, entry.on_fail

        def committed() -> None:
            before_commit()
            done.set()

        def failed(error: Exception) -> None:
            failure.append(error)
            before_fail(error)
            done.set()

        entry.on_commit, entry.on_fail = committed, failed
        self.append(entry)
        with trio.move_on_after(timeout_s):
            await done.wait()
        if failure:
            raise failure[0]
        if not done.is_set():
            if entry.withdraw():
                raise UnavailableError("the store does not answer; nothing was changed, try again", retry_after_s=2)
            raise StoreUnavailable("the store did not answer in time; read it back before trying again")

    async def barrier(self, *, timeout_s: float = 5.0) -> bool:
        """Wait until everything appended so far is settled; False when the deadline came first."""
        target = self._appended
        if self._settled >= target:
            return True
        event = trio.Event()
        self._waiters.append((target, event))
        self._is_pressing = True
        with trio.move_on_after(timeout_s):
            await event.wait()
        return event.is_set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Commit batches until cancelled."""
        self._head = None
        task_status.started()
        try:
            while True:
                if not self._in_hand:
                    if self._singly:
                        self._in_hand = [self._singly.popleft()]
                    else:
                        await self._mailbox.wait()
                        # whoever was woken by the same thing adds to this batch, not to one of its own: the order
                        # that goes next beside the outcome of the one that made way for it
                        await trio.lowlevel.checkpoint()
                        self._in_hand = self._mailbox.take_all(_BATCH if self._is_pressing else _UNHURRIED_BATCH)
                        self._is_pressing = self._is_pressing and bool(self._mailbox.depth)
                await self._commit_in_hand()
        finally:
            self.available = False
            await self._store.close()

    async def _commit_in_hand(self) -> None:
        tries = 0
        while self._in_hand:
            try:
                if self._doubt is not None and await self._doubt_was_commit(self._doubt):
                    # the operator may have appended since: the end of the chain is read again
                    self._done(None, self._doubt.cursor)
                    return
                self._drop_withdrawn()
                if not self._in_hand:
                    return
                if self._head is None:
                    self._head = await self._store.head()
                    continue  # what was withdrawn meanwhile is promised not to be written
                try:
                    end, cursor = await self._attempt(self._in_hand, self._head)
                except LedgerRefused as refused:
                    self._doubt = None
                    self._nothing_in_flight()
                    if not await self._chain_moved(self._head):
                        await self._sort_out(refused)
                else:
                    self._done(end, cursor)
                    return
            except StoreUnavailable as error:
                if self.available or tries == 0:
                    _log.warning("ledger.unavailable", error=str(error), waiting=len(self._in_hand))
                self.available = False
                await trio.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
                tries += 1

    async def _attempt(self, entries: Sequence[LedgerEntry], head: Head) -> tuple[Head, JournalCursor | None]:
        try:
            batch, expected = pack(entries, head)
        except Exception as error:  # a value of one entry must not stop the ledger for all others
            raise LedgerRefused(f"{type(error).__name__}: {error}") from error
        for entry in entries:
            entry.in_flight = True
        if self.journal is not None:
            batch.cursor = self.journal.ahead(entries)
        self._doubt = _Doubt(expected if batch.audit else None, batch.cursor)
        self._sealed = batch.audit
        if batch.new_intents:
            crashpoint("S5.before_commit")
        if batch.fills:
            crashpoint("S10.before_commit")
        elif batch.order_updates:
            crashpoint("S9.before_commit")
        if batch.writes:
            crashpoint("W.before_commit")
        began_ns = perf_counter_ns()
        await self._store.commit(batch, epoch=self._epoch, timeout_s=_COMMIT_TIMEOUT_S)
        LEDGER_COMMIT.observe_ns(perf_counter_ns() - began_ns)
        LEDGER_BATCH.observe_ns(len(entries))
        if batch.new_intents:
            crashpoint("S5.after_commit")
        if batch.fills:
            crashpoint("S10.after_commit")
        elif batch.order_updates:
            crashpoint("S9.after_commit")
        if batch.writes:
            crashpoint("W.after_commit")
        return expected, batch.cursor

    async def _doubt_was_commit(self, doubt: _Doubt) -> bool:
        """Whether the commit without an answer took place; until that is known nothing is written."""
        # without a witness too, the server's process has to be gone before its rows are written again
        on_disk = await self._store.has(doubt.witness or Head(seq=0, hash=b""))
        if not on_disk:
            self._doubt = None
            self._nothing_in_flight()
        return on_disk

    def _nothing_in_flight(self) -> None:
        for entry in self._in_hand:
            entry.not_in_flight()

    def _drop_withdrawn(self) -> None:
        withdrawn = [entry for entry in self._in_hand if entry.withdrawn]
        if withdrawn:
            self._in_hand = [entry for entry in self._in_hand if not entry.withdrawn]
            self._settle([(entry, UnavailableError("withdrawn")) for entry in withdrawn])

    def _done(self, head: Head | None, cursor: JournalCursor | None) -> None:
        self._head = head
        self._doubt = None
        self.available = True
        self.batches += 1
        done, self._in_hand = self._in_hand, []
        self.entries += len(done)
        self._settle([(entry, None) for entry in done])
        self.on_committed(done)
        sealed, self._sealed = self._sealed, ()
        if sealed:
            self.on_audit(sealed)
        if cursor is not None and self.journal is not None:
            self.journal.reached(cursor)

    def _settle(self, ended: Sequence[tuple[LedgerEntry, Exception | None]]) -> None:
        """Call back. One call that raises is a fault of its maker and keeps no other from being told."""
        for entry, error in ended:
            try:
                if error is None:
                    entry.on_commit()
                else:
                    entry.on_fail(error)
            except Exception:
                _log.exception("ledger.callback_failed")
        self._settle_count(len(ended))

    def _settle_count(self, count: int) -> None:
        self._settled += count
        if self._waiters:
            for target, event in self._waiters:
                if target <= self._settled:
                    event.set()
            self._waiters = [waiter for waiter in self._waiters if not waiter[1].is_set()]

    async def _chain_moved(self, before: Head) -> bool:
        """Whether another program (a command of the operator) has appended to the chain meanwhile."""
        self._head = await self._store.head()
        return self._head != before

    async def _sort_out(self, refused: LedgerRefused) -> None:
        """Tell the entries that are repeats; of the rest, one is refused for good and several are tried singly.

        Raises StoreUnavailable; everything is still in hand then.
        """
        ids = [intent.id for entry in self._in_hand for intent in entry.new_intents]
        known = await self._store.known_intents(ids) if ids else set()
        repeats = [entry for entry in self._in_hand if any(intent.id in known for intent in entry.new_intents)]
        if repeats:
            self._in_hand = [entry for entry in self._in_hand if entry not in repeats]
            self._settle([(entry, DuplicateIntent("already accepted")) for entry in repeats])
        elif len(self._in_hand) > 1:
            self._singly.extend(self._in_hand)
            self._in_hand = []
        else:
            (entry,), self._in_hand = self._in_hand, []
            _log.warning("ledger.refused", error=str(refused))
            self._settle([(entry, refused)])
            self.on_refused(entry, refused)
