import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from engine.errors import MailboxFull
from engine.runtime.mailbox import Mailbox, MailboxClosed, Overflow


def full(overflow: Overflow, capacity: int = 2) -> Mailbox[int]:
    mailbox: Mailbox[int] = Mailbox("orders", capacity, overflow)
    for number in range(capacity):
        mailbox.tell_nowait(number)
    return mailbox


@pytest.mark.parametrize("capacity", [0, -1])
def test_mailbox_without_capacity_is_refused(capacity):
    with pytest.raises(ValueError, match="at least 1"):
        Mailbox("orders", capacity, Overflow.BLOCK)


@pytest.mark.parametrize("overflow", [Overflow.REFUSE, Overflow.BLOCK])
async def test_tell_nowait_on_full_mailbox_raises_and_counts(overflow):
    mailbox = full(overflow)
    with pytest.raises(MailboxFull, match="orders is full"):
        mailbox.tell_nowait(2)
    assert mailbox.take_all() == [0, 1]
    assert mailbox.stats().refused == 1


async def test_tell_on_full_refusing_mailbox_raises_without_waiting(autojump_clock):
    mailbox = full(Overflow.REFUSE)
    with pytest.raises(MailboxFull):
        await mailbox.tell(2)
    assert trio.current_time() == 0


async def test_tell_on_full_dropping_mailbox_drops_oldest_and_counts():
    mailbox = full(Overflow.DROP_OLDEST)
    mailbox.tell_nowait(2)
    await mailbox.tell(3)
    assert mailbox.take_all() == [2, 3]
    assert mailbox.dropped == 2


async def test_tell_on_full_blocking_mailbox_waits_for_room_in_order(nursery):
    mailbox = full(Overflow.BLOCK)
    for number in (2, 3):
        nursery.start_soon(mailbox.tell, number)
        await wait_all_tasks_blocked()
    assert mailbox.depth == 2
    assert [await mailbox.receive() for _ in range(4)] == [0, 1, 2, 3]


async def test_tell_nowait_cannot_overtake_a_waiting_sender(nursery):
    mailbox = full(Overflow.BLOCK, capacity=1)
    nursery.start_soon(mailbox.tell, 1)
    await wait_all_tasks_blocked()
    assert mailbox.receive_nowait() == 0
    with pytest.raises(MailboxFull):
        mailbox.tell_nowait(2)
    assert mailbox.take_all() == [1]


async def test_tell_past_its_deadline_raises_and_is_not_delivered(autojump_clock):
    mailbox = full(Overflow.BLOCK)
    with pytest.raises(MailboxFull, match="no room within 3 s"):
        await mailbox.tell(2, timeout_s=3)
    assert trio.current_time() == 3
    assert mailbox.take_all() == [0, 1]
    assert mailbox.depth == 0


async def test_cancelled_tell_is_not_delivered(autojump_clock):
    mailbox = full(Overflow.BLOCK)
    with trio.move_on_after(1) as scope:
        await mailbox.tell(2)
    assert scope.cancelled_caught
    assert mailbox.take_all() == [0, 1]
    assert mailbox.take_all() == []


async def test_tell_in_cancelled_scope_is_not_delivered():
    mailbox: Mailbox[int] = Mailbox("orders", 2, Overflow.BLOCK)
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.tell(1)
    assert mailbox.depth == 0


async def test_cancelled_receive_loses_nothing(nursery):
    mailbox: Mailbox[int] = Mailbox("orders", 2, Overflow.BLOCK)
    received = []

    async def consume(task_status):
        with trio.CancelScope() as scope:
            task_status.started(scope)
            async for message in mailbox:
                received.append(message)  # noqa: PERF401 -- what came before the cancel must be kept

    scope = await nursery.start(consume)
    await wait_all_tasks_blocked()
    scope.cancel()
    mailbox.tell_nowait(7)
    await wait_all_tasks_blocked()
    # Told after the cancel: delivered to the old consumer or still waiting for the next, never lost.
    assert received + mailbox.take_all() == [7]


async def test_message_woken_receiver_survives_cancel_in_the_same_step(nursery):
    mailbox: Mailbox[int] = Mailbox("orders", 2, Overflow.BLOCK)
    received = []

    async def consume(task_status):
        with trio.CancelScope() as scope:
            task_status.started(scope)
            async for message in mailbox:
                received.append(message)  # noqa: PERF401 -- what came before the cancel must be kept

    scope = await nursery.start(consume)
    await wait_all_tasks_blocked()
    mailbox.tell_nowait(7)
    scope.cancel()
    await wait_all_tasks_blocked()
    assert received + mailbox.take_all() == [7]


async def test_urgent_message_jumps_the_queue_even_when_full():
    mailbox = full(Overflow.REFUSE)
    mailbox.tell_urgent_nowait(90)
    mailbox.tell_urgent_nowait(91)
    assert mailbox.take_all() == [90, 91, 0, 1]


async def test_urgent_lane_is_bounded_and_never_drops():
    mailbox: Mailbox[int] = Mailbox("orders", 2, Overflow.DROP_OLDEST, urgent_capacity=1)
    mailbox.tell_urgent_nowait(90)
    with pytest.raises(MailboxFull, match="urgent lane"):
        mailbox.tell_urgent_nowait(91)
    assert mailbox.dropped == 0


async def test_receive_nowait_on_empty_mailbox_would_block():
    with pytest.raises(trio.WouldBlock):
        Mailbox("orders", 1, Overflow.BLOCK).receive_nowait()


async def test_take_all_lets_blocked_senders_in_as_the_next_batch(nursery):
    mailbox = full(Overflow.BLOCK)
    nursery.start_soon(mailbox.tell, 2)
    await wait_all_tasks_blocked()
    assert mailbox.take_all() == [0, 1]
    assert mailbox.take_all() == [2]


async def test_take_all_with_limit_takes_urgent_first_and_leaves_the_rest():
    mailbox = full(Overflow.BLOCK, capacity=3)
    mailbox.tell_urgent_nowait(90)
    assert mailbox.take_all(limit=2) == [90, 0]
    assert mailbox.take_all(limit=5) == [1, 2]


async def test_wait_returns_when_the_first_message_arrives(nursery):
    mailbox: Mailbox[int] = Mailbox("ledger", 8, Overflow.BLOCK)
    batches = []

    async def ledger():
        while await mailbox.wait():
            batches.append(mailbox.take_all())

    nursery.start_soon(ledger)
    await wait_all_tasks_blocked()
    for number in range(3):
        mailbox.tell_nowait(number)
    await wait_all_tasks_blocked()
    mailbox.tell_nowait(3)
    mailbox.close()
    await wait_all_tasks_blocked()
    assert batches == [[0, 1, 2], [3]]


async def test_busy_consumer_lets_other_tasks_run(nursery):
    mailbox: Mailbox[int] = Mailbox("ticks", 1000, Overflow.BLOCK)
    for number in range(1000):
        mailbox.tell_nowait(number)
    handled_when_other_ran = []
    handled = 0

    async def other():
        handled_when_other_ran.append(handled)

    nursery.start_soon(other)
    for _ in range(1000):
        await mailbox.receive()
        handled += 1
    assert handled_when_other_ran[0] < 100


async def test_mailbox_survives_its_actor(nursery):
    mailbox: Mailbox[int] = Mailbox("orders", 4, Overflow.BLOCK)
    received = []

    async def actor():
        async for message in mailbox:
            if message == 1:
                raise RuntimeError("bug")
            received.append(message)

    for number in range(4):
        mailbox.tell_nowait(number)
    with pytest.raises(RuntimeError):
        await actor()
    mailbox.close()
    await actor()
    assert received == [0, 2, 3]  # the message in hand at the crash is the only one lost


async def test_closed_mailbox_refuses_but_can_be_emptied():
    mailbox = full(Overflow.DROP_OLDEST)
    mailbox.close()
    with pytest.raises(MailboxClosed):
        mailbox.tell_nowait(2)
    with pytest.raises(MailboxClosed):
        mailbox.tell_urgent_nowait(2)
    assert [message async for message in mailbox] == [0, 1]
    assert await mailbox.wait() is False
    with pytest.raises(MailboxClosed):
        await mailbox.receive()


async def test_close_releases_waiting_senders_and_receivers(nursery):
    blocked, empty = full(Overflow.BLOCK), Mailbox[int]("orders", 1, Overflow.BLOCK)
    seen = []

    async def send():
        with pytest.raises(MailboxClosed):
            await blocked.tell(2)
        seen.append("sender")

    async def receive():
        async for _ in empty:
            pass
        seen.append("receiver")

    nursery.start_soon(send)
    nursery.start_soon(receive)
    await wait_all_tasks_blocked()
    blocked.close()
    empty.close()
    await wait_all_tasks_blocked()
    assert sorted(seen) == ["receiver", "sender"]
    assert blocked.take_all() == [0, 1]


async def test_stats_show_depth_and_age_of_the_oldest(autojump_clock):
    mailbox: Mailbox[int] = Mailbox("orders", 5, Overflow.BLOCK)
    assert mailbox.oldest_age_s == 0
    mailbox.tell_nowait(1)
    await trio.sleep(3)
    mailbox.tell_urgent_nowait(2)
    await trio.sleep(1)
    stats = mailbox.stats()
    assert (stats.depth, stats.urgent_depth, stats.capacity, stats.oldest_age_s) == (2, 1, 5, 4)
