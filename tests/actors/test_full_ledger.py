"""A ledger that takes no more, after a long outage of its store: what was promised waits for its turn."""

import pytest
import trio
import trio.lowlevel

from engine.actors.intake import Passage
from engine.domain.enums import IntentStatus
from engine.runtime.mailbox import Mailbox, Overflow
from tests.support.desk import World, a_delivery, running


@pytest.fixture
async def world(autojump_clock):
    return World()


async def test_promised_delivery_waits_for_room_in_the_ledger_and_is_executed(world, autojump_clock):
    world.ledger._mailbox = Mailbox("audit", capacity=20, overflow=Overflow.REFUSE)
    async with running(world):
        first = Passage(a_delivery(world, key="k0"), world.kill.turn)
        world.crew.decide(first)
        await world.until(lambda: len(world.broker.left) == 1)
        world.broker.fill(next(iter(world.broker.rows)))
        await trio.sleep(5)  # the risk actor is up, and nothing is under way
        world.store.is_stuck = True
        while world.ledger.in_flight == 0 or world.ledger.mailbox.has_room:
            world.ledger.record()
            await trio.lowlevel.checkpoint()
        passage = Passage(a_delivery(world), world.kill.turn)
        passage.journalled("1-0")
        passage.promised = True
        world.crew.decide(passage)
        await trio.sleep(10)
        assert passage.error is None
        assert not passage.is_settled
        world.store.is_stuck = False
        with trio.fail_after(30):
            await passage.wait_settled()
        assert [i.status for i in passage.intents.values()] == [IntentStatus.EXECUTING]
        await world.until(lambda: len(world.broker.left) == 2)
