"""How many signals begin in one round of the event loop."""

import trio
import trio.testing

from engine.http.turnstile import Turnstile


async def served(turnstile: Turnstile, callers: int) -> list[int]:
    """Have *callers* come at one moment; return, round by round of a bystander, how many were through by then."""
    through: list[int] = []
    seen: list[int] = []

    async def caller(number: int) -> None:
        await turnstile.passed()
        through.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(callers):
            nursery.start_soon(caller, number)
        while len(through) < callers:
            await trio.lowlevel.checkpoint()
            seen.append(len(through))
    return seen


async def test_a_crowd_leaves_others_a_turn_between_few_of_it() -> None:
    turnstile = Turnstile(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turnstile.run)
        await trio.testing.wait_all_tasks_blocked()
        seen = await served(turnstile, 20)
        nursery.cancel_scope.cancel()
    steps = [after - before for before, after in zip([0, *seen], seen, strict=False)]
    assert max(steps) <= 4, "two that find a place, and two that were let through"
    assert len([step for step in steps if step]) >= 5


async def test_one_that_gives_up_keeps_nobody() -> None:
    turnstile = Turnstile(1)
    through: list[int] = []

    async def caller(number: int, scope: trio.CancelScope) -> None:
        with scope:
            await turnstile.passed()
            through.append(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(turnstile.run)
        await trio.testing.wait_all_tasks_blocked()
        await turnstile.passed()
        scopes = [trio.CancelScope() for _ in range(6)]
        async with trio.open_nursery() as callers:
            for number, scope in enumerate(scopes):
                callers.start_soon(caller, number, scope)
            scopes[3].cancel()
        nursery.cancel_scope.cancel()
    assert sorted(through) == [0, 1, 2, 4, 5]


async def test_without_its_usher_everybody_passes() -> None:
    turnstile = Turnstile(1)
    with trio.fail_after(0.5):
        await served(turnstile, 50)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(turnstile.run)
        await trio.testing.wait_all_tasks_blocked()
        await turnstile.passed()
        nursery.start_soon(turnstile.passed)
        nursery.start_soon(turnstile.passed)
        nursery.cancel_scope.cancel()
    with trio.fail_after(0.5):
        await served(turnstile, 50)
