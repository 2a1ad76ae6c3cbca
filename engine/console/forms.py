"""Forms as tables of fields: how one is drawn, and how what a person typed becomes what the API takes. Pure."""

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

SEEN = "_seen"
"""The hidden field with the `mark` of what a form was drawn with."""
CHANGED_MEANWHILE = "Somebody changed this meanwhile. Here is how it stands now; change it again if it is still to be."
_MOST_DIGITS = 18


class Field(msgspec.Struct, frozen=True):
    """One field: the API's name (``checks.priceBandPct`` lies in an object), what people call it, and its kind.

    ``kind`` is text, secret, whole, amount (a Decimal), flag (a tick), either (yes, no or nothing), choice, many (of
    ``choices``), words and numbers (several, apart by commas or lines), or hours (two times of day). What is left empty
    is None: no limit, no filter. ``choices`` are values, or pairs of value and words.
    """

    name: str
    label: str
    kind: str = "text"
    hint: str = ""
    choices: tuple[Any, ...] = ()
    required: bool = False
    blank: str = "None"


Values = Mapping[str, Any]


def read(fields: Sequence[Field], form: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what *form* says of *fields*, objects inside objects as the API has them, and what is wrong with which."""
    found: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for field in fields:
        try:
            value = _read(field, form)
        except ValueError as error:
            wrong[field.name] = str(error)
            continue
        if field.required and value in (None, ""):
            wrong[field.name] = "is needed"
        outer, _, inner = field.name.rpartition(".")
        (found.setdefault(outer, {}) if outer else found)[inner] = value
    return found, wrong


def given(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return *found* without what was left empty, for a thing that is made new."""
    kept = {name: given(value) if isinstance(value, dict) else value for name, value in found.items()}
    return {name: value for name, value in kept.items() if value is not None and value != {}}


def differing(found: Mapping[str, Any], before: Values) -> dict[str, Any]:
    """Return what of *found* differs from *before*, as the API showed it: a change sends no more than that."""
    return {name: value for name, value in found.items() if _plain(value) != _plain(before.get(name))}


def mark(fields: Sequence[Field], before: Values) -> str:
    """Return what tells *before*, as a form of *fields* shows it, from what stands there when the form comes back."""
    texts = [text_of(field, _inside(before, field.name)) for field in fields]
    return hashlib.sha256(msgspec.json.encode(texts)).hexdigest()[:16]


def is_stale(fields: Sequence[Field], before: Values, form: Mapping[str, str]) -> bool:
    """Tell whether *form* was drawn with something else than *before*: it would undo what it never showed."""
    return form.get(SEEN, mark(fields, before)) != mark(fields, before)


def drawn(
    fields: Sequence[Field],
    before: Values,
    form: Mapping[str, str] | None = None,
    wrong: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """Return the fields as the templates draw them: with what *form* holds when it was sent, else with *before*."""
    made = []
    for field in fields:
        entry = {"field": field, "choices": pairs(field.choices), "wrong": (wrong or {}).get(field.name, "")}
        value = _inside(before, field.name)
        match field.kind:
            case "many":
                chosen = [_key(each) for each in value or ()]
                ticks = [(key, text, f"{field.name}.{key}") for key, text in pairs(field.choices)]
                entry["ticks"] = [
                    (key, text, name, key in chosen if form is None else name in form) for key, text, name in ticks
                ]
            case "hours":
                for end in ("start", "end"):
                    typed = (value or {}).get(end, "") if form is None else form.get(f"{field.name}.{end}", "")
                    entry[end] = typed
            case "flag":
                entry["value"] = bool(value) if form is None else field.name in form
            case _:
                # what is secret is typed again
                typed = "" if field.kind == "secret" or form is None else form.get(field.name, "")
                entry["value"] = text_of(field, value) if form is None else typed
        made.append(entry)
    return made


def pairs(choices: Sequence[Any]) -> list[tuple[str, str]]:
    """Return choices as pairs of value and words."""
    return [(each[0], each[1]) if isinstance(each, tuple) else (str(each), str(each)) for each in choices]


def text_of(field: Field, value: Any) -> str:
    """Return *value* as the input of *field* shows it; a secret is never shown."""
    if value is None or field.kind == "secret":
        return ""
    if field.kind == "either":
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(each) for each in value)
    return f"{value:f}" if isinstance(value, Decimal) else _key(value)


def _key(value: Any) -> str:
    return str(value)


def _read(field: Field, form: Mapping[str, str]) -> Any:
    text = form.get(field.name, "").strip() if field.kind != "secret" else form.get(field.name, "")
    match field.kind:
        case "flag":
            return field.name in form
        case "either":
            return {"yes": True, "no": False}.get(text)
        case "many":
            return [key for key, _ in pairs(field.choices) if f"{field.name}.{key}" in form] or None
        case "hours":
            start, end = (form.get(f"{field.name}.{name}", "") for name in ("start", "end"))
            if bool(start) != bool(end):
                raise ValueError("needs both times, or none")
            return {"start": start, "end": end} if start else None
        case "whole":
            return _whole(text) if text else None
        case "amount":
            return _amount(text) if text else None
        case "choice":
            if text and text not in dict(pairs(field.choices)):
                raise ValueError("is none of the choices")
            return text or None
        case "words":
            return _several(text) or None
        case "numbers":
            return [_whole(each) for each in _several(text)] or None
        case _:
            return text or None


def _several(text: str) -> list[str]:
    return [each.strip() for each in text.replace("\n", ",").split(",") if each.strip()]


def _whole(text: str) -> int:
    plain = text.replace(",", "")
    digits = plain.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS):
        raise ValueError("must be a whole number")
    return int(plain)


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text.replace(",", ""))
    except InvalidOperation:
        raise ValueError("must be a number, for example 1500.05") from None
    if not amount.is_finite() or abs(amount.adjusted()) > _MOST_DIGITS:
        raise ValueError("must be a number, for example 1500.05")
    return amount


def _inside(values: Values, name: str) -> Any:
    outer, _, inner = name.rpartition(".")
    held = values.get(outer) or {} if outer else values
    return held.get(inner)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: each for name, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return sorted(str(each) for each in value) or None
    return value
