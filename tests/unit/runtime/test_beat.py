"""Who looks now and then wakes together with the others."""

import trio

from engine.runtime.beat import beat, next_beat


async def test_all_wake_at_one_instant_and_none_later_than_it_asked(nursery, autojump_clock):
    woken = []

    async def look():
        began = trio.current_time()
        await beat(1.0)
        woken.append(trio.current_time())
        assert woken[-1] - began <= 1.0

    for _ in range(5):
        nursery.start_soon(look)
        await trio.sleep(0.13)
    await trio.sleep(2)
    assert len(set(woken)) == 1


async def test_next_beat_is_always_still_to_come(autojump_clock):
    for _ in range(20):
        assert 0 < next_beat(0.5) - trio.current_time() <= 0.5
        await trio.sleep(0.25)
