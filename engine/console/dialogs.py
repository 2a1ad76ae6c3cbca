"""Dialogs that ask: drawn from a table of fields, shown again with what the API refused of them."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

import msgspec

from engine.console.forms import CHANGED_MEANWHILE, Field, Values, differing, drawn, given, is_stale, mark, read
from engine.console.pages import sentence
from engine.console.visit import Refused, Visit
from engine.http.endpoint import Raw
from engine.http.errors import encode

_STEP_UP = "STEP_UP_REQUIRED"
Send = Callable[[dict[str, Any]], Awaitable[Any]]


class Dialog(msgspec.Struct, frozen=True, kw_only=True):
    """A question: where the answer goes, its words, its fields; ``before`` is what stands now, {} for something new."""

    path: str
    title: str
    submit: str
    fields: tuple[Field, ...] = ()
    text: str = ""
    kind: str = "primary"
    keep: str = "Leave it"
    before: Values = {}

    def shown(
        self,
        visit: Visit,
        *,
        status: int = 200,
        wrong: Mapping[str, str] | None = None,
        problem: str = "",
        is_anew: bool = False,
    ) -> Raw:
        """Return the dialog's inside: as it begins (*is_anew*: again), or with what is *wrong* with what was typed."""
        typed = None if is_anew or visit.request.method == "GET" else visit.form
        return visit.fragment(
            "dialog.html",
            "ask",
            status=status,
            dialog=self,
            drawn=drawn(self.fields, self.before, typed, wrong),
            seen=mark(self.fields, self.before),
            problem=problem,
        )

    async def answered(self, visit: Visit, send: Send, *, whole: bool = False) -> tuple[Any, Raw | None]:
        """Read the form, *send* it, and return the API's answer; or the dialog again, which says what is wrong.

        What is sent is what was given, for something new, else what differs from before; *whole* sends everything.
        """
        # what is sent whole begins with guesses, not with what stands
        if not whole and is_stale(self.fields, self.before, visit.form):
            again = self.shown(visit, status=HTTPStatus.UNPROCESSABLE_ENTITY, problem=CHANGED_MEANWHILE, is_anew=True)
            return None, again
        found, wrong = read(self.fields, visit.form)
        if wrong:
            return None, self.shown(visit, status=HTTPStatus.UNPROCESSABLE_ENTITY, wrong=wrong)
        body = found if whole else differing(found, self.before) if self.before else given(found)
        try:
            return await send(body), None
        except Refused as refused:
            if refused.code == _STEP_UP:
                raise
            return None, self.refused(visit, refused)

    def refused(self, visit: Visit, refused: Refused) -> Raw:
        """Return the dialog with what the API says of its fields, and above them what it says of anything else."""
        known = {field.name for field in self.fields}
        ours = {name: text for name, text in refused.fields.items() if name in known}
        problem = "" if ours and len(ours) == len(refused.fields) else sentence(refused)
        return self.shown(visit, status=HTTPStatus.UNPROCESSABLE_ENTITY, wrong=ours, problem=problem)


def telling(answer: Raw, changed: str) -> Raw:
    """Return *answer* with the word that live parts of the kinds *changed* are to be read anew."""
    told = encode({"console:changed": {"kinds": changed}}).decode()
    return Raw(answer.body, answer.media_type, answer.status, {**answer.headers, "HX-Trigger": told})


def named(items: Any, label: str = "label") -> dict[str, str]:
    """Return what people call each of the API's *items*, by id."""
    return {each["id"]: each[label] for each in items}
