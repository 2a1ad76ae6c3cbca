"""Drills of the kill switch, as the API shows them."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from engine.domain.drill import Drill, DrillReport
from engine.http.endpoint import ApiStruct


class DrillStatus(StrEnum):
    """RUNNING, or how it ended; NOT_RUN is one that could not be run to its end."""

    RUNNING = "RUNNING"
    PASS = "PASS"  # noqa: S105 -- a verdict
    FAIL = "FAIL"
    NOT_RUN = "NOT_RUN"


class KillDrillView(ApiStruct, frozen=True, kw_only=True):
    """One drill. ``dueAt`` is when the schedule wanted it, null for one that ``askedBy`` wanted at once.

    ``why`` says what kept it from passing; ``report`` is what it measured, null where it did not come to that.
    """

    id: UUID
    status: DrillStatus
    due_at: datetime | None
    asked_by: str
    started_at: datetime
    ended_at: datetime | None
    why: str
    report: DrillReport | None


def drill_view(drill: Drill) -> KillDrillView:
    """Return a drill as the API shows it."""
    return KillDrillView(
        id=drill.id,
        status=DrillStatus.RUNNING if drill.verdict is None else DrillStatus(drill.verdict.value),
        due_at=drill.due_at,
        asked_by=drill.asked_by,
        started_at=drill.started_at,
        ended_at=drill.ended_at,
        why=drill.why,
        report=drill.report,
    )
