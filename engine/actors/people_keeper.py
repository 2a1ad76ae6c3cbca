"""The keeper of people: brings users and ended sessions up to date with the store, every three seconds.

So a password changed by a command of the operator, or a session ended on another engine, acts here
within five seconds. No mailbox. Restart: permanent; while the store is away what is known stays in force.
"""

from collections.abc import Awaitable, Callable

import structlog
import trio

from engine.errors import StoreUnavailable
from engine.runtime.beat import beat

_log = structlog.get_logger(__name__)

_EVERY_S = 3.0


class PeopleKeeper:
    """Calls *reload* again and again."""

    def __init__(self, reload: Callable[[], Awaitable[None]]) -> None:
        self._reload = reload

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Reload until cancelled."""
        task_status.started()
        while True:
            await beat(_EVERY_S)
            try:
                await self._reload()
            except StoreUnavailable as error:
                _log.debug("people.not_reloaded", error=str(error))
