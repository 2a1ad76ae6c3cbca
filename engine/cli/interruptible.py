"""Work of a command that a signal ends early, so that what it made is taken away either way."""

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

T = TypeVar("T")


async def until_signal(work: Callable[[], Awaitable[T]]) -> T | None:
    """Return what *work* returns; at SIGINT or SIGTERM it is cancelled, and None is returned."""
    found: list[T] = []
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:

            async def stop_on_signal() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()
                    return

            nursery.start_soon(stop_on_signal)
            found.append(await work())
            nursery.cancel_scope.cancel()
    return found[0] if found else None
