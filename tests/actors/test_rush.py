"""Reads stand back while many orders are on their way, and not for long."""

from contextlib import ExitStack

import trio

from engine.actors.rush import MANY, Rush


async def test_reads_wait_for_the_end_of_a_rush(autojump_clock):
    rush, began = Rush(), trio.current_time()
    with ExitStack() as on_their_way:
        for _ in range(MANY):
            on_their_way.enter_context(rush.order())
        await rush.stand_back()
        assert trio.current_time() == began
        async with trio.open_nursery() as nursery:
            one_more = ExitStack()
            one_more.enter_context(rush.order())
            nursery.start_soon(rush.stand_back)
            await trio.sleep(0.1)
            assert nursery.child_tasks
            one_more.close()
    assert trio.current_time() - began < 0.2


async def test_a_rush_without_end_keeps_no_read_for_long(autojump_clock):
    rush, began = Rush(), trio.current_time()
    with ExitStack() as on_their_way:
        for _ in range(MANY + 1):
            on_their_way.enter_context(rush.order())
        await rush.stand_back()
    assert trio.current_time() - began < 0.5
