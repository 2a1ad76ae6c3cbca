"""Accounts of strategies are opened ahead of the first signal."""

import msgspec
import trio

from engine.actors import warm_up
from engine.actors.warm_up import WarmUp
from engine.domain.enums import AccountStatus
from tests.support.desk import ACCOUNT, World, running


async def test_accounts_of_strategies_that_are_on_are_opened(autojump_clock, monkeypatch):
    world = World()
    async with running(world):
        opened = dict(world.crew.executors)
        world.crew.executors.clear()
        asked: list[object] = []
        monkeypatch.setattr(world.crew, "executor", asked.append)
        await WarmUp(world.directory, world.crew).look()
        assert asked == [ACCOUNT]
        world.crew.executors.update(opened)


async def test_who_is_not_logged_in_or_beyond_the_bound_is_left_alone(autojump_clock, monkeypatch):
    world = World()
    async with running(world):
        account = world.directory.accounts[ACCOUNT]
        opened = dict(world.crew.executors)
        world.crew.executors.clear()
        world.directory.put_account(msgspec.structs.replace(account, status=AccountStatus.LOGIN_REQUIRED))
        await WarmUp(world.directory, world.crew).look()
        assert not world.crew.executors
        world.directory.put_account(account)
        monkeypatch.setattr(warm_up, "MOST", 0)
        await WarmUp(world.directory, world.crew).look()
        assert not world.crew.executors
        world.crew.executors.update(opened)


async def test_accounts_that_a_signal_opened_are_left_alone_by_the_collector_too(autojump_clock, monkeypatch):
    world = World(accounts=30)
    told: list[str] = []
    monkeypatch.setattr(warm_up, "accounts_opened", lambda: told.append("opened"))
    monkeypatch.setattr(warm_up, "make_room", lambda number: told.append(f"room for {number}"))
    async with running(world):
        for account_id in world.directory.accounts:
            world.crew.executor(account_id)
        with trio.move_on_after(15):
            await WarmUp(world.directory, world.crew).run()
    assert told == ["room for 30", "opened"]
