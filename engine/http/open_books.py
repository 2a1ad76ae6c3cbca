"""Which executors know their orders: what one holds that is still reading is neither empty nor flat."""

from collections.abc import Sequence

import trio

from engine.actors.executor import Executor

_LOOK_S = 0.05


async def parted(executors: Sequence[Executor], *, within_s: float) -> tuple[list[Executor], list[Executor]]:
    """Return the executors that know their orders, and those that do not within *within_s* seconds."""
    with trio.move_on_after(within_s):
        # one that nobody has used so far has just begun to read
        while not all(executor.is_ready for executor in executors):  # noqa: ASYNC110 -- bounded; readiness has no event
            await trio.sleep(_LOOK_S)
    ready = [executor for executor in executors if executor.is_ready]
    return ready, [executor for executor in executors if executor not in ready]
