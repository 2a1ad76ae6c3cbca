"""Rules as a person writes them on the command line: ``name=value,name=value``, refused by name with the mend."""

import re
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from engine.exchange.config import ExchangeError

T = TypeVar("T", bound=msgspec.Struct)
_AT = re.compile(r" - at `\$\.?(?P<field>[^`]*)`$")
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<field>[^`]*)`")


def read_pairs(text: str, kind: type[T], what: str) -> T:
    """Return the *kind* that *text* describes; *what* it is called in messages. Raises ExchangeError."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    unclear = [name for name, equals, _ in pairs if not equals]
    if unclear:
        raise ExchangeError(f"the {what} {text!r}: {unclear[0]!r} has no value; write name=value,name=value")
    try:
        return msgspec.convert({name.strip(): value.strip() for name, _, value in pairs}, kind, strict=False)
    except msgspec.ValidationError as exc:
        raise ExchangeError(f"the {what} {text!r}: {mended(exc, kind)}") from exc


def mended(error: msgspec.ValidationError, kind: type[msgspec.Struct]) -> str:
    """Return what *error* says of a *kind*, and which names or words can stand there."""
    text = str(error)
    if unknown := _UNKNOWN.match(text):
        names = ", ".join(field.encode_name for field in msgspec.structs.fields(kind))
        return f"`{unknown['field']}` is not known; there are {names}" if _AT.search(text) is None else text
    at = _AT.search(text)
    words = _words(get_type_hints(kind).get(at["field"])) if at is not None else ()
    return f"{text}; write one of {', '.join(words)}" if at is not None and words else text


def _words(hint: Any) -> tuple[str, ...]:
    if get_origin(hint) is Literal:
        return tuple(word for word in get_args(hint) if isinstance(word, str))
    if get_origin(hint) in (Union, UnionType):
        return tuple(word for part in get_args(hint) for word in _words(part))
    return ()
