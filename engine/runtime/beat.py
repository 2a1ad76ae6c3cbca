"""The beat that all share who look at something now and then: they wake in one round of the loop, not each in its own.

To wake costs more than such a look does, so an idle engine spends its time on waking.
"""

import trio


def next_beat(every_s: float) -> float:
    """Return when (trio's clock) the beat of *every_s* seconds comes next; that is never later than in *every_s*."""
    return (trio.current_time() // every_s + 1) * every_s


async def beat(every_s: float) -> None:
    """Sleep until the next beat."""
    await trio.sleep_until(next_beat(every_s))
