"""One reader of the event stream: slow ones are dropped, quick ones lose nothing, and every end is told."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import trio
import trio.testing

from engine.actors.event_hub import EventHub
from engine.domain.enums import Role
from engine.domain.stream_event import StreamType
from engine.errors import RateLimitError, UnauthorizedError
from engine.http import event_stream
from engine.http.event_stream import EventStreamReader, StreamSeats
from engine.http.permissions import Principal
from engine.http.views.stream import EventViews
from tests.support.event_stream import Told, parse

NOW = datetime(2026, 11, 23, 4, 0, tzinfo=UTC)
OWNER = UUID(int=1)


class StandingClock:
    def now(self) -> datetime:
        return NOW

    def boottime_ns(self) -> int:
        return 0


class Stand:
    """A hub and its readers."""

    def __init__(self, *, capacity: int = 100, max_lag: int = 50) -> None:
        self.hub = EventHub(3, owner_of=lambda _kind, _id: OWNER, capacity=capacity, max_lag=max_lag)
        self.seats = StreamSeats(per_user=3, in_all=4)
        self.draining = trio.Event()

    def reader(self, *, again: Callable[[], Principal] | None = None, owner: UUID = OWNER) -> EventStreamReader:
        caller = Principal(
            user_id=owner, email="a@b.c", name="A", role=Role.TRADER, session_id=UUID(int=9), signed_in_at=NOW
        )
        return EventStreamReader(
            self.hub,
            EventViews(kill_view=_none, pnl_view=_none, instrument=_none),
            caller=caller,
            again=again or (lambda: caller),
            place=self.hub.ring.place(None),
            had_place=False,
            kinds=frozenset(StreamType),
            account_id=None,
            seats=self.seats,
            draining=self.draining,
            clock=StandingClock(),
        )

    def alert(self, text: str) -> None:
        self.hub.alert(f"account:{UUID(int=5)}", text, NOW)


def _none(*_: Any) -> None:
    return None


async def read(reader: EventStreamReader) -> list[Told]:
    return parse((await reader.__anext__()).decode())


async def test_a_reader_that_falls_behind_is_told_and_dropped_and_no_other_is(autojump_clock: trio.testing.MockClock):
    stand = Stand()
    slow, quick = stand.reader(), stand.reader()
    await read(slow)
    await read(quick)
    heard: list[str] = []
    for number in range(60):
        stand.alert(f"CODE: {number}")
        heard += [told.data["text"] for told in await read(quick)]
    assert heard == [f"CODE: {number}" for number in range(60)]
    (last,) = await read(slow)
    assert (last.event, last.data) == ("reset", {"reason": "TOO_SLOW"})
    with pytest.raises(StopAsyncIteration):
        await slow.__anext__()
    assert len(stand.seats) == 1


async def test_what_was_overwritten_is_told_as_lost_even_within_the_lag(autojump_clock: trio.testing.MockClock):
    stand = Stand(capacity=5, max_lag=5)
    reader = stand.reader()
    await read(reader)
    for number in range(6):
        stand.alert(str(number))
    (last,) = await read(reader)
    assert last.data == {"reason": "TOO_SLOW"}


async def test_a_quiet_stream_beats_and_moves_the_place_of_its_reader(autojump_clock: trio.testing.MockClock):
    stand = Stand()
    reader = stand.reader(owner=UUID(int=2))
    await read(reader)
    stand.alert("CODE: of another user")
    began = trio.current_time()
    beat = (await reader.__anext__()).decode()
    assert beat == ": heartbeat\nid: 3-1\n\n"
    assert trio.current_time() - began <= event_stream.HEARTBEAT_S + 1


async def test_a_session_that_ends_ends_the_stream_within_five_seconds(autojump_clock: trio.testing.MockClock):
    stand = Stand()

    def ended() -> Principal:
        raise UnauthorizedError("the session has ended; sign in again")

    reader = stand.reader(again=ended)
    await read(reader)
    began = trio.current_time()
    (last,) = await read(reader)
    assert last.data == {"reason": "SESSION_ENDED"}
    assert trio.current_time() - began < 5


async def test_a_drain_ends_a_waiting_reader_without_a_word(autojump_clock: trio.testing.MockClock):
    stand = Stand()
    reader = stand.reader()
    await read(reader)
    async with trio.open_nursery() as nursery:

        async def drain() -> None:
            await trio.testing.wait_all_tasks_blocked()
            stand.draining.set()
            stand.hub.nudge()

        nursery.start_soon(drain)
        began = trio.current_time()
        with pytest.raises(StopAsyncIteration):
            await reader.__anext__()
        assert trio.current_time() == began
    assert len(stand.seats) == 0


async def test_a_reader_that_is_cancelled_or_closed_gives_its_seat_back(autojump_clock: trio.testing.MockClock):
    stand = Stand()
    cancelled, closed = stand.reader(), stand.reader()
    await read(cancelled)
    await read(closed)
    assert len(stand.hub.watchers) == 2
    with trio.move_on_after(3):
        await cancelled.__anext__()
    await closed.aclose()
    assert len(stand.seats) == 0
    assert not stand.hub.watchers


async def test_seats_are_bounded_by_user_and_in_all():
    stand = Stand()
    for _ in range(3):
        await read(stand.reader())
    with pytest.raises(RateLimitError):
        stand.seats.check(OWNER)
    (last,) = await read(stand.reader())
    assert last.data == {"reason": "TOO_MANY_STREAMS"}
    await read(stand.reader(owner=UUID(int=2)))
    with pytest.raises(RateLimitError):
        stand.seats.check(UUID(int=4))
