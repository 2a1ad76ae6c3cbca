"""Bounded mailboxes between actors, and the one-shot answer that `ask` waits for.

A mailbox outlives its actor: the composition root creates it, so that nobody holds a dead channel
across a restart. What waits in it survives a crash of the actor; the one message being handled at the
crash does not, so anything that matters is journalled before it is told.

Two lanes: the ordinary one, whose overflow policy is chosen per mailbox, and an urgent one (kill,
cancels) with a bound of its own, which is always read first, so that exits cannot be starved.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Generic, TypeVar

import msgspec
import trio

from engine.errors import AskTimeout, MailboxFull

T = TypeVar("T")
M = TypeVar("M")

URGENT_CAPACITY = 1024
# A consumer that never runs dry still lets the other tasks run after this many messages.
_YIELD_EVERY = 16
_MISSING: Any = object()


class Overflow(StrEnum):
    """What a mailbox does with a message it has no room for."""

    BLOCK = "BLOCK"
    REFUSE = "REFUSE"
    DROP_OLDEST = "DROP_OLDEST"


class MailboxClosed(MailboxFull):
    """The mailbox was closed for good (drain): it takes no more messages."""


class MailboxStats(msgspec.Struct, frozen=True, kw_only=True):
    """A mailbox at one instant; the counters run since it was created."""

    name: str
    capacity: int
    depth: int
    urgent_depth: int
    dropped: int
    refused: int
    oldest_age_s: float


class Mailbox(Generic[T]):
    """A bounded queue of messages for one actor. Used from the event loop's thread only.

    - ``BLOCK``: `tell` waits for room, first come first served; `tell_nowait` raises `MailboxFull`.
    - ``REFUSE``: `tell` and `tell_nowait` raise `MailboxFull`.
    - ``DROP_OLDEST``: the oldest ordinary message makes room and is counted in `dropped`.

    One consumer at a time is meant (the actor); several are safe but share the messages. A cancelled
    `tell` or receive leaves the mailbox as it was: nothing is half delivered, nothing lost.
    """

    __slots__ = (
        "_closed",
        "_dropped",
        "_expelled",
        "_lane",
        "_receivers",
        "_refused",
        "_room",
        "_senders",
        "_streak",
        "_urgent",
        "_urgent_room",
        "capacity",
        "name",
        "overflow",
    )

    def __init__(self, name: str, capacity: int, overflow: Overflow, *, urgent_capacity: int = URGENT_CAPACITY) -> None:
        if capacity < 1 or urgent_capacity < 1:
            raise ValueError(f"mailbox {name}: capacities must be at least 1, got {capacity} and {urgent_capacity}")
        self.name = name
        self.capacity = capacity
        self.overflow = overflow
        self._room = capacity
        self._urgent_room = urgent_capacity
        self._lane: deque[tuple[float, T]] = deque()
        self._urgent: deque[tuple[float, T]] = deque()
        self._senders: OrderedDict[trio.lowlevel.Task, T] = OrderedDict()
        self._expelled: set[trio.lowlevel.Task] = set()
        self._receivers: OrderedDict[trio.lowlevel.Task, None] = OrderedDict()
        self._closed = False
        self._dropped = 0
        self._refused = 0
        self._streak = 0

    # telling

    def tell_nowait(self, message: T) -> None:
        """Put *message* in the ordinary lane now; raises `MailboxFull` (a counted refusal) if it cannot."""
        if len(self._lane) >= self._room:
            self._make_room()
        self._lane.append((trio.current_time(), message))
        if self._receivers:
            self._wake()

    def tell_urgent_nowait(self, message: T) -> None:
        """Put *message* before all ordinary ones, after earlier urgent ones.

        Raises `MailboxFull` when the urgent lane itself is full: that is an escalation, never a drop.
        """
        if len(self._urgent) >= self._urgent_room:
            raise self._refusal("urgent lane")
        self._urgent.append((trio.current_time(), message))
        if self._receivers:
            self._wake()

    async def tell(self, message: T, *, timeout_s: float | None = None) -> None:
        """Put *message* in the ordinary lane, waiting for room if the policy is BLOCK.

        Raises `MailboxFull` when the policy does not wait, or when *timeout_s* passed without room;
        without *timeout_s* the caller's own cancel scope is the deadline. Cancelled means not delivered.
        """
        if self.overflow is not Overflow.BLOCK or self._closed or len(self._lane) < self._room:
            await trio.lowlevel.checkpoint_if_cancelled()
            self.tell_nowait(message)
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        if timeout_s is None:
            await self._tell_later(message)
            return
        with trio.move_on_after(timeout_s) as scope:
            await self._tell_later(message)
        if scope.cancelled_caught:
            raise self._refusal(f"no room within {timeout_s} s")

    async def _tell_later(self, message: T) -> None:
        task = trio.lowlevel.current_task()
        self._senders[task] = message

        def give_up(_: object) -> trio.lowlevel.Abort:
            del self._senders[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)
        if task in self._expelled:
            self._expelled.discard(task)
            raise self._refusal("closed")

    def _make_room(self) -> None:
        if self._closed or self.overflow is not Overflow.DROP_OLDEST:
            raise self._refusal("ordinary lane")
        self._lane.popleft()
        self._dropped += 1

    def _refusal(self, what: str) -> MailboxFull:
        self._refused += 1
        if self._closed:
            return MailboxClosed(f"mailbox {self.name} is closed")
        return MailboxFull(
            f"mailbox {self.name} is full ({what}): {self.depth} messages wait, capacity {self.capacity}"
        )

    def _wake(self) -> None:
        task, _ = self._receivers.popitem(last=False)
        trio.lowlevel.reschedule(task)

    # receiving

    def receive_nowait(self) -> T:
        """Take the next message; raises `trio.WouldBlock` if none waits."""
        if self._urgent:
            return self._urgent.popleft()[1]
        if not self._lane:
            raise trio.WouldBlock
        message = self._lane.popleft()[1]
        if self._senders:
            self._admit()
        return message

    def take_all(self, limit: int | None = None) -> list[T]:
        """Take everything that waits (urgent first), at most *limit* messages; an empty list if nothing does.

        Senders blocked on a full mailbox are let in behind it: theirs is the next batch.
        """
        if limit is not None and limit < self.depth:
            return [self.receive_nowait() for _ in range(limit)]
        taken = [message for _, message in self._urgent]
        taken += [message for _, message in self._lane]
        self._urgent.clear()
        self._lane.clear()
        if self._senders:
            self._admit()
        return taken

    async def wait(self) -> bool:
        """Wait until a message is there: True. False once the mailbox is closed and empty."""
        await trio.lowlevel.checkpoint()
        while not (self._urgent or self._lane):
            if self._closed:
                return False
            await self._park()
        return True

    async def receive(self) -> T:
        """Wait for the next message and take it; raises `MailboxClosed` once closed and empty."""
        try:
            return await self.__anext__()
        except StopAsyncIteration:
            raise MailboxClosed(f"mailbox {self.name} is closed") from None

    def __aiter__(self) -> "Mailbox[T]":
        return self

    async def __anext__(self) -> T:
        # Cancellation and waiting come before the message is taken, never after: none is lost.
        if self._urgent or self._lane:
            self._streak += 1
            if self._streak >= _YIELD_EVERY:
                self._streak = 0
                await trio.lowlevel.checkpoint()
            else:
                await trio.lowlevel.checkpoint_if_cancelled()
        while not (self._urgent or self._lane):
            if self._closed:
                await trio.lowlevel.checkpoint()
                raise StopAsyncIteration
            await self._park()
        return self.receive_nowait()

    async def _park(self) -> None:
        task = trio.lowlevel.current_task()
        self._receivers[task] = None
        self._streak = 0

        def give_up(_: object) -> trio.lowlevel.Abort:
            del self._receivers[task]
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(give_up)

    def _admit(self) -> None:
        # The message moves in before its sender runs again, so that order among senders holds.
        while self._senders and len(self._lane) < self._room:
            task, message = self._senders.popitem(last=False)
            self._lane.append((trio.current_time(), message))
            trio.lowlevel.reschedule(task)
        if self._receivers and self._lane:
            self._wake()

    # life and looks

    def close(self) -> None:
        """Take no more messages: waiting senders get `MailboxClosed`; what waits can still be received."""
        self._closed = True
        self._room = self._urgent_room = 0
        for task in self._senders:
            self._expelled.add(task)
            trio.lowlevel.reschedule(task)
        self._senders.clear()
        while self._receivers:
            self._wake()

    @property
    def depth(self) -> int:
        """Messages waiting in both lanes."""
        return len(self._urgent) + len(self._lane)

    @property
    def is_waited_on(self) -> bool:
        """Whether a consumer waits here and nothing does for it: what it does next comes after all it was told."""
        return bool(self._receivers) and not self._lane and not self._urgent

    @property
    def has_room(self) -> bool:
        """Whether the ordinary lane takes a message now without waiting or dropping."""
        return len(self._lane) < self._room

    @property
    def dropped(self) -> int:
        """Messages dropped by DROP_OLDEST since creation."""
        return self._dropped

    @property
    def oldest_age_s(self) -> float:
        """Seconds (monotonic) the longest-waiting message has waited; 0.0 if none waits."""
        arrivals = [lane[0][0] for lane in (self._urgent, self._lane) if lane]
        return trio.current_time() - min(arrivals) if arrivals else 0.0

    def stats(self) -> MailboxStats:
        """Return depth, counters and age for display."""
        return MailboxStats(
            name=self.name,
            capacity=self.capacity,
            depth=self.depth,
            urgent_depth=len(self._urgent),
            dropped=self._dropped,
            refused=self._refused,
            oldest_age_s=self.oldest_age_s,
        )


class Reply(Generic[T]):
    """A one-shot answer: travels inside a message, never blocks the answerer, never outlives a gone asker."""

    __slots__ = ("_error", "_task", "_value", "_wanted")

    def __init__(self) -> None:
        self._value: T = _MISSING
        self._error: Exception | None = None
        self._task: trio.lowlevel.Task | None = None
        self._wanted = True

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for the answer (work for a gone asker may be skipped)."""
        return self._wanted

    def answer(self, value: T) -> bool:
        """Give the answer. The first one counts; False if it was not wanted any more."""
        if not self._wanted:
            return False
        self._value = value
        self._settle()
        return True

    def fail(self, error: Exception) -> bool:
        """Let the asker raise *error*. The first answer counts; False if it was not wanted any more."""
        if not self._wanted:
            return False
        self._error = error
        self._settle()
        return True

    def abandon(self) -> None:
        """Say that nobody waits any more; later answers go nowhere."""
        self._wanted = False

    async def wait(self) -> T:
        """Wait for the answer; raises what the answerer failed with. The caller sets the deadline."""
        if self._value is not _MISSING or self._error is not None:
            await trio.lowlevel.checkpoint()
        else:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._give_up)
        if self._error is not None:
            raise self._error
        return self._value

    def _settle(self) -> None:
        self._wanted = False
        if self._task is not None:
            trio.lowlevel.reschedule(self._task)
            self._task = None

    def _give_up(self, _: object) -> trio.lowlevel.Abort:
        self._task = None
        self._wanted = False
        return trio.lowlevel.Abort.SUCCEEDED


async def ask(
    mailbox: Mailbox[M], make_message: Callable[[Reply[T]], M], timeout_s: float, *, urgent: bool = False
) -> T:
    """Tell *mailbox* the message that *make_message* builds around a `Reply`, and wait for the answer.

    Raises `AskTimeout` after *timeout_s* (waiting for room included), `MailboxFull` if the mailbox
    refuses, or what the actor failed the reply with. Never ask upstream: two actors that ask each
    other deadlock until the timeout.
    """
    reply: Reply[T] = Reply()
    message = make_message(reply)
    try:
        with trio.move_on_after(timeout_s):
            if urgent:
                mailbox.tell_urgent_nowait(message)
            elif mailbox.has_room or mailbox.overflow is not Overflow.BLOCK:
                mailbox.tell_nowait(message)
            else:
                await mailbox.tell(message)
            return await reply.wait()
    finally:
        reply.abandon()
    raise AskTimeout(f"{mailbox.name} did not answer within {timeout_s} s")
