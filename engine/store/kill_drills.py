"""Drills of the kill switch (asyncio-flavoured units, and the statements that keep them)."""

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.drill import Drill, DrillReport, DrillVerdict
from engine.store.flags import write_latest
from engine.store.ledger import Write
from engine.store.queries.filters import Filters

_INSERT = """
INSERT INTO kill_drills (id, due_at, asked_by, started_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"""
_END = """
UPDATE kill_drills SET ended_at = $2, verdict = $3, why = $4, report = $5 WHERE id = $1 AND ended_at IS NULL"""
_HANDLED = "kill-drill"


class DrillMemory(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows at a start: up to which due time *schedule* was handled, and drills without an end."""

    schedule: str = ""
    handled: datetime | None = None
    unfinished: tuple[Drill, ...] = ()


def write_begun(drill: Drill) -> Write:
    """Return the statement that keeps a drill which begins."""
    return Write(sql=_INSERT, args=(drill.id, drill.due_at, drill.asked_by, drill.started_at))


def write_ended(drill: Drill) -> Write:
    """Return the statement that keeps how *drill* ended."""
    report = None if drill.report is None else msgspec.json.encode(drill.report).decode()
    verdict = None if drill.verdict is None else drill.verdict.value
    return Write(sql=_END, args=(drill.id, drill.ended_at, verdict, drill.why, report))


def write_handled(schedule: str, due: datetime, *, at: datetime) -> Write:
    """Return the statement that keeps up to which due time *schedule* was handled."""
    return write_latest(_HANDLED, {"schedule": schedule, "handled": due.isoformat()}, at=at)


async def drill_memory(connection: Any) -> DrillMemory:
    """Return what is known of earlier drills."""
    rows = await connection.fetch("SELECT * FROM kill_drills WHERE ended_at IS NULL")
    held = await connection.fetchval("SELECT value FROM system_flags WHERE name = $1", _HANDLED)
    return DrillMemory(
        schedule="" if held is None else str(held["schedule"]),
        handled=None if held is None else datetime.fromisoformat(held["handled"]),
        unfinished=tuple(map(_drill, rows)),
    )


async def list_drills(
    connection: Any,
    *,
    limit: int,
    start: datetime | None = None,
    end: datetime | None = None,
    after: tuple[datetime, UUID] | None = None,
) -> list[Drill]:
    """Return up to *limit* drills by when they began, newest first."""
    filters = (
        Filters()
        .add("started_at >= {}", start)
        .add("started_at < {}", end)
        .add_tuple("(started_at, id) < ({}, {})", after)
    )
    sql = (
        f"SELECT * FROM kill_drills{filters.where()} "  # noqa: S608 -- constants
        f"ORDER BY started_at DESC, id DESC LIMIT {filters.parameter(limit)}"
    )
    return [_drill(row) for row in await connection.fetch(sql, *filters.args)]


def _drill(row: Any) -> Drill:
    return Drill(
        id=row["id"],
        due_at=row["due_at"],
        asked_by=row["asked_by"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        verdict=None if row["verdict"] is None else DrillVerdict(row["verdict"]),
        why=row["why"],
        report=None if row["report"] is None else msgspec.json.decode(row["report"], type=DrillReport),
    )
