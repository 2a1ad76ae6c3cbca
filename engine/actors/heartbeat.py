"""The sign of life to an outside dead-man service: called while trading is healthy, so that silence is an alarm there.

Reads memory, calls one configured address. What is wrong with the engine is told by the silence; what is wrong with
the call is an alert, once. No mailbox. Restart: permanent.
"""

from collections.abc import Callable

import structlog
import trio

from engine.notify.channel import ChannelFailed, call
from engine.observability.measures import METRICS
from engine.secret import Secret

_log = structlog.get_logger(__name__)

_FAILURES = 3


class Heartbeat:
    """Calls *url* every *every_s* seconds; *unwell* says why trading is not healthy, None when it is."""

    def __init__(
        self,
        url: Secret,
        *,
        method: str,
        every_s: float,
        unwell: Callable[[], str | None],
        alert: Callable[[str, str], None],
    ) -> None:
        self._url = url
        self._method = method
        self._every_s = every_s
        self._unwell = unwell
        self._alert = alert
        self._failures = 0
        self._sent = METRICS.counter("heartbeats", outcome="sent")
        self._failed = METRICS.counter("heartbeats", outcome="failed")
        self._withheld = METRICS.counter("heartbeats", outcome="withheld")

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Call until cancelled."""
        task_status.started()
        while True:
            await self.beat()
            await trio.sleep(self._every_s)

    async def beat(self) -> None:
        """Call once, if trading is healthy."""
        why = self._unwell()
        if why is not None:
            self._withheld.inc()
            _log.warning("heartbeat.withheld", why=why)
            return
        try:
            await call(self._url.reveal(), self._method, headers={}, timeout_s=min(10.0, self._every_s))
        except ChannelFailed as failed:
            self._failed.inc()
            self._failures += 1
            _log.warning("heartbeat.failed", error=str(failed), failures=self._failures)
            if self._failures == _FAILURES:
                self._alert("heartbeat", f"HEARTBEAT_FAILED: the sign of life does not get out: {failed}")
            return
        if self._failures >= _FAILURES:
            self._alert("heartbeat", "HEARTBEAT_BACK: the sign of life gets out again")
        self._failures = 0
        self._sent.inc()
