"""Pages of what is held in memory: records whose ids tell when they were made."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Protocol, TypeVar
from uuid import UUID

from engine.errors import ValidationError
from engine.http.endpoint import Page
from engine.http.paging import PageWindow


class Identified(Protocol):
    """A record with a version 7 UUID."""

    @property
    def id(self) -> UUID:
        """The id, which sorts by time of making."""


IdentifiedT = TypeVar("IdentifiedT", bound=Identified)


def made_at(record_id: UUID) -> datetime:
    """Return when a record was made: the first 48 bits of a version 7 UUID are Unix milliseconds."""
    return datetime.fromtimestamp((record_id.int >> 80) / 1000, UTC)


def page_of(records: Iterable[IdentifiedT], window: PageWindow) -> Page[IdentifiedT]:
    """Return the slice of *records* that *window* asks for, newest first. Raises ValidationError for its cursor."""
    before = _cursor(window)
    kept = [
        record
        for record in records
        if (before is None or record.id.int < before.int)
        and (window.start is None or made_at(record.id) >= window.start)
        and (window.end is None or made_at(record.id) < window.end)
    ]
    kept.sort(key=lambda record: record.id.int, reverse=True)
    return Page.cut(kept[: window.limit + 1], window, key=lambda record: (str(record.id),))


def _cursor(window: PageWindow) -> UUID | None:
    if window.cursor is None:
        return None
    try:
        (text,) = window.cursor
        return UUID(text)
    except (ValueError, TypeError, AttributeError):
        mend = "must be the nextCursor of the previous page"
        raise ValidationError("cursor is not usable", details={"fields": {"cursor": mend}}) from None
