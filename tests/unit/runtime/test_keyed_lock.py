"""The lock by key: in turn for one key, side by side for two, and gone when nobody wants it."""

import pytest
import trio
import trio.testing

from engine.runtime.keyed_lock import KeyedLock


async def test_holders_of_one_key_take_turns_and_others_do_not_wait(autojump_clock: object) -> None:
    lock, seen = KeyedLock(), list[str]()

    async def hold(name: str, *keys: str) -> None:
        async with lock.of(*keys):
            seen.append(f"{name} in")
            await trio.sleep(1)
            seen.append(f"{name} out")

    async with trio.open_nursery() as nursery:
        # in a circle, were they not taken in one order
        nursery.start_soon(hold, "a", "x", "y")
        nursery.start_soon(hold, "b", "y", "x")
        nursery.start_soon(hold, "c", "z")
    assert trio.current_time() == pytest.approx(2, abs=0.1)
    pairs = [each for each in seen if each[0] != "c"]
    assert pairs in (["a in", "a out", "b in", "b out"], ["b in", "b out", "a in", "a out"])
    assert len(lock) == 0


async def test_wait_has_an_end_and_leaves_nothing_behind(autojump_clock: object) -> None:
    lock = KeyedLock(longest_s=5)
    async with trio.open_nursery() as nursery:

        async def hold() -> None:
            async with lock.of("x"):
                await trio.sleep(60)

        nursery.start_soon(hold)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.TooSlowError):
            async with lock.of("a", "x"):
                raise AssertionError("held by two")
        assert len(lock) == 1
    assert len(lock) == 0
