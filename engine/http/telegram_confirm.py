"""Typed confirmations: what acts on everything is asked back, and counts once the code of that question is typed.

A question is bound to chat, person, command and its words, is good for a minute, and is spent by the first answer,
right or wrong. The answer must be a later message. Kept in memory: after a restart it is asked again.
"""

import secrets
from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Any

import msgspec

WITHIN = timedelta(minutes=1)
_MOST = 200


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question that is open: what for (``words``), its ``code``, the message that raised it, until when."""

    words: tuple[str, ...]
    code: str
    message_id: int
    until: datetime


class Confirmations:
    """Open questions by chat, person and command."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[int, int, str], Question] = OrderedDict()

    def ask(
        self,
        key: tuple[int, int, str],
        words: tuple[str, ...],
        *,
        message_id: int,
        now: datetime,
        within: timedelta,
        code: str | None = None,
    ) -> str:
        """Open a question and return what answers it, *code* or four digits; an earlier one of its kind is void."""
        self._open.pop(key, None)
        while len(self._open) >= _MOST:
            self._open.popitem(last=False)
        code = code or f"{secrets.randbelow(9000) + 1000}"
        self._open[key] = Question(words=words, code=code, message_id=message_id, until=now + within)
        return code

    def take(self, key: tuple[int, int, str], code: str, *, message_id: int, now: datetime) -> tuple[str, ...] | None:
        """Return what was asked for when *code* answers the open question; None, and the question void, otherwise."""
        held = self._open.pop(key, None)
        if held is None or now > held.until or message_id <= held.message_id:
            return None
        return held.words if secrets.compare_digest(code.encode(), held.code.encode()) else None


def confirmations(extras: dict[str, Any]) -> Confirmations:
    """Return the open questions of this engine."""
    found: Confirmations = extras.setdefault("telegram_confirmations", Confirmations())
    return found
