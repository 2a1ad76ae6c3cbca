"""Turn what a file or a variable holds into the type of a key, and say that type in plain words."""

import json
import re
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import inspect

from engine.secret import Secret

NONE = "none"
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def from_toml(value: Any, kind: Any) -> Any:
    """Return *value* of a TOML file as *kind*; raises `ValueError` or `msgspec.ValidationError`.

    A secret stays the text it was written as. TOML has no null: ``"none"`` stands for it.
    """
    optional, inner = _parts(kind)
    if optional and value == NONE:
        return None
    match inner:
        case inspect.CustomType():
            return msgspec.convert(value, str)
        case inspect.DecimalType():
            # A Decimal is also read from text and true is also 1: neither is a number in a file.
            if isinstance(value, bool) or not isinstance(value, int | Decimal):
                raise ValueError("not a number")
            return Decimal(value)
        case inspect.FloatType() if isinstance(value, Decimal):
            return msgspec.convert(float(value), kind)
        case _:
            return msgspec.convert(value, kind)


def from_environment(text: str, kind: Any) -> Any:
    """Return what *text* would be in TOML for a key of type *kind*; text that does not fit is left as it is."""
    optional, inner = _parts(kind)
    if optional and text.lower() == NONE:
        return NONE
    match inner:
        case inspect.BoolType():
            return _BOOLEANS.get(text.lower(), text)
        case inspect.IntType():
            return int(text) if _INTEGER.fullmatch(text) else text
        case inspect.FloatType() | inspect.DecimalType():
            return Decimal(text) if _NUMBER.fullmatch(text) else text
        case inspect.VarTupleType(item_type=inspect.StructType()):
            return _json(text)
        case inspect.VarTupleType() if not text.lstrip().startswith("["):
            return [part for part in (part.strip() for part in text.split(",")) if part]
        case inspect.VarTupleType() | inspect.StructType() | inspect.DictType():
            return _json(text)
        case _:
            return text


def expected(kind: Any) -> str:
    """Say in plain words what a key of type *kind* takes."""
    optional, inner = _parts(kind)
    return _words(inner) + (f', or "{NONE}"' if optional else "")


def is_secret(kind: Any) -> bool:
    """Whether a key of type *kind* holds a secret."""
    inner = _parts(kind)[1]
    return isinstance(inner, inspect.CustomType) and inner.cls is Secret


def _parts(kind: Any) -> tuple[bool, inspect.Type]:
    found = inspect.type_info(kind)
    if not isinstance(found, inspect.UnionType):
        return False, found
    (inner,) = (part for part in found.types if not isinstance(part, inspect.NoneType))
    return True, inner


def _words(kind: inspect.Type) -> str:
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return f"a whole number from {kind.ge} to {kind.le}"
        case inspect.FloatType():
            return f"a number above {kind.gt}, at most {kind.le}"
        case inspect.DecimalType():
            return "a number"
        case inspect.LiteralType():
            return "one of " + ", ".join(f'"{value}"' for value in kind.values)
        case inspect.EnumType():
            return "one of " + ", ".join(f'"{member.value}"' for member in kind.cls)
        case inspect.VarTupleType():
            return f"a list, each {_words(kind.item_type)}"
        case inspect.StructType():
            return "a table with " + ", ".join(field.name for field in kind.fields)
        case inspect.DictType():
            return "a table of texts in quotes"
        case inspect.CustomType():
            return "a secret: text, file:PATH or env:NAME"
        case _:
            return "a text in quotes"


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
