"""Reads and answers stand back while many orders are on their way, and not for long."""

import trio
import trio.testing

from engine.actors.rush import MANY, Departure, Rush


def begun(rush: Rush) -> Departure:
    departure = rush.departure()
    departure.begins()
    return departure


async def test_reads_wait_for_the_end_of_a_rush(autojump_clock):
    rush, began = Rush(), trio.current_time()
    for _ in range(MANY):
        begun(rush)
    await rush.stand_back()
    assert trio.current_time() == began
    async with trio.open_nursery() as nursery:
        one_more = begun(rush)
        nursery.start_soon(rush.stand_back)
        await trio.sleep(0.1)
        assert nursery.child_tasks
        one_more.ends()
    assert trio.current_time() - began < 0.2


async def test_a_rush_without_end_keeps_no_read_for_long(autojump_clock):
    rush, began = Rush(), trio.current_time()
    for _ in range(MANY + 1):
        begun(rush)
    await rush.stand_back()
    assert trio.current_time() - began < 0.5


async def test_answers_wait_until_few_orders_wait_for_their_first_byte(autojump_clock):
    rush, began = Rush(), trio.current_time()
    waiting = [begun(rush) for _ in range(MANY + 2)]
    await_all = 5
    async with trio.open_nursery() as nursery:
        for _ in range(await_all):
            nursery.start_soon(rush.let_others_leave)
        await trio.sleep(0.1)
        waiting[0].leaves()
        # said twice it counts once
        waiting[0].leaves()
        waiting[0].ends()
        await trio.testing.wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == await_all
        waiting[1].ends()
    assert trio.current_time() - began == 0.1
    await rush.let_others_leave()
    assert trio.current_time() - began == 0.1


async def test_no_answer_waits_for_long(autojump_clock):
    rush, began = Rush(), trio.current_time()
    for _ in range(MANY + 1):
        begun(rush)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(rush.let_others_leave)
    assert 0.1 < trio.current_time() - began < 0.4


async def test_an_answer_that_is_given_up_holds_back_no_other(autojump_clock):
    rush = Rush()
    waiting = [begun(rush) for _ in range(MANY + 1)]
    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()

        async def give_up() -> None:
            with first:
                await rush.let_others_leave()

        nursery.start_soon(give_up)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(rush.let_others_leave)
        await trio.testing.wait_all_tasks_blocked()
        first.cancel()
        with trio.fail_after(0.1):
            while nursery.child_tasks:
                await trio.sleep(0.01)
    assert waiting


async def test_orders_whose_broker_is_being_logged_in_to_hold_nothing_back(autojump_clock):
    rush, began = Rush(), trio.current_time()
    waiting = [rush.departure() for _ in range(MANY + 8)]
    await rush.let_others_leave()
    await rush.stand_back()
    for departure in waiting:
        departure.ends()
    await rush.let_others_leave()
    assert trio.current_time() == began
