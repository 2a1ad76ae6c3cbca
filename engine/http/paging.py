"""Lists in slices: limit, opaque cursor, and the from/to window."""

import base64
import binascii
import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import msgspec

from engine.errors import ValidationError

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
_MAX_CURSOR = 300
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


class PageWindow(msgspec.Struct, frozen=True, kw_only=True):
    """What slice of a list is asked for: instants are UTC, ``start`` inclusive, ``end`` exclusive.

    ``cursor`` holds the sort key of the last row already seen, as text and integers; ``None`` starts
    at the newest.
    """

    limit: int = DEFAULT_LIMIT
    cursor: tuple[Any, ...] | None = None
    start: datetime | None = None
    end: datetime | None = None

    def after(self) -> tuple[datetime, UUID] | None:
        """Read the cursor as ``(timestamp, id)``. Raises ValidationError for another kind of cursor."""
        if self.cursor is None:
            return None
        try:
            at, row_id = self.cursor
            return msgspec.convert(at, datetime), UUID(row_id)
        except (ValueError, TypeError, AttributeError, msgspec.ValidationError):
            raise _bad_cursor() from None

    def after_seq(self) -> int | None:
        """Read the cursor as a sequence number. Raises ValidationError for another kind of cursor."""
        if self.cursor is None:
            return None
        match self.cursor:
            case (int(seq),) if not isinstance(seq, bool) and 0 <= seq < 2**63:
                return seq
        raise _bad_cursor()


class PageQuery(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Query of every list; subclasses add their filters."""

    limit: int = DEFAULT_LIMIT
    cursor: str | None = None
    from_: str | None = msgspec.field(name="from", default=None)
    to: str | None = None

    def window(self) -> PageWindow:
        """Return the checked window. Raises ValidationError that names the field."""
        start = None if self.from_ is None else parse_instant(self.from_, "from")
        end = None if self.to is None else parse_instant(self.to, "to")
        if start is not None and end is not None and start > end:
            raise ValidationError("from is after to", details={"fields": {"from": "must not be after to"}})
        return PageWindow(
            limit=clamp_limit(self.limit),
            cursor=None if self.cursor is None else decode_cursor(self.cursor),
            start=start,
            end=end,
        )


def clamp_limit(limit: int) -> int:
    """Bring *limit* into 1 to 200."""
    return max(1, min(limit, MAX_LIMIT))


def encode_cursor(*key: Any) -> str:
    """Return the opaque form of a sort key: timestamps, ids and integers."""
    return base64.urlsafe_b64encode(msgspec.json.encode(key)).rstrip(b"=").decode()


def decode_cursor(text: str) -> tuple[Any, ...]:
    """Read an opaque cursor back. Raises ValidationError that names the field."""
    if len(text) > _MAX_CURSOR:
        raise _bad_cursor()
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        key = msgspec.json.decode(raw, type=tuple[str | int, ...])
    except (ValueError, binascii.Error, msgspec.DecodeError):
        raise _bad_cursor() from None
    if any(isinstance(part, str) and "\x00" in part for part in key):
        raise _bad_cursor()
    return key


def parse_instant(text: str, field: str) -> datetime:
    """Read an ISO 8601 instant with offset, or a date; a date as ``to`` means the end of that UTC day.

    A blank in place of the plus sign is forgiven: that is what an unescaped ``+05:30`` turns into.
    Raises ValidationError that names *field*.
    """
    try:
        if _DATE.fullmatch(text):
            day = date.fromisoformat(text) + timedelta(days=1 if field == "to" else 0)
            return datetime.combine(day, time(), tzinfo=UTC)
        instant = datetime.fromisoformat(text.strip().replace(" ", "+") if "T" in text else text)
        if instant.tzinfo is not None:
            return instant.astimezone(UTC)
        mend = "needs an offset, for example 2026-11-23T09:15:00+05:30 or ...Z"
    except (ValueError, OverflowError):
        mend = "must be an ISO 8601 instant, for example 2026-11-23T03:45:00Z, or a date"
    raise ValidationError(f"{field} is not usable", details={"fields": {field: mend}})


def _bad_cursor() -> ValidationError:
    mend = "must be the nextCursor of the previous page"
    return ValidationError("cursor is not usable", details={"fields": {"cursor": mend}})
