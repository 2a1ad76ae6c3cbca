"""Why a parser refuses: the codes, and the quoting of what was refused.

Parsers give back `engine.domain.signal.Refusal` values. Inside a parser a refusal travels as `Refused`,
which never leaves this package.
"""

from enum import StrEnum

from engine.domain.signal import Refusal
from engine.errors import EngineError

_QUOTE_CHARS = 80


class RefusalCode(StrEnum):
    """Every ``code`` that a `Refusal` of this package can carry."""

    BODY_TOO_LARGE = "BODY_TOO_LARGE"
    """More bytes than a signal body may have."""
    INVALID_ENCODING = "INVALID_ENCODING"
    """The bytes are not UTF-8."""
    INVALID_JSON = "INVALID_JSON"
    """The text is not exactly one JSON document."""
    DUPLICATE_KEY = "DUPLICATE_KEY"
    """A JSON object names a key twice."""
    TOO_DEEP = "TOO_DEEP"
    """JSON is nested deeper than allowed."""
    TOO_MANY_KEYS = "TOO_MANY_KEYS"
    """A JSON object has more keys than allowed."""
    NUMBER_OUT_OF_BOUNDS = "NUMBER_OUT_OF_BOUNDS"
    """A JSON number is NaN, infinite, too long or too large."""
    INVALID_STRING = "INVALID_STRING"
    """A JSON string holds half a surrogate pair or NUL, which no store can keep."""
    WRONG_SHAPE = "WRONG_SHAPE"
    """The JSON is not the object or array that is read here."""
    EMPTY_BATCH = "EMPTY_BATCH"
    """An array without elements."""
    BATCH_TOO_LARGE = "BATCH_TOO_LARGE"
    """More signals at once than allowed."""
    UNKNOWN_FIELD = "UNKNOWN_FIELD"
    """A JSON key or a label that a signal does not have."""
    MISSING_FIELD = "MISSING_FIELD"
    """A field that the signal needs is absent or empty."""
    WRONG_TYPE = "WRONG_TYPE"
    """A JSON value of another type than the field takes."""
    INVALID_VALUE = "INVALID_VALUE"
    """A value outside what the field takes."""
    NOT_ALLOWED = "NOT_ALLOWED"
    """A field that contradicts the order type."""
    NOT_A_SIGNAL = "NOT_A_SIGNAL"
    """The text is plainly chat; nobody meant to trade."""
    TEXT_TOO_LONG = "TEXT_TOO_LONG"
    """A text of more than 4 KiB."""
    BAD_LINE = "BAD_LINE"
    """A line that is neither a first line nor ``Label: value``, or stands in the wrong place."""
    BAD_CHARACTER = "BAD_CHARACTER"
    """A line with characters outside printable ASCII: look-alikes, direction marks, control characters."""
    REPEATED_FIELD = "REPEATED_FIELD"
    """A text says the same thing twice, even if equally."""
    INVALID_UPDATE = "INVALID_UPDATE"
    """The body is not a Telegram Update."""


class Refused(EngineError):
    """Carries a `Refusal` from where it is found to the edge of the parser; never leaves the package."""

    def __init__(self, code: RefusalCode, message: str, *, field: str | None = None, line: str | None = None) -> None:
        super().__init__(message)
        self.refusal = Refusal(code=code, message=message, field=field, line=line)

    def at(self, line: str) -> "Refused":
        """Return the same refusal with the *line* of the text that it is about."""
        refusal = self.refusal
        return Refused(RefusalCode(refusal.code), refusal.message, field=refusal.field, line=quote(line))


def quote(text: str, limit: int = _QUOTE_CHARS) -> str:
    """Return *text* fit to be shown: at most *limit* characters, nothing invisible.

    Control characters, direction marks and lone surrogates become escapes, so the result can always be
    encoded and shows what the eye would miss.
    """
    shown = "".join(char if char.isprintable() else _escape(char) for char in text[:limit])
    return shown if len(text) <= limit and len(shown) <= limit else shown[: limit - 1] + "…"


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
