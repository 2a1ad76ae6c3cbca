"""What a channel is given to say: alerts that wait together become one message."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from engine.clock import IST
from engine.domain.alert_book import AlertRecord
from engine.domain.alert_rules import Severity

_MOST_LINES = 50


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to tell: an alert as it stood then; ``again`` says that it was told before."""

    record: AlertRecord
    again: bool = False


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent: a title of one line, the text, the severity of the worst, and the ids of the alerts in it."""

    title: str
    body: str
    severity: Severity
    alert_ids: tuple[UUID, ...] = ()


def compose(notices: Sequence[Notice]) -> Message:
    """Return *notices* (at least one) as one message, the worst first; of very many only the first are spelt out."""
    ordered = sorted(notices, key=lambda notice: -notice.record.severity.rank)
    worst = ordered[0].record
    if len(ordered) == 1:
        title = f"{_mark(ordered[0])}{worst.code}: {worst.subject}"
    else:
        title = f"{_mark(ordered[0])}{len(ordered)} alerts, first {worst.code}: {worst.subject}"
    lines = [line_of(notice) for notice in ordered[:_MOST_LINES]]
    if len(ordered) > _MOST_LINES:
        lines.append(f"and {len(ordered) - _MOST_LINES} more; GET /alerts has them all")
    return Message(
        title=title[:200],
        body="\n\n".join(lines),
        severity=worst.severity,
        alert_ids=tuple(notice.record.id for notice in ordered),
    )


def line_of(notice: Notice) -> str:
    """Return one alert in words: what, how often, since when (IST)."""
    record = notice.record
    often = f" (x{record.count} since {record.first_at.astimezone(IST):%d %b %H:%M:%S} IST)" if record.count > 1 else ""
    still = "STILL " if notice.again else ""
    return f"{still}{record.severity.upper()} {record.subject}: {record.text}{often}"


def _mark(notice: Notice) -> str:
    return f"[{notice.record.severity.upper()}] "
