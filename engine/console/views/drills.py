"""/console/drills: rehearsals of the kill switch on an exchange of their own, and what each came to."""

from collections.abc import Mapping
from typing import Any

from engine.console.pages import action, page
from engine.console.visit import Visit
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/drills"
_API = "/risk/killswitch/drills"
_TONES = {"PASS": "good", "FAIL": "bad", "NOT_RUN": "warn", "RUNNING": "live"}


@page(PATH, Permission.READ)
async def drills_page(visit: Visit) -> Raw:
    """The drills, newest first; the newest with its report open."""
    found = await visit.listing(_API, limit=20, cursor=visit.query.get("cursor"))
    return visit.render(
        "drills.html",
        drills=[{**each, "tone": _TONES.get(each["status"], "quiet"), "lines": lines(each)} for each in found.items],
        next_cursor=found.next_cursor,
    )


@action(PATH, Permission.ADMIN)
async def run(visit: Visit) -> Raw:
    """Starts a drill now."""
    await visit.send("POST", _API)
    return visit.done("The drill runs beside the engine; nothing of the engine is touched", changed="drill")


def lines(drill: Mapping[str, Any]) -> list[tuple[str, Any, str]]:
    """Return what a drill measured: the words, the figure, and whether it is a span or a count; [] without a report."""
    report = drill["report"]
    if report is None:
        return []
    return [
        ("Blocked after", report["timeToBlockS"], "span"),
        ("Answered after", report["timeToAnswerS"], "span"),
        ("Cancelled after", report["timeToCancelledS"], "span"),
        ("Flat, proven, after", report["timeToFlatS"], "span"),
        ("Orders placed before", report["orders"], "count"),
        ("Positions before", report["positions"], "count"),
        ("Orders after the block", report["ordersAfterBlock"], "count"),
        ("Beyond flat", report["overFlattens"], "count"),
        ("Open orders left", report["openOrdersLeft"], "count"),
        ("Positions left", len(report["positionsLeft"]), "count"),
        ("Faults played", len(report["faults"]), "count"),
        ("Took", report["tookS"], "span"),
    ]
