"""A trio loop on a thread of its own, for tests that are not trio's themselves."""

import threading
from collections.abc import Awaitable, Callable
from typing import Any, Self, TypeVar

import trio

T = TypeVar("T")


class TrioThread:
    """Use as a context manager; everything started on it ends with the block."""

    def __init__(self) -> None:
        self._up = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,), name="trio-thread", daemon=True)
        self._token: trio.lowlevel.TrioToken | None = None
        self._nursery: trio.Nursery | None = None

    async def _main(self) -> None:
        async with trio.open_nursery() as self._nursery:
            self._token = trio.lowlevel.current_trio_token()
            self._up.set()
            await trio.sleep_forever()

    def __enter__(self) -> Self:
        self._thread.start()
        self._up.wait()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._nursery is not None
        self.call_sync(self._nursery.cancel_scope.cancel)
        self._thread.join(30)
        assert not self._thread.is_alive(), "the trio thread does not end"

    def call(self, work: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run *work* on the loop and return what it returns."""
        return trio.from_thread.run(work, *args, trio_token=self._token)

    def call_sync(self, work: Callable[..., T], *args: Any) -> T:
        """Call *work* on the loop."""
        return trio.from_thread.run_sync(work, *args, trio_token=self._token)

    def start(self, task: Callable[..., Awaitable[object]]) -> Any:
        """Start a task that reports when it is up; return what it reports."""
        assert self._nursery is not None
        return self.call(self._nursery.start, task)
