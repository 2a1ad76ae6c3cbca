"""Ingest: takes deliveries in, once each, and starts both durable writes.

Owns the memory of recent deliveries (dedupe), the bound on what may wait, and the journal's cursor.
Asked by the HTTP handlers (`accept`); tells the user's risk actor and the journal's writer.
Mailbox: bounded, refuses: the sender gets 503 before anything is written. Restart: permanent; its
memory outlives a restart, and the ledger's unique key is what stands behind it.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from uuid import UUID

import structlog
import trio

from engine.actors.audit_writer import DuplicateIntent
from engine.actors.earlier import EarlierDeliveries
from engine.actors.intake import Passage, Receipt
from engine.actors.journal_progress import JournalProgress, Mark, Tracked
from engine.clock import Clock
from engine.domain.delivery import Delivery
from engine.domain.directory import Directory
from engine.domain.killswitch import KillSwitches
from engine.errors import (
    ConflictError,
    EngineError,
    KillSwitchError,
    MailboxFull,
    UnavailableError,
)
from engine.journal.entry import encode
from engine.journal.writer import JournalWriter
from engine.runtime.crashpoint import crashpoint
from engine.runtime.mailbox import Mailbox, Overflow, Reply

__all__ = ["MAX_WAITING", "Accepted", "EarlierDeliveries", "Ingest"]

_log = structlog.get_logger(__name__)

MAX_WAITING = 25_000
_MAILBOX = 4096
_DURABLE_TIMEOUT_S = 4.0
_REMEMBERED = 50_000
_REPLAY_TIMEOUT_S = 120.0


class Accepted:
    """The answer to a sender: one receipt for each good signal, and whether this was a repeat."""

    __slots__ = ("duplicate", "receipts")

    def __init__(self, receipts: tuple[Receipt, ...], *, duplicate: bool) -> None:
        self.receipts = receipts
        self.duplicate = duplicate


class _Take:
    __slots__ = ("delivery", "reply")

    def __init__(self, delivery: Delivery, reply: "Reply[tuple[Passage | Accepted, bool]]") -> None:
        self.delivery = delivery
        self.reply = reply


class Ingest:
    """The one way in for signals."""

    def __init__(
        self,
        *,
        directory: Directory,
        kill: KillSwitches,
        journal: JournalWriter | None,
        journal_key: bytes,
        clock: Clock,
        dedup_window_s: int,
        decide: Callable[[Passage], None],
        waiting_orders: Callable[[], int],
        earlier: EarlierDeliveries,
        holds_lease: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        self._holds_lease = holds_lease
        self._directory = directory
        self._kill = kill
        self.journal = journal
        self._journal_key = journal_key
        self._clock = clock
        self._window_s = dedup_window_s
        self._decide = decide
        self._waiting_orders = waiting_orders
        self._earlier = earlier
        self.mailbox: Mailbox[_Take] = Mailbox("signal", capacity=_MAILBOX, overflow=Overflow.REFUSE)
        self._recent: OrderedDict[tuple[UUID, str], Passage] = OrderedDict()
        self._open: dict[tuple[UUID, str], Passage] = {}
        self._open_signals = 0
        self.progress = JournalProgress()
        self._closed: str | None = "the engine is starting"
        self.accepted = 0
        self.duplicates = 0

    # the public face

    @property
    def waiting(self) -> int:
        """Accepted signals that have not reached the ledger."""
        return self._open_signals

    @property
    def cursor(self) -> str:
        """Up to here everything in the journal is decided, in memory."""
        return self.progress.position

    def open_intake(self) -> None:
        """Take signals from now on."""
        self._closed = None

    def use_earlier(self, earlier: EarlierDeliveries) -> None:
        """Take over what the ledger knows of earlier deliveries."""
        self._earlier = earlier

    def close_intake(self, why: str) -> None:
        """Refuse signals from now on; what was taken goes on."""
        self._closed = why

    async def accept(self, delivery: Delivery) -> Accepted:
        """Take *delivery* in and return once it is durable.

        A repeat is answered like the first. Raises KillSwitchError, ConflictError (same key, another
        body), UnavailableError (no room, or nothing is known to have made it durable: the sender tries again).
        """
        if self._closed is not None:
            raise UnavailableError(f"{self._closed}; try again", retry_after_s=2)
        if self._holds_lease is not None and not await self._holds_lease():
            raise UnavailableError("another engine has taken over; send it there", retry_after_s=5)
        return await self._pass(delivery)

    async def known(self, deliveries: Sequence[Delivery]) -> set[tuple[UUID, str]]:
        """Return the keys of those of *deliveries* that the ledger has. Raises StoreUnavailable."""
        return await self._earlier.known(deliveries)

    async def replay(self, deliveries: Sequence[Delivery], positions: Sequence[str] = ()) -> int:
        """Take in deliveries of the journal, in order, before the actor runs; return how many were new.

        Waits until the ledger has them. What it has already is left alone. With their *positions* in the
        journal its cursor moves along. Raises UnavailableError, StoreUnavailable.
        """
        known = await self._earlier.known(deliveries)
        taken: list[Passage] = []
        for number, delivery in enumerate(deliveries):
            key = (delivery.source_id, delivery.idempotency_key)
            position = positions[number] if positions else None
            if key not in known and key not in self._recent:
                taken.append(self._let_in(delivery, position=position))
            elif position is not None:
                self.pass_by(Mark(position))
        with trio.move_on_after(_REPLAY_TIMEOUT_S) as scope:
            for passage in taken:
                await passage.wait_settled()
        if scope.cancelled_caught:
            # going on would move the journal's cursor past what nobody has decided about
            raise UnavailableError(f"the ledger took more than {_REPLAY_TIMEOUT_S:g} s to take the journal in")
        return len(taken)

    def pass_by(self, mark: Mark) -> None:
        """Let the cursor pass an entry of the journal, once it is settled, of which no intents are made."""
        self.progress.add(mark)
        self.progress.advance()

    def journal_wiped(self) -> int:
        """Append again what only the journal had; return how many deliveries that is.

        In the order in which they were accepted, and before anything that was accepted since.
        """
        journal = self.journal
        if journal is None:
            return 0
        lost = [item for item in self.progress.lost(_not_there) if isinstance(item, Passage)]
        journal.append_first(
            [(*self._entry_of(passage.delivery), partial(self._answered, passage)) for passage in lost]
        )
        return len(lost)

    async def settle(self, *, timeout_s: float = 2.0) -> bool:
        """Wait until the ledger has everything accepted so far; False when the deadline came first."""
        with trio.move_on_after(timeout_s) as scope:
            for passage in list(self._open.values()):
                await passage.wait_settled()
        return not scope.cancelled_caught

    async def _pass(self, delivery: Delivery) -> Accepted:
        reply: Reply[tuple[Passage | Accepted, bool]] = Reply()
        try:
            self.mailbox.tell_nowait(_Take(delivery, reply))
        except MailboxFull as exc:
            raise UnavailableError("too many signals wait; try again", retry_after_s=1) from exc
        taken: Passage | Accepted | None = None
        duplicate = False
        with trio.move_on_after(_DURABLE_TIMEOUT_S):
            try:
                taken, duplicate = await reply.wait()
            finally:
                # what nobody waits for is not taken in: whoever gave up was promised nothing
                reply.abandon()
            if isinstance(taken, Accepted):
                return taken
            await taken.wait_durable()
        if isinstance(taken, Passage):
            return await self._answer(taken, duplicate=duplicate)
        raise UnavailableError("too many signals wait; try again", retry_after_s=2)

    async def _answer(self, passage: Passage, *, duplicate: bool) -> Accepted:
        error = passage.error
        if error is None and passage.is_durable:
            passage.promised = True
            return Accepted(passage.receipts(), duplicate=duplicate)
        if isinstance(error, DuplicateIntent):
            return await self._first_answer(passage)
        if error is None:
            passage.give_up(UnavailableError("withdrawn"))
        raise UnavailableError(
            "the signal could not be made durable; send it again with the same Idempotency-Key", retry_after_s=5
        )

    async def _first_answer(self, passage: Passage) -> Accepted:
        """Answer a repeat that only the ledger remembered, as the first was answered."""
        delivery = passage.delivery
        found = await self._earlier.find((delivery.source_id, delivery.idempotency_key))
        if found is None:
            return Accepted(passage.receipts(), duplicate=True)
        body_sha256, receipts = found
        if body_sha256 != delivery.body_sha256:
            raise _conflict()
        return Accepted(receipts, duplicate=True)

    # the actor

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take deliveries in until cancelled."""
        task_status.started()
        async for take in self.mailbox:
            if not take.reply.is_wanted:
                continue
            try:
                taken, duplicate = await self._take(take)
            except EngineError as refusal:
                take.reply.fail(refusal)
                continue
            if not take.reply.answer((taken, duplicate)) and isinstance(taken, Passage) and not duplicate:
                taken.give_up(UnavailableError("nobody waits for it any more"))

    async def _take(self, take: _Take) -> tuple[Passage | Accepted, bool]:
        delivery = take.delivery
        key = (delivery.source_id, delivery.idempotency_key)
        first = self._recent.get(key)
        if first is not None and first.error is None:
            if first.delivery.body_sha256 != delivery.body_sha256:
                raise _conflict()
            self.duplicates += 1
            return first, True
        if self._earlier.may_hold(key):
            found = await self._earlier.find(key)
            if found is not None:
                body_sha256, receipts = found
                if body_sha256 != delivery.body_sha256:
                    raise _conflict()
                self.duplicates += 1
                return Accepted(receipts, duplicate=True), True
        self._refuse_if_killed(delivery)
        if self._open_signals + self._waiting_orders() + len(delivery.items) > MAX_WAITING:
            raise UnavailableError("too many signals wait; try again", retry_after_s=5)
        return self._let_in(delivery, journal=self.journal), False

    def _let_in(
        self, delivery: Delivery, *, journal: JournalWriter | None = None, position: str | None = None
    ) -> Passage:
        """Start both durable writes; what comes from the journal is in it already, at *position*."""
        key = (delivery.source_id, delivery.idempotency_key)
        passage = Passage(delivery)
        try:
            self._decide(passage)
        except MailboxFull as full:
            # nothing has been written and nothing remembered: a later try is a new one
            raise UnavailableError("too many signals wait; try again", retry_after_s=2) from full
        passage.on_settled = self._passage_settled
        self._recent[key] = passage
        self._open[key] = passage
        self._open_signals += len(delivery.items)
        self._forget_old()
        self.accepted += 1
        if position is not None:
            # an earlier life may have promised it
            passage.promised = True
            passage.journalled(position)
            self.progress.add(passage)
        elif journal is not None:
            self.progress.add(passage)
            journal.append(*self._entry_of(delivery), partial(self._answered, passage))
        crashpoint("S1.taken")
        return passage

    def _entry_of(self, delivery: Delivery) -> tuple[str, bytes]:
        return f"{delivery.source_id}:{delivery.idempotency_key}", encode(delivery, self._journal_key)

    def _answered(self, passage: Passage, entry_id: str | None) -> None:
        passage.journalled(self.progress.answer(passage, entry_id))
        self.progress.advance()

    def _refuse_if_killed(self, delivery: Delivery) -> None:
        strategy = self._directory.strategies.get(delivery.strategy_id)
        targets = [] if strategy is None else [target.account_id for target in strategy.targets]
        if not targets:
            # a strategy without accounts is still covered by the scopes above it
            targets = [UUID(int=0)]
        records = [
            self._kill.covering(
                user_id=delivery.user_id,
                account_id=account,
                strategy_id=delivery.strategy_id,
                source_id=delivery.source_id,
            )
            for account in targets
        ]
        if all(record is not None for record in records):
            record = records[0]
            assert record is not None  # noqa: S101 -- narrows the type
            raise KillSwitchError(
                f"the kill switch {record.scope} is on: {record.reason}",
                details={"scope": record.scope},
                retry_after_s=60,
            )

    def _passage_settled(self, passage: Passage) -> None:
        key = (passage.delivery.source_id, passage.delivery.idempotency_key)
        if self._open.pop(key, None) is not None:
            self._open_signals -= len(passage.delivery.items)
        if passage.error is not None and not isinstance(passage.error, DuplicateIntent):
            # a later try of the sender is a new one
            if self._recent.get(key) is passage:
                del self._recent[key]
            _log.warning("signal.given_up", source=str(key[0]), key=key[1], error=str(passage.error))
        self.progress.advance()

    def _forget_old(self) -> None:
        horizon = self._clock.now().timestamp() - self._window_s
        while self._recent:
            key, passage = next(iter(self._recent.items()))
            if not passage.is_settled:
                return
            if passage.delivery.received_at.timestamp() > horizon and len(self._recent) <= _REMEMBERED:
                return
            del self._recent[key]
            self._earlier.remember(key)


def _not_there(item: Tracked) -> None:
    if isinstance(item, Passage):
        item.journal_id = None


def _conflict() -> ConflictError:
    return ConflictError(
        "this idempotency key was used for another body; use a new key for a new signal",
        code="IDEMPOTENCY_KEY_REUSED",
    )
