"""A value that must not be seen: it prints as stars wherever it ends up."""

import hmac
from typing import NoReturn

_STARS = "***"


class Secret:
    """A secret text; only `reveal` gives it away.

    ``repr``, ``str``, ``format`` and any encoder that falls back on ``str`` show three stars; encoders
    without a fallback, and pickle, refuse it. False when empty, which means not configured and must
    never be compared with what a caller sent. Equality takes constant time.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the secret itself, for the one call that needs it."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._encoded(), other._encoded())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __repr__(self) -> str:
        return _STARS

    def __str__(self) -> str:
        return _STARS

    def __format__(self, spec: str) -> str:
        return format(_STARS, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is not to be copied out of the process: reveal it where it is needed")

    def _encoded(self) -> bytes:
        return self._text.encode("utf-8", "surrogatepass")
