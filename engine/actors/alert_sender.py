"""Sends the alerts of one channel: what waits together goes as one message, and a channel that is away is tried again.

Told by the desk of alerts. Mailbox: bounded, drops the oldest with a count: an outage of a channel never touches
trading, nor another channel. Restart: permanent; what waits outlives it.
"""

import random
from collections import deque

import structlog
import trio

from engine.domain.alert_notice import Notice, compose
from engine.notify.channel import Channel, ChannelFailed
from engine.observability.measures import METRICS
from engine.runtime.child import Backoff
from engine.runtime.mailbox import Mailbox, Overflow

_log = structlog.get_logger(__name__)

_CAPACITY = 256
_GAP_S = 5.0
_GATHER_S = 0.5


class AlertSender:
    """Sends through *channel*, at most one message in *gap_s* seconds."""

    def __init__(self, channel: Channel, *, gap_s: float = _GAP_S, rng: random.Random | None = None) -> None:
        self._channel = channel
        self._gap_s = gap_s
        self._rng = rng or random.Random()  # noqa: S311 -- spreads retries, guards nothing
        self._backoff = Backoff(initial=1.0, max=60.0)
        self._waiting: deque[Notice] = deque(maxlen=_CAPACITY)
        self.mailbox: Mailbox[Notice] = Mailbox(f"alert-{channel.name}", _CAPACITY, Overflow.DROP_OLDEST)
        self.lost = 0
        """Alerts that this channel will not tell: too many waited, or it refused them for good."""
        self._sent = METRICS.counter("alert_messages", channel=channel.name, outcome="sent")
        self._failed = METRICS.counter("alert_messages", channel=channel.name, outcome="failed")

    @property
    def name(self) -> str:
        """The channel's name."""
        return self._channel.name

    def tell(self, notice: Notice) -> None:
        """Queue an alert; never waits."""
        self.mailbox.tell_nowait(notice)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Send until cancelled."""
        task_status.started()
        failures = 0
        while True:
            if not self._waiting:
                await self.mailbox.wait()
                # what one fault raises comes together
                await trio.sleep(_GATHER_S)
            self._take_in()
            if await self._send():
                failures = 0
                await trio.sleep(self._gap_s)
            else:
                failures += 1
                await trio.sleep(self._backoff.delay_s(failures, self._rng))

    def _take_in(self) -> None:
        came = self.mailbox.take_all()
        self.lost += max(0, len(self._waiting) + len(came) - _CAPACITY)
        self._waiting.extend(came)

    async def _send(self) -> bool:
        notices = list(self._waiting)
        try:
            said = await self._channel.send(compose(notices))
        except ChannelFailed as failed:
            self._failed.inc()
            _log.warning("alerts.not_sent", channel=self.name, error=str(failed), waiting=len(notices))
            if failed.is_final:
                self.lost += len(notices)
                self._drop(len(notices))
            return False
        self._sent.inc()
        _log.info("alerts.sent", channel=self.name, alerts=len(notices), answer=said)
        self._drop(len(notices))
        return True

    def _drop(self, count: int) -> None:
        for _ in range(count):
            self._waiting.popleft()
