"""Whatever tasks do in whatever order: each lane is first in, first out, and nothing is lost or doubled."""

import random

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import MailboxFull
from engine.runtime.mailbox import Mailbox, Overflow

ORDINARY, URGENT = "ordinary", "urgent"


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    capacity=st.integers(1, 5),
    overflow=st.sampled_from(Overflow),
    senders=st.integers(1, 4),
    batched=st.booleans(),
)
def test_mailbox_keeps_order_and_count_under_any_interleaving(seed, capacity, overflow, senders, batched):
    rng = random.Random(seed)
    mailbox: Mailbox[tuple[str, int, int]] = Mailbox("m", capacity, overflow, urgent_capacity=3)
    delivered: list[tuple[str, int, int]] = []
    received: list[tuple[str, int, int]] = []

    async def pause() -> None:
        for _ in range(rng.randrange(3)):
            await trio.lowlevel.checkpoint()

    async def send(sender: int) -> None:
        for number in range(20):
            await pause()
            way = rng.randrange(4)
            lane = URGENT if way == 0 else ORDINARY
            message = (lane, sender, number)
            try:
                if way == 0:
                    mailbox.tell_urgent_nowait(message)
                elif way == 1:
                    mailbox.tell_nowait(message)
                else:
                    with trio.move_on_after(rng.choice([0.5, 60])) as scope:
                        await mailbox.tell(message)
                    if scope.cancelled_caught:
                        continue
            except MailboxFull:
                continue
            delivered.append(message)

    async def consume() -> None:
        while True:
            # An actor that is cancelled and started again, at random instants.
            with trio.move_on_after(rng.choice([0, 0.5, 60])) as scope:
                if batched:
                    while await mailbox.wait():
                        received.extend(mailbox.take_all(rng.choice([None, 1, 2])))
                        await pause()
                        await trio.sleep(rng.choice([0, 1]))
                else:
                    async for message in mailbox:
                        received.append(message)
                        await pause()
                        await trio.sleep(rng.choice([0, 1]))
            if not scope.cancelled_caught:
                return

    async def main() -> None:
        async with trio.open_nursery() as consumers:
            consumers.start_soon(consume)
            async with trio.open_nursery() as nursery:
                for sender in range(senders):
                    nursery.start_soon(send, sender)
            mailbox.close()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    assert len(received) == len(set(received))
    assert set(received) <= set(delivered)
    assert len(delivered) - len(received) == mailbox.dropped
    if overflow is not Overflow.DROP_OLDEST:
        assert mailbox.dropped == 0
    for sender in range(senders):
        for lane in (ORDINARY, URGENT):
            numbers = [number for at, who, number in received if (at, who) == (lane, sender)]
            assert numbers == sorted(numbers)
    assert not [message for message in delivered if message[0] == URGENT and message not in received]
