"""The list of alerts: what was raised, how often, whom it was told, and what a person said to it.

A value with methods: no clock, no I/O. It is bounded: of too many the oldest goes that nobody waits for.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime, time
from uuid import UUID

import msgspec

from engine.domain.alert_rules import DEFAULT_CODE, ENDS, AlertRules, Severity

MOST = 2000
_MAX_SUBJECT = 200
_MAX_TEXT = 2000


class AlertRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One alert; ``count`` is how often it was raised between ``first_at`` and ``last_at`` (aware UTC).

    ``told_at`` is when channels were told last, None while it waits for the end of quiet hours; ``over_at`` when the
    engine said that it is over. ``escalated_s`` is how far its routes with a delay have been taken.
    """

    id: UUID
    code: str
    subject: str
    text: str
    severity: Severity
    first_at: datetime
    last_at: datetime
    count: int = 1
    user_id: UUID | None = None
    account_id: UUID | None = None
    told_at: datetime | None = None
    escalated_s: int = 0
    acked_at: datetime | None = None
    acked_by: str | None = None
    over_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether nobody has acknowledged it and it is not over."""
        return self.acked_at is None and self.over_at is None

    @property
    def key(self) -> tuple[str, str, str]:
        """What makes two alerts the same: code and subject, and the words of one that has no code."""
        return self.code, self.subject, self.text if self.code == DEFAULT_CODE else ""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that is to be told to ``channels`` now; ``again`` says that it was told before."""

    record: AlertRecord
    channels: tuple[str, ...]
    again: bool = False


class AlertBook:
    """Alerts by id under *rules*; *channels* are the names of those that are configured."""

    def __init__(self, rules: AlertRules, channels: Sequence[str] = (), *, most: int = MOST) -> None:
        self.rules = rules
        self.channels = tuple(channels)
        self._most = most
        self._records: OrderedDict[UUID, AlertRecord] = OrderedDict()
        self._latest: dict[tuple[str, str, str], UUID] = {}
        # what may still be told, in the order in which it was raised
        self._live: dict[UUID, None] = {}
        self._changed: set[UUID] = set()
        self._gone: set[UUID] = set()

    def __len__(self) -> int:
        return len(self._records)

    def get(self, alert_id: UUID) -> AlertRecord | None:
        """Return one alert."""
        return self._records.get(alert_id)

    def newest_first(self) -> list[AlertRecord]:
        """Return every alert by when it was raised first, newest first."""
        return sorted(self._records.values(), key=lambda record: (record.first_at, record.id), reverse=True)

    def restore(self, records: Iterable[AlertRecord]) -> None:
        """Take over what an earlier life kept; what this one raised already stays and is the later."""
        own, self._records = self._records, OrderedDict()
        for record in sorted(records, key=lambda each: (each.first_at, each.id)):
            self._records[record.id] = record
            self._latest.setdefault(record.key, record.id)
            if self._latest[record.key] not in own:
                self._latest[record.key] = record.id
        self._records.update(own)
        self._live = {record.id: None for record in self._records.values() if _is_live(record)}
        self._trim()

    # what happens

    def take(self, raised: AlertRecord) -> AlertRecord:
        """Take an alert in, as part of the one that it repeats or as one of its own; return it as it stands now.

        A critical one in other words is news, whatever was told or acknowledged of it; other numbers are not.
        *raised* has a fresh id and ``first_at`` and ``last_at`` of now. `due` says whether anybody is told.
        """
        raised = msgspec.structs.replace(raised, subject=raised.subject[:_MAX_SUBJECT], text=raised.text[:_MAX_TEXT])
        self._end(raised)
        held = self._records.get(self._latest.get(raised.key, raised.id))
        if held is None or held.over_at is not None or self._is_old(held, raised.last_at):
            self._put(raised)
            self._latest[raised.key] = raised.id
            self._trim()
            return raised
        changes: dict[str, object] = {"count": held.count + 1, "last_at": raised.last_at, "text": raised.text}
        is_news = raised.severity is Severity.CRITICAL and _gist(raised.text) != _gist(held.text)
        if is_news or raised.severity.rank > held.severity.rank:
            changes |= {"severity": raised.severity, "told_at": None, "acked_at": None, "acked_by": None}
        joined = msgspec.structs.replace(held, **changes)
        self._put(joined)
        return joined

    def acknowledge(self, alert_id: UUID, *, by: str, at: datetime) -> AlertRecord | None:
        """Say that *by* has seen an alert; it is not told again. None for one that is not in the list.

        The first acknowledgement counts.
        """
        held = self._records.get(alert_id)
        if held is None or held.acked_at is not None:
            return held
        acked = msgspec.structs.replace(held, acked_at=at, acked_by=by)
        self._put(acked)
        return acked

    def due(self, now: datetime, local: time) -> list[Told]:
        """Return what is to be told at *now*, and take it as told; *local* is the same instant's clock time in IST.

        New alerts unless it is quiet for them, those that came again after a while with their count, critical ones
        that nobody acknowledged, and whatever a route with a delay waits for.
        """
        found: list[Told] = []
        for alert_id in list(self._live):
            told = self._due(self._records[alert_id], now)
            if told is not None and not (told.channels and self.rules.is_held(told.record.severity, local)):
                self._put(told.record)
                if told.channels:
                    found.append(told)
        return found

    def _due(self, record: AlertRecord, now: datetime) -> Told | None:
        rules = self.rules
        age_s = max(0.0, (now - record.first_at).total_seconds())
        if record.told_at is None:
            # in quiet hours it may have ended before anybody was told: it is told then as well
            if record.acked_at is not None:
                return None
            channels = rules.channels_for(record.code, record.severity, self.channels)
            return Told(record=msgspec.structs.replace(record, told_at=now), channels=channels)
        if not record.is_open:
            return None
        since_s = (now - record.told_at).total_seconds()
        came_again = record.last_at > record.told_at and since_s >= rules.coalesce_s
        is_repeat = rules.repeat_s > 0 and record.severity is Severity.CRITICAL and since_s >= rules.repeat_s
        escalated = rules.channels_for(
            record.code, record.severity, self.channels, from_s=record.escalated_s, age_s=age_s
        )
        if came_again or is_repeat:
            channels = rules.channels_for(record.code, record.severity, self.channels)
            both = tuple(name for name in self.channels if name in channels or name in escalated)
            changed = msgspec.structs.replace(record, told_at=now, escalated_s=int(age_s))
            return Told(record=changed, channels=both, again=True)
        if escalated:
            return Told(record=msgspec.structs.replace(record, escalated_s=int(age_s)), channels=escalated, again=True)
        return None

    # the store

    def take_changes(self) -> tuple[list[AlertRecord], list[UUID]]:
        """Return what has changed and what has gone since the last call."""
        changed = [self._records[alert_id] for alert_id in self._changed if alert_id in self._records]
        gone = list(self._gone)
        self._changed.clear()
        self._gone.clear()
        return changed, gone

    def not_kept(self, changed: Iterable[AlertRecord], gone: Iterable[UUID]) -> None:
        """What `take_changes` returned could not be kept: it is returned again next time."""
        self._changed.update(record.id for record in changed)
        self._gone.update(gone)

    def forget_before(self, horizon: datetime) -> None:
        """Drop what was raised last before *horizon*."""
        for record in [each for each in self._records.values() if each.last_at < horizon]:
            self._drop(record)

    def _put(self, record: AlertRecord) -> None:
        self._records[record.id] = record
        self._changed.add(record.id)
        if _is_live(record):
            self._live[record.id] = None
        else:
            self._live.pop(record.id, None)

    def _end(self, raised: AlertRecord) -> None:
        # a kill switch is told of under its scope and under its own name
        for subject in {raised.subject, raised.subject.removeprefix("killswitch:")}:
            for code in ENDS.get(raised.code, ()):
                held = self._records.get(self._latest.get((code, subject, ""), raised.id))
                if held is not None and held.over_at is None:
                    self._put(msgspec.structs.replace(held, over_at=raised.last_at))

    def _is_old(self, held: AlertRecord, now: datetime) -> bool:
        # one that is acknowledged and goes on is the same for as long as it does not pause
        return (now - held.last_at).total_seconds() >= self.rules.coalesce_s and not (
            held.is_open and held.severity is Severity.CRITICAL
        )

    def _trim(self) -> None:
        while len(self._records) > self._most:
            first = next(
                (record for record in self._records.values() if not record.is_open),
                next(iter(self._records.values())),
            )
            self._drop(first)

    def _drop(self, record: AlertRecord) -> None:
        del self._records[record.id]
        self._live.pop(record.id, None)
        self._changed.discard(record.id)
        self._gone.add(record.id)
        if self._latest.get(record.key) == record.id:
            del self._latest[record.key]


def _gist(text: str) -> str:
    return "".join(character for character in text if not character.isdigit())


def _is_live(record: AlertRecord) -> bool:
    return record.is_open or (record.told_at is None and record.acked_at is None)
