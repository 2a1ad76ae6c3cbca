"""Ingest: takes deliveries in, once each, and starts both durable writes.

Owns the memory of recent deliveries (dedupe), the bound on what may wait, and the journal's cursor.
Asked by the HTTP handlers (`accept`); tells the user's risk actor and the journal's writer.
Mailbox: bounded, refuses: the sender gets 503 before anything is written. Restart: permanent; its
memory outlives a restart, and the ledger's unique key is what stands behind it.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from functools import partial
from uuid import UUID

import structlog
import trio

from engine.actors.audit_writer import DuplicateIntent
from engine.actors.earlier import EarlierDeliveries
from engine.actors.intake import Accepted, Passage
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
from engine.observability.stages import NO_STAGES, StageClock
from engine.runtime.crashpoint import crashpoint
from engine.runtime.mailbox import Mailbox, Overflow, Reply

__all__ = ["MAX_WAITING", "Accepted", "EarlierDeliveries", "Ingest"]

_log = structlog.get_logger(__name__)

MAX_WAITING = 25_000
_MAILBOX = 4096
_DURABLE_TIMEOUT_S = 4.0
# of what came before them the ledger tells
_REMEMBERED = 10_000
_REPLAY_TIMEOUT_S = 120.0


class _Take:
    __slots__ = ("delivery", "elsewhere", "kill_turn", "reply")

    def __init__(
        self,
        delivery: Delivery,
        kill_turn: int,
        elsewhere: Collection[UUID],
        reply: "Reply[tuple[Passage | Accepted, bool]]",
    ) -> None:
        self.delivery = delivery
        self.kill_turn = kill_turn
        self.elsewhere = elsewhere
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
        suspect: Callable[[], str | None] = lambda: None,
        stages: StageClock = NO_STAGES,
    ) -> None:
        self.stages = stages
        self._holds_lease = holds_lease
        self._suspect = suspect
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

    @property
    def is_open(self) -> bool:
        """Whether signals are taken in."""
        return self._closed is None

    def open_intake(self) -> None:
        """Take signals from now on."""
        self._closed = None

    def use_earlier(self, earlier: EarlierDeliveries) -> None:
        """Take over what the ledger knows of earlier deliveries."""
        self._earlier = earlier

    def close_intake(self, why: str) -> None:
        """Refuse signals from now on; what was taken goes on."""
        self._closed = why

    async def accept(self, delivery: Delivery, *, by_hand: bool = False, elsewhere: Collection[UUID] = ()) -> Accepted:
        """Take *delivery* in and return once it is durable.

        While the wall clock is suspect, by which signatures and ages are judged, only what a person sends *by_hand* is
        taken; of that nothing goes that adds exposure (SEC-109). *elsewhere* are other sources whose delivery of the
        same key is the same call: a caller's key names one call, whichever source it went through.

        A repeat is answered like the first. Raises KillSwitchError, ConflictError (same key, another
        body), UnavailableError (no room, or nothing is known to have made it durable: the sender tries again).
        """
        if self._closed is not None:
            raise UnavailableError(f"{self._closed}; try again", retry_after_s=2)
        reason = None if by_hand else self._suspect()
        if reason is not None:
            raise UnavailableError(f"no signals now: {reason}; try again", code="CLOCK_SUSPECT", retry_after_s=30)
        if self._holds_lease is not None and not await self._holds_lease():
            raise UnavailableError("another engine has taken over; send it there", retry_after_s=5)
        return await self._pass(delivery, elsewhere)

    def holds(self, source_id: UUID, key: str) -> bool:
        """Whether a delivery of *key* came earlier, in this life or in one before it; nothing waits."""
        first = self._recent.get((source_id, key))
        return (first is not None and first.error is None) or self._earlier.may_hold((source_id, key))

    async def earlier(self, sources: Iterable[UUID], key: str, body_sha256: bytes) -> Accepted | None:
        """Return the answer to an earlier delivery of *key* by one of *sources*, None when there was none.

        A repeat is answered by it before anything is judged anew: what was taken in once may not be told refused.
        Raises as `accept` does.
        """
        for source_id in sources:
            found = await self._earlier_of((source_id, key), body_sha256)
            if found is not None:
                self.duplicates += 1
                return found if isinstance(found, Accepted) else await self._awaited(found)
        return None

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
                taken.append(self._let_in(delivery, None, position=position))
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

    async def settle_intent(self, intent_id: UUID, *, timeout_s: float) -> None:
        """Wait until the ledger has the intent *intent_id*, if it is on its way there, *timeout_s* seconds at most.

        A decision may wait for a price: whoever was told of an intent can read it all the same.
        """
        with trio.move_on_after(timeout_s):
            for passage in [each for each in self._open.values() if intent_id in each.intents]:
                await passage.wait_settled()

    async def _pass(self, delivery: Delivery, elsewhere: Collection[UUID]) -> Accepted:
        if self.mailbox.is_waited_on and not self._may_be_earlier(delivery, elsewhere):
            # the actor waits and nothing is before this one: taking it in here is taking it in its turn
            passage = self._take_new(delivery, self._kill.turn)
            with trio.move_on_after(_DURABLE_TIMEOUT_S):
                await passage.wait_durable()
            return await self._answer(passage, duplicate=False)
        reply: Reply[tuple[Passage | Accepted, bool]] = Reply()
        try:
            self.mailbox.tell_nowait(_Take(delivery, self._kill.turn, elsewhere, reply))
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

    async def _awaited(self, passage: Passage) -> Accepted:
        with trio.move_on_after(_DURABLE_TIMEOUT_S):
            await passage.wait_durable()
        return await self._answer(passage, duplicate=True)

    async def _answer(self, passage: Passage, *, duplicate: bool) -> Accepted:
        error = passage.error
        if error is None and passage.is_durable:
            passage.promised = True
            self.stages.accepted(passage.intents)
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
        for source_id in (delivery.source_id, *take.elsewhere):
            earlier = await self._earlier_of((source_id, delivery.idempotency_key), delivery.body_sha256)
            if earlier is not None:
                self.duplicates += 1
                return earlier, True
        return self._take_new(delivery, take.kill_turn), False

    def _take_new(self, delivery: Delivery, kill_turn: int) -> Passage:
        """Take in what no earlier delivery was. Raises KillSwitchError, UnavailableError."""
        self._refuse_if_killed(delivery)
        if self._open_signals + self._waiting_orders() + len(delivery.items) > MAX_WAITING:
            raise UnavailableError("too many signals wait; try again", retry_after_s=5)
        return self._let_in(delivery, kill_turn, journal=self.journal)

    def _may_be_earlier(self, delivery: Delivery, elsewhere: Collection[UUID]) -> bool:
        """Whether a delivery of this key may have come before; whoever says so has to look."""
        key = delivery.idempotency_key
        return any(
            (source_id, key) in self._recent or self._earlier.may_hold((source_id, key))
            for source_id in (delivery.source_id, *elsewhere)
        )

    async def _earlier_of(self, key: tuple[UUID, str], body_sha256: bytes) -> Passage | Accepted | None:
        """Return what came of an earlier delivery of *key*, None when there was none. Raises ConflictError."""
        first = self._recent.get(key)
        if first is not None and first.error is None:
            if first.delivery.body_sha256 != body_sha256:
                raise _conflict()
            return first
        found = await self._earlier.find(key) if self._earlier.may_hold(key) else None
        if found is None:
            return None
        if found[0] != body_sha256:
            raise _conflict()
        return Accepted(found[1], duplicate=True)

    def _let_in(
        self,
        delivery: Delivery,
        kill_turn: int | None,
        *,
        journal: JournalWriter | None = None,
        position: str | None = None,
    ) -> Passage:
        """Start both durable writes; what comes from the journal is in it already, at *position*."""
        key = (delivery.source_id, delivery.idempotency_key)
        passage = Passage(delivery, kill_turn)
        before = self._recent.get(key)
        self.stages.taken(*key, passage.intents)
        passage.on_settled = self._passage_settled
        self._recent[key] = passage
        self._open[key] = passage
        self._open_signals += len(delivery.items)
        try:
            # it may be decided about by the time that this returns
            self._decide(passage)
        except MailboxFull as full:
            # nothing has been written and nothing is remembered: a later try is a new one
            del self._recent[key], self._open[key]
            self._open_signals -= len(delivery.items)
            if before is not None:
                self._recent[key] = before
            raise UnavailableError("too many signals wait; try again", retry_after_s=2) from full
        self._forget_old()
        self.accepted += 1
        if position is not None:
            # an earlier life may have promised it
            passage.promised = True
            passage.journalled(position)
            self.progress.add(passage)
        elif journal is not None and not passage.is_settled:
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
