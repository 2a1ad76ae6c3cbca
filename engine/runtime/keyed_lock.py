"""One at a time by key: for whoever reads something, judges it and writes back what followed.

Between the reading and the writing lies a wait. Two that read the same meanwhile would each write what the other did
not know of, and the second would undo the first.
"""

from collections.abc import AsyncIterator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager

import trio

_LONGEST_S = 15.0


class KeyedLock:
    """Locks by key, each there for as long as somebody holds or wants it."""

    def __init__(self, *, longest_s: float = _LONGEST_S) -> None:
        self._longest_s = longest_s
        self._locks: dict[Hashable, trio.Lock] = {}
        self._wanted: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def of(self, *keys: Hashable) -> AsyncIterator[None]:
        """Hold *keys*; raises trio.TooSlowError when others have kept them for too long.

        Several are taken in the same order by everybody, so nobody waits in a circle; a holder asks for no more.
        """
        async with AsyncExitStack() as held:
            # the waiting has a deadline, what is done meanwhile has its own
            with trio.fail_after(self._longest_s):
                for key in sorted(set(keys), key=repr):
                    await held.enter_async_context(self._one(key))
            yield

    @asynccontextmanager
    async def _one(self, key: Hashable) -> AsyncIterator[None]:
        self._wanted[key] = self._wanted.get(key, 0) + 1
        try:
            async with self._locks.setdefault(key, trio.Lock()):
                yield
        finally:
            self._wanted[key] -= 1
            if not self._wanted[key]:
                del self._wanted[key], self._locks[key]
