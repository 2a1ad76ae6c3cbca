"""Alerts, built and wired: the desk's channels, their senders, its store and the sign of life."""

from collections.abc import Callable

from engine.actors.alert_desk import AlertDesk
from engine.actors.alert_sender import AlertSender
from engine.actors.heartbeat import Heartbeat
from engine.actors.telegram_alerts import NAME as TELEGRAM
from engine.assembly import Trading
from engine.clock import Clock
from engine.config import Config
from engine.domain.alert_notice import Notice
from engine.notify.making import channels_of
from engine.runtime.child import ChildSpec
from engine.store.alerts import StoredAlerts
from engine.store.database import Database


class AlertSide:
    """The children of the edge that tell people outside; *telegram* tells the linked ones, None without a bot."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Clock,
        database: Database,
        trading: Trading,
        telegram: Callable[[Notice], None] | None,
    ) -> None:
        self._trading = trading
        self._database = database
        self.desk: AlertDesk = trading.alerts
        self._senders = [AlertSender(channel) for channel in channels_of(config.alerts, clock=clock)]
        channels = {} if telegram is None else {TELEGRAM: telegram}
        channels |= {sender.name: sender.tell for sender in self._senders}
        self.desk.use_channels(channels)
        beat = config.alerts.heartbeat
        self._heartbeat = None
        if beat.url:
            self._heartbeat = Heartbeat(
                beat.url, method=beat.method, every_s=beat.every_s, unwell=trading.unwell, alert=trading.alert
            )

    @property
    def senders(self) -> list[AlertSender]:
        """The senders of all channels but Telegram."""
        return self._senders

    async def begin(self) -> None:
        """Take over the list that the store has; one that is away is asked no more."""
        await self.desk.use_store(StoredAlerts(self._database))

    def specs(self) -> list[ChildSpec]:
        """Return the children."""
        specs = [ChildSpec(name="alerts", start=self.desk.run)]
        specs += [
            ChildSpec(name=f"alert-{sender.name}", start=sender.run, mailbox=sender.mailbox) for sender in self._senders
        ]
        if self._heartbeat is not None:
            specs.append(ChildSpec(name="heartbeat", start=self._heartbeat.run))
        return specs
