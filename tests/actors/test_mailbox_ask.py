import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from engine.errors import AskTimeout, BrokerUnavailable, MailboxFull
from engine.runtime.mailbox import Mailbox, Overflow, Reply, ask


def same(reply):
    return reply


async def test_ask_returns_the_answer(nursery):
    mailbox: Mailbox[tuple[int, Reply[int]]] = Mailbox("risk", 4, Overflow.BLOCK)

    async def actor():
        async for number, reply in mailbox:
            assert reply.is_wanted
            assert reply.answer(number * 2)

    nursery.start_soon(actor)
    assert await ask(mailbox, lambda reply: (21, reply), 1.0) == 42
    mailbox.close()


async def test_ask_answered_with_none_returns_none(nursery):
    mailbox: Mailbox[Reply[None]] = Mailbox("risk", 4, Overflow.BLOCK)

    async def actor():
        (await mailbox.receive()).answer(None)

    nursery.start_soon(actor)
    assert await ask(mailbox, same, 1.0) is None


async def test_ask_failed_by_the_actor_raises_its_error(nursery):
    mailbox: Mailbox[Reply[int]] = Mailbox("risk", 4, Overflow.BLOCK)

    async def actor():
        (await mailbox.receive()).fail(BrokerUnavailable("session expired"))

    nursery.start_soon(actor)
    with pytest.raises(BrokerUnavailable, match="session expired"):
        await ask(mailbox, same, 1.0)


async def test_ask_without_answer_times_out_and_late_answer_goes_nowhere(autojump_clock):
    mailbox: Mailbox[Reply[int]] = Mailbox("risk", 4, Overflow.BLOCK)
    with pytest.raises(AskTimeout, match="risk did not answer within 2"):
        await ask(mailbox, same, 2)
    assert trio.current_time() == 2
    reply = mailbox.receive_nowait()
    assert not reply.is_wanted
    assert reply.answer(1) is False
    assert reply.fail(ValueError()) is False


async def test_ask_of_full_mailbox_times_out_undelivered(autojump_clock):
    mailbox: Mailbox[Reply[int]] = Mailbox("risk", 1, Overflow.BLOCK)
    waiting: Reply[int] = Reply()
    mailbox.tell_nowait(waiting)
    with pytest.raises(AskTimeout):
        await ask(mailbox, same, 2)
    assert mailbox.take_all() == [waiting]
    assert mailbox.take_all() == []


async def test_ask_of_full_refusing_mailbox_raises_at_once(autojump_clock):
    mailbox: Mailbox[Reply[int]] = Mailbox("intake", 1, Overflow.REFUSE)
    mailbox.tell_nowait(Reply())
    with pytest.raises(MailboxFull):
        await ask(mailbox, same, 2)
    assert trio.current_time() == 0


async def test_urgent_ask_passes_a_full_mailbox(nursery):
    mailbox: Mailbox[Reply[str]] = Mailbox("guardian", 1, Overflow.REFUSE)
    mailbox.tell_nowait(Reply())

    async def actor():
        (await mailbox.receive()).answer("halted")

    nursery.start_soon(actor)
    assert await ask(mailbox, same, 1.0, urgent=True) == "halted"


async def test_cancelled_asker_leaves_a_reply_that_nobody_wants(nursery):
    mailbox: Mailbox[Reply[int]] = Mailbox("risk", 4, Overflow.BLOCK)
    scope = trio.CancelScope()

    async def asker():
        with scope:
            await ask(mailbox, same, 60)

    nursery.start_soon(asker)
    await wait_all_tasks_blocked()
    reply = mailbox.receive_nowait()
    scope.cancel()
    await wait_all_tasks_blocked()
    assert reply.answer(1) is False


async def test_answer_in_the_same_step_as_the_cancel_is_kept(nursery):
    reply: Reply[int] = Reply()
    scope = trio.CancelScope()
    got = []

    async def asker():
        with scope:
            got.append(await reply.wait())

    nursery.start_soon(asker)
    await wait_all_tasks_blocked()
    assert reply.answer(5)
    scope.cancel()
    await wait_all_tasks_blocked()
    assert got == [5]


async def test_second_answer_does_not_replace_the_first():
    reply: Reply[int] = Reply()
    assert reply.answer(1) is True
    assert reply.answer(2) is False
    assert await reply.wait() == 1
