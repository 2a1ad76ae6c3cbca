"""One deterministic trio run, and lives in it that can be stopped like a process by SIGSTOP or SIGKILL.

Every task belongs to the life in whose context it was started, or to the world (None). A stopped life's
tasks are not scheduled: time goes on, deadlines pass, and when it goes on everything happens at once. A
killed life never runs again; at the end of the run its tasks are ended with all their ports dead.
"""

import contextvars
import random
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import trio
import trio._core._run as trio_run
import trio.testing


class Stoppable(Protocol):
    """What a task belongs to."""

    is_stopped: bool
    held: list[Any]


OWNER: contextvars.ContextVar[Stoppable | None] = contextvars.ContextVar("simulated_life", default=None)


class _RunQueue(deque[Any]):
    """trio's queue of runnable tasks, which keeps back those of stopped lives."""

    def append(self, task: Any) -> None:
        owner = task.context.get(OWNER)
        if owner is not None and owner.is_stopped:
            owner.held.append(task)
        else:
            super().append(task)


def stop(life: Stoppable) -> None:
    """Let no task of *life* run from now on."""
    life.is_stopped = True
    queue = trio_run.GLOBAL_RUN_CONTEXT.runner.runq
    waiting = list(queue)
    queue.clear()
    for task in waiting:
        queue.append(task)


def resume(life: Stoppable) -> None:
    """Let the tasks of *life* run again."""
    life.is_stopped = False
    queue = trio_run.GLOBAL_RUN_CONTEXT.runner.runq
    held, life.held = life.held, []
    for task in held:
        queue.append(task)


def start_as(
    owner: Stoppable | None, nursery: trio.Nursery, function: Callable[..., Awaitable[Any]], *args: Any
) -> None:
    """Start a task of *nursery* that belongs to *owner*."""
    token = OWNER.set(owner)
    try:
        nursery.start_soon(function, *args)
    finally:
        OWNER.reset(token)


async def _in_thread(function: Callable[..., Any], *args: Any, **_options: Any) -> Any:
    # a thread's end is not the simulation's to schedule
    await trio.lowlevel.checkpoint()
    return function(*args)


def run(seed: int, main: Callable[[], Awaitable[Any]]) -> Any:
    """Run *main* under a mock clock with scheduling drawn from *seed*; return what it returns."""
    before = trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio.to_thread.run_sync, trio_run._r.getstate()

    async def outer() -> Any:
        runner = trio_run.GLOBAL_RUN_CONTEXT.runner
        runner.runq = _RunQueue(runner.runq)
        return await main()

    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio_run._r.seed(seed)
    trio.to_thread.run_sync = _in_thread
    try:
        return trio.run(outer, clock=trio.testing.MockClock(autojump_threshold=0))
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING, trio.to_thread.run_sync = before[0], before[1]
        trio_run._r.setstate(before[2])


def stream(seed: int, name: str) -> random.Random:
    """Return randomness of its own for one purpose, so that a new draw elsewhere does not move it."""
    return random.Random(f"{seed}/{name}")
