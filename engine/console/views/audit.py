"""/console/audit: the record of every decision: searching it, proving its chain, taking it along."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from engine.console.asked import asked_of, window
from engine.console.pages import page
from engine.console.visit import Refused, Visit
from engine.http.endpoint import EventStream, Raw
from engine.http.paging import encode_cursor
from engine.http.permissions import Permission

PATH = "/console/audit"
FILTERS = ("actor", "action", "subject", "from", "to")
_LIMIT = 50
_CHECKPOINTS = ("AUDIT_DAY_CLOSED", "AUDIT_CHECKPOINTS", "ENGINE_STARTED")
_SHOWN = 5
_PAGES = {"order": "/console/orders/", "intent": "/console/intents/", "dead_letter": "/console/dead-letters/"}


@page(PATH, Permission.ADMIN)
async def audit_page(visit: Visit) -> Raw:
    """Records, newest first, by who, what, about what, and day; and the checkpoints that prove the end of the log."""
    asked = asked_of(visit.query, FILTERS)
    wanted = {**window(asked), "action": asked["action"].upper()}
    part = visit.part
    found = await visit.gather(
        records=visit.listing("/audit", limit=_LIMIT, cursor=visit.query.get("cursor"), **wanted),
        users=visit.listing("/users", limit=200),
        **({} if part else {kind: visit.listing("/audit", limit=_SHOWN, action=kind) for kind in _CHECKPOINTS}),
    )
    people = {f"user:{each['id']}": each["email"] for each in found["users"].items}
    claims = [] if part else [record for kind in _CHECKPOINTS for record in found[kind].items]
    return visit.render(
        "audit.html",
        records=[shown(each, people) for each in found["records"].items],
        next_cursor=found["records"].next_cursor,
        people=people,
        checkpoints=checkpoints(claims),
        export=visit.url(cursor="").replace(PATH, PATH + "/export", 1),
        asked=asked,
        is_filtered=any(asked.values()) or "cursor" in visit.query,
    )


@page(PATH + "/record", Permission.ADMIN)
async def record(visit: Visit) -> Raw:
    """One record with all that was hashed, in a dialog."""
    number = visit.query.get("seq", "")
    if not (number.isascii() and number.isdigit() and len(number) < 18):
        raise Refused(HTTPStatus.NOT_FOUND, "NOT_FOUND", "there is no such record", {})
    cursor = encode_cursor(int(number) + 1)
    found = await visit.gather(
        records=visit.listing("/audit", limit=1, cursor=cursor), users=visit.listing("/users", limit=200)
    )
    if not found["records"].items or str(found["records"].items[0]["seq"]) != number:
        raise Refused(HTTPStatus.NOT_FOUND, "NOT_FOUND", "there is no such record", {})
    people = {f"user:{each['id']}": each["email"] for each in found["users"].items}
    return visit.fragment("audit.html", "record", record=shown(found["records"].items[0], people))


@page(PATH + "/verify", Permission.ADMIN)
async def verify(visit: Visit) -> Raw:
    """Reads the whole log and says whether its chain holds."""
    return visit.fragment("audit.html", "verified", chain=await visit.get("/audit/verify"))


@page(PATH + "/export", Permission.ADMIN)
async def export(visit: Visit) -> Raw | EventStream:
    """The records of the filters as a file, streamed."""
    asked = asked_of(visit.query, FILTERS)
    wanted = {**window(asked), "action": asked["action"].upper()}
    answer = await visit.open("GET", "/audit/export", query=wanted)
    if isinstance(answer.body, EventStream):
        return answer.body
    error = msgspec.json.decode(answer.body)["error"]
    raise Refused(answer.status, error["code"], error["message"], error.get("details") or {})


def shown(record: Mapping[str, Any], people: Mapping[str, str]) -> dict[str, Any]:
    """Return a record of the API with who did it by name, where its subject is shown, and its content as text."""
    kind, _, number = record["subject"].partition(":")
    content = record["data"] if isinstance(record["data"], dict) else {}
    brief = ", ".join(
        f"{name} {_plain(value)}" for name, value in content.items() if value not in (None, "", {}, [], False)
    )
    return {
        **record,
        "who": people.get(record["actor"], record["actor"]),
        "href": f"{_PAGES[kind]}{number}" if kind in _PAGES and number else None,
        "brief": brief[:160] + ("…" if len(brief) > 160 else ""),
        "text": json.dumps(record["data"], indent=2, ensure_ascii=False, default=str),
    }


def checkpoints(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the log says of its checkpoint files, newest first: of each how far they had come then."""
    found = []
    for each in sorted(records, key=lambda record: -record["seq"]):
        content = each["data"] if isinstance(each["data"], dict) else {}
        claim = content.get("checkpoints")
        if isinstance(claim, dict):
            found.append({"seq": each["seq"], "at": each["at"], "action": each["action"], **claim})
    return found[:_SHOWN]


def _plain(value: Any) -> str:
    if value is True:
        return "yes"
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, dict | list) else str(value)
