"""/console/stream: the event stream of the API for a page, by the console's cookie."""

from http import HTTPStatus

import msgspec

from engine.console.pages import page
from engine.console.visit import Refused, Visit
from engine.http.endpoint import EventStream, Raw
from engine.http.permissions import Permission


@page("/console/stream", Permission.READ)
async def stream(visit: Visit) -> Raw | EventStream:
    """The stream; it goes on from Last-Event-ID, or from ``after`` when the page was loaded anew."""
    last = visit.request.header("last-event-id") or visit.query.get("after", "")
    headers = {"last-event-id": last} if last else {}
    answer = await visit.open("GET", "/stream", headers=headers)
    if isinstance(answer.body, EventStream):
        return answer.body
    error = msgspec.json.decode(answer.body)["error"]
    raise Refused(answer.status or HTTPStatus.SERVICE_UNAVAILABLE, error["code"], error["message"], {})
