"""What a kill switch stops and what becomes of it when the switch is off again: by source, in the queue, for good."""

from typing import Any
from uuid import UUID

import msgspec
import trio

from engine.actors.intake import Passage
from engine.actors.rearming import Rearming
from engine.domain.calendar import REGULAR
from engine.domain.enums import AccountStatus, IntentStatus, OrderStatus
from tests.support.desk import SOURCE, World, a_delivery, a_signal, running
from tests.support.memory_broker import slow_gate
from tests.support.trade import ACCOUNT, STRATEGY, USER

S = OrderStatus
OTHER = UUID(int=78)


async def decide(world: World, key: str, *signals: Any, **fields: Any) -> list[UUID]:
    passage = Passage(a_delivery(world, *signals, key=key, **fields), world.kill.turn)
    world.crew.decide(passage)
    await world.until(lambda: passage.is_settled)
    return list(passage.intents)


async def test_source_that_is_killed_sends_nothing_and_others_go_on(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        world.block(f"source:{SOURCE}")
        (stopped,) = await decide(world, "k1")
        (goes,) = await decide(world, "k2", a_signal("SBIN"), source_id=OTHER)
        await world.until(lambda: len(world.broker.left) == 1)
        assert world.intent_status(stopped) is IntentStatus.REJECTED
        assert [order.symbol for order in world.broker.left] == ["SBIN"]
        assert world.broker.left[0].intent_id == goes


async def test_order_that_is_about_to_leave_does_not_once_its_source_is_killed(autojump_clock: Any) -> None:
    world = World()
    world.broker.answers = [slow_gate(0.9)]
    async with running(world):
        order = world.order(source_id=SOURCE)
        world.submit(order)
        await trio.sleep(0.5)
        world.block(f"source:{SOURCE}")
        await world.until_status(order, S.CANCELLED)
        assert world.broker.left == []
        assert "KILL_SWITCH" in world.message(order)


async def test_what_waited_or_was_refused_under_the_switch_is_not_made_up_for(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        first = world.submit(world.order())
        waiting = world.submit(world.order())  # of the same instrument: it waits for the first
        assert waiting.status is S.PENDING
        world.block()
        (refused,) = await decide(world, "k1", a_signal("SBIN"))
        await world.until_status(waiting, S.CANCELLED)
        world.release()
        await trio.sleep(120)
        assert world.status(waiting) is S.CANCELLED
        assert world.intent_status(refused) is IntentStatus.REJECTED
        assert {order.id for order in world.broker.left} <= {first.id}


def rearming(world: World, **fields: Any) -> Rearming:
    async def parked() -> list[tuple[UUID, UUID, UUID]]:
        return fields.get("parked", [])

    return Rearming(
        crew=world.crew,
        directory=world.directory,
        clock=world.clock,
        calendar=REGULAR,
        enforce_hours=False,
        two_admins=False,
        parked=parked,
        stores_away=lambda: fields.get("away", []),
        suspect=lambda: world.suspect,
    )


async def against(world: World, scope: str = "global", **fields: Any) -> list[str]:
    world.block(scope)
    return [obstacle.code for obstacle in await rearming(world, **fields).against(world.kill.records[scope])]


async def test_account_is_compared_with_its_broker_before_its_scope_trades_again(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        assert await against(world) == []
        await trio.sleep(60)
        assert await against(world) == []


async def test_exit_that_waits_for_a_person_stands_against_its_own_scopes(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        parked = [(USER, STRATEGY, SOURCE)]
        for scope in ("global", f"user:{USER}", f"account:{ACCOUNT}", f"strategy:{STRATEGY}", f"source:{SOURCE}"):
            assert await against(world, scope, parked=parked) == ["EXITS_PARKED"]
        assert await against(world, f"source:{OTHER}", parked=parked) == []


async def test_broker_that_cannot_be_read_stands_against_it_within_the_deadline(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        await trio.sleep(60)
        world.broker.read_latency_s = 1000
        with trio.fail_after(15):
            assert await against(world) == ["RECONCILE_NOT_CLEAN"]
        account = world.directory.accounts[ACCOUNT]
        world.directory.put_account(msgspec.structs.replace(account, status=AccountStatus.LOGIN_REQUIRED))
        assert await against(world) == []


async def test_clock_and_stores_stand_against_it(autojump_clock: Any) -> None:
    world = World()
    async with running(world):
        world.suspect = "it jumped"
        assert await against(world, away=["journal"]) == ["STORE_UNAVAILABLE", "CLOCK_SUSPECT"]
