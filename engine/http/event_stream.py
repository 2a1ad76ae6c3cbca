"""One reader's stream: it follows the ring at its own pace, and ends when it may not, cannot or need not go on.

A reader holds no buffer of its own: it is a place in the ring. While it does not read, the server's write deadline
counts; when it comes back too far behind, it is told to begin anew and the stream ends.
"""

from collections import Counter
from collections.abc import Callable
from uuid import UUID

import trio

from engine.actors.event_hub import EventHub
from engine.clock import Clock
from engine.domain.event_ring import Place
from engine.domain.stream_event import StreamEvent, StreamType
from engine.errors import ApiError, RateLimitError
from engine.http.permissions import Principal
from engine.http.views import stream as views
from engine.http.views.ownership import may_reach

HEARTBEAT_S = 15.0
RECHECK_S = 2.0
STREAMS_PER_USER = 32
STREAMS = 200
_LOOK_S = 1.0
# what comes in a burst goes out together, so that a busy engine does not wake every reader for every order
_GATHER_S = 0.05
_CHUNK = 100


class StreamSeats:
    """How many streams are open: by user, and in all."""

    def __init__(self, *, per_user: int = STREAMS_PER_USER, in_all: int = STREAMS) -> None:
        self._per_user = per_user
        self._in_all = in_all
        self._taken: Counter[UUID] = Counter()

    def __len__(self) -> int:
        return self._taken.total()

    def check(self, user_id: UUID) -> None:
        """Raise RateLimitError when there is no room for another stream of the user."""
        if self._taken[user_id] >= self._per_user:
            raise RateLimitError(f"at most {self._per_user} streams at a time; close one", retry_after_s=5)
        if len(self) >= self._in_all:
            raise RateLimitError("too many streams are open; try again", retry_after_s=5)

    def take(self, user_id: UUID) -> None:
        """Count a stream. Raises RateLimitError as `check`."""
        self.check(user_id)
        self._taken[user_id] += 1

    def give_back(self, user_id: UUID) -> None:
        """A stream of the user has ended."""
        self._taken[user_id] -= 1
        if self._taken[user_id] <= 0:
            del self._taken[user_id]


class EventStreamReader:
    """An asynchronous iterator of the stream's bytes.

    *again* answers who the caller is now, or raises ApiError when it may not read any more; it is asked every two
    seconds. *place* is where the reader goes on.
    """

    def __init__(
        self,
        hub: EventHub,
        texts: views.EventViews,
        *,
        caller: Principal,
        again: Callable[[], Principal],
        place: Place,
        had_place: bool,
        kinds: frozenset[StreamType],
        account_id: UUID | None,
        seats: StreamSeats,
        draining: trio.Event,
        clock: Clock,
    ) -> None:
        self._hub = hub
        self._texts = texts
        self._caller = caller
        self._again = again
        self._number = place.number
        self._begin_reset = place.reset
        self._had_place = had_place
        self._kinds = kinds
        self._account_id = account_id
        self._seats = seats
        self._draining = draining
        self._clock = clock
        self._has_seat = False
        self._is_over = False
        self._checked_at = self._sent_at = 0.0

    def __aiter__(self) -> "EventStreamReader":
        return self

    async def __anext__(self) -> bytes:
        """Return the next bytes to send. Raises StopAsyncIteration at the end."""
        if self._is_over:
            self._leave()
            raise StopAsyncIteration
        try:
            chunk = await self._next() if self._has_seat else self._begin()
        except BaseException:
            self._leave()
            raise
        if chunk is None:
            self._leave()
            raise StopAsyncIteration
        self._sent_at = trio.current_time()
        return chunk

    async def aclose(self) -> None:
        """End it: the client is gone, or the server closes."""
        self._leave()

    def _leave(self) -> None:
        self._is_over = True
        if self._has_seat:
            self._has_seat = False
            self._hub.unwatch(self._may_watch)
            self._seats.give_back(self._caller.user_id)

    def _may_watch(self, user_id: UUID, account_id: UUID | None) -> bool:
        return may_reach(self._caller, user_id, account_id)

    def _begin(self) -> bytes:
        try:
            self._seats.take(self._caller.user_id)
        except RateLimitError:
            return self._end("TOO_MANY_STREAMS")
        self._has_seat = True
        self._checked_at = trio.current_time()
        if self._kinds & {StreamType.POSITION, StreamType.PNL}:
            self._hub.watch(self._may_watch)
        said = views.hello(
            self._id,
            views.HelloView(
                at=self._clock.now(),
                epoch=self._hub.ring.epoch,
                resumed=self._had_place and self._begin_reset is None,
                types=tuple(sorted(self._kinds)),
                account_id=self._account_id,
            ),
        )
        return said if self._begin_reset is None else said + views.reset(self._id, self._begin_reset)

    async def _next(self) -> bytes | None:
        while not self._draining.is_set():
            if not self._may_go_on():
                return self._end("SESSION_ENDED")
            if self._hub.ring.newest - self._number > self._hub.max_lag:
                return self._end("TOO_SLOW")
            found = self._hub.ring.after(self._number, _CHUNK)
            if found is None:
                return self._end("TOO_SLOW")
            if found:
                self._number = found[-1][0]
                # a checkpoint: a reader that is far behind must not hold up an order
                await trio.lowlevel.checkpoint()
                said = b"".join(
                    self._texts.text(self._hub.ring.id_of(number), event, self._caller)
                    for number, event in found
                    if self._is_for_reader(event)
                )
                if said:
                    return said
                continue
            if trio.current_time() - self._sent_at >= HEARTBEAT_S:
                return views.heartbeat(self._id)
            await self._hub.wait_beyond(self._number, timeout_s=_LOOK_S)
            if self._hub.ring.newest > self._number and not self._draining.is_set():
                await trio.sleep(_GATHER_S)
        return None

    def _is_for_reader(self, event: StreamEvent) -> bool:
        if event.kind not in self._kinds:
            return False
        if self._account_id is not None and not event.is_public and event.account_id != self._account_id:
            return False
        return views.may_hear(self._caller, event)

    def _may_go_on(self) -> bool:
        now = trio.current_time()
        if now - self._checked_at < RECHECK_S:
            return True
        self._checked_at = now
        try:
            self._caller = self._again()
        except ApiError:
            return False
        return True

    def _end(self, reason: str) -> bytes:
        self._is_over = True
        return views.reset(self._id, reason)

    @property
    def _id(self) -> str:
        return self._hub.ring.id_of(self._number)
