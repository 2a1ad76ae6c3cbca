"""The crew: actors on demand, started side by side, each blocked alone when it cannot start."""

from uuid import UUID

import pytest
import trio

from engine.actors.crew import Crew
from engine.errors import MailboxFull
from engine.runtime.child import SupervisorNotRunning
from tests.support.desk import World, running
from tests.support.trade import ACCOUNT, USER


@pytest.fixture
async def world(autojump_clock):
    return World(accounts=50)


async def test_same_actor_is_returned_each_time(world, autojump_clock):
    async with running(world):
        assert world.crew.executor(ACCOUNT) is world.crew.executor(ACCOUNT)
        assert world.crew.risk(USER) is world.crew.risk(USER)


async def test_actors_start_side_by_side(world, autojump_clock):
    async with running(world):
        world.store.delay_s = 1.0
        started = trio.current_time()
        executors = [world.crew.executor(account) for account in world.directory.accounts]
        await world.until(lambda: all(executor.is_ready for executor in executors))
        assert trio.current_time() - started < 3


async def test_orders_told_before_the_start_are_executed(world, autojump_clock):
    other = UUID(int=ACCOUNT.int + 1000)
    order = world.order(account_id=other)
    async with running(world):
        world.submit(order)
        await world.until(lambda: len(world.brokers[other].left) == 1)


async def test_actor_that_cannot_start_blocks_its_scope_alone(world, autojump_clock):
    async def run(*, task_status):
        raise RuntimeError("cannot")

    other = UUID(int=ACCOUNT.int + 1000)
    real = world.crew._make_executor

    def make(account_id):
        executor = real(account_id)
        if account_id == other:
            executor.run = run
        return executor

    world.crew._make_executor = make
    order = world.order()
    async with running(world):
        world.crew.executor(other)
        await world.until(lambda: world.trips)
        assert world.trips[0][0] == f"account:{other}"
        world.submit(order)
        await world.until(lambda: len(world.broker.left) == 1)


async def test_start_is_tried_again_while_the_supervisor_is_down(world, autojump_clock):
    order = world.order(account_id=UUID(int=ACCOUNT.int + 1000))
    tries = []
    async with running(world):
        real = world.crew.accounts.add_child

        async def add_child(spec):
            tries.append(spec.name)
            if len(tries) < 3:
                raise SupervisorNotRunning("restarting")
            await real(spec)

        world.crew.accounts.add_child = add_child
        world.submit(order)
        await world.until(lambda: len(world.brokers[order.account_id].left) == 1)
        assert len(tries) == 3
        assert not world.trips


async def test_actor_that_finds_no_room_to_be_started_is_not_half_made(world, autojump_clock):
    crew = Crew(make_risk=world._risk, make_executor=world._executor, trip=lambda *_: None)
    crew._to_start._room = 0
    with pytest.raises(MailboxFull):
        crew.executor(ACCOUNT)
    assert not crew.executors


async def test_waiting_orders_are_counted_over_all_accounts(world, autojump_clock):
    async with running(world):
        await world.crew.drain(timeout_s=1)
        for account in list(world.directory.accounts)[:3]:
            for _ in range(4):
                world.submit(world.order(account_id=account))
        await trio.sleep(1)
        assert world.crew.waiting_orders == 12
