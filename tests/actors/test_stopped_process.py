"""A process that is stopped at the worst of instants, between two of its instructions."""

import msgspec
import pytest
import trio

from engine.actors.clock_watch import ClockKeeper
from engine.actors.lease_keeper import LIFE_S, LeaseKeeper
from engine.domain.enums import OrderStatus
from engine.errors import Fenced
from tests.support.desk import TrioClock, World, running

S = OrderStatus


class StoppingClock(TrioClock):
    """Stops the process for so many seconds right after the wall clock, or the boot-time clock, has been read."""

    def __init__(self) -> None:
        super().__init__()
        self.after_wall_s = 0.0
        self.after_boot_s = 0.0

    def now(self):
        read = super().now()
        asleep, self.after_wall_s = self.after_wall_s, 0.0
        self.sleep(asleep)
        return read

    def boottime_ns(self):
        read = super().boottime_ns()
        asleep, self.after_boot_s = self.after_boot_s, 0.0
        self.sleep(asleep)
        return read


@pytest.fixture
async def clock(autojump_clock):
    return StoppingClock()


@pytest.mark.parametrize("between", ["after_wall_s", "after_boot_s"])
async def test_order_taken_in_around_a_stop_gains_no_time_by_it(clock, between, autojump_clock):
    world = World()
    world.context = msgspec.structs.replace(world.context, clock=clock)
    turns, order = world.executor._turns, world.order()
    setattr(clock, between, 40.0)
    turns.push(order)
    clock.sleep(21)
    assert turns.stale(order) is not None, "61 s have passed since it came"


async def test_process_stopped_while_the_gate_asks_sends_nothing(autojump_clock):
    world = World()
    order = world.order()
    asked = []

    def lease():
        if world.executor._sender.on_wire and not asked:
            asked.append(order)
            world.clock.sleep(1.5)
        return True

    world.context = msgspec.structs.replace(world.context, holds_lease=lease)
    async with running(world):
        world.submit(order)
        await world.until_status(order, S.SUBMITTED, S.OPEN, S.COMPLETE)
        assert asked
        (left,) = world.broker.left
        assert left.attempt == 2, "the first was late"


async def test_clock_watch_stopped_between_its_two_readings_suspects_nothing(clock, autojump_clock):
    keeper = ClockKeeper(clock, alert=lambda _subject, _text: None, trusted=lambda: None)
    for between in ("after_wall_s", "after_boot_s"):
        setattr(clock, between, 60.0)
        assert keeper.suspect() is None
        assert keeper.suspect() is None


class SlowStore:
    """A database whose answers come when the test says so: each a function of the unit's outcome."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers: list[trio.Event] = [trio.Event() for _ in range(3)]
        self.taken = False

    async def run(self, _unit, **_settings):
        number, taken = self.asked, self.taken
        self.asked += 1
        await self.answers[number].wait()
        if taken:
            raise Fenced("taken")


async def test_renewal_from_before_a_sleep_does_not_say_who_leads_after_it(clock, autojump_clock):
    store = SlowStore()
    keeper = LeaseKeeper(store, epoch=1, clock=clock, asked_ns=clock.boottime_ns())
    confirmed = []

    async def confirm():
        confirmed.append(await keeper.confirm(timeout_s=30))

    with pytest.RaisesGroup(Fenced):
        async with trio.open_nursery() as nursery:
            await nursery.start(keeper.run)
            await trio.testing.wait_all_tasks_blocked()
            clock.sleep(LIFE_S + 20)
            store.taken = True
            nursery.start_soon(confirm)
            await trio.testing.wait_all_tasks_blocked()
            # the store renewed it before the sleep; the answer is read after it
            store.answers[0].set()
            await trio.sleep(1)
            assert not confirmed
            store.answers[1].set()
    assert confirmed in ([], [False])
    assert not await keeper.confirm()
