"""The desk of alerts: keeps their list, decides by `engine.domain.alert_book` whom to tell when, and has it stored.

Told by whoever alerts, in the middle of something: `take` is some assignments, never waits and never raises. Works
with PostgreSQL away: what cannot be stored is stored later. No mailbox. Restart: permanent; the list outlives it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

import structlog
import trio

from engine.clock import IST, Clock
from engine.domain.alert_book import AlertBook, AlertRecord, Told
from engine.domain.alert_notice import Notice
from engine.domain.alert_rules import AlertRules, code_of
from engine.domain.stream_event import Alert
from engine.errors import StoreUnavailable
from engine.ids import uuid7
from engine.observability.measures import METRICS
from engine.observability.redaction import escape_controls, redact_text
from engine.runtime.beat import next_beat

_log = structlog.get_logger(__name__)

_TICK_S = 1.0
_STORE_REST_S = 5.0
_LAST_S = 1.0
_PRUNE_EVERY = timedelta(hours=1)

Tell = Callable[[Notice], None]


class AlertStore(Protocol):
    """Where the list is kept. Everything raises StoreUnavailable."""

    async def load(self) -> Sequence[AlertRecord]:
        """Return the newest alerts that were kept."""

    async def save(self, changed: Sequence[AlertRecord], gone: Sequence[UUID]) -> None:
        """Keep *changed* as they are and forget *gone*; doing it twice does no harm."""


class AlertDesk:
    """Keeps alerts under *rules*; *describe* says whose an alert is, from its subject, its text and now."""

    def __init__(
        self,
        rules: AlertRules,
        *,
        clock: Clock,
        describe: Callable[[str, str, datetime], Alert],
        retention: timedelta,
    ) -> None:
        self.book = AlertBook(rules)
        self._clock = clock
        self._describe = describe
        self._retention = retention
        self._tell: Mapping[str, Tell] = {}
        self._store: AlertStore | None = None
        self._wake = trio.Event()
        self._store_at = 0.0
        self._pruned_at: datetime | None = None
        self.raised = 0
        """Alerts since the start, repeats included."""

    def use_channels(self, channels: Mapping[str, Tell]) -> None:
        """Tell *channels*, by name, from now on; each call must not wait and must not raise."""
        self._tell = channels
        self.book.channels = tuple(channels)
        self._wake.set()

    async def use_store(self, store: AlertStore) -> None:
        """Keep the list in *store*, and take over what it has. A store that is away is asked no more: it only keeps."""
        self._store = store
        try:
            self.book.restore(await store.load())
        except StoreUnavailable as error:
            _log.warning("alerts.not_loaded", error=str(error))

    def take(self, subject: str, text: str) -> None:
        """Take an alert in. Never waits, never raises."""
        try:
            now = self._clock.now()
            text = escape_controls(" ".join(redact_text(text).split()))
            code = code_of(text)
            severity = self.book.rules.severity_of(code)
            whose = self._describe(subject, text, now)
            self.book.take(
                AlertRecord(
                    id=uuid7(),
                    code=code,
                    subject=subject,
                    text=text,
                    severity=severity,
                    first_at=now,
                    last_at=now,
                    user_id=whose.user_id,
                    account_id=whose.account_id,
                )
            )
            self.raised += 1
            METRICS.counter("alerts_raised", severity=severity.value, code=code).inc()
            self._wake.set()
        except Exception:
            # whoever alerts is in the middle of something that must be brought to its end
            _log.exception("alerts.fault")

    def acknowledge(self, alert_id: UUID, *, by: str) -> AlertRecord | None:
        """Say that *by* has seen an alert; None when there is no such alert."""
        record = self.book.acknowledge(alert_id, by=by, at=self._clock.now())
        self._wake.set()
        return record

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell and store until cancelled."""
        task_status.started()
        try:
            while True:
                self.tell_due()
                await self._keep()
                with trio.move_on_at(next_beat(_TICK_S)):
                    await self._wake.wait()
                self._wake = trio.Event()
        finally:
            # what was raised or acknowledged on the way out
            with trio.move_on_after(_LAST_S, shield=True):
                await self._keep()

    def tell_due(self) -> None:
        """Hand what is to be told now to its channels."""
        now = self._clock.now()
        for told in self.book.due(now, now.astimezone(IST).time()):
            self._hand_over(told)

    def _hand_over(self, told: Told) -> None:
        notice = Notice(record=told.record, again=told.again)
        for name in told.channels:
            try:
                self._tell[name](notice)
            except Exception:
                # one channel's fault must not keep the others from being told
                _log.exception("alerts.channel_fault", channel=name)

    async def _keep(self) -> None:
        now = self._clock.now()
        if self._pruned_at is None or now - self._pruned_at >= _PRUNE_EVERY:
            self._pruned_at = now
            self.book.forget_before(now - self._retention)
        if self._store is None or trio.current_time() < self._store_at:
            return
        changed, gone = self.book.take_changes()
        if not changed and not gone:
            return
        try:
            await self._store.save(changed, gone)
        except StoreUnavailable as error:
            self.book.not_kept(changed, gone)
            self._store_at = trio.current_time() + _STORE_REST_S
            _log.warning("alerts.not_stored", error=str(error), waiting=len(changed))
        except BaseException:
            self.book.not_kept(changed, gone)
            raise
