"""What a form asked for: filters of a list with its days by the clock of India, and typed numbers. Pure."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

_OFFSET = "+05:30"
_MAX_DIGITS = 9


def asked_of(query: Mapping[str, str], names: Sequence[str]) -> dict[str, Any]:
    """Return the filters *names* of a page's address, empty where nothing was asked."""
    return {name: query.get(name, "").strip() for name in names}


def window(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return *asked* as the API takes it: ``from`` and ``to`` are IST days, both inclusive.

    What is no day is left for the API to refuse.
    """
    found = dict(asked)
    if found.get("from"):
        found["from"] = _midnight(found["from"], 0)
    if found.get("to"):
        found["to"] = _midnight(found["to"], 1)
    return found


def _midnight(text: str, days: int) -> str:
    try:
        return f"{date.fromisoformat(text) + timedelta(days=days)}T00:00:00{_OFFSET}"
    except (ValueError, OverflowError):
        return text


def whole(text: str) -> int | None:
    """Return the whole number that was typed, commas forgiven; None for anything else."""
    digits = text.replace(",", "").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS else None


def amount(text: str) -> Decimal | None:
    """Return the decimal that was typed, commas forgiven, never a float; None for anything else."""
    try:
        found = Decimal(text.replace(",", "").strip())
    except InvalidOperation:
        return None
    return found if found.is_finite() else None
