"""Request bodies and queries into the declared structs, with errors that name field and mend.

The strict reading of JSON (no duplicate keys, no NaN, bounded depth and numbers) is that of
``engine.signals.json_guard``: one parser per format, so that two readers can never understand the
same bytes differently (SEC-049, SEC-068).
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from engine.domain.signal import Refusal
from engine.errors import BadRequestError, UnsupportedMediaTypeError, ValidationError
from engine.signals import json_guard

_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
_NAMED = re.compile(r"^Object (?P<what>missing required|contains unknown) field `(?P<field>[^`]*)`")


def check_content_type(value: str | None) -> None:
    """Raise UnsupportedMediaTypeError unless *value* is JSON in UTF-8."""
    kind, _, parameters = (value or "").partition(";")
    charset = parameters.strip().lower().replace('"', "")
    if kind.strip().lower() != "application/json" or charset not in {"", "charset=utf-8"}:
        raise UnsupportedMediaTypeError("send Content-Type: application/json")


def parse_strict(raw: bytes) -> Any:
    """Return the document as plain values, decimals as Decimal. Raises BadRequestError with the reason."""
    document = json_guard.read(raw)
    if isinstance(document, Refusal):
        raise BadRequestError(f"the body cannot be read: {document.message}")
    return document


def decode_body(raw: bytes, type_: Any) -> Any:
    """Decode *raw* into *type_*.

    Raises BadRequestError when it is not strict JSON, ValidationError when a field is wrong;
    ``details.fields`` then names every wrong field of the top level with its mend.
    """
    document = parse_strict(raw)
    try:
        return msgspec.json.decode(raw, type=type_)
    except msgspec.ValidationError as exc:
        fields = _wrong_fields(document, type_) or field_errors(exc)
        raise invalid(fields) from None
    except msgspec.DecodeError:
        raise BadRequestError("the body cannot be read: it is not valid JSON") from None


def decode_query(values: Mapping[str, list[str]], type_: type[Any]) -> Any:
    """Decode query parameters into *type_*. Raises ValidationError; one given twice or with NUL is refused."""
    wrong = {name: "must be given once" for name, given in values.items() if len(given) > 1}
    # no text of the store can hold NUL, so nothing can match it
    wrong |= {name: "must not contain NUL" for name, given in values.items() if any("\x00" in text for text in given)}
    if wrong:
        raise invalid(wrong)
    try:
        return msgspec.convert({name: given[0] for name, given in values.items()}, type_, strict=False)
    except msgspec.ValidationError as exc:
        raise invalid(field_errors(exc)) from None


def invalid(fields: Mapping[str, str]) -> ValidationError:
    """Make the error that names the wrong *fields*, each with its mend."""
    listed = "; ".join(f"{name}: {mend}" for name, mend in list(fields.items())[:5])
    return ValidationError(f"invalid: {listed}", details={"fields": dict(fields)})


def field_errors(error: msgspec.ValidationError) -> dict[str, str]:
    """Turn a decoder's complaint into field and mend; the whole document is called ``body``."""
    match = _AT.match(str(error))
    text, path = (match["what"], match["path"] or "") if match else (str(error), "")
    field = path.lstrip(".")
    named = _NAMED.match(text)
    if named:
        inner = named["field"]
        mend = "is required" if named["what"].startswith("missing") else "is not known here"
        return {f"{field}.{inner}" if field else inner: mend}
    return {field or "body": (text[:1].lower() + text[1:]).replace("`", "")}


def _wrong_fields(document: Any, type_: Any) -> dict[str, str]:
    if not (isinstance(document, dict) and isinstance(type_, type) and issubclass(type_, msgspec.Struct)):
        return {}
    wrong: dict[str, str] = {}
    known = {field.encode_name: field for field in msgspec.structs.fields(type_)}
    if type_.__struct_config__.forbid_unknown_fields:
        wrong.update({name: "is not known here" for name in document if name not in known})
    for name, field in known.items():
        if name not in document:
            if field.required:
                wrong[name] = "is required"
            continue
        try:
            raw = msgspec.json.Encoder(decimal_format="number").encode(document[name])
            msgspec.json.decode(raw, type=field.type)
        except msgspec.ValidationError as exc:
            for inner, mend in field_errors(exc).items():
                wrong[name if inner == "body" else f"{name}.{inner}"] = mend
    return wrong
