"""Alerts as the API shows them."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from engine.domain.alert_book import AlertRecord
from engine.domain.alert_rules import Severity
from engine.http.endpoint import ApiStruct


class AlertStatus(StrEnum):
    """OPEN until somebody acknowledges it or the engine says that it is over."""

    OPEN = "OPEN"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    OVER = "OVER"


class AlertListView(ApiStruct, frozen=True, kw_only=True):
    """One alert. ``count`` is how often it was raised between ``firstAt`` and ``lastAt``.

    ``toldAt`` is when channels were told last, null while it waits for the end of quiet hours; ``userId`` is null for
    what concerns the whole engine.
    """

    id: UUID
    status: AlertStatus
    severity: Severity
    code: str
    subject: str
    text: str
    count: int
    first_at: datetime
    last_at: datetime
    told_at: datetime | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    over_at: datetime | None
    user_id: UUID | None
    account_id: UUID | None


def status_of(record: AlertRecord) -> AlertStatus:
    """Return how an alert stands."""
    if record.over_at is not None:
        return AlertStatus.OVER
    return AlertStatus.OPEN if record.acked_at is None else AlertStatus.ACKNOWLEDGED


def alert_view(record: AlertRecord) -> AlertListView:
    """Return an alert as the API shows it."""
    return AlertListView(
        id=record.id,
        status=status_of(record),
        severity=record.severity,
        code=record.code,
        subject=record.subject,
        text=record.text,
        count=record.count,
        first_at=record.first_at,
        last_at=record.last_at,
        told_at=record.told_at,
        acknowledged_at=record.acked_at,
        acknowledged_by=record.acked_by,
        over_at=record.over_at,
        user_id=record.user_id,
        account_id=record.account_id,
    )
