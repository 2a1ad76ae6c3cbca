"""How many reads of one user are worked on at a time.

A list of 200 takes milliseconds to write out, and the loop does nothing else meanwhile: fifty of them at once
would stand between a signal and the wire. Writes, the kill switch and cancels are never queued (SEC-096, SEC-098).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import trio

from engine.http.endpoint import ApiRequest

_AT_A_TIME = 3


class ReadLanes:
    """One queue for each user that reads just now."""

    def __init__(self) -> None:
        self._lanes: dict[UUID, trio.CapacityLimiter] = {}

    @asynccontextmanager
    async def of(self, request: ApiRequest) -> AsyncIterator[None]:
        """Hold a place for the time of a signed-in user's GET; anything else passes."""
        if request.method != "GET" or request.principal is None:
            yield
            return
        user = request.principal.user_id
        lane = self._lanes.setdefault(user, trio.CapacityLimiter(_AT_A_TIME))
        try:
            async with lane:
                yield
        finally:
            if lane.borrowed_tokens == 0 and lane.statistics().tasks_waiting == 0:
                self._lanes.pop(user, None)
