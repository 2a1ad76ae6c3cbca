"""/console/dead-letters: jobs that gave up, what they say, and a person's decision about each."""

from engine.console.asked import asked_of
from engine.console.pages import action, page
from engine.console.visit import Visit
from engine.domain.dead_letter import LetterQueue, LetterStatus
from engine.http.endpoint import Raw
from engine.http.permissions import Permission

PATH = "/console/dead-letters"
ONE = PATH + "/{id}"
FILTERS = ("status", "queue")
WHY = {
    "DAMAGED": "It cannot be read, or its seal does not fit: nobody knows what it says. It can only be discarded.",
    "POISON": "Handling it ended the engine again and again, so it was put aside.",
    "UNRECORDED": "The store refused what was decided of it, and the record of that failure too.",
    "PARKED": "An exit whose turn came too late. Requeued, it goes as if it had come now: look at the position first.",
}
"""What each kind of letter means, and what to think of before deciding."""
_API = "/system/dead-letters"
_LIMIT = 50


@page(PATH, Permission.ADMIN)
async def letters_page(visit: Visit) -> Raw:
    """Dead letters, newest first, by state and by where they gave up."""
    asked = asked_of(visit.query, FILTERS)
    letters = await visit.listing(_API, limit=_LIMIT, cursor=visit.query.get("cursor"), **asked)
    return visit.render(
        "letters.html",
        letters=letters.items,
        next_cursor=letters.next_cursor,
        statuses=[each.value for each in LetterStatus],
        queues=[each.value for each in LetterQueue],
        asked=asked,
        is_filtered=any(asked.values()) or "cursor" in visit.query,
    )


@page(ONE, Permission.ADMIN)
async def letter_page(visit: Visit) -> Raw:
    """One letter: why it gave up, what it says, and what was decided."""
    letter = await visit.get(_API + "/{id}", values=visit.request.path)
    return visit.render("letter.html", letter=letter, why=WHY.get(letter["kind"], ""))


@page(ONE + "/requeue", Permission.ADMIN)
async def requeue_form(visit: Visit) -> Raw:
    """The dialog that asks whether a job shall be taken in again."""
    letter = await visit.get(_API + "/{id}", values=visit.request.path)
    return visit.fragment("letter.html", "requeue", letter=letter, why=WHY.get(letter["kind"], ""))


@action(ONE + "/requeue", Permission.ADMIN)
async def requeue(visit: Visit) -> Raw:
    """Takes the job in again, once."""
    await visit.send("POST", _API + "/{id}/requeue", values=visit.request.path)
    return visit.done("Taken in again; what became of it stands among the signals", changed="letter intent")


@page(ONE + "/discard", Permission.ADMIN)
async def discard_form(visit: Visit) -> Raw:
    """The dialog that asks why a job shall be dropped."""
    letter = await visit.get(_API + "/{id}", values=visit.request.path)
    return visit.fragment("letter.html", "discard", letter=letter)


@action(ONE + "/discard", Permission.ADMIN)
async def discard(visit: Visit) -> Raw:
    """Drops the job for good; the reason goes into the audit log."""
    body = {"reason": visit.form.get("reason", "")}
    await visit.send("POST", _API + "/{id}/discard", body, values=visit.request.path)
    return visit.done("Discarded; it stays on the record", changed="letter")
