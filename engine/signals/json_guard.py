"""Strict JSON for bodies that strangers send.

Bytes become a Python value or a `Refusal`, in time linear in their number. Stricter than RFC 8259
where a lenient reader lets two programs see two meanings in one body: duplicate keys, NaN, a second
document, UTF-16. Floats are Decimal. The bounds are requirement SEC-049 and contract section 8.
"""

import json
import re
from decimal import Decimal
from typing import Any, TypeAlias

from engine.domain.signal import Refusal
from engine.signals.refusals import RefusalCode, Refused, quote

MAX_BODY_BYTES = 64 * 1024
MAX_DEPTH = 8
MAX_KEYS = 64
MAX_NUMBER_CHARS = 40
# Far beyond any price, and small enough that no later arithmetic or formatting can be made to swell.
MAX_EXPONENT = 30

JsonValue: TypeAlias = bool | int | Decimal | str | list["JsonValue"] | dict[str, "JsonValue"] | None

_STRUCTURE = re.compile(rb'[\[\]{}"\\]')
_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_OPENERS, _CLOSERS = b"[{", b"]}"


def read(body: bytes) -> JsonValue | Refusal:
    """Read one JSON document.

    Refused: more than 64 KiB, not UTF-8, not exactly one document, more than 8 levels of arrays and
    objects, more than 64 keys in an object, a key twice, NaN or Infinity, numbers of more than 40
    characters or beyond 10^±30, strings with NUL or half a surrogate pair. Never raises.
    """
    try:
        return _read(body)
    except Refused as refused:
        return refused.refusal


def _read(body: bytes) -> JsonValue:
    if len(body) > MAX_BODY_BYTES:
        raise Refused(RefusalCode.BODY_TOO_LARGE, f"send at most {MAX_BODY_BYTES} bytes, not {len(body)}")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(RefusalCode.INVALID_ENCODING, f"send UTF-8: byte {error.start} is not") from None
    _check_depth(body)
    try:
        value: JsonValue = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise Refused(
            RefusalCode.INVALID_JSON,
            f"send one JSON document: {error.msg.lower()} at line {error.lineno}, column {error.colno}",
        ) from None
    # NUL and surrogates can only be written as escapes: raw, JSON and UTF-8 refuse them already.
    if b"\\u" in body:
        _check_strings(value)
    return value


def _check_depth(body: bytes) -> None:
    # Counted ahead of decoding, because the decoder recurses and would hit the interpreter's own limit.
    if body.count(b"{") + body.count(b"[") <= MAX_DEPTH:
        return  # what has no more openers in all, in strings or not, is no deeper
    depth, in_string, escaped = 0, False, -1
    for match in _STRUCTURE.finditer(body):
        position = match.start()
        byte = body[position]
        if in_string:
            if position == escaped:
                continue
            if byte == _BACKSLASH:
                escaped = position + 1
            elif byte == _QUOTE:
                in_string = False
        elif byte == _QUOTE:
            in_string = True
        elif byte in _OPENERS:
            depth += 1
            if depth > MAX_DEPTH:
                raise Refused(RefusalCode.TOO_DEEP, f"nest at most {MAX_DEPTH} arrays and objects")
        elif byte in _CLOSERS:
            depth -= 1


def _check_strings(value: JsonValue) -> None:
    if isinstance(value, str):
        if "\x00" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise Refused(RefusalCode.INVALID_STRING, f"take NUL and lone surrogates out of {quote(value, 40)!r}")
    elif isinstance(value, list):
        for element in value:
            _check_strings(element)
    elif isinstance(value, dict):
        for key, element in value.items():
            _check_strings(key)
            _check_strings(element)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise Refused(RefusalCode.TOO_MANY_KEYS, f"give an object at most {MAX_KEYS} keys, not {len(pairs)}")
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Refused(
                    RefusalCode.DUPLICATE_KEY, f"give {quote(key, 40)!r} once, not twice", field=quote(key, 40)
                )
            seen.add(key)
    return mapping


def _check_length(text: str) -> None:
    if len(text) > MAX_NUMBER_CHARS:
        raise Refused(
            RefusalCode.NUMBER_OUT_OF_BOUNDS,
            f"write a number in at most {MAX_NUMBER_CHARS} characters, not {len(text)}",
        )


def _integer(text: str) -> int:
    _check_length(text)
    return int(text)


def _decimal(text: str) -> Decimal:
    _check_length(text)
    exponent = text.lower().partition("e")[2]
    if exponent and abs(int(exponent)) > MAX_EXPONENT:
        raise Refused(
            RefusalCode.NUMBER_OUT_OF_BOUNDS, f"write a number with an exponent of at most {MAX_EXPONENT}, not {text}"
        )
    return Decimal(text)


def _constant(text: str) -> Any:
    raise Refused(RefusalCode.NUMBER_OUT_OF_BOUNDS, f"{text} is not a JSON number: leave it out")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_decimal, parse_constant=_constant
)
