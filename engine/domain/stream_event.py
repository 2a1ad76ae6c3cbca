"""What the event stream tells of, and whom it concerns: what was decided elsewhere, never a decision."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec


class StreamType(StrEnum):
    """The kinds of events, by the names that they bear on the stream (contract section 4)."""

    INTENT = "intent"
    ORDER = "order"
    FILL = "fill"
    POSITION = "position"
    PNL = "pnl"
    KILLSWITCH = "killswitch"
    ALERT = "alert"


class StreamEvent:
    """One event. ``owner`` is the user whose object it is, None when only an ADMIN may know; ``is_public`` is for all.

    ``about`` and ``parts`` are the objects as they were then (immutable), which a reader makes its view of; ``shown``
    keeps a view that is the same for every reader, so that it is made once.
    """

    __slots__ = ("about", "account_id", "is_public", "kind", "owner", "parts", "shown")

    def __init__(
        self,
        kind: StreamType,
        about: Any,
        *,
        owner: UUID | None,
        account_id: UUID | None = None,
        parts: tuple[Any, ...] = (),
        is_public: bool = False,
    ) -> None:
        self.kind = kind
        self.about = about
        self.owner = owner
        self.account_id = account_id
        self.parts = parts
        self.is_public = is_public
        self.shown: bytes | None = None


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """What a person must look at: ``subject`` names an object (``order:ID``, ``account:ID``, …) or a part of this box.

    ``at`` is UTC. Of the ids those are set that are known of the subject.
    """

    at: datetime
    subject: str
    text: str
    user_id: UUID | None = None
    account_id: UUID | None = None
    order_id: UUID | None = None
    intent_id: UUID | None = None
    strategy_id: UUID | None = None

    @property
    def code(self) -> str:
        """The code that the text begins with, ALERT for one without."""
        head, mark, _ = self.text.partition(":")
        return head if mark and head.isascii() and head.replace("_", "").isalpha() and head.isupper() else "ALERT"


class Subject(msgspec.Struct, frozen=True):
    """A subject, read: its kind, and the id where it bears one."""

    kind: str
    number: UUID | None


def read_subject(subject: str) -> Subject:
    """Return the parts of an alert's subject; ``killswitch:SCOPE`` is read as its scope."""
    kind, _, number = subject.removeprefix("killswitch:").partition(":")
    try:
        return Subject(kind, UUID(number) if number else None)
    except ValueError:
        return Subject(kind, None)
